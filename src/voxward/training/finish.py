"""After the last step: post-processing is kept where it helps on the selection cases, and the curve is drawn."""

from __future__ import annotations

from dataclasses import replace

import torch

from voxward.core.case import Dataset
from voxward.core.files import write_json
from voxward.core.progress import Progress, silent
from voxward.core.recipe import load_recipe
from voxward.core.structure import to_data
from voxward.data.io import read_image, read_label
from voxward.inference.postprocess import Pair, PostProcess, choose_postprocess
from voxward.inference.predictor import Predictor
from voxward.inference.run_folder import RunFolder, TrainedModel, load_run

# More cases would hardly change the choice, and whole volumes take minutes each on a CPU.
MAX_CASES = 20


def settle_postprocess(
    folder: RunFolder, dataset: Dataset, ids: tuple[str, ...], device: torch.device, progress: Progress = silent
) -> PostProcess:
    """Predict selection cases with the best weights and keep each class's post-processing only if it raises its Dice.

    Without selection cases nothing is kept. The choice is written to the run folder and returned.
    """
    kind = load_recipe(folder.recipe).postprocessing.kind
    if kind == "none" or not ids:
        chosen = PostProcess(kind="none")
    else:
        # A finished run that is finished again must not judge what it chose before.
        model = replace(load_run(folder.root, "best", device), postprocess=PostProcess(kind="none"))
        pairs = _predictions(model, dataset, ids[:MAX_CASES], device, progress)
        chosen = choose_postprocess(pairs, kind, model.plan.min_object_mm3, model.plan.labels)
    write_json(folder.postprocess, to_data(chosen))
    return chosen


def _predictions(
    model: TrainedModel, dataset: Dataset, ids: tuple[str, ...], device: torch.device, progress: Progress
) -> list[Pair]:
    """(truth, prediction, spacing) of each case."""
    predictor = Predictor(model, device, model.recipe.training.precision)
    pairs = []
    for n, id in enumerate(ids):
        case = dataset.case(id)
        assert case.label is not None
        image = read_image(case.images)
        truth = model.plan.labels.to_index(read_label(case.label).array)
        pairs.append((truth, predictor.segment(image), image.spacing))
        progress("select post-processing", n + 1, len(ids))
    return pairs
