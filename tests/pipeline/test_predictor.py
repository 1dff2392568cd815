"""The predictor against networks whose right answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.core.test_plan import PLAN
from tests.rounding import rounding
from voxward.core.case import Volume
from voxward.core.devices import resolve_device
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import load_recipe
from voxward.data.prepare import prepare
from voxward.pipeline import predictor as module
from voxward.pipeline import windows as windows_module
from voxward.pipeline.precision import autocast, resolve_precision
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.windows import plan_windows
from voxward.runs.folder import TrainedModel, load_run
from voxward.runs.postprocess import PostProcess

CPU = torch.device("cpu")


class Threshold(nn.Module):
    """Foreground where the intensity is above 550, half way between the blob and what surrounds it."""

    def forward(self, x):
        return torch.cat([torch.full_like(x[:, :1], 550), x[:, :1]], 1)


def _predictor(network, **plan):
    changed = replace(PLAN, spline_order=(1, 1, 1), channels=(ChannelPlan("MRI", "none"),), **plan)
    model = TrainedModel(changed, load_recipe("rog").inference, network, PostProcess())
    return Predictor(model, CPU, "fp32")


def _blob(shape, spacing=(1.0, 1.0, 2.0)):
    """A bright ellipsoid off the centre, and an oblique, flipped and permuted affine."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij"))
    inside = (
        ((grid - np.array([0.2, -0.1, 0.1])[:, None, None, None]) / np.array([0.6, 0.5, 0.55])[:, None, None, None])
        ** 2
    ).sum(0) < 1
    image = (100 + 900 * inside + np.random.default_rng(0).normal(0, 5, shape)).astype(np.int16)
    turn = np.array([[0, -1, 0.1], [-1, 0, 0.05], [0.1, 0.05, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn / np.linalg.norm(turn, axis=0) * spacing
    affine[:3, 3] = (-30, 12, 7)
    return Volume(image[None], affine), inside


@pytest.mark.parametrize(("shape", "dice"), [((33, 27, 19), 0.999), ((9, 8, 5), 0.999), ((40, 16, 30), 0.999)])
def test_same_spacing_comes_back_exactly(shape, dice):
    volume, inside = _blob(shape)
    spacing = tuple(float(s) for s in (volume.spacing[1], volume.spacing[0], volume.spacing[2]))
    label = _predictor(Threshold(), spacing=spacing).segment(volume)
    assert label.shape == shape
    assert label.dtype == np.uint8
    assert 2 * (label.astype(bool) & inside).sum() / (label.sum() + inside.sum()) >= dice


def test_resampled_prediction_lies_in_the_right_place():
    volume, inside = _blob((33, 27, 19))
    label = _predictor(Threshold(), spacing=(1.3, 0.8, 1.5)).segment(volume)
    assert 2 * (label.astype(bool) & inside).sum() / (label.sum() + inside.sum()) > 0.95


def test_windows_and_slabs_do_not_change_the_result():
    """A voxelwise network sees the same whatever the window; one window is the whole volume."""
    volume, _ = _blob((33, 27, 19))
    small = _predictor(Threshold(), window_size=(8, 8, 4), patch_size=(8, 8, 4))
    whole = _predictor(Threshold(), window_size=(48, 48, 48), patch_size=(8, 8, 4))
    np.testing.assert_array_equal(small.segment(volume), whole.segment(volume))


@pytest.mark.parametrize(("window", "axis"), [((8, 48, 32), 0), ((48, 8, 32), 1), ((48, 48, 4), 2), ((8, 8, 4), 2)])
def test_the_sweep_runs_where_least_is_held(window, axis):
    predictor = _predictor(Threshold(), window_size=window, patch_size=(8, 8, 4))
    assert predictor.windows((33, 27, 27)).axis == axis


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("window", [(8, 8, 4), (48, 48, 24), (48, 8, 24), (8, 48, 4), (16, 16, 32)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 2.0), (1.3, 0.8, 1.5)])
def test_slabs_along_any_axis_are_unpadded_and_restored(axis, window, spacing, monkeypatch):
    """Windows longer than the volume on some axes, so that there is padding along the swept axis and across it."""
    volume, _ = _blob((33, 27, 19))
    whole = _predictor(Threshold(), spacing=spacing, window_size=(64, 64, 64), patch_size=(8, 8, 4)).segment(volume)
    monkeypatch.setattr(module, "plan_windows", lambda *arguments: replace(plan_windows(*arguments), axis=axis))
    monkeypatch.setattr(windows_module, "_SLAB", 5000)
    predictor = _predictor(Threshold(), spacing=spacing, window_size=window, patch_size=(8, 8, 4))
    prepared = prepare(volume, None, predictor.model.plan)
    joined = torch.cat(list(predictor.slabs(prepared)), axis + 1)
    torch.testing.assert_close(joined[1:], prepared.image, rtol=0, atol=rounding(prepared.image))
    np.testing.assert_array_equal(predictor.segment(volume), whole)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
def test_overlap_can_be_changed(overlap):
    volume, inside = _blob((33, 27, 19))
    heard = []
    label = replace(_predictor(Threshold()), overlap=overlap).segment(volume, lambda done, of: heard.append((done, of)))
    assert (label.astype(bool) == inside).mean() > 0.98
    assert heard[-1][0] == heard[-1][1]


def test_an_overlap_that_means_nothing_is_refused():
    predictor = _predictor(Threshold())
    for overlap in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"overlap must be in \[0, 1\), got {overlap}"):
            replace(predictor, overlap=overlap)
    inference = load_recipe("resdsn-c2f-coarse").inference
    counted = replace(predictor, model=replace(predictor.model, inference=inference))
    with pytest.raises(ValueError, match=r"overlap must be left out .* by 'count' .* got 0.5"):
        replace(counted, overlap=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "gauss"}, "unknown blending weights 'gauss'.*Known: constant, gaussian, inverse-distance"),
        ({"placement": "steps"}, "unknown window placement 'steps'.*Known: count, heartseg, step"),
        ({"combine": "vote"}, "combine 'vote' needs weights 'constant', got 'inverse-distance'"),
    ],
)
def test_settings_of_a_run_that_no_registry_has_are_refused(change, message):
    model = _predictor(Threshold()).model
    with pytest.raises(ValueError, match=message):
        Predictor(replace(model, inference=replace(model.inference, **change)), CPU)
    voting = replace(model.inference, combine="vote", weights="constant")
    Predictor(replace(model, inference=voting), CPU)


