"""Several models together: the same class map as from all logits at once, in the memory of one layer of windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.test_plan import PLAN
from tests.pipeline.plain_pipeline import OTHER, SAME, Toy, a_predictor, a_volume
from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Inference
from voxward.data import resample_rows as restore_module
from voxward.pipeline import together as module
from voxward.pipeline import windows as windows_module
from voxward.pipeline.model import PipelineModel
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.together import segment_together
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess

CPU = torch.device("cpu")


def whole(predictors, volume, mean, weights=None):
    """The class map from the logits of the whole volume."""
    model = PipelineModel.freeze(predictors, volume, "softmax", mean, weights=weights)
    logits = model.logits(torch.from_numpy(volume.array.astype(np.float32))[None])
    return model.classes(logits)[0].numpy()


@pytest.mark.parametrize("slab", [1, 300, 2**21])
@pytest.mark.parametrize("mean", ["logits", "probabilities"])
@pytest.mark.parametrize("weights", [None, (0.75, 0.25)])
def test_rows_say_what_the_whole_says(monkeypatch, slab, mean, weights):
    """The models resample differently and crop differently; rows outside a crop box are background."""
    monkeypatch.setattr(module, "_SLAB", slab)
    predictors = [a_predictor(Toy(0), SAME), a_predictor(Toy(1), OTHER, (8, 4, 8), overlap=0.6)]
    uncropped = replace(predictors[1].model.plan, crop_nonzero=False)
    predictors[1] = replace(predictors[1], model=replace(predictors[1].model, plan=uncropped))
    volume = a_volume(np.float32)
    found = segment_together(predictors, volume, mean, weights)
    assert len(np.unique(found)) > 1
    assert (found == whole(predictors, volume, mean, weights)).mean() > 0.999


def test_one_model_together_is_that_model():
    predictor, volume = a_predictor(Toy(0), OTHER), a_volume(np.float32)
    assert np.array_equal(segment_together([predictor], volume, "logits"), predictor.segment(volume))


def test_progress_is_that_of_all_models():
    heard = []
    predictors = [a_predictor(Toy(seed), SAME) for seed in (0, 1)]
    segment_together(predictors, a_volume(np.float32), "logits", done=lambda done, of: heard.append((done, of)))
    assert heard[-1][0] == heard[-1][1]
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            # A view of a part, and what is only expanded, take no memory of their own.
            if isinstance(one, torch.Tensor) and one.is_contiguous():
                self.numel = max(self.numel, one.numel())
        return made


class Classes(nn.Module):
    """Many classes of one channel."""

    def __init__(self, count):
        super().__init__()
        self.convolution = nn.Conv3d(1, count, 1)

    def forward(self, x):
        return self.convolution(x)


def test_memory_is_that_of_one_layer_of_windows(monkeypatch):
    for where in (module, windows_module, restore_module):
        monkeypatch.setattr(where, "_SLAB", 4000)
    count, shape = 40, (16, 16, 400)
    labels = LabelSet(tuple(f"class {n}" for n in range(count)), tuple(range(count)))
    plan = replace(
        PLAN, spacing=(1.0, 1.0, 1.0), spline_order=(1, 1, 1), window_size=(16, 16, 8), patch_size=(16, 16, 8),
        labels=labels, min_object_mm3=(0.0,) * (count - 1), channels=(ChannelPlan("CT", "none"),), crop_nonzero=False,
    )  # fmt: skip
    torch.manual_seed(0)
    models = [TrainedModel(plan, Inference(0.5, "gaussian", ()), Classes(count).eval(), PostProcess()) for _ in "ab"]
    volume = Volume(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32), np.eye(4))
    with Largest() as largest:
        found = segment_together([Predictor(model, CPU, "fp32") for model in models], volume, "logits")
    assert found.shape == shape
    logits = count * int(np.prod(shape))
    assert 0 < largest.numel < logits / 8
