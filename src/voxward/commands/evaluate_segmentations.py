"""Score a folder of segmentations that were made elsewhere: `voxward evaluate --segmentations`."""

from __future__ import annotations

import warnings
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.choices import Cases, Reading
from voxward.core.failures import Failures
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, counter, silent
from voxward.data.formats import open_dataset, refuse_own_folder
from voxward.data.formats.outside import refuse_outside
from voxward.data.io import volume_stem
from voxward.data.places import dataset_within
from voxward.metrics.policies import Scoring
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.runs.unseen import scope_of
from voxward.systems.evaluate import Evaluation, evaluate_folder
from voxward.systems.nan import tolerance_for
from voxward.systems.predict import volumes_in

_LISTED = 5


def evaluate_segmentations(
    segmentations: Path | str,
    dataset: Path | str | Cases,
    *,
    out: Path | str | None = None,
    scoring: Scoring = Scoring(),
    reading: Reading = Reading(),
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Score segmentations in files, whoever made them, against the labels of a dataset.

    Every labelled case must have a segmentation: one that is missing is a case that failed. The files hold the label
    values of the dataset. Files that belong to no case are named in a warning.

    Args:
        segmentations: The folder of the segmentations, each called like its case, in any file type.
        dataset: The dataset, of which all labelled cases but its test cases are scored; or `voxward.Cases`, which says
            which part of it.
        out: The folder that gets metrics.json, metrics.csv and metrics.md; by default the folder of the segmentations.
        scoring: What an empty mask counts and how the distances are taken.
        reading: How far a segmentation and its truth may lie apart, and whether the first case that fails stops the
            others.
        workers: The number of cases that are scored at once.
        overwrite: Replace files in `out` that are no metrics of voxward's, or were edited since.
        progress: Told about cases.

    Returns:
        The scores of all cases, and their summaries.

    Raises:
        UserError: There is no labelled case, `out` is a folder of the dataset, or a file would be replaced.
        CasesFailed: Cases failed, because the segmentation is missing, lies elsewhere or holds other values. Its
            `result` are the scores of the others, which are written; None without others.
        FileNotFoundError: A folder is missing.

    Example:
        >>> voxward.evaluate_segmentations("nnunet_predictions", "Task04_Hippocampus", out="scores").foreground.mean
    """
    reading.refuse_channels()
    cases, folder = dataset if isinstance(dataset, Cases) else Cases(dataset), Path(segmentations)
    if cases.dataset is None:
        raise FileNotFoundError("dataset must be given: the segmentations do not say whose they are")
    if not folder.is_dir():
        raise FileNotFoundError(f"segmentations must be a folder, and {folder} is not one")
    source = dataset_within(open_dataset(cases.dataset, reading.follow_links), tolerance_for((), reading))
    if not reading.follow_links:
        refuse_outside(folder, volumes_in(folder))
    target = folder if out is None else Path(out)
    ids = scope_of((), source, cases).ids
    refuse_own_folder(target, source)
    outputs, failures = Outputs(target, "metrics", overwrite), Failures(reading.fail_fast)
    outputs.check(METRICS_FILES)
    _warn_of_others(folder, source, ids)
    result = evaluate_folder(source, folder, ids, scoring, workers, counter(progress, "score"), failures)
    save_metrics(result, outputs)
    failures.raise_any(len(ids), result)
    return result


def _warn_of_others(folder: Path, dataset: Dataset, ids: tuple[str, ...]) -> None:
    known = {case.id for case in dataset.every}
    others = [path.name for path in volumes_in(folder) if volume_stem(path) not in {*ids, *known}]
    unasked = [path.name for path in volumes_in(folder) if volume_stem(path) in known.difference(ids)]
    for found, why in ((others, f"belong to no case of {dataset.root}"), (unasked, "are of cases that are not scored")):
        if found:
            more = ", ..." if len(found) > _LISTED else ""
            warnings.warn(f"{len(found)} files in {folder} {why}: {', '.join(found[:_LISTED])}{more}", stacklevel=3)
