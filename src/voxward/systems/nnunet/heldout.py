"""Which cases the network of a fold has not seen: its validation cases, which its folder names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.plan import load_json
from voxward.data.io import SUFFIXES
from voxward.data.volume_file import volume_stem

HARDENING = "hardening.json"
"""The file in a fold that voxward hardened which says how."""


@dataclass(frozen=True)
class Hardening:
    """How the network of a fold was hardened: the content of its hardening.json.

    Attributes:
        method: The defence, `free`, `pgd` or `trades`.
        eps: The largest change of a voxel, as a share (0 to 1) of the intensity range of a case.
        seed: The seed of all that was drawn.
        minutes: The time budget; None for a length in epochs.
        steps: The number of training steps.
        seconds: How long the training took.
        source: The results folder, or its zip file, whose network this one began with.
        source_weights: The SHA-256 of the weights that it began with.
        checkpoint: The file that these were read from.
        fold: The fold.
        dataset: The folder of the dataset.
        version: The version of voxward.
        trained: Ids of the cases that it was trained on.
        selection: Ids of the cases that chose the best weights.
        unseen: Ids of the cases that neither this network nor the one that it began with has seen.
    """

    method: str
    eps: float
    seed: int
    minutes: float | None
    steps: int
    seconds: float
    source: str
    source_weights: str
    checkpoint: str
    fold: str
    dataset: str
    version: str
    trained: tuple[str, ...]
    selection: tuple[str, ...]
    unseen: tuple[str, ...]


def held_out(fold: Path) -> tuple[str, ...] | None:
    """Return the cases that the network of a fold has not seen.

    nnU-Net leaves its predictions of them in the fold. A fold that voxward hardened lists them in its hardening.json,
    because such predictions would be those of the network before.

    Args:
        fold: The folder of the fold, such as `fold_0` in a results folder.

    Returns:
        Their ids, sorted; None where the folder does not say.

    Raises:
        UserError: The fold's hardening.json cannot be used.
    """
    if (fold / HARDENING).is_file():
        return tuple(sorted(load_json(Hardening, fold / HARDENING).unseen)) or None
    validation = fold / "validation"
    if not validation.is_dir():
        return None
    return tuple(sorted(filter(None, map(_id, validation.iterdir())))) or None


def _id(path: Path) -> str | None:
    """The id of a prediction; None for any other file."""
    if not path.name.lower().endswith(SUFFIXES) or path.name.startswith("."):
        return None
    try:
        return volume_stem(path)
    except UserError:
        return None
