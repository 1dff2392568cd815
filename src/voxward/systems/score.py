"""A system is scored: it predicts cases, and its predictions are compared with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from voxward.core.case import Dataset
from voxward.core.choices import Output
from voxward.core.failures import Failures
from voxward.core.outputs import Outputs
from voxward.core.progress import counter
from voxward.metrics.policies import Scoring
from voxward.systems.evaluate import Evaluation, evaluate_folder
from voxward.systems.predict import predict_cases
from voxward.systems.system import System

PREDICTIONS = "a prediction"


def score_system(
    system: System,
    dataset: Dataset,
    ids: Sequence[str],
    output: Output,
    scoring: Scoring = Scoring(),
    workers: int = 2,
    resume: bool = False,
    failures: Failures | None = None,
    around: AbstractContextManager[None] | None = None,
) -> Evaluation:
    """Predict cases into the subfolder `predictions` of a folder, and score them in their files' own voxels.

    Args:
        system: The system; its classes, or regions, are scored.
        dataset: The dataset, with labels.
        ids: The cases to score.
        output: The folder, what may be replaced there, and who is told about progress.
        scoring: What empty masks count, and the tolerance of the surface Dice.
        workers: How many cases are scored at once.
        resume: Keep predictions that the same system has made of the same files.
        failures: Gets the cases that fail; None raises them together, when the others are scored.
        around: A block that is entered after all checks, and left after the last prediction.

    Raises:
        UserError: Another file would be replaced.
        CasesFailed: Cases failed, and `failures` is None, or all of them did.
    """
    kept, cases = Failures() if failures is None else failures, [dataset.case(id) for id in ids]
    folder = output.root / "predictions"
    outputs = Outputs(folder, PREDICTIONS, output.overwrite)
    predict_cases(system, cases, outputs, resume, output.progress, kept, around=around)
    # The regions that the model learnt are scored, where the dataset is annotated.
    source = replace(dataset, labels=system.labels.ignoring(dataset.labels.ignore))
    left = [case.id for case in kept.left(cases)]
    if not left:
        kept.raise_any(len({*ids, *kept.cases}))
    result = evaluate_folder(source, folder, left, scoring, workers, counter(output.progress, "score"), kept)
    if failures is None:
        kept.raise_any(len(cases), result)
    return result
