"""voxward evaluate: a run on its dataset's validation cases, or a folder of predictions against a dataset's labels."""

from __future__ import annotations

from pathlib import Path

from voxward.commands.predict import predict_cases
from voxward.commands.train import RunSplit
from voxward.core.plan import load_json
from voxward.core.progress import Progress, counter, silent
from voxward.data.formats import open_dataset
from voxward.inference.evaluate import Evaluation, evaluate_folder
from voxward.inference.precision import Precision
from voxward.inference.run_folder import Checkpoint, RunFolder


def evaluate(
    run: Path | str,
    dataset: Path | str | None = None,
    out: Path | str | None = None,
    checkpoint: Checkpoint = "best",
    device: str = "auto",
    precision: Precision = "auto",
    policy: str = "ignore",
    nsd_tolerance_mm: float = 2.0,
    resume: bool = False,
    workers: int = 2,
    progress: Progress = silent,
) -> Evaluation:
    """Predict the run's validation cases and score them in their own geometry.

    dataset: score all labelled cases of another dataset folder instead. Predictions go to `out`/predictions and the
    metrics to `out`/metrics.json and metrics.csv; `out` is the run folder by default. policy: what an empty mask
    counts (`ignore`, `one`, `brats`). nsd_tolerance_mm: tolerance of the surface Dice. resume: keep the predictions
    that an interrupted call has written already.
    """
    folder = RunFolder(Path(run))
    split = load_json(RunSplit, folder.splits)
    source = open_dataset(split.dataset if dataset is None else dataset)
    same = dataset is None or source.root.resolve() == Path(split.dataset).resolve()
    ids = split.validation if same else tuple(case.id for case in source.cases)
    target = folder.root if out is None else Path(out)
    if not same and out is None:
        target = folder.root / f"on-{source.name}"
    cases = [source.case(id) for id in ids]
    predict_cases(run, cases, target / "predictions", checkpoint, device, precision, None, resume, progress)
    result = evaluate_folder(
        source, target / "predictions", ids, policy, nsd_tolerance_mm, workers, counter(progress, "score")
    )
    result.save(target)
    return result
