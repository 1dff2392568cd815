"""voxward evaluate: score a run on its dataset's validation cases, or on all cases of another dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxward.commands.predict import predict_cases
from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.data.formats import open_dataset
from voxward.metrics.policies import Scoring
from voxward.pipeline.precision import Precision
from voxward.pipeline.predictor import Tta
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.runs.folder import Checkpoint, RunFolder, RunSettings, RunSplit
from voxward.systems.cascade import MarginUnit
from voxward.systems.evaluate import Evaluation, evaluate_folder


def evaluate(
    run: Path | str,
    dataset: Path | str | None = None,
    out: Path | str | None = None,
    checkpoint: Checkpoint = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    policy: str = "ignore",
    nsd_tolerance_mm: float = 2.0,
    cascade: Path | str | None = None,
    margin: float = 20.0,
    margin_unit: MarginUnit = "voxels",
    fraction: float = 0.2,
    members: Sequence[Path | str] = (),
    tta: Tta | None = None,
    resume: bool = False,
    workers: int = 2,
    progress: Progress = silent,
    overwrite: bool = False,
) -> Evaluation:
    """Predict the run's validation cases and score them in their own geometry.

    dataset: the run's dataset where it lies now, if it has moved, or another dataset, of which all labelled cases are
    scored. Predictions go to `out`/predictions, the metrics to metrics.json, metrics.csv and metrics.md in `out`: by
    default the run folder, for another dataset RUN/on-NAME. policy: what an empty mask counts and how HD95 and Dice are
    taken: `ignore`, `one`, `brats`, `brats-pooled`, `brats-2023` (see metrics.policies). nsd_tolerance_mm: tolerance of
    the surface Dice. checkpoint, members, tta, cascade, margin, margin_unit and fraction: see `predict`; cases that
    one of these other runs was trained on are left out, and `out` must be given. resume: keep the predictions that an
    interrupted call has written already. overwrite: replace files in `out` that are no metrics or predictions of
    voxward's, or were edited since.

    Raises ValueError when the dataset's labels are not the model's, when it shares cases with the run's training, for
    files that are not replaced, and naming the case for which the model returns NaN or infinite logits.
    """
    folder = RunFolder(Path(run))
    if not folder.settings.is_file():
        raise FileNotFoundError(f"{run} is not a trained run: no {folder.settings}")
    source = open_dataset(dataset if dataset is not None else load_json(RunSettings, folder.settings).dataset)
    scoring = Scoring(policy, nsd_tolerance_mm)  # an unknown one is refused before anything is predicted
    ids, own = cases_to_score(folder, source)
    others = (*members, *([] if cascade is None else [cascade]))
    if others:
        ids = unseen(ids, others, source)
        if out is None:
            raise UserError("out must be given where several runs predict together: RUN's own figures stay RUN's")
    source = replace(source, labels=load_plan(folder.plan).labels)  # the regions that the model learnt are scored
    target = Path(out) if out is not None else folder.root if own else inside(folder.root, f"on-{source.name}")
    outputs = Outputs(target, "metrics", overwrite)
    outputs.check(METRICS_FILES)
    cases = [source.case(id) for id in ids]
    predictions = target / "predictions"
    predict_cases(
        run, cases, predictions, checkpoint, device, precision, None, cascade, margin, margin_unit, fraction, members,
        tta, resume, progress, overwrite,
    )  # fmt: skip
    score = counter(progress, "score")
    result = evaluate_folder(source, predictions, ids, scoring, workers, score)
    save_metrics(result, outputs)
    return result


def cases_to_score(folder: RunFolder, source: Dataset) -> tuple[tuple[str, ...], bool]:
    """The ids to score, and whether this is the run's own dataset (wherever it lies).

    Raises ValueError when the labels are not the model's, or cases of the run's training would be scored.
    """
    plan, split = load_plan(folder.plan), load_json(RunSplit, folder.splits)
    if source.labels.classes != plan.labels.classes:
        raise UserError(f"the model predicts {_named(plan.labels)}, but {source.root} has {_named(source.labels)}")
    ids = tuple(case.id for case in source.cases)
    if source.name != plan.dataset:
        return ids, False
    if set(split.validation) <= set(ids):
        return split.validation, True
    shared = sorted({*split.fit, *split.selection} & set(ids))
    if shared:
        raise UserError(
            f"{source.root} has cases the model was trained on, e.g. {shared[:3]}, and not all of the run's validation "
            f"cases: a score on it would flatter"
        )
    return ids, False


def unseen(ids: Sequence[str], others: Sequence[Path | str], source: Dataset) -> tuple[str, ...]:
    """Those of `ids` that none of the `others`, runs too, was trained on. Raises ValueError when there are none."""
    legal = [set(cases_to_score(RunFolder(Path(other)), source)[0]) for other in others]
    left = tuple(id for id in ids if all(id in own for own in legal))
    if not left:
        raise UserError("every case was in the training of one of the other runs: there is none to score")
    return left


def _named(labels: LabelSet) -> str:
    return ", ".join(f"{value} = {name}" for value, name in zip(labels.values, labels.names, strict=True))
