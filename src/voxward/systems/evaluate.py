"""Predictions in files against the ground truth in files: every case, every class, and the summary over the cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from voxward.core.case import Case, Dataset, Volume
from voxward.core.choices import AFFINE_TOLERANCE
from voxward.core.errors import Failure, UserError
from voxward.core.failures import Failures
from voxward.core.labels import IGNORED, LabelSet
from voxward.core.names import on_disk
from voxward.core.structure import from_data, to_data
from voxward.data.io import SUFFIXES, read_label
from voxward.data.parallel import for_each_case
from voxward.data.places import apart
from voxward.metrics.policies import STANDARD, Scoring
from voxward.metrics.registry import METRICS, PRIMARY
from voxward.metrics.score import CaseMetrics, ClassMetrics, score_case
from voxward.metrics.summary import Summary, summarise
from voxward.systems.origin import Origin

Progress = Callable[[int, int], None]
"""A function that is called with the number of finished cases and their number in all."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of many cases and their summaries.

    Attributes:
        scoring: How the masks were scored.
        cases: The scores of each case.
        classes: For each foreground class and metric (`metrics.registry.METRICS`), the summary over the cases; None
            where no case defines the metric.
        means: For each metric, the summary over the cases of the case's mean over its classes that define the metric.
        failed: The cases that should have been scored and could not be; no summary is over them.
        origin: What was scored by what; None for files of unknown origin.
    """

    scoring: Scoring
    cases: tuple[CaseMetrics, ...]
    classes: Mapping[str, Mapping[str, Summary | None]]
    means: Mapping[str, Summary | None]
    failed: tuple[Failure, ...] = ()
    origin: Origin | None = None

    @property
    def foreground(self) -> Summary | None:
        """Return the summary of the cases' mean foreground Dice; None where no case has a defined class."""
        return self.means[PRIMARY]

    def to_data(self) -> dict[str, Any]:
        """Return everything as plain JSON data, in the form of metrics.json."""
        cases = [
            {
                "id": case.id,
                "classes": {name: scores.figures() for name, scores in case.classes.items()},
                **({"unannotated": case.unannotated} if case.unannotated else {}),
            }
            for case in self.cases
        ]
        failed = [{"id": failure.case, "reason": failure.reason} for failure in self.failed]
        return {
            "foreground": to_data(self.foreground), **to_data(self.scoring), "cases": cases,
            "classes": to_data(self.classes), "means": to_data(self.means),
            **({} if self.origin is None else {"origin": to_data(self.origin)}),
            **({"failed": failed} if failed else {}),
        }  # fmt: skip

    @classmethod
    def from_data(cls, data: Any, source: str) -> Evaluation:
        """Read an evaluation from what `to_data` returned; the summaries are computed from the cases.

        Args:
            data: The plain data, of this or an older version of voxward.
            source: The file that it comes from, for error messages.

        Raises:
            UserError: The data are no evaluation.
        """
        kept = {name: data[name] for name in _KEPT if name in data} if isinstance(data, Mapping) else data
        stored = from_data(_Stored, kept, source)
        cases = [
            CaseMetrics(case.id, {k: _scores(scores, source) for k, scores in case.classes.items()}, case.unannotated)
            for case in stored.cases
        ]
        if not cases or len({tuple(case.classes) for case in cases}) > 1:
            raise UserError(f"{source} must hold at least one case, and all cases must have the same classes")
        failed = tuple(Failure(case.id, case.reason) for case in stored.failed)
        scoring = Scoring(stored.policy, stored.nsd_tolerance_mm, stored.nsd)
        return replace(summarise_cases(cases, scoring), failed=failed, origin=stored.origin)


@dataclass(frozen=True)
class _StoredCase:
    """A case in metrics.json."""

    id: str
    classes: Mapping[str, Mapping[str, float | None]]
    unannotated: float = 0.0


@dataclass(frozen=True)
class _StoredFailure:
    """A failed case in metrics.json."""

    id: str
    reason: str


@dataclass(frozen=True)
class _Stored:
    """What an evaluation is read from; metrics.json holds the summaries, too, for other programs."""

    cases: tuple[_StoredCase, ...]
    policy: str = STANDARD.policy
    nsd_tolerance_mm: float = STANDARD.nsd_tolerance_mm
    nsd: str = STANDARD.nsd
    failed: tuple[_StoredFailure, ...] = ()
    origin: Origin | None = None


_KEPT = tuple(field.name for field in fields(_Stored))


def _scores(figures: Mapping[str, float | None], source: str) -> ClassMetrics:
    """The scores of a class; a metric that is not there, as an older version did not know it, has no value."""
    known = {name: figures.get(name) for name in METRICS}
    finite = {name: value if value is not None and math.isfinite(value) else None for name, value in known.items()}
    truth, predicted = (figures.get(name) or 0 for name in ("truth_voxels", "predicted_voxels"))
    if not (math.isfinite(truth) and math.isfinite(predicted)):
        raise UserError(f"{source}: a class cannot have {truth} voxels in the truth and {predicted} in the prediction")
    return ClassMetrics(finite, int(truth), int(predicted))


def summarise_cases(cases: Sequence[CaseMetrics], scoring: Scoring) -> Evaluation:
    """Summarise scored cases.

    Args:
        cases: Scores of cases that have the same classes.
        scoring: How they were scored.

    Returns:
        The cases, and their summaries per class and over the classes.

    Raises:
        UserError: There are no cases.
    """
    if not cases:
        raise UserError("an evaluation needs at least one case, got none")
    classes = {
        name: {metric: summarise([case.classes[name][metric] for case in cases]) for metric in METRICS}
        for name in cases[0].classes
    }
    means = {metric: summarise([case.mean(metric) for case in cases]) for metric in METRICS}
    return Evaluation(scoring, tuple(cases), classes, means)


