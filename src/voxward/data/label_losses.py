"""What the preparation of a dataset loses of its labels: warnings, and the refusal to train without a class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from voxward.core.case import ClassKept, LabelKept
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet

# A class that loses this share of its volume in a case is worth a warning.
WARN_FROM = 0.1
# Of a share: a tenth of a volume is a tenth, however its voxels add up.
_ROUNDING = 1e-9
# Cases that a message lists.
_SHOWN = 4

Counted = Sequence[tuple[str, LabelKept]]


def report_losses(cases: Counted, labels: LabelSet, allowed: bool = False) -> None:
    """Warn of what the preparation of cases has lost of their labels, with one warning for each class and fault.

    Args:
        cases: The ids of the cases, each with what is left of its label.
        labels: The classes.
        allowed: Whether a case may lose all of a class; it is then a warning.

    Raises:
        UserError: A class of a case has no voxel left.
    """
    for text in (*(_loss(cases, name, k) for k, name in enumerate(labels.names) if k), _outside(cases)):
        if text is not None:
            warnings.warn(text, stacklevel=3)
    gone = [text for k, name in enumerate(labels.names) if k and (text := _gone(cases, name, k)) is not None]
    if not gone:
        return
    text = "; ".join(gone)
    if not allowed:
        raise UserError(
            f"preparation leaves nothing of a labelled class: {text}. Keep small objects with "
            "--set preparation.label_resampling=objects, or give a plan.json with a finer spacing, or go on with --set "
            "preparation.allow_lost_labels=true"
        )
    warnings.warn(f"preparation leaves nothing of a labelled class: {text}", stacklevel=3)


def lost_share(kept: ClassKept) -> float:
    """Return the share of a class's volume that is lost, 0 where it grows."""
    return max(0.0, 1.0 - kept.after / kept.before)


def _of_class(cases: Counted, index: int) -> list[tuple[str, ClassKept]]:
    return [(id, kept) for id, case in cases for kept in case.classes if kept.index == index]


def _gone(cases: Counted, name: str, index: int) -> str | None:
    """All of a class is lost in some cases."""
    found = [(id, kept) for id, kept in _of_class(cases, index) if not kept.after]
    if not found:
        return None
    shown = [f"{id}: {kept.before:.4g} mm3{_objects(kept)}" for id, kept in found]
    return f"{name!r} in {len(found)} of {len(_of_class(cases, index))} cases that hold it ({_listed(shown)})"


def _loss(cases: Counted, name: str, index: int) -> str | None:
    """A class loses much of its volume, or objects, in some cases, but not all of it."""
    there = [(id, kept) for id, kept in _of_class(cases, index) if kept.after]
    found = [
        (id, kept) for id, kept in there
        if lost_share(kept) >= WARN_FROM - _ROUNDING or (kept.left or 0) < (kept.objects or 0)
    ]  # fmt: skip
    if not found:
        return None
    worst = sorted(found, key=lambda entry: -lost_share(entry[1]))
    shown = [f"{id}: {lost_share(kept):.0%}{_objects(kept)}" for id, kept in worst]
    return (
        f"preparation loses volume or objects of class {name!r} in {len(found)} of {len(there)} cases "
        f"({_listed(shown)})"
    )


def _objects(kept: ClassKept) -> str:
    if kept.objects is None or kept.left is None or kept.left == kept.objects:
        return ""
    return f", {kept.objects - kept.left} of {kept.objects} objects"


def _outside(cases: Counted) -> str | None:
    """Labelled voxels lie where the image is 0."""
    found = [f"{id}: {case.outside}" for id, case in cases if case.outside]
    if not found:
        return None
    return (
        f"labelled voxels lie outside the box of the non-zero voxels, to which volumes are cropped, in {len(found)} "
        f"cases ({_listed(found)}): training keeps them, but predictions are background there"
    )


def _listed(entries: Sequence[str]) -> str:
    more = len(entries) - _SHOWN
    return "; ".join(entries[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
