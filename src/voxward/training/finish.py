"""After the last step: each kind of post-processing is kept for the classes that it helps on the selection cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from voxward.core.case import Case, Dataset
from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.plan import Plan
from voxward.core.progress import Progress, silent
from voxward.core.recipe import load_run_recipe
from voxward.core.structure import to_data
from voxward.data.io import read_case, read_header, read_label
from voxward.data.nan import reading_nan
from voxward.data.places import within
from voxward.pipeline.predictor import Predictor
from voxward.runs.folder import RunFolder, load_run
from voxward.runs.postprocess import Pair, PostProcess, choose_postprocess

# More cases would hardly change the choice, and whole volumes take minutes each on a CPU: at most so many cases, and
# no more than so many voxels of theirs together, but two cases whatever their size.
MAX_CASES, MAX_VOXELS, MIN_CASES = 20, 200_000_000, 2


def settle_postprocess(
    folder: RunFolder, dataset: Dataset, ids: tuple[str, ...], device: torch.device, progress: Progress = silent
) -> PostProcess:
    """Choose the post-processing of a run, and write it into the folder of the run.

    Selection cases are predicted with the weights that are deployed. The post-processing of a class is kept only if it
    raises the Dice score of that class.

    Args:
        folder: The folder of a run whose training has ended.
        dataset: The dataset of the run, with the regions of its recipe.
        ids: The ids of the selection cases. The first ones are taken, as many as MAX_CASES and MAX_VOXELS allow; one
            is held in memory at a time. Without any, nothing is kept.
        device: The device that predicts.
        progress: A function that is told about every case.

    Returns:
        The choice that was written.

    Raises:
        UserError: A case does not fit the run.
    """
    chosen = PostProcess()
    if ids:
        # A finished run that is finished again must not judge what it chose before.
        model = replace(load_run(folder.root, "auto", device), postprocess=PostProcess())
        cases = _affordable(_read_as_planned([dataset.case(id) for id in ids], model.plan))
        recipe = load_run_recipe(folder.recipe)
        pairs = _predictions(Predictor(model, device, recipe.training.precision), cases, progress)
        wanted = recipe.postprocessing
        chosen = choose_postprocess(pairs, wanted, model.plan.min_object_mm3, model.plan.labels)
    write_json(folder.postprocess, with_checksum(to_data(chosen)))
    return chosen


def _affordable(cases: Sequence[Case]) -> list[Case]:
    """Return the first cases: at most MAX_CASES with MAX_VOXELS together, but at least MIN_CASES."""
    taken: list[Case] = []
    voxels = 0
    for case in cases[:MAX_CASES]:
        voxels += int(np.prod(read_header(case.images[0]).shape, dtype=np.int64))
        if voxels > MAX_VOXELS and len(taken) >= MIN_CASES:
            break
        taken.append(case)
    return taken


def _predictions(predictor: Predictor, cases: list[Case], progress: Progress) -> Iterator[Pair]:
    """Predict one case after another, without keeping an earlier one."""
    for n, case in enumerate(cases):
        yield _predicted(predictor, case)
        progress("select post-processing", n + 1, len(cases))


def _predicted(predictor: Predictor, case: Case) -> Pair:
    """Return the ground truth, the prediction and the spacing of a case."""
    assert case.label is not None
    image = read_case(case)
    truth = predictor.model.plan.labels.to_index(read_label(case.label).array)
    try:
        return truth, predictor.segment(image), image.spacing
    except UserError as error:
        raise UserError(f"{case.id}: {error}") from error


def _read_as_planned(cases: Sequence[Case], plan: Plan) -> tuple[Case, ...]:
    return within(reading_nan(cases, plan.nan), plan.affine_tolerance)
