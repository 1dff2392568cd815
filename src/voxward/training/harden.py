"""The part of a hardened run that is taken over from the run that it begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from voxward.core.case import Dataset
from voxward.core.choices import Fold
from voxward.core.errors import UserError
from voxward.core.files import sha256_of
from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import Defence, load_run_recipe
from voxward.data.store import is_prepared
from voxward.runs.folder import RunFolder, RunSettings, RunSplit
from voxward.training.begin import Request, as_planned, split_of
from voxward.training.optim import create_optimizer
from voxward.training.transfer import is_own_dataset

# The share of the recipe's learning rate: the weights are good already, and should move without being lost.
LEARNING_RATE = 0.5


def begun_with(method: str, eps: float | None) -> tuple[str, ...]:
    """Return the changes of a recipe that choose a defence.

    Args:
        method: The name of the defence.
        eps: The radius of its ball, a share (0 to 1) of the intensity range. None: 8/255 for a defence that has a ball,
            whatever the recipe says.
    """
    chosen = Defence(method)
    if eps is None and chosen.unused(["eps"]):
        return (f"defence.method={method}",)
    return f"defence.method={method}", f"defence.eps={chosen.eps if eps is None else eps!r}"


def hardening(before: RunFolder, asked: Request, method: str, eps: float | None) -> Request:
    """Complete the request for a hardened run with what the first run decided.

    The recipe, the plan, the split and the weights are those of the first run, so that its validation cases stay
    unseen. The first run is not changed: its prepared cases are shared where they are those of the dataset.

    Args:
        before: The folder of the run to begin with.
        asked: The request, with the dataset, the folder of the new run, its seed and its overrides.
        method: The name of the defence, which does not matter for a run that is resumed.
        eps: The radius of the defence, see `begun_with`, which does not matter for a run that is resumed.

    Returns:
        The request that `training.train.train_run` takes.

    Raises:
        UserError: The run to be resumed is not hardened, or began with another run; or the dataset is not the run's.
    """
    settings = load_json(RunSettings, before.settings)
    begun: tuple[str, ...] = ()
    if asked.resume:
        _check_resumed(asked.out, before)
    else:
        _check_dataset(before, asked.dataset)
        rate = f"optimizer.options.lr={_learning_rate(before)!r}"
        begun = (*begun_with(method, eps), rate)
    return replace(
        asked,
        recipe=str(before.recipe),
        overrides=(*begun, *asked.overrides),
        fold=Fold(settings.fold, settings.folds, asked.fold.seed),
        reuse=replace(asked.reuse, prepared=_shared(before, asked), start=before.root),
    )


def _check_dataset(before: RunFolder, dataset: Dataset) -> None:
    """Refuse another dataset than that of the run: its validation cases would not be those of the split."""
    split_of(before, dataset)
    if not is_own_dataset(before, dataset):
        raise UserError(
            f"{dataset.root} holds other images than {before.root} was trained on: train there with --start "
            f"{before.root} and --defence, or give the run's own dataset"
        )


def _shared(before: RunFolder, asked: Request) -> Path | None:
    """Return the folder of the run's prepared cases if a training would find all of its cases there and write none."""
    split, folder = load_json(RunSplit, before.splits), before.root / "prepared"
    ids = (*split.fit, *split.selection)
    if (asked.out.root / "prepared").is_dir() or not set(ids) <= {case.id for case in asked.dataset.cases}:
        return None  # a dataset that lacks cases is refused later
    plan = load_plan(before.plan)
    return folder if is_prepared(as_planned(asked.dataset, plan), plan, folder, ids) else None


def _learning_rate(before: RunFolder) -> float:
    """Return half of the recipe's learning rate, or of the optimiser's default where the recipe names none."""
    optimizer = create_optimizer(load_run_recipe(before.recipe).optimizer, torch.nn.Linear(1, 1))
    return LEARNING_RATE * float(optimizer.defaults["lr"])


def begun_with_others(out: RunFolder, before: RunFolder) -> bool:
    """Return whether a hardened run was begun from a plan or from weights that the run before it has no more.

    Args:
        out: The folder of the hardened run; one without settings was begun from nothing.
        before: The folder of the run before it.
    """
    return out.settings.is_file() and (_other_weights(out, before) or load_plan(out.plan) != load_plan(before.plan))


def _other_weights(out: RunFolder, before: RunFolder) -> bool:
    known = load_json(RunSettings, out.settings).start_weights
    return bool(known) and known != sha256_of(before.weights("auto"))


def _check_resumed(out: RunFolder, before: RunFolder) -> None:
    """Refuse to go on with a clean training as a hardening, or on cases that were prepared by another plan."""
    if not out.recipe.is_file():
        return  # refused later, with a message of its own
    if load_run_recipe(out.recipe).defence is None:
        raise UserError(f"{out.root} holds a run that is no hardened one: use `voxward train --resume`, or another out")
    if load_plan(out.plan) != load_plan(before.plan):
        raise UserError(
            f"{out.root} does not go on from {before.root}, whose plan is another one: give the run that it began with"
        )
    if _other_weights(out, before):
        raise UserError(
            f"{out.root} was hardened from other weights than {before.root} has now: use another out, or, to "
            f"go on from the earlier ones, `voxward train DATASET --out {out.root} --resume`"
        )
