"""How many noisy runs gave each voxel each class: all that is kept of their segmentations, whatever their number."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.errors import UserError

MOST = int(np.iinfo(np.uint16).max)
"""The greatest number of runs that can be counted."""
_FORMAT = 1


@dataclass(eq=False)
class Votes:
    """Counts per class and voxel; those of the background are what is missing to the number of runs.

    Attributes:
        runs: The number of runs.
        counts: For each foreground class and voxel how many runs gave it that class, uint16 (k - 1, i, j, k).
    """

    runs: int
    counts: np.ndarray

    @classmethod
    def none(cls, classes: int, shape: Sequence[int]) -> Votes:
        """Return the counts of no run.

        Args:
            classes: The number of classes, the background included.
            shape: The shape of the volume.
        """
        return cls(0, np.zeros((classes - 1, *shape), np.uint16))

    def add(self, label: np.ndarray) -> None:
        """Count one segmentation.

        Args:
            label: Class indices in the shape of the volume, 0 for background.

        Raises:
            UserError: It has another shape, holds an unknown class, or there are too many runs.
        """
        if label.shape != self.counts.shape[1:]:
            raise UserError(f"a segmentation must have the shape {self.counts.shape[1:]}, got {label.shape}")
        if label.size and not 0 <= int(label.min()) <= int(label.max()) <= len(self.counts):
            raise UserError(f"a segmentation must hold the classes 0 to {len(self.counts)}, got {int(label.max())}")
        self._more(1)
        # Most voxels are background, and each has one class: no place is counted twice at once.
        found = label.ravel()
        places = np.flatnonzero(found)
        self.counts.reshape(len(self.counts), -1)[found[places].astype(np.intp) - 1, places] += 1

    def merge(self, other: Votes) -> None:
        """Add the counts of other runs of the same volume.

        Raises:
            UserError: They have another shape, or there are too many runs.
        """
        if other.counts.shape != self.counts.shape:
            raise UserError(f"counts must have the shape {self.counts.shape}, got {other.counts.shape}")
        self._more(other.runs)
        self.counts += other.counts

    def of(self, classes: Iterable[int]) -> np.ndarray:
        """Return how many runs gave each voxel one of some foreground classes, uint16 in the shape of the volume."""
        total = np.zeros(self.counts.shape[1:], np.uint16)
        for klass in classes:
            total += self.counts[klass - 1]
        return total

    @property
    def digest(self) -> str:
        """A SHA-256 of the number of runs, the shape and all counts."""
        found = hashlib.sha256(repr((self.runs, self.counts.shape)).encode())
        found.update(np.ascontiguousarray(self.counts, "<u2").data)
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Write the counts to a compressed NumPy archive.

        Args:
            path: The file, which ends with `.npz`.
        """
        with path.open("wb") as file:
            np.savez_compressed(file, format=_FORMAT, runs=self.runs, counts=self.counts)

    @classmethod
    def load(cls, path: Path) -> Votes:
        """Read what `save` wrote.

        Raises:
            UserError: The file is damaged, or was written by another version of voxward.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                number, runs, counts = int(archive["format"]), int(archive["runs"]), archive["counts"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} holds no counts of noisy runs: {error}") from error
        if number != _FORMAT or counts.dtype != np.uint16:
            raise UserError(f"{path} holds counts of format {number} and type {counts.dtype}, known is {_FORMAT}")
        return cls(runs, counts)

    def _more(self, runs: int) -> None:
        if self.runs + runs > MOST:
            raise UserError(f"at most {MOST} noisy runs can be counted, got {self.runs + runs}")
        self.runs += runs
