"""voxward harden: from a trained run to one that is harder to attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from voxward.commands.train import train
from voxward.core.errors import UserError
from voxward.core.plan import load_json, load_plan
from voxward.core.progress import Progress, silent
from voxward.core.recipe import load_recipe
from voxward.data.formats import open_dataset
from voxward.data.store import is_prepared
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, load_run
from voxward.training.optim import create_optimizer

# Of the recipe's learning rate: the weights are good already, and are to move, not to be thrown about.
LEARNING_RATE = 0.5


def harden(
    run: Path | str,
    out: Path | str,
    dataset: Path | str | None = None,
    method: Literal["free", "pgd", "trades"] = "free",
    eps: float = 8 / 255,
    minutes: float | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Train a run on adversarial patches, from its deployed weights into the new run folder `out`.

    Recipe, plan and split are the run's, so that its validation cases stay unseen. Nothing is written into the run: its
    prepared cases are shared where they are those of the dataset, and else prepared into OUT/prepared. dataset: where
    the run's dataset lies now, if it was moved. method and eps: see core.recipe.Defence; eps is a share of the
    intensity window. The learning rate starts at half the recipe's. minutes: time budget, without it the
    recipe's epochs. resume: continue the run in `out`, by its own method and eps. overrides: `dotted.key=value` changes
    to the recipe, such as defence.steps=5. Returns the run folder.

    Raises ValueError or FileNotFoundError as `train` does, for a folder that is no trained run, and where what is to be
    resumed is no hardening of `run`.
    """
    load_run(run)  # refuses what is no trained run
    before = RunFolder(Path(run))
    settings = load_json(RunSettings, before.settings)
    if resume:
        _check_resumed(RunFolder(Path(out)), before)
        begun: tuple[str, ...] = ()
    else:
        begun = (f"defence.eps={eps!r}", f"optimizer.options.lr={_learning_rate(before)!r}")
    source = settings.dataset if dataset is None else dataset
    return train(
        source, out, str(before.recipe), minutes, resume,
        prepared=_shared(before, RunFolder(Path(out)), source), fold=settings.fold, seed=seed, device=device,
        devices=devices, workers=workers, start=before.root, defence=None if resume else method,
        folds=settings.folds, overrides=(*begun, *overrides), progress=progress,
    )  # fmt: skip


def _shared(before: RunFolder, out: RunFolder, dataset: Path | str) -> Path | None:
    """The run's prepared cases, where a training on `dataset` would find all of them there and write none."""
    source, split, folder = open_dataset(dataset), load_json(RunSplit, before.splits), before.root / "prepared"
    ids = (*split.fit, *split.selection)
    if (out.root / "prepared").is_dir() or not set(ids) <= {case.id for case in source.cases}:
        return None  # the second of these `train` refuses
    return folder if is_prepared(source, load_plan(before.plan), folder, ids) else None


def _learning_rate(before: RunFolder) -> float:
    """Half of the recipe's, or of the optimiser's own where the recipe names none."""
    optimizer = create_optimizer(load_recipe(before.recipe).optimizer, torch.nn.Linear(1, 1))
    return LEARNING_RATE * float(optimizer.defaults["lr"])


def _check_resumed(out: RunFolder, before: RunFolder) -> None:
    """Else clean training would go on and be called hardening, or on cases that were prepared by another plan."""
    if not out.recipe.is_file():
        return  # `train` says so
    if load_recipe(out.recipe).defence is None:
        raise UserError(f"{out.root} holds a run that is no hardened one: use `voxward train --resume`, or another out")
    if load_plan(out.plan) != load_plan(before.plan):
        raise UserError(
            f"{out.root} does not go on from {before.root}, whose plan is another one: give the run that it began with"
        )
