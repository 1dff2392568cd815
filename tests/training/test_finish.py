"""The choice of a post-processing after a training: what it costs, and that it is the right one."""

import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.core.test_plan import PLAN
from tests.pipeline.test_predictor import CPU, Threshold
from voxward.core.case import Case, Dataset
from voxward.core.document import without_format
from voxward.core.files import write_text
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import dump_recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.io import write_image, write_label
from voxward.pipeline.predictor import Predictor
from voxward.runs.folder import RunFolder, TrainedModel
from voxward.runs.postprocess import PostProcess
from voxward.training import finish
from voxward.training.finish import settle_postprocess

SHAPE = (20, 18, 16)
VOXELS = 20 * 18 * 16


def _dataset(root, count):
    """A bright block is the organ; a bright speck far away from it is not."""
    cases = []
    for n in range(count):
        label = np.zeros(SHAPE, np.uint8)
        label[3:12, 3 : 10 + n % 3, 4:12] = 1
        image = np.where(label > 0, 900.0, 100.0).astype(np.float32)
        image[16:18, 14:16, 13:15] = 900.0
        case = Case(f"c{n}", (root / f"{n}.nii.gz",), root / f"{n}_label.nii.gz")
        write_image(case.images[0], image, np.eye(4))
        write_label(case.label, label, np.eye(4))
        cases.append(case)
    return Dataset("toy", root, ("MRI",), LabelSet(("background", "a"), (0, 1)), tuple(cases))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose network is a threshold; `settle(count)` finishes it on so many cases and tells which it predicted."""
    folder, predicted, alive = RunFolder(tmp_path / "run"), [], []
    plan = replace(PLAN, spacing=(1.0, 1.0, 1.0), spline_order=(1, 1, 1), channels=(ChannelPlan("MRI", "none"),))
    old = PostProcess(("lesion",), (1e9,))
    monkeypatch.setattr(
        finish, "load_run", lambda *_: TrainedModel(plan, load_recipe("rog").inference, Threshold(), old)
    )
    segment = Predictor.segment

    def counted(self, volume, done=None):
        assert all(ref() is None for ref in alive), "an earlier case is still held"
        assert self.model.postprocess == PostProcess()
        result = segment(self, volume, done)
        alive.extend(weakref.ref(array) for array in (result, volume.array))
        predicted.append(volume.shape)
        return result

    monkeypatch.setattr(Predictor, "segment", counted)

    def settle(count, *overrides):
        write_text(folder.recipe, dump_recipe(load_recipe("rog", ["training.precision=fp32", *overrides])))
        dataset = _dataset(tmp_path / "data", count)
        predicted.clear()
        chosen = settle_postprocess(folder, dataset, tuple(case.id for case in dataset.cases), torch.device(CPU))
        written = json.loads(folder.postprocess.read_text())
        return chosen, len(predicted), without_format(written, "postprocess.json")

    return settle


def test_what_helps_is_written_and_one_case_is_held_at_a_time(run):
    chosen, predicted, written = run(3)
    assert chosen == PostProcess(("organ",), (0.0,))
    assert predicted == 3
    newer = {"fraction_of": "mask", "islands": 0.0}
    assert written == {"kinds": ["organ"], "minimum_mm3": [0.0], "fraction": 0.2, "filled": [], **newer}


def test_holes_are_asked_for_by_the_recipe(run):
    """The predictions have none: it is tried and not kept."""
    chosen, predicted, written = run(2, "postprocessing.fill_holes=true", "postprocessing.kind=none")
    assert (chosen.filled, predicted, written["filled"]) == ((False,), 2, [False])
    assert chosen.idle


def test_nothing_wanted_or_no_cases_predicts_nothing(run):
    for count, overrides in ((3, ["postprocessing.kind=none"]), (3, ["postprocessing.classes={a: none}"]), (0, [])):
        assert run(count, *overrides) == (PostProcess(), 0, json.loads(json.dumps(to_data(PostProcess()))))


@pytest.mark.parametrize(("volumes", "expected"), [(0.5, 2), (2.0, 2), (3.5, 3), (100.0, 4)])
def test_the_cost_is_bounded(run, monkeypatch, volumes, expected):
    monkeypatch.setattr(finish, "MAX_VOXELS", int(volumes * VOXELS))
    monkeypatch.setattr(finish, "MAX_CASES", 4)
    assert run(6)[1] == expected
