"""voxward plan: measure the training cases of a fold and decide how they will be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Fold
from voxward.core.document import with_format
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.plan import Plan
from voxward.core.progress import Progress, silent
from voxward.core.recipe import load_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset, refuse_own_folder
from voxward.runs.folder import RunFolder
from voxward.training.begin import cases_of, measured_plan, warn_of_sides, with_regions
from voxward.training.sides import settled_sides


def plan(
    dataset: Path | str,
    *,
    out: Path | str | None = None,
    recipe: str = "rog",
    overrides: Sequence[str] = (),
    fold: Fold = Fold(),
    workers: int = 2,
    progress: Progress = silent,
    overwrite: bool = False,
) -> Plan:
    """Measure the training cases of a dataset, and decide patch size, spacing, normalisation and batch size for them.

    Args:
        dataset: The folder of the dataset.
        out: The folder that gets `plan.json`, which may be edited, and `fingerprint.json`; None writes nothing.
        recipe: The name of a packaged recipe, or the path of a `.yaml` file.
        overrides: Changes to the recipe, each as `dotted.key=value`, such as `preparation.batch_size=4`.
        fold: The part of the dataset whose training cases are measured.
        workers: The number of cases that are read at once.
        progress: A function that is told about every case.
        overwrite: True replaces files of these names that voxward did not write, or that were edited since.

    Returns:
        The plan.

    Raises:
        UserError: The dataset, the recipe or the fold is wrong, or a file would be replaced.
        FileNotFoundError: There is no such dataset or recipe.

    Example:
        >>> import voxward
        >>> plan = voxward.plan("Task04_Hippocampus", recipe="dynunet", out="planned")  # doctest: +SKIP
    """
    used, opened = load_recipe(recipe, overrides), open_dataset(Path(dataset), fold.follow_links)
    outputs = None if out is None else Outputs(Path(out), "a plan", overwrite)
    if outputs is not None:
        if RunFolder(outputs.folder).recipe.exists():
            raise UserError(f"{out} holds a run, whose plan.json belongs to its weights: choose another --out")
        refuse_own_folder(outputs.folder, opened)
        outputs.check(["fingerprint.json", "plan.json"])
    source = with_regions(opened, used)
    warn_of_sides(used, settled_sides(used, source.labels))
    measured, decided = measured_plan(source, used, cases_of(source, fold).train, workers, progress)
    if outputs is not None:
        outputs.json("fingerprint.json", with_format(to_data(measured)))
        outputs.json("plan.json", with_format(to_data(decided)))
    return decided
