"""The preparations of pipelines A and B against MONAI and formulas written out, and their frozen forms."""

import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity

from tests.data.volumes import make_plan
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.data.prepare import prepare, prepare_frozen


def _volume(dtype=np.int16):
    random = np.random.default_rng(0)
    array = np.zeros((2, 9, 8, 7), dtype)
    array[:, 2:8, 1:7, 1:6] = random.normal(500, 90, (2, 6, 6, 5)).clip(1)
    return Volume(array, np.eye(4))


def _plan(normalization, spacing=(1.0, 1.0, 1.0)):
    return make_plan(spacing, channels=tuple(ChannelPlan(name, normalization) for name in ("t1", "t2")))


def test_zscore_is_monai_s_of_the_nonzero_voxels():
    """On int16, too, where the authors' code truncates to whole numbers."""
    volume = _volume()
    prepared = prepare(volume, None, _plan("zscore"))
    box = volume.array[:, 2:8, 1:7, 1:6].astype(np.float32)
    expected = NormalizeIntensity(nonzero=True, channel_wise=True)(torch.from_numpy(box))
    torch.testing.assert_close(prepared.image, torch.as_tensor(expected), rtol=1e-5, atol=1e-5)


def test_zscore_leaves_the_background_at_zero():
    volume = _volume()
    volume.array[0, 4, 4, 4] = 0
    prepared = prepare(volume, None, _plan("zscore"))
    assert prepared.image[0, 2, 3, 3] == 0
    assert prepared.image[1, 2, 3, 3] != 0


def test_minmax_is_between_the_percentiles_of_the_nonzero_voxels():
    volume = _volume()
    volume.array[:, 3, 3, 3] = 0
    prepared = prepare(volume, None, _plan("minmax"))
    for channel, source in zip(prepared.image.numpy(), volume.array[:, 2:8, 1:7, 1:6].astype(float), strict=True):
        low, high = np.percentile(source[source != 0], (1, 99))
        np.testing.assert_allclose(channel, (np.clip(source, low, high) - low) / (high - low), rtol=1e-5, atol=1e-6)
        assert (channel.min(), channel.max()) == (0, pytest.approx(1))
        assert channel[1, 2, 2] == 0  # the background is raised to the first percentile


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 0.8, 1.1)])
@pytest.mark.parametrize("normalization", ["minmax", "zscore"])
def test_the_frozen_form_is_the_same_and_differentiable(normalization, spacing):
    volume, plan = _volume(np.float32), _plan(normalization, spacing)
    prepared = prepare(volume, None, plan)
    leaf = torch.from_numpy(volume.array)[None].double().requires_grad_()
    image = prepare_frozen(leaf, prepared.frame, plan)
    torch.testing.assert_close(image[0].float(), prepared.image, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(image.square().sum(), leaf)
    assert torch.isfinite(gradient).all()
    inside = torch.from_numpy(volume.array[None] != 0)
    assert (gradient[inside] != 0).float().mean() > 0.9
    if normalization == "zscore":
        assert (gradient[~inside] == 0).all()


@pytest.mark.parametrize("normalization", ["minmax", "zscore"])
def test_an_empty_sequence_stays_empty(normalization):
    volume = _volume()
    volume.array[1] = 0
    image = prepare(volume, None, _plan(normalization)).image
    assert (image[1] == 0).all()
    assert torch.isfinite(image).all()
