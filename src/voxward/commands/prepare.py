"""voxward prepare: orient, crop, resample and normalise every labelled case of a dataset into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Fold
from voxward.core.plan import Plan, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import load_recipe
from voxward.data.formats import declared, raise_refused
from voxward.data.store import prepare_dataset
from voxward.training.begin import as_planned, cases_of, measured_plan, with_regions


def prepare(
    dataset: Path | str,
    *,
    out: Path | str,
    recipe: str = "rog",
    overrides: Sequence[str] = (),
    plan: Path | str | None = None,
    fold: Fold = Fold(),
    workers: int = 2,
    progress: Progress = silent,
    overwrite: bool = False,
) -> Plan:
    """Prepare all labelled cases of a dataset for a training; several runs may share the result.

    A preparation that was interrupted goes on where it stopped when it is called again.

    Args:
        dataset: The folder of the dataset.
        out: The folder that gets the prepared cases.
        recipe: The recipe that decides the plan: the name of a packaged one, or the path of a `.yaml` file.
        overrides: Changes to the recipe, each as `dotted.key=value`.
        plan: A `plan.json`, which may have been edited, in place of the plan that the recipe makes. Of the recipe only
            `preparation.allow_lost_labels` counts then.
        fold: The part of the dataset whose training cases decide the plan.
        workers: The number of cases that are prepared at once.
        progress: A function that is told about every case.
        overwrite: True replaces folders that are named like a case and that voxward did not write.

    Returns:
        The plan that was followed.

    Raises:
        UserError: Cases failed, or their ids cannot be names of files, or a class of a case has no voxel left; the
            message names them, and all other cases are prepared. Or, before anything is written, `out` holds cases that
            were prepared by another plan, or folders of other files that are named like cases.
        FileNotFoundError: There is no such dataset, recipe or plan.

    Example:
        >>> import voxward
        >>> plan = voxward.prepare("Task04_Hippocampus", out="prepared")  # doctest: +SKIP
    """
    (opened, refused), used = declared(Path(dataset)), load_recipe(recipe, overrides)
    if plan is None:
        source = with_regions(opened, used)
        decided = measured_plan(source, used, cases_of(source, fold).train, workers, progress)[1]
    else:
        decided = load_plan(Path(plan))
    shown = counter(progress, "prepare")
    prepare_dataset(
        as_planned(opened, decided), decided, Path(out), workers=workers, progress=shown, overwrite=overwrite,
        allow_lost_labels=used.preparation.allow_lost_labels,
    )  # fmt: skip
    raise_refused(refused)
    return decided
