"""Predictions on disk against the truth on disk: every case, every class, and the summary over the cases."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from voxward.core.case import Case, Dataset, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.structure import to_data
from voxward.data.io import SUFFIXES, read_label
from voxward.data.parallel import for_each_case
from voxward.data.volume_file import same_affine
from voxward.metrics.score import METRICS, POLICIES, CaseMetrics, ClassMetrics, EmptyPolicy, score_case
from voxward.metrics.summary import Summary, summarise
from voxward.metrics.surface import NSD_TOLERANCE_MM


@dataclass(frozen=True)
class Evaluation:
    """Scores of many cases.

    classes: per foreground class and metric (metrics.score.METRICS) the summary over the cases, None where no case
    defines it. means: per metric the summary of each case's mean over its defined foreground classes.
    """

    policy: str
    nsd_tolerance_mm: float
    cases: tuple[CaseMetrics, ...]
    classes: Mapping[str, Mapping[str, Summary | None]]
    means: Mapping[str, Summary | None]

    @property
    def foreground(self) -> Summary | None:
        """Summary of the cases' mean foreground Dice; None where no case has a defined class."""
        return self.means["dice"]

    def save(self, outputs: Outputs) -> None:
        """Write metrics.csv (one row per case and class; undefined is empty) and metrics.json (everything)."""
        outputs.text("metrics.csv", _csv(self.cases))
        outputs.json("metrics.json", {"foreground": to_data(self.foreground), **to_data(self)})


def summarise_cases(cases: Sequence[CaseMetrics], policy: str, nsd_tolerance_mm: float) -> Evaluation:
    """Summarise scored cases that have the same classes. Raises ValueError when there are none."""
    if not cases:
        raise UserError("an evaluation needs at least one case, got none")
    classes = {
        name: {metric: summarise([getattr(case.classes[name], metric) for case in cases]) for metric in METRICS}
        for name in cases[0].classes
    }
    means = {metric: summarise([case.mean(metric) for case in cases]) for metric in METRICS}
    return Evaluation(policy, nsd_tolerance_mm, tuple(cases), classes, means)


def evaluate_pairs(
    pairs: Iterable[tuple[str, Path, Path]],
    labels: LabelSet,
    policy: str = "ignore",
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score (id, truth file, prediction file) triples; both files hold the values of `labels`.

    policy: what an empty mask counts, one of metrics.score.POLICIES. progress: called with (done, total).
    Raises ValueError naming every case whose pair differs in shape or affine or holds an undeclared value, or when an
    argument is wrong; FileNotFoundError naming the files that are missing.
    """
    rule = POLICIES[policy]
    # A pair is read as a case whose image is the prediction.
    cases = [Case(id, (prediction,), truth) for id, truth, prediction in pairs]
    _check(cases, nsd_tolerance_mm)
    scored = for_each_case(lambda case: _score(case, labels, rule, nsd_tolerance_mm), cases, workers, progress)
    return summarise_cases(scored, policy, nsd_tolerance_mm)


def evaluate_folder(
    dataset: Dataset,
    predictions: Path,
    ids: Sequence[str] | None = None,
    policy: str = "ignore",
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a folder of predictions, named like their cases, against the dataset's labels.

    ids: the cases to score; by default all that have a label, and a missing prediction is an error. The other
    arguments and errors are those of `evaluate_pairs`.
    """
    if not predictions.is_dir():
        raise FileNotFoundError(f"predictions must be a folder, and {predictions} is not one")
    cases = dataset.cases if ids is None else tuple(dataset.case(id) for id in ids)
    pairs = []
    for case in cases:
        if case.label is None:
            raise UserError(f"case {case.id!r} of {dataset.name!r} has no label to score against")
        pairs.append((case.id, case.label, _prediction(predictions, case)))
    return evaluate_pairs(pairs, dataset.labels, policy, nsd_tolerance_mm, workers, progress)


def _prediction(folder: Path, case: Case) -> Path:
    """The prediction of a case, whatever its file type; where there is none, the path where it should have been."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{case.id}{suffix}").is_file()]
    if len(found) > 1:
        raise UserError(f"case {case.id!r} has several predictions: {', '.join(path.name for path in found)}")
    return found[0] if found else folder / f"{case.id}.nii.gz"


def _check(cases: Sequence[Case], nsd_tolerance_mm: float) -> None:
    if not cases:
        raise UserError("there is no case to evaluate")
    if not (math.isfinite(nsd_tolerance_mm) and nsd_tolerance_mm >= 0):
        raise UserError(f"nsd_tolerance_mm must be at least 0, got {nsd_tolerance_mm}")
    ids = [case.id for case in cases]
    if len(set(ids)) < len(ids):
        raise UserError(f"case ids must differ, got twice: {sorted({id for id in ids if ids.count(id) > 1})[:5]}")
    missing = [str(path) for case in cases for path in (case.label, *case.images) if path and not path.is_file()]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(f"{len(missing)} files to evaluate are missing: {listed}")


def _score(case: Case, labels: LabelSet, policy: EmptyPolicy, nsd_tolerance_mm: float) -> CaseMetrics:
    assert case.label is not None
    truth, prediction = read_label(case.label), read_label(case.images[0])
    _same_grid(truth, prediction)
    maps = (labels.to_index(truth.array), labels.to_index(prediction.array))
    return score_case(case.id, *maps, truth.spacing, labels, policy, nsd_tolerance_mm)


def _same_grid(truth: Volume, prediction: Volume) -> None:
    if truth.shape != prediction.shape:
        raise UserError(f"the prediction has shape {prediction.shape}, its truth {truth.shape}")
    if not same_affine(truth.affine, prediction.affine, truth.shape):
        raise UserError(
            f"prediction and truth lie in different places: their affines are "
            f"{prediction.affine.tolist()} and {truth.affine.tolist()}"
        )


def _csv(cases: Sequence[CaseMetrics]) -> str:
    text = io.StringIO()
    columns = [field.name for field in fields(ClassMetrics)]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", "class", *columns])
    for case in cases:
        for name, scores in case.classes.items():
            table.writerow([case.id, name, *(getattr(scores, column) for column in columns)])
    return text.getvalue()
