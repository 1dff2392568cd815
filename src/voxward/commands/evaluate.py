"""voxward evaluate: score a system on its dataset's validation cases, or on all cases of another dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.choices import Compute, Output, Reading
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import inside
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json
from voxward.core.progress import Progress, silent
from voxward.data.channels import in_order_of
from voxward.data.formats import open_dataset, refuse_own_folder
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.metrics.policies import Scoring
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.runs.folder import RunSettings
from voxward.runs.unseen import unseen_by, unseen_by_all
from voxward.systems.evaluate import Evaluation
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.open import open_system
from voxward.systems.score import score_system
from voxward.systems.system import System


def evaluate(
    system: Path | str,
    dataset: Path | str | None = None,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    scoring: Scoring = Scoring(),
    reading: Reading = Reading(),
    compute: Compute = Compute(),
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Predict the cases that no part of a system was trained on, and score them in their files' own voxels.

    Args:
        system: A run folder, or a `system.yaml` of `voxward compose`.
        dataset: The run's dataset where it lies now, if it has moved, or another dataset, of which all labelled cases
            are scored. None: the dataset of the first run.
        out: The folder that gets `predictions`, metrics.json, metrics.csv and metrics.md. By default, for a single run,
            the run folder, or for another dataset RUN/on-NAME.
        overrides: Changes of the system's entries, such as `tta=mirrors`.
        scoring: What an empty mask counts and how HD95 and Dice are taken (see metrics.policies), and the tolerance of
            the surface Dice and which one it is.
        reading: What the channels of the dataset are, where it does not declare it or declares it wrongly; what is
            done about NaN; and whether the first case that fails stops the others.
        compute: The device, and how many cases are scored at once.
        resume: Keep the predictions that an interrupted call has written.
        overwrite: Replace files in `out` that are no metrics or predictions of voxward's, or were edited since.
        progress: Told about windows and cases.

    Returns:
        The scores of all cases, and their summary.

    Raises:
        UserError: The dataset's labels are not the system's, it shares cases with the training of a run, or a file
            would be replaced.
        CasesFailed: Cases failed; its `result` are the scores of the others, which are written and say so. None are
            where every case failed.
        FileNotFoundError: The system or the dataset is missing.

    Example:
        >>> voxward.evaluate("run", scoring=Scoring("brats")).foreground.mean
    """
    opened = open_system(system, overrides, compute.device)
    source = _source(opened, dataset, reading)
    ids = unseen_by_all(opened.runs, source)
    target = Path(out) if out is not None else _own_folder(Path(system), opened, source)
    refuse_own_folder(target, source)
    outputs = Outputs(target, "metrics", overwrite)
    outputs.check(METRICS_FILES)
    output, failures = Output(target, overwrite, progress), Failures(reading.fail_fast)
    source = dataset_reading_nan(source, nan_for(opened.runs, reading))
    source = dataset_within(source, tolerance_for(opened.runs, reading))
    result = score_system(opened, source, ids, output, scoring, compute.workers, resume=resume, failures=failures)
    save_metrics(result, outputs)
    failures.raise_any(len(ids), result)
    return result


def _own_folder(path: Path, system: System, source: Dataset) -> Path:
    """The folder of a single run, or one inside it for another dataset than its own."""
    if len(system.runs) != 1 or not path.is_dir():
        raise UserError(
            "out must be given for a system.yaml, or where several runs predict together: RUN's own figures stay RUN's"
        )
    root = system.runs[0].root
    return root if unseen_by(system.runs[0], source)[1] else inside(root, f"on-{source.name}")


def _source(system: System, dataset: Path | str | None, reading: Reading) -> Dataset:
    """The dataset, with its channels in the system's order."""
    if dataset is None and not system.runs:
        raise UserError(f"dataset must be given: {system.name} is no run of voxward, whose dataset would be known")
    source = open_dataset(load_json(RunSettings, system.runs[0].settings).dataset if dataset is None else dataset)
    return in_order_of(source, system.channels, reading.channels)
