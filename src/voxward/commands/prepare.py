"""voxward prepare: orient, crop, resample and normalise every labelled case of a dataset into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from voxward.commands.plan import plan as make_plan
from voxward.core.plan import Plan, load_plan
from voxward.data.formats import open_dataset
from voxward.data.store import prepare_dataset


def prepare(
    dataset: Path | str,
    out: Path | str,
    recipe: str = "rog",
    plan: Path | str | None = None,
    fold: int = 0,
    seed: int = 0,
    workers: int = 2,
    overrides: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Prepare all labelled cases of `dataset` into the folder `out`; returns the plan that was followed.

    `plan` is a plan.json, perhaps edited by hand; without it one is made by `recipe` from the training cases of the
    fold. Can be interrupted and run again. Raises ValueError naming all cases that failed, or when `out` holds cases
    that were prepared by another plan.
    """
    if plan is None:
        decided = make_plan(dataset, recipe, None, fold, seed, overrides, workers)
    else:
        decided = load_plan(Path(plan))
    prepare_dataset(open_dataset(Path(dataset)), decided, Path(out), workers=workers, progress=progress)
    return decided
