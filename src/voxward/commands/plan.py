"""voxward plan: measure the training cases of a fold and decide how they will be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.plan import Fingerprint, Plan
from voxward.core.recipe import Recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.fingerprint import fingerprint
from voxward.data.formats import open_dataset
from voxward.data.planner import make_plan
from voxward.data.splits import load_split
from voxward.runs.folder import RunFolder


def plan(
    dataset: Path | str,
    recipe: str = "rog",
    out: Path | str | None = None,
    fold: int = 0,
    seed: int = 0,
    overrides: Sequence[str] = (),
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> Plan:
    """Decide the plan of `recipe` for the training cases of a fold of `dataset`.

    Writes `plan.json` and `fingerprint.json` into the folder `out` when it is given. `overrides` are `key=value` of
    the recipe, e.g. `preparation.batch_size=4`. overwrite: replace files of these names that voxward did not write, or
    that were edited since. Raises ValueError or FileNotFoundError for a bad dataset or recipe.
    """
    used, opened = load_recipe(recipe, overrides), open_dataset(Path(dataset))
    outputs = None if out is None else Outputs(Path(out), "a plan", overwrite)
    if outputs is not None:
        if RunFolder(outputs.folder).recipe.exists():
            raise UserError(f"{out} holds a run, whose plan.json belongs to its weights: choose another --out")
        outputs.check(["fingerprint.json", "plan.json"])
    measured, decided = decide(opened, used, fold, seed, workers, progress)
    if outputs is not None:
        outputs.json("fingerprint.json", to_data(measured))
        outputs.json("plan.json", to_data(decided))
    return decided


def decide(
    dataset: Dataset,
    recipe: Recipe,
    fold: int,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Fingerprint, Plan]:
    """Measure the training cases of a fold and make the recipe's plan for them."""
    preparation = recipe.preparation
    labelled = replace(dataset, labels=dataset.labels.with_regions(recipe.regions))
    split = load_split(labelled, fold=fold, seed=seed)
    measured = fingerprint(labelled, split.train, workers, progress, preparation.crop_nonzero)
    return measured, make_plan(measured, preparation)
