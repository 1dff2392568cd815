"""The classes of a system and the names in the ground truth of DICOM cases: matched by name, never by order."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.data.dicom.cases import DicomCase
from voxward.data.made_dataset import plain, refuse_classes

_SHOWN = 5


def common_labels(systems: Sequence[tuple[str, LabelSet]]) -> LabelSet:
    """Return the classes of systems, which must have the same names and values.

    Args:
        systems: The name of each system, and its classes.

    Raises:
        UserError: Systems call a class otherwise, or give it another value.
    """
    (name, first), *others = systems
    for other, labels in others:
        if (labels.foreground, labels.values) != (first.foreground, first.values):
            raise UserError(
                f"{name} predicts {_numbered(first)}, and {other} {_numbered(labels)}: the classes of DICOM files are "
                "told by their names, so systems of one call have the same. Make a dataset with `voxward from-dicom` "
                "instead"
            )
    return first.classes


def refuse_unclear(case: DicomCase, described: Sequence[str], labels: LabelSet, system: str) -> None:
    """Refuse ground truth of which it is not clear what its names are to a system.

    A name that is no class is background to the system, and a class that is not described is not there. Where a case
    has both, the one may be the other by another name.

    Args:
        case: The case.
        described: The names that its ground truth describes.
        labels: The classes of the system.
        system: The name of the system.

    Raises:
        UserError: It is not clear. The message says what to do.
    """
    if case.truth is None:
        return
    own = labels.foreground
    lacking = [name for name in own if name not in described]
    others = [name for name in described if name not in own]
    if not lacking or (set(own) & set(described) and not others):
        return
    path, held = case.truth.paths[0], _listed(others) or "nothing"
    spelt = {plain(name): name for name in others}
    hint = "".join(f" ({spelt[plain(name)]!r} may be {name!r})" for name in lacking if plain(name) in spelt)
    raise UserError(
        f"{path} describes {held}, which {system} has no class for, and not {_listed(lacking)}, which it has"
        f"{hint}. Is one of these a class by another name? Make a dataset with `voxward from-dicom --classes`, "
        f"naming in this order what is {_listed(own)}, and write these names into its dataset.json. If none is, give "
        "--classes only the names that both have"
    )


def refuse_together(case: DicomCase, described: Sequence[str], others: Iterable[Sequence[str]]) -> None:
    """Refuse ground truth whose names cannot be classes beside those of other cases.

    Args:
        case: The case.
        described: The names that its ground truth describes.
        others: The names that each of the other cases describes.

    Raises:
        UserError: A name means something else, or is spelt in another way than before. The message says what to do.
    """
    if case.truth is None:
        return
    known = {name for names in others for name in names}
    try:
        refuse_classes([*sorted(known), *(name for name in described if name not in known)])
    except UserError as error:
        raise UserError(f"{case.truth.paths[0]}: {error} with `voxward from-dicom --classes`") from error


def warn_of_others(cases: Mapping[DicomCase, Sequence[str]], labels: LabelSet, system: str) -> None:
    """Warn of names that count as background, and of classes that no case describes.

    Args:
        cases: For each case with ground truth the names that it describes.
        labels: The classes of the system.
        system: The name of the system.
    """
    described = {name for names in cases.values() for name in names}
    if not described:
        return
    where = next(iter(cases)).folder.parent
    if others := sorted(described - set(labels.foreground)):
        warnings.warn(
            f"{where}: {_listed(others)} count as background, because {system} has no such class", stacklevel=3
        )
    if lacking := [name for name in labels.foreground if name not in described]:
        warnings.warn(
            f"{where}: no case describes {_listed(lacking)}: what {system} finds of it is compared with empty masks",
            stacklevel=3,
        )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(map(repr, every[:_SHOWN])) + more


def _numbered(labels: LabelSet) -> str:
    return ", ".join(f"{value} = {name}" for value, name in zip(labels.values, labels.names, strict=True))
