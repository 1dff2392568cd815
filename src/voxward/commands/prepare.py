"""voxward prepare: orient, crop, resample and normalise every labelled case of a dataset into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxward.core.case import Dataset
from voxward.core.choices import Fold, Reading
from voxward.core.errors import Failure
from voxward.core.failures import Failures
from voxward.core.files import refuse_unwritable
from voxward.core.plan import Plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import load_recipe
from voxward.data.formats import declared, warn_of_remarks
from voxward.data.formats.collisions import Refused
from voxward.data.store import prepare_dataset
from voxward.training.begin import as_planned, cases_of, given_plan, measured_plan, with_regions


def prepare(
    dataset: Path | str,
    *,
    out: Path | str,
    recipe: str = "rog",
    overrides: Sequence[str] = (),
    plan: Path | str | None = None,
    fold: Fold = Fold(),
    workers: int = 2,
    reading: Reading = Reading(),
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
        plan: A `plan.json`, perhaps edited, in place of the one that the recipe decides. Of the recipe then only
            `preparation.allow_lost_labels`, `nan` and `affine_tolerance` count, and its regions and ignore label.
        fold: The part of the dataset whose training cases decide the plan.
        workers: The number of cases that are prepared at once.
        reading: Whether the first case that fails stops the others, and what is done about NaN (`preparation.nan`).
        progress: A function that is told about every case.
        overwrite: True replaces folders that are named like a case and that voxward did not write.

    Returns:
        The plan that was followed.

    Raises:
        CasesFailed: Cases failed, or their ids cannot be names of files; all other cases are prepared, by a plan that
            was measured without them. Its `result` is the plan.
        UserError: Before anything is written, `plan` fits another dataset, or `out` holds cases of another plan or
            files of the user. Or, after all cases are prepared, a class of a case has no voxel left.
        FileNotFoundError: There is no such dataset, recipe or plan.

    Example:
        >>> plan = voxward.prepare("Task04_Hippocampus", out="prepared")  # doctest: +SKIP
    """
    reading.refuse_channels()
    refuse_unwritable(out)
    opened, refused = declared(Path(dataset), reading.follow_links or fold.follow_links)
    warn_of_remarks(opened)
    used = load_recipe(recipe, [*overrides, *_change(reading)])
    failures, source = _refusals(opened, refused, reading), with_regions(opened, used)
    if plan is None:
        decided = measured_plan(source, used, cases_of(source, fold).train, workers, progress, failures)[1]
    else:
        decided = replace(given_plan(Path(plan), source, used), **_said(reading))
    shown, left = counter(progress, "prepare"), [case.id for case in failures.left(opened.cases)]
    kept, lose = as_planned(opened, decided), used.preparation.allow_lost_labels
    prepare_dataset(
        kept, decided, Path(out), left, workers, shown, overwrite=overwrite, failures=failures, allow_lost_labels=lose
    )
    failures.raise_any(len(opened.cases) + len(refused), decided)
    return decided


def _refusals(dataset: Dataset, refused: Sequence[Refused], reading: Reading) -> Failures:
    """The entries that cannot be used, as the first failures."""
    failures = Failures(reading.fail_fast)
    for entry in refused:
        failures.add(Failure(dataset.name if entry.case is None else repr(entry.case.id), entry.message))
    return failures


def _change(reading: Reading) -> list[str]:
    return [f"preparation.{name}={value}" for name, value in _said(reading).items()]


def _said(reading: Reading) -> dict[str, Any]:
    said = {"nan": reading.nan, "affine_tolerance": reading.affine_tolerance}
    return {name: value for name, value in said.items() if value is not None}
