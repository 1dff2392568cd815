"""voxward cv: cross-validation from folds to one table and one ensemble, in this process or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.alone import alone
from voxward.core.case import Dataset
from voxward.core.choices import Compute, Fold, Output
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.data.formats import open_dataset
from voxward.engine.choose import engine_for
from voxward.engine.settings import settle
from voxward.metrics.policies import Scoring
from voxward.report.cross_validation import CrossValidation, runs_course, summarise
from voxward.report.html.write import check_page, page_after
from voxward.report.metrics import METRICS_FILES
from voxward.systems.evaluate import Evaluation
from voxward.training.budget import check_minutes


def cv(
    dataset: Path | str,
    *,
    out: Path | str | Output,
    recipe: Sequence[str] | str = ("rog",),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    keep: int | None = None,
    fold: Fold = Fold(),
    scoring: Scoring = Scoring(),
    compute: Compute = Compute(),
) -> Evaluation:
    """Train each recipe on each fold, score every case by the runs that have not seen it, and predict the test cases.

    OUT/fold-N/RECIPE are the runs. With several recipes the best `keep` of each fold, by the mean Dice on its
    validation cases, predict those together. OUT/metrics.* is the table over all cases. OUT/system.yaml is the ensemble
    of all kept runs, which predicts the unlabelled cases of the dataset into OUT/predictions.

    A call that was interrupted goes on where it stopped. One process at a time works on an OUT; a cluster trains
    several runs at once. Workers that do not see OUT send a run when it is finished.

    Args:
        dataset: The folder of the dataset.
        out: The folder of the runs and the table, or an `Output` that also says what may be replaced and who is told.
        recipe: Packaged recipes, or paths of .yaml files.
        overrides: Changes of the recipes, each `dotted.key=value`.
        minutes: The time budget of each training; None: the recipe's epochs.
        keep: How many of the recipes predict each fold, the best ones; None: all.
        fold: The number of folds, and the seed; its `fold` is not used.
        scoring: What empty masks count, and the tolerance of the surface Dice.
        compute: Where the work is done.

    Returns:
        The scores of all cases.

    Raises:
        UserError: What `train` would refuse, or an OUT that was begun with other settings; before any work.

    Example:
        >>> voxward.cv("Task04_Hippocampus", out="cv", recipe="dynunet", fold=Fold(folds=3))
    """
    recipes = (recipe,) if isinstance(recipe, str) else tuple(recipe)
    output = Output.of(out)
    source, root = open_dataset(dataset, fold.follow_links), output.root
    check_minutes(minutes)
    outputs = _checked(output, source)
    course = runs_course(output.progress)
    work = CrossValidation(
        dataset=source, root=root, recipes=recipes, overrides=tuple(overrides), minutes=minutes, keep=keep, fold=fold,
        scoring=scoring, compute=compute, progress=output.progress, overwrite=output.overwrite,
    )  # fmt: skip
    work.check()
    with alone(root, "a cross-validation"):
        settle(root / "cv.json", work.settings, "a cross-validation")
        with page_after(output):
            with engine_for(root, compute.cluster, output.overwrite) as engine:
                course.run(work.units, work, engine)
            return summarise(work, outputs)


def _checked(output: Output, source: Dataset) -> Outputs:
    """Refuse a folder that must not be written into."""
    if output.root.resolve() == source.root.resolve():
        raise UserError(f"out {output.root} is the dataset's own folder; choose another --out")
    outputs = Outputs(output.root, "part of a cross-validation", output.overwrite)
    outputs.check(("system.yaml", *METRICS_FILES))
    check_page(output)
    return outputs
