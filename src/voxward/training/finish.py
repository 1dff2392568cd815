"""After the last step: post-processing is kept where it helps on the selection cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.progress import Progress, silent
from voxward.core.recipe import load_recipe
from voxward.core.structure import to_data
from voxward.data.io import read_header, read_image, read_label
from voxward.pipeline.predictor import Predictor
from voxward.runs.folder import RunFolder, TrainedModel, load_run
from voxward.runs.postprocess import Pair, PostProcess, choose_postprocess

# More cases would hardly change the choice, and whole volumes take minutes each on a CPU: at most so many cases, and
# no more than so many voxels of theirs together, but two cases whatever their size.
MAX_CASES, MAX_VOXELS, MIN_CASES = 20, 200_000_000, 2


def settle_postprocess(
    folder: RunFolder, dataset: Dataset, ids: tuple[str, ...], device: torch.device, progress: Progress = silent
) -> PostProcess:
    """Predict selection cases with the deployed weights; keep each class's post-processing only if it raises its Dice.

    The first cases are taken, as many as MAX_CASES and MAX_VOXELS allow, and one at a time is held. Without selection
    cases nothing is kept. The choice is written to the run folder and returned.
    """
    chosen = PostProcess()
    if ids:
        # A finished run that is finished again must not judge what it chose before.
        model = replace(load_run(folder.root, "auto", device), postprocess=PostProcess())
        cases = _affordable([dataset.case(id) for id in ids])
        pairs = _predictions(model, cases, device, progress)
        wanted = load_recipe(folder.recipe).postprocessing
        chosen = choose_postprocess(pairs, wanted, model.plan.min_object_mm3, model.plan.labels)
    write_json(folder.postprocess, to_data(chosen))
    return chosen


def _affordable(cases: list[Case]) -> list[Case]:
    """The first cases, up to MAX_CASES and to MAX_VOXELS of the files together, and at least MIN_CASES."""
    taken: list[Case] = []
    voxels = 0
    for case in cases[:MAX_CASES]:
        voxels += int(np.prod(read_header(case.images[0]).shape, dtype=np.int64))
        if voxels > MAX_VOXELS and len(taken) >= MIN_CASES:
            break
        taken.append(case)
    return taken


def _predictions(model: TrainedModel, cases: list[Case], device: torch.device, progress: Progress) -> Iterator[Pair]:
    """Each case as it is asked for; the one before is not held."""
    predictor = Predictor(model, device, model.recipe.training.precision)
    for n, case in enumerate(cases):
        yield _predicted(predictor, case)
        progress("select post-processing", n + 1, len(cases))


def _predicted(predictor: Predictor, case: Case) -> Pair:
    """(truth, prediction, spacing) of a case."""
    assert case.label is not None
    image = read_image(case.images)
    truth = predictor.model.plan.labels.to_index(read_label(case.label).array)
    try:
        return truth, predictor.segment(image), image.spacing
    except UserError as error:
        raise UserError(f"{case.id}: {error}") from error