def test_2d_volumes():
    volume, inside = _blob((33, 27, 1))
    size = (16, 16, 1)
    flat = _predictor(
        Threshold(), patch_size=size, window_size=size, source_size=size, strides=((2, 2, 1), (2, 2, 1))
    )  # fmt: skip
    label = flat.segment(volume)
    assert label.shape == (33, 27, 1)
    assert (label.astype(bool) == inside).mean() > 0.95


def test_wrong_channels_and_affines_are_refused():
    volume, _ = _blob((9, 8, 5))
    predictor = _predictor(Threshold())
    with pytest.raises(ValueError, match=r"takes 1 channels \(MRI\), got 2"):
        predictor.segment(Volume(np.concatenate([volume.array] * 2), volume.affine))
    with pytest.raises(ValueError, match="singular"):
        predictor.segment(Volume(volume.array, np.diag([1.0, 0.0, 1.0, 1.0])))


def test_precision():
    assert resolve_precision("bf16", CPU) == "bf16"
    assert resolve_precision("auto", CPU) in ("bf16", "fp32")
    with pytest.raises(ValueError, match="fp16"):
        resolve_precision("fp16", CPU)
    with autocast("bf16", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    with autocast("fp32", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert resolve_device("cpu") == CPU


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*recipe.yaml, .*plan.json, .*best.safetensors"):
        load_run(tmp_path)