def evaluate_pairs(
    pairs: Iterable[tuple[str, Path, Path]],
    labels: LabelSet,
    scoring: Scoring = STANDARD,
    workers: int = 2,
    progress: Progress | None = None,
    failures: Failures | None = None,
    affine_tolerance: float = AFFINE_TOLERANCE,
) -> Evaluation:
    """Score predictions in files against the ground truth in files.

    A case that fails does not stop the others.

    Args:
        pairs: The case id, the file of the ground truth and the file of the prediction, for each case.
        labels: The classes; both files hold its values.
        scoring: Policy for empty masks, and the metrics' options.
        workers: The number of cases that are read and scored at once.
        progress: Called with the number of finished cases and their number in all.
        failures: Gets the cases that fail, because a file is missing, a pair differs in shape or affine, or one holds a
            value that is not declared. It may hold earlier failures, of cases that are not among the pairs. None raises
            them together.
        affine_tolerance: How far the corners of the two files of a pair may lie apart, in the smallest voxel edge.

    Returns:
        The scores of the cases that did not fail, and their summaries.

    Raises:
        UserError: There is no case, or two have the same id.
        CasesFailed: Cases failed, and `failures` is None, or all of them did.
    """
    cases = [Case(id, (prediction,), truth, affine_tolerance=affine_tolerance) for id, truth, prediction in pairs]
    return _evaluate(cases, labels, scoring, workers, progress, failures)


def evaluate_folder(
    dataset: Dataset,
    predictions: Path,
    ids: Sequence[str] | None = None,
    scoring: Scoring = STANDARD,
    workers: int = 2,
    progress: Progress | None = None,
    failures: Failures | None = None,
) -> Evaluation:
    """Score a folder of predictions against a dataset's labels.

    Args:
        dataset: The cases with their labels.
        predictions: The folder; each prediction is named like its case.
        ids: The cases to score; by default all that have a label.
        scoring: Policy for empty masks, and the metrics' options.
        workers: The number of cases that are read and scored at once.
        progress: Called with the number of finished cases and their number in all.
        failures: Gets the cases that fail, as in `evaluate_pairs`.

    Returns:
        The scores of the cases that did not fail, and their summaries.

    Raises:
        UserError: A case has no label.
        CasesFailed: Cases failed, and `failures` is None, or all of them did.
        FileNotFoundError: The folder is missing.
    """
    if not predictions.is_dir():
        raise FileNotFoundError(f"predictions must be a folder, and {predictions} is not one")
    cases = dataset.cases if ids is None else tuple(dataset.case(id) for id in ids)
    pairs, kept = [], Failures() if failures is None else failures
    for case in cases:
        if case.label is None:
            raise UserError(f"case {case.id!r} of {dataset.name!r} has no label to score against")
        with kept.of(case):
            pairs.append(replace(case, images=(_prediction(predictions, case),)))
    if failures is None:
        kept.raise_any(len(cases))
    return _evaluate(pairs, dataset.labels, scoring, workers, progress, failures)


def _evaluate(
    cases: Sequence[Case],
    labels: LabelSet,
    scoring: Scoring,
    workers: int,
    progress: Progress | None,
    failures: Failures | None,
) -> Evaluation:
    """Score cases whose image is the prediction."""
    _check(cases, failures)
    kept = Failures() if failures is None else failures
    scored = for_each_case(lambda case: _score(case, labels, scoring), cases, workers, progress, kept)
    total = len(scored) + len(kept.found)
    if not scored:
        kept.raise_any(total)
    result = replace(summarise_cases(scored, scoring), failed=tuple(kept.found))
    if failures is None:
        kept.raise_any(total, result)
    return result


def _prediction(folder: Path, case: Case) -> Path:
    """Return the file of a case's prediction, whatever its type; where there is none, the path where it should be."""
    found = [path for suffix in SUFFIXES if (path := on_disk(folder / f"{case.id}{suffix}")).is_file()]
    if len(found) > 1:
        raise UserError(f"case {case.id!r} has several predictions: {', '.join(path.name for path in found)}")
    return found[0] if found else folder / f"{case.id}.nii.gz"


def _check(cases: Sequence[Case], failures: Failures | None) -> None:
    if not cases and failures is not None:
        failures.raise_any(len(failures.found))
    if not cases:
        raise UserError("there is no case to evaluate")
    ids = [case.id for case in cases]
    if len(set(ids)) < len(ids):
        raise UserError(f"case ids must differ, got twice: {sorted({id for id in ids if ids.count(id) > 1})[:5]}")


def _score(case: Case, labels: LabelSet, scoring: Scoring) -> CaseMetrics:
    assert case.label is not None
    if missing := [str(path) for path in (*case.images, case.label) if not path.is_file()]:
        raise UserError(f"{', '.join(missing)} is missing")
    truth, prediction = read_label(case.label), read_label(case.images[0])
    _same_grid(case, truth, prediction)
    maps = (labels.to_index(truth.array), labels.to_index(prediction.array))
    if labels.ignore is not None and ((maps[1] == IGNORED) & (maps[0] != IGNORED)).any():
        raise UserError(f"the prediction holds the ignore label {labels.ignore} where the truth is annotated")
    return score_case(case.id, *maps, truth.spacing, labels, scoring)


def _same_grid(case: Case, truth: Volume, prediction: Volume) -> None:
    if truth.shape != prediction.shape:
        raise UserError(f"the prediction has shape {prediction.shape}, its truth {truth.shape}")
    if (found := apart(truth.affine, prediction.affine, truth.shape)).exceeds(case.affine_tolerance):
        raise UserError(f"{case.images[0]} and {case.label} lie in different places: {found}")
