"""What figures are of: which system scored which cases of which dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.data.identity import read_identity
from voxward.runs.unseen import Scope
from voxward.systems.digest import digest
from voxward.systems.system import System


@dataclass(frozen=True)
class Origin:
    """What the figures of an evaluation are of.

    Attributes:
        system: The system's name.
        fingerprint: The digest of its weights and settings.
        dataset: The dataset's name.
        root: The absolute path of its folder.
        split: Which part of it was scored.
        content: A digest of the id and the image of its first case that was scored, which tells datasets apart that
            have the same name.
        seen: The ids of scored cases that the system was trained on.
        left_out: The ids of cases that were left out, because the system was trained on them.
    """

    system: str
    fingerprint: str
    dataset: str
    root: str
    split: str
    content: str
    seen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def origin_of(system: System, dataset: Dataset, scope: Scope, split: str = "validation") -> Origin:
    """Return what the figures of a system on cases of a dataset are of.

    Args:
        system: The system.
        dataset: The dataset.
        scope: The cases.
        split: The part of the dataset that was asked for.
    """
    return Origin(
        system=system.name,
        fingerprint=system.fingerprint(),
        dataset=dataset.name,
        root=str(dataset.root.resolve()),
        split=split,
        content=content_of(dataset, scope.ids),
        seen=scope.seen,
        left_out=scope.left_out,
    )


def content_of(dataset: Dataset, ids: Sequence[str]) -> str:
    """Return a digest of the first of some cases whose image can be read: of its id and its image."""
    for id in ids:
        try:
            identity = read_identity(dataset.case(id))
        except (UserError, OSError):
            continue
        return digest(id, sorted(channel.digest for channel in identity.channels))
    return digest(list(ids))
