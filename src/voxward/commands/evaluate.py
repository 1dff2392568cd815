"""voxward evaluate: score a system on its dataset's validation cases, or on all cases of another dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.choices import Cases, Compute, Output, Reading
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import refuse_unwritable
from voxward.core.invocation import invocation
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json
from voxward.core.progress import Progress, silent
from voxward.data.channels import in_order_of
from voxward.data.dicom.door import Converted, Wanted, converted, failures_before, is_dicom_folder, named_out
from voxward.data.formats import open_dataset, refuse_own_folder
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.metrics.policies import Scoring
from voxward.report.destination import folder_of, refuse_several, refuse_swapped
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.runs.folder import RunSettings
from voxward.systems.evaluate import Evaluation
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.open import Given, open_system, path_of
from voxward.systems.origin import origin_of
from voxward.systems.provenance import EVALUATE, noted_cases
from voxward.systems.score import score_system
from voxward.systems.system import System
from voxward.systems.unseen import scope_for


def evaluate(
    system: Given,
    dataset: Path | str | Cases | None = None,
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
        system: A run folder, model of another tool or `system.yaml`, or `voxward.Trusted` of one; or an open system.
        dataset: The run's dataset, wherever it lies and whatever it is called now, or another one, whose labelled cases
            are scored that the system was not trained on; or `voxward.Cases`. None: that of the first run. A folder of
            DICOM files is one, too: OUT/from-dicom keeps its volumes, see docs/dicom.md.
        out: The folder of predictions and metrics. By default, for a single run, the run folder for its validation
            cases, and for everything else a folder in it: RUN/test, RUN/all, or for another dataset RUN/on-NAME.
        overrides: Changes of the system's entries, such as `tta=mirrors`.
        scoring: What an empty mask counts, how HD95 and Dice are taken (see metrics.policies), and which surface Dice.
        reading: What the channels of the dataset are, where it does not declare it or declares it wrongly; what is
            done about NaN; and whether the first case that fails stops the others.
        compute: The device, and how many cases are scored at once.
        resume: Keep the predictions that the same system has made of the same files.
        overwrite: Replace files in `out` that are no metrics or predictions of voxward's, or were edited since.
        progress: Told about windows and cases.

    Returns:
        The scores of all cases, and their summary.

    Raises:
        UserError: The dataset's labels are not the system's, a run was trained on all of its cases, or a file would be
            replaced.
        CasesFailed: Cases failed; its `result` are the scores of the others, which are written; None without others.
        FileNotFoundError: The system or the dataset is missing.

    Example:
        >>> voxward.evaluate("run", scoring=Scoring("brats")).foreground.mean
    """
    call, cases = invocation(evaluate, locals()), _asked(dataset)
    refuse_swapped(path_of(system), cases.dataset)
    opened = _opened(system, overrides, compute.device, out)
    source, cases, made = _source(opened, cases, reading, out, progress)
    scope = scope_for([opened], source, cases, workers=compute.workers, progress=progress)
    scope.warn()
    origin = origin_of(opened, source, scope, cases.split)
    target = folder_of(opened.runs[0], origin, scope, cases) if out is None else Path(out)
    refuse_own_folder(target, source)
    outputs, failures = Outputs(target, "metrics", overwrite), failures_before(made, reading.fail_fast)
    outputs.check(METRICS_FILES)
    around = noted_cases(target, EVALUATE, call, source, scope.ids, system=opened, resume=resume)
    asked = opened, source, scope.ids, Output(target, overwrite, progress), scoring, compute.workers
    scored = score_system(*asked, resume=resume, failures=failures, around=around)
    result = save_metrics(_named(replace(scored, origin=origin), made, failures), outputs)
    failures.raise_any(len({*scope.ids, *failures.cases}), result)
    return result


def _named(scored: Evaluation, made: Converted | None, failures: Failures) -> Evaluation:
    """The scores with all cases that failed, also those that could not be converted, in the user's names."""
    return replace(scored, failed=tuple((failures if made is None else made.renamed(failures)).found))


def _asked(dataset: Path | str | Cases | None) -> Cases:
    return dataset if isinstance(dataset, Cases) else Cases(dataset)


def _opened(system: Given, overrides: Sequence[str], device: str, out: Path | str | None) -> System:
    """The system, which must be a single run where its folder is to get the results."""
    if out is not None:
        refuse_unwritable(out)
    opened = open_system(system, overrides, device)
    if out is None:
        refuse_several(path_of(system), opened.runs)
    return opened


def _source(
    system: System, cases: Cases, reading: Reading, out: Path | str | None, progress: Progress
) -> tuple[Dataset, Cases, Converted | None]:
    """The dataset, with its channels in the system's order, and NaN read as it does; and what was made of DICOM.

    Of cases that are asked for, those are left out that could not be made.
    """
    if cases.dataset is None and not system.runs:
        raise UserError(f"dataset must be given: {system.name} is no run of voxward, whose dataset would be known")
    place = cases.dataset or load_json(RunSettings, system.runs[0].settings).dataset
    source, made = _read(system, cases, place, reading=reading, out=out, progress=progress)
    source = in_order_of(source, system.channels, reading.channels)
    source = dataset_reading_nan(source, nan_for(system.runs, reading))
    asked = cases if made is None else made.asked(cases)
    return dataset_within(source, tolerance_for(system.runs, reading)), asked, made


def _read(
    system: System, cases: Cases, place: Path | str, *, reading: Reading, out: Path | str | None, progress: Progress
) -> tuple[Dataset, Converted | None]:
    if not is_dicom_folder(place):
        return open_dataset(place, reading.follow_links), None
    kept = named_out(out, place)
    wanted = Wanted(kept, system.labels, system.name, again=True, reading=reading, progress=progress, ids=cases.ids)
    with converted([place], wanted) as made:
        return made.labelled(), made
