"""voxward plan: measure the training cases of a fold and decide how they will be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.plan import Plan
from voxward.core.recipe import load_recipe
from voxward.data.fingerprint import fingerprint
from voxward.data.formats import open_dataset
from voxward.data.planner import make_plan
from voxward.data.splits import load_split


def plan(
    dataset: Path | str,
    recipe: str = "rog",
    out: Path | str | None = None,
    fold: int = 0,
    seed: int = 0,
    overrides: Sequence[str] = (),
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """The plan of `recipe` for the training cases of a fold of `dataset`.

    Writes `plan.json` and `fingerprint.json` into the folder `out` when it is given. `overrides` are `key=value` of
    the recipe, e.g. `preparation.batch_size=4`. Raises ValueError or FileNotFoundError for a bad dataset or recipe.
    """
    used, opened = load_recipe(recipe, overrides), open_dataset(Path(dataset))
    preparation = used.preparation
    opened = replace(opened, labels=opened.labels.with_regions(used.regions))
    split = load_split(opened, fold=fold, seed=seed)
    measured = fingerprint(opened, split.train, workers, progress, preparation.crop_nonzero)
    decided = make_plan(measured, preparation)
    if out is not None:
        measured.save(Path(out) / "fingerprint.json")
        decided.save(Path(out) / "plan.json")
    return decided
