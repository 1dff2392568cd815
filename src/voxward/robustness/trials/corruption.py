"""What scanners do to a scan: the corrupted volume is written as a file, read back and segmented as any other file is.

Only the file is judged, by the ordinary deployed system: a corruption is no search, so that no model is differentiated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from voxward.core.errors import UserError
from voxward.core.progress import Progress
from voxward.corruptions.corrupt import Drawn, InapplicableError, apply, draw, no_channel
from voxward.corruptions.corruption_set import CorruptionSet
from voxward.corruptions.packages import refuse_missing
from voxward.corruptions.scan import Scan, axial_axis
from voxward.robustness.corrupted import Corrupted
from voxward.robustness.found import Found
from voxward.robustness.record import Record
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.stand import Stand
from voxward.robustness.subject import Subject
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit


@dataclass(frozen=True, eq=False)
class CorruptionTrial:
    """One corruption of a set.

    Attributes:
        name: The name of the corruption.
        chosen: Its set.
        severities: The severities.
        alone: Whether its set is the only one, so that channels of an unknown kind are corrupted, too.
    """

    name: str
    chosen: CorruptionSet
    severities: tuple[int, ...]
    alone: bool = True
    phase: Phase = "main"
    repeated: bool = True

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return the severities, and for the first case also severity 0, where nothing may change; see Trial."""
        return tuple(map(float, self.severities if number else (0, *self.severities)))

    def cost(self, classes: int) -> tuple[int, int]:
        """Return nothing: judging it is counted for every trial."""
        return 0, 0

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Corrupt the case and segment the file; see Trial.

        Raises:
            NotApplicable: The corruption means nothing on this case, or moves all of the truth out of the scan.
        """
        severity, began = int(unit.eps or 0), time.perf_counter()
        subject = stand.subject
        scan = scan_of(subject, stand.system.channels)
        try:
            drawn = draw(
                self.chosen, self.name, severity, scan, seed=unit.seed, case=unit.case, alone=self.alone
            )  # fmt: skip
        except InapplicableError as reason:
            raise NotApplicable(str(reason)) from reason
        found = apply(self.chosen, drawn, scan)
        left = _left(scan.label, found.label, subject)
        warned = _moved_out(left, subject.labels.scored, severity)
        image, clipped = as_steps(found.image, scan.image, subject)
        truth = subject.target if found.label is scan.label else _target(found.label, subject)
        volume = torch.from_numpy(image)[None].to(subject.volume)
        made = Found(volume, 0.0, seconds=time.perf_counter() - began, warnings=warned)
        record, file = stand.corrupted(unit, made, truth, self._about(drawn, clipped, left))
        changed = float((file != scan.image.astype(file.dtype)).mean())
        assert record.corruption is not None
        return (replace(record, corruption=replace(record.corruption, changed=changed)),)

    def _about(self, drawn: Drawn, clipped: float, left: tuple[float | None, ...]) -> Corrupted:
        spatial = self.chosen.corruption(self.name).spatial
        where = self.chosen.name, self.chosen.version, drawn.severity
        return Corrupted(*where, drawn.parameters, spatial, drawn.length_scale, 0.0, clipped, left)


def trials(target: Target) -> list[CorruptionTrial]:
    """Plan the corruptions of a protocol.

    Raises:
        UserError: No channel of the system is of a kind that a corruption changes.
        MissingPackageError: A package that corruptions need is not installed.
    """
    section = target.protocol.corruptions
    if section is None:
        return []
    alone = len(section.sets) == 1
    found = [CorruptionTrial(name, one, section.severities, alone) for one, name in section.chosen()]
    if target.channels:
        for trial in found:
            if not trial.chosen.corruption(trial.name).spatial and not trial.chosen.changes(target.channels, alone):
                raise UserError(f"corruptions: {no_channel(trial.chosen, target.channels)}")
        refuse_missing()
    return found


def scan_of(subject: Subject, channels: Sequence[str]) -> Scan:
    """Return a case as corruptions see it.

    Args:
        subject: The system on the case.
        channels: The names of the system's channels.
    """
    assert subject.place is not None, "corruptions change whole files"
    image, label = subject.volume[0].cpu().numpy(), subject.target[0].cpu().numpy()
    return Scan(image, subject.spacing, tuple(channels), axial_axis(subject.place.affine), label)


def as_steps(image: np.ndarray, clean: np.ndarray, subject: Subject) -> tuple[np.ndarray, float]:
    """Return corrupted intensities at the steps of the file's numbers, and the share of them that the file cuts off.

    Adversarial volumes are rounded towards the clean one; a scanner rounds to the nearest step.

    Args:
        image: The corrupted intensities (c, i, j, k).
        clean: Those of the untouched file.
        subject: The system on the case, whose threat model knows the limits and steps of the file.
    """
    clipped = 0.0
    if subject.threat.steps and image is not clean:
        steps = np.array(subject.threat.steps, np.float64)[:, None, None, None]
        image = (clean + np.rint((image.astype(np.float64) - clean) / steps) * steps).astype(clean.dtype)
    if subject.threat.limits is not None and image is not clean:
        low, high = subject.threat.limits
        clipped = float(((image < low) | (image > high)).mean())
        image = np.clip(image, low, high).astype(clean.dtype)
    return image, clipped


def _target(label: np.ndarray | None, subject: Subject) -> torch.Tensor:
    assert label is not None
    return torch.from_numpy(np.ascontiguousarray(label))[None].to(subject.target)


def _voxels(label: np.ndarray, subject: Subject) -> list[int]:
    """The number of voxels of each class or region."""
    if subject.labels.regions:
        return [int((part == 1).sum()) for part in label]
    return [int((label == n).sum()) for n in range(1, subject.labels.count)]


def _left(before: np.ndarray | None, after: np.ndarray | None, subject: Subject) -> tuple[float | None, ...]:
    """Of each class, its voxels after a move as a share of those before; nothing where nothing was moved."""
    if before is None or after is None or after is before:
        return ()
    pairs = zip(_voxels(before, subject), _voxels(after, subject), strict=True)
    return tuple(new / old if old else None for old, new in pairs)


def _moved_out(left: Sequence[float | None], classes: Sequence[str], severity: int) -> tuple[str, ...]:
    """What is said of classes that a move took out of the scan.

    Raises:
        NotApplicable: All of them are gone: an empty segmentation of an empty scan would count as perfect.
    """
    there = [(name, share) for name, share in zip(classes, left, strict=False) if share is not None]
    gone = [name for name, share in there if share == 0]
    if gone and len(gone) == len(there):
        raise NotApplicable(f"severity {severity} moves all of the truth out of the scan")
    return tuple(f"{name} was moved out of the scan" for name in gone)
