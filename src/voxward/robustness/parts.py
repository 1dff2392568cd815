"""What of a system's labels is certified: its classes or regions, and coarser groups that a protocol names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from voxward.certificates.mask import Part
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.registry import unknown_name


def parts_of(labels: LabelSet, coarser: Mapping[str, Sequence[str]]) -> tuple[Part, ...]:
    """Return what is scored, in its order, and then the coarser groups.

    Args:
        labels: The classes or regions of a system.
        coarser: Names of foreground classes by the name of their group.

    Raises:
        UserError: A group has the name of something scored, or names an unknown class.
    """
    found = [Part(name, tuple(inside)) for name, inside in zip(labels.scored, _scored(labels), strict=True)]
    for group, names in coarser.items():
        if group in labels.scored:
            raise UserError(f"certificate.coarser.{group} has the name of a class: choose another one")
        for name in names:
            if name not in labels.foreground:
                known = dict.fromkeys(labels.foreground)
                raise UserError(f"certificate.coarser.{group}: {unknown_name('class', name, known)}")
        found.append(Part(group, tuple(sorted({labels.names.index(name) for name in names}))))
    return tuple(found)


def _scored(labels: LabelSet) -> Sequence[Sequence[int]]:
    return labels.region_maps.parts if labels.regions else [(klass,) for klass in range(1, labels.count)]
