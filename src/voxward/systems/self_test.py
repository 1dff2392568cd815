"""Whether a system of another tool predicts what that tool itself predicted, by masks that the tool left beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.progress import Progress, silent
from voxward.data.io import read_case, read_label
from voxward.systems.system import System

CASES = 3
"""How many cases of each part of a system are tested by default."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Masks that another tool predicted with a part of a system, and left beside it.

    Attributes:
        part: The name of the part, such as `fold_0`.
        system: The part by itself, deployed as the tool deployed it for these masks.
        masks: The file of each mask, by the id of its case.
    """

    part: str
    system: System
    masks: Mapping[str, Path]


@runtime_checkable
class HasStored(Protocol):
    """A system of another tool that comes with masks of that tool; a kind of system that has none leaves this out."""

    def stored(self) -> Sequence[Stored]:
        """Return the masks of each part; none where this system has none."""
        ...


@dataclass(frozen=True)
class Compared:
    """A prediction beside the mask that the tool stored.

    Attributes:
        part: The part of the system that predicted.
        case: The id of the case.
        unlike: How many voxels have another class.
        voxels: How many voxels the mask has.
    """

    part: str
    case: str
    unlike: int
    voxels: int


@dataclass(frozen=True)
class SelfTest:
    """The comparison of a system with the masks that its own tool predicted.

    Attributes:
        system: The name of the system.
        device: What the system computed on.
        cases: Every comparison.
        failed: The cases that could not be compared, as `PART CASE: reason`.
        without_image: Masks whose image the dataset does not have, as `PART CASE`.
    """

    system: str
    device: str
    cases: tuple[Compared, ...]
    failed: tuple[str, ...] = ()
    without_image: tuple[str, ...] = ()

    @property
    def unlike(self) -> int:
        """Return the number of voxels that have another class, of all cases together."""
        return sum(case.unlike for case in self.cases)

    @property
    def voxels(self) -> int:
        """Return the number of voxels of all cases together."""
        return sum(case.voxels for case in self.cases)

    @property
    def ok(self) -> bool:
        """Return whether every voxel of every case that was to be compared is equal."""
        return bool(self.cases) and not self.failed and self.unlike == 0


@dataclass
class _Findings:
    """What is collected while the cases are compared."""

    compared: list[Compared] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def stored_of(system: System) -> tuple[Stored, ...]:
    """Return the masks that a system's own tool left beside it.

    Args:
        system: The system.

    Raises:
        UserError: There are none, so that there is nothing to compare with.
    """
    found = tuple(part for part in system.stored() if part.masks) if isinstance(system, HasStored) else ()
    if not found:
        raise UserError(
            f"{system.name} comes with no masks of the tool that made it: there is nothing to compare with. Such masks "
            "are in fold_N/validation of a results folder of nnU-Net; a zip file of nnU-Net must be unpacked first"
        )
    return found


def self_test(
    system: System, dataset: Dataset, count: int = CASES, progress: Progress = silent, fail_fast: bool = False
) -> SelfTest:
    """Predict cases with each part of a system, and count the voxels that are unlike the stored masks.

    Args:
        system: The system.
        dataset: The dataset with the images, which are found by the ids of the cases.
        count: How many cases of each part are compared: the first that have an image.
        progress: Told about windows and cases.
        fail_fast: Whether the first case that cannot be compared raises its error.

    Raises:
        UserError: The system has no stored masks, `count` is below 1, or the dataset has no image of any of them.
    """
    if count < 1:
        raise UserError(f"cases must be at least 1, got {count}")
    parts, images = stored_of(system), {case.id: case for case in dataset.every}
    wanted = [(part, images[id]) for part in parts for id in [id for id in part.masks if id in images][:count]]
    without = [f"{part.part} {id}" for part in parts for id in part.masks if id not in images]
    if not wanted:
        named = ", ".join(list(parts[0].masks)[:5])
        raise UserError(f"{dataset.root} has no image of any case that {system.name} has masks of: {named}, ...")
    found = _Findings()
    for n, (part, case) in enumerate(wanted):
        progress("cases", n, len(wanted), running=f"{case.id} ({part.part})")
        failures = Failures(fail_fast)
        with failures.of(case):
            found.compared.append(_compare(part, case, progress))
        found.failed += [f"{part.part} {case.id}: {failure.reason}" for failure in failures.found]
    progress("cases", len(wanted), len(wanted))
    return SelfTest(system.name, str(system.device), tuple(found.compared), tuple(found.failed), tuple(without))


def _compare(part: Stored, case: Case, progress: Progress) -> Compared:
    labels, path = part.system.labels, part.masks[case.id]
    stored = labels.to_index(read_label(path).array)
    volume = read_case(case)
    if volume.shape != stored.shape:
        raise UserError(f"its image has shape {volume.shape}, the mask {path} {stored.shape}: it is another image")
    found = part.system.segment(volume, lambda done, of: progress("windows", done, of)).label
    return Compared(part.part, case.id, int(np.count_nonzero(found != stored)), found.size)
