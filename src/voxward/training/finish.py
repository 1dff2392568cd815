"""After the last step: post-processing is kept where it helps on the selection cases, and the curve is drawn."""

from __future__ import annotations

import torch

from voxward.core.case import Dataset
from voxward.core.files import write_json
from voxward.core.progress import Progress, silent
from voxward.core.structure import to_data
from voxward.data.io import read_image, read_label
from voxward.inference.postprocess import PostProcess, choose_postprocess
from voxward.inference.predictor import Predictor
from voxward.inference.run_folder import RunFolder, load_run

# More cases would hardly change the choice, and whole volumes take minutes each on a CPU.
MAX_CASES = 20


def settle_postprocess(
    folder: RunFolder, dataset: Dataset, ids: tuple[str, ...], device: torch.device, progress: Progress = silent
) -> PostProcess:
    """Predict selection cases with the best weights and keep each class's post-processing only if it raises its Dice.

    Without selection cases nothing is kept. The choice is written to the run folder and returned.
    """
    model = load_run(folder.root, "best", device)
    predictor = Predictor(model, device, model.recipe.training.precision)
    pairs = []
    for n, id in enumerate(ids[:MAX_CASES]):
        case = dataset.case(id)
        assert case.label is not None
        truth = model.plan.labels.to_index(read_label(case.label).array)
        image = read_image(case.images)
        pairs.append((truth, predictor.segment(image), image.spacing))
        progress("select post-processing", n + 1, min(len(ids), MAX_CASES))
    kind = model.recipe.postprocessing.kind
    chosen = (
        choose_postprocess(pairs, kind, model.plan.min_object_mm3, model.plan.labels)
        if pairs and kind != "none"
        else PostProcess(kind="none")
    )
    write_json(folder.postprocess, to_data(chosen))
    return chosen
