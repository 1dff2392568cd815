"""A system is scored: it predicts cases, and its predictions are compared with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.choices import Output
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
) -> Evaluation:
    """Predict cases into the subfolder `predictions` of a folder, and score them in their files' own voxels.

    Args:
        system: The system; its classes, or regions, are scored.
        dataset: The dataset, with labels.
        ids: The cases to score.
        output: The folder, what may be replaced there, and who is told about progress.
        scoring: What empty masks count, and the tolerance of the surface Dice.
        workers: How many cases are scored at once.
        resume: Keep predictions that are there already.

    Raises:
        UserError: A case does not fit the system, or another file would be replaced.
    """
    folder = Path(output.folder) / "predictions"
    outputs = Outputs(folder, PREDICTIONS, output.overwrite)
    predict_cases(system, [dataset.case(id) for id in ids], outputs, resume, output.progress)
    source = replace(dataset, labels=system.labels)  # the regions that the model learnt are scored
    return evaluate_folder(source, folder, ids, scoring, workers, counter(output.progress, "score"))
