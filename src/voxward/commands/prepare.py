"""voxward prepare: orient, crop, resample and normalise every labelled case of a dataset into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from voxward.commands.plan import decide
from voxward.core.plan import Plan, load_plan
from voxward.core.recipe import load_recipe
from voxward.data.formats import declared, raise_refused
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
    overwrite: bool = False,
) -> Plan:
    """Prepare all labelled cases of `dataset` into the folder `out`; returns the plan that was followed.

    `plan` is a plan.json, perhaps edited by hand; without it one is made by `recipe` from the training cases of the
    fold. Can be interrupted and run again. overwrite: replace folders named like a case that voxward did not write.

    Raises:
        ValueError: Cases failed, or their ids are no plain file names: the message names them, and all other cases
            are prepared. Or, before anything is written, `out` holds cases that were prepared by another plan, or
            folders of other files that are named like cases.
    """
    opened, refused = declared(Path(dataset))
    if plan is None:
        decided = decide(opened, load_recipe(recipe, overrides), fold, seed, workers)[1]
    else:
        decided = load_plan(Path(plan))
    prepare_dataset(opened, decided, Path(out), workers=workers, progress=progress, overwrite=overwrite)
    raise_refused(refused)
    return decided
