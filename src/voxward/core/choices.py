"""Groups of choices that several commands take: where they compute, on which part of the data, and what they reuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Compute:
    """Where a command computes, and with how many processes.

    Args:
        device: `auto` (a CUDA device if there is one, else the CPU), `cpu` or `cuda`.
        devices: The number of processes that train one network together, at least 1.
        workers: The number of processes that read and prepare cases, at least 1.

    Example:
        >>> Compute(device="cuda", workers=8)
        Compute(device='cuda', devices=1, workers=8)
    """

    device: str = "auto"
    devices: int = 1
    workers: int = 2


@dataclass(frozen=True)
class Fold:
    """The part of a dataset that a command learns from, and the seed of everything that is drawn at random.

    Args:
        fold: The fold that is held out, counted from 0.
        folds: The number of folds that a dataset without splits of its own is divided into.
        seed: The seed of the split, of the initial weights and of all that is drawn while training.
        exclude: A CSV file whose cases are left out of the training; `voxward suspects` writes a first version of it.

    Example:
        >>> Fold(fold=1, seed=3)
        Fold(fold=1, folds=5, seed=3, exclude=None)
    """

    fold: int = 0
    folds: int = 5
    seed: int = 0
    exclude: Path | str | None = None


@dataclass(frozen=True)
class Reuse:
    """Results of earlier work that a command uses instead of computing them itself.

    Args:
        plan: A `plan.json`, which may have been edited, in place of the planner's decisions.
        prepared: The folder of the prepared cases, which several runs may share. The default is a folder inside the
            run.
        start: The folder of a run on the same dataset. The new run begins with the weights that the old one deploys,
            and with its plan and its split.

    Example:
        >>> Reuse(prepared="prepared/liver")
        Reuse(plan=None, prepared='prepared/liver', start=None)
    """

    plan: Path | str | None = None
    prepared: Path | str | None = None
    start: Path | str | None = None
