"""Which step of a training gave the best weights, and how good they are on the patches that choose them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.plan import load_json
from voxward.core.structure import to_data


@dataclass(frozen=True)
class PatchScores:
    """Dice scores on the patches that choose the best weights of a run.

    Attributes:
        dice: The Dice score (0 to 1) on the patches as they are.
        robust_dice: The Dice score (0 to 1) on the patches as the defence changes them; None without a defence.
    """

    dice: float
    robust_dice: float | None = None

    @property
    def text(self) -> str:
        """Return the scores in words."""
        found = f"Dice {self.dice:.3f} on the validation patches"
        return found if self.robust_dice is None else f"{found}, {self.robust_dice:.3f} on perturbed ones"


@dataclass(frozen=True)
class Kept:
    """The content of `logs/kept.json`.

    Attributes:
        step: The step of the best weights; 0 while there are none but those that the run began with.
        scores: The scores of the best weights.
        start: The scores, on the same patches, of the trained weights that a hardening began with; None for other runs.
    """

    step: int
    scores: PatchScores
    start: PatchScores | None = None

    @property
    def text(self) -> str:
        """Return in words which step was kept, and what the weights before it scored."""
        found = f"best step {self.step}: {self.scores.text}"
        if self.start is None:
            return found
        clean, robust = f"{self.start.dice:.3f}", self.start.robust_dice
        before = clean if robust is None else f"{clean} and {robust:.3f}"
        return f"{found} (before hardening: {before})"

    @property
    def gained(self) -> bool:
        """Return whether the Dice on perturbed patches rose; True where nothing is known of before."""
        if self.start is None or self.start.robust_dice is None or self.scores.robust_dice is None:
            return True
        return self.scores.robust_dice > self.start.robust_dice


def write_kept(path: Path, kept: Kept) -> None:
    """Write a `kept.json`."""
    write_json(path, with_checksum(to_data(kept)))


def read_kept(path: Path) -> Kept | None:
    """Read a `kept.json`; None where there is none, because an older version of voxward trained the run.

    The file only informs, so that one which is damaged gives a warning, and is as good as none.
    """
    try:
        return load_json(Kept, path) if path.is_file() else None
    except (UserError, OSError) as error:
        warnings.warn(f"{error}; what it said of the best weights is left out", stacklevel=2)
        return None


def kept_of(folder: Path) -> dict[str, Kept]:
    """Return what is known of the best weights of a training.

    Args:
        folder: The folder of a run, or a results folder of nnU-Net with hardened folds.

    Returns:
        What is known, by the name of the fold; by an empty name for a run. Empty where nothing is known.
    """
    places = {"": folder / "logs" / "kept.json"}
    places |= {path.parents[2].name: path for path in sorted(folder.glob("fold_*/hardening/logs/kept.json"))}
    return {name: kept for name, path in places.items() if (kept := read_kept(path)) is not None}
