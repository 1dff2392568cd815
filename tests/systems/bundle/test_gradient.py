"""The gradient of a whole bundle, against difference quotients in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.systems.bundle.build import (
    ARGMAX,
    SIGMOID,
    SOFTMAX,
    UNET,
    WINDOWS,
    bundle,
    config,
    invert,
    rotated,
    scan,
    step,
)
from tests.systems.bundle.test_against_monai import OBLIQUE, RAS, SPACING
from tests.systems.differences import gradient_error, loss
from voxward.core.case import Volume
from voxward.data.io import read_image
from voxward.systems.bundle.intensities import Normalize, Scale, ScalePercentiles, percentile
from voxward.systems.bundle.sampling import Sampling, log_linear
from voxward.systems.open import open_system
from voxward.systems.system import Freeze

THRESHOLD = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.4}
KEEP = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
REGIONS = ["regions={background: [1, 4], a: [1, 2, 4], b: [4]}"]
CASES = {
    "z-score": config([RAS, SPACING, step("NormalizeIntensityd", channel_wise=True)]),
    "z-score of what is not 0": config([SPACING, step("NormalizeIntensityd", nonzero=True)]),
    "to one": config([RAS, step("ScaleIntensityd", minv=-1.0), SPACING]),
    "range": config([step("ScaleIntensityRanged", a_min=-20, a_max=60, b_min=0, b_max=1, clip=True), SPACING]),
    "percentiles": config([step("ScaleIntensityRangePercentilesd", lower=3, upper=95, b_min=0, b_max=1, clip=True)]),
    "crop and pad": config([
        SPACING, step("CropForegroundd", source_key="image", margin=2), step("SpatialPadd", spatial_size=20),
        step("NormalizeIntensityd"), step("DivisiblePadd", k=4, mode="reflect"),
    ]),
    "resize": config([step("NormalizeIntensityd"), step("Resized", spatial_size=[9, 20, 16], mode="trilinear")]),
    "nearest": config([SPACING, step("NormalizeIntensityd")], post=[SOFTMAX, ARGMAX, KEEP, invert(True)]),
    "class numbers": config([SPACING, step("NormalizeIntensityd")], post=[ARGMAX, invert()]),
    "logits": config([SPACING, step("NormalizeIntensityd")], post=[invert(), ARGMAX]),
    "regions": config([SPACING, step("NormalizeIntensityd")], post=[SIGMOID, invert(), THRESHOLD]),
    "nearest regions": config([SPACING, step("NormalizeIntensityd")], post=[SIGMOID, THRESHOLD, invert(True)]),
    "padded": config([step("NormalizeIntensityd")], inferer={**WINDOWS, "roi_size": 20, "padding_mode": "replicate"}),
    "slices": config(
        [step("ScaleIntensityd")], {**UNET, "spatial_dims": 2},
        {"_target_": "SliceInferer", "roi_size": [8, 12], "spatial_dim": 2},
    ),
}  # fmt: skip


def opened(tmp_path, case, affine=None, dtype=torch.float64):
    overrides = REGIONS if "regions" in case else []
    system = open_system(bundle(tmp_path / "b", CASES[case], scale=2.0), overrides)
    system.bundle.network.to(dtype)
    return system, read_image([scan(tmp_path / "x.nii.gz", affine=affine)])


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_difference_quotients(tmp_path, case):
    system, source = opened(tmp_path, case, OBLIQUE if case == "z-score" else rotated())
    assert gradient_error(system, source, (1e-4, 1e-5, 1e-6, 1e-7)) < 1e-5


@pytest.mark.parametrize("case", ["z-score", "crop and pad", "regions"])
def test_the_gradient_goes_through_what_two_sweeps_hold(tmp_path, case):
    """Autograd through the whole sweep is the oracle of the pull-back."""
    system, source = opened(tmp_path, case)
    member = system.freeze(source, Freeze(statistics="live")).members[0]
    x = torch.from_numpy(source.array).double()[None]
    shape = model_logits(system, source, x).shape
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    objective = lambda z, _: (z * weights).sum((1, 2, 3, 4))  # noqa: E731
    found = [
        replaced.freeze(source, Freeze(statistics="live")).value_and_grad(x, torch.zeros(x[0].shape).long(), objective)[
            2
        ]
        for replaced in (system, replace(system, graphs=1000))
    ]
    leaf = x.clone().requires_grad_()
    blended = member.blended(member.image(leaf), graph=True)
    (expected,) = torch.autograd.grad((member.restored(blended, system.labels.head) * weights).sum(), leaf)
    for each in found:
        torch.testing.assert_close(each, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def model_logits(system, source, x):
    return system.freeze(source).logits(x)


def test_the_softmax_of_the_logits_are_the_probabilities_of_the_bundle(tmp_path):
    system, source = opened(tmp_path, "z-score")
    x = torch.from_numpy(source.array).double()[None]
    model = system.freeze(source, Freeze(statistics="live"))
    member = model.members[0]
    inner = system.bundle.definition.inferer.unpadded(member.blended(member.image(x)), member.shape)
    expected = member.preparation.undo(inner.softmax(0), "linear", 0.0)
    torch.testing.assert_close(model.logits(x)[0].softmax(0), expected)


def test_a_voxel_that_the_network_is_sure_of_has_a_gradient():
    """Its probability of another class is exp(-300), which is 0 in float32."""
    logits = torch.tensor([300.0, 0.0, 300.0]).view(1, 1, 3, 1)
    logits = torch.cat((logits, torch.zeros_like(logits))).requires_grad_()
    found = log_linear(logits.log_softmax(0), 2, np.array([0.0, 0.5, 1.0, 2.0]), 3)
    assert torch.isfinite(found).all()
    (gradient,) = torch.autograd.grad(found[1, 0, 0, 0], logits)
    assert float(gradient.abs().sum()) > 1


@pytest.mark.parametrize("skew", [0.0, 0.31])
def test_sampling_is_that_of_grid_sample(skew):
    """Along axes that are parallel by matrices, elsewhere by grid_sample: both against plain interpolation."""
    from scipy import ndimage

    matrix = np.array([[0.7, skew, 0, 0.23], [0, 1.3, 0, -0.43], [0, 0, 0.9, 0.13], [0, 0, 0, 1]])
    sampling = Sampling(matrix, (7, 9, 8), (9, 6, 8))
    x = torch.randn(2, 7, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = np.stack(np.meshgrid(*map(np.arange, (9, 6, 8)), indexing="ij")).reshape(3, -1)
    at = (matrix[:3, :3] @ places + matrix[:3, 3:]).reshape(3, 9, 6, 8)
    for mode, order in (("linear", 1), ("nearest", 0)):
        expected = np.stack([ndimage.map_coordinates(part.numpy(), at, order=order, mode="nearest") for part in x])
        np.testing.assert_allclose(getattr(sampling, mode)(x).numpy(), expected, atol=1e-12)
    probabilities = x.softmax(0)
    torch.testing.assert_close(sampling.logarithms(probabilities.log()).exp(), sampling.linear(probabilities))


@pytest.mark.parametrize("values", [100, 1_000_003])
@pytest.mark.parametrize("percent", [0.0, 3.0, 50.0, 99.5, 100.0])
def test_percentiles(values, percent):
    x = np.random.default_rng(0).normal(100, 20, values).astype(np.float32)
    found = percentile(torch.from_numpy(x), percent)
    np.testing.assert_allclose(float(found), np.percentile(x.astype(float), percent), rtol=1e-5)


@pytest.mark.parametrize("kind", [Normalize(), Scale(), ScalePercentiles(5.0, 95.0, 0.0, 1.0)])
def test_a_constant_image_stays_finite(kind):
    x = torch.full((1, 3, 4, 5), 7.0, requires_grad=True)
    found = kind.change(x, kind.measure(x))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("case", ["z-score", "to one", "percentiles"])
def test_frozen_statistics_are_those_of_the_clean_volume(tmp_path, case):
    system, source = opened(tmp_path, case, dtype=torch.float32)
    frozen, live = (system.freeze(source, Freeze(statistics=how)) for how in ("frozen", "live"))
    clean, moved = (torch.from_numpy(source.array * factor)[None] for factor in (1.0, 2.0))
    torch.testing.assert_close(frozen.logits(clean), live.logits(clean))
    torch.testing.assert_close(live.logits(moved), live.logits(clean), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(frozen.logits(moved), live.logits(moved), atol=1e-2)


def test_an_attack_that_moves_the_crop_box_is_noted(tmp_path):
    system, source = opened(tmp_path, "crop and pad", dtype=torch.float32)
    model = system.freeze(source)
    assert system.notes(model, system.segment(source)) == {}
    moved = np.where(source.array > 0, 0, source.array)
    moved[0, 3:6, 4:9, 5:9] = 1
    assert system.notes(model, system.segment(Volume(moved, source.affine))) == {"crop_box_moved": True}


def test_ranges_are_those_that_the_bundle_tells_apart(tmp_path):
    system, source = opened(tmp_path, "range", dtype=torch.float32)
    assert [(each.low, each.high, each.keeps_zero) for each in system.ranges(source)] == [(-20, 60, False)]
    system = open_system(bundle(tmp_path / "c", CASES["z-score of what is not 0"]))
    low, high = float(source.array.min()), float(source.array.max())
    assert [(each.low, each.high, each.keeps_zero) for each in system.ranges(source)] == [(low, high, True)]


@pytest.mark.parametrize("case", ["z-score", "regions", "crop and pad", "slices"])
def test_the_mean_gradient_of_windows(tmp_path, case):
    system, source = opened(tmp_path, case, dtype=torch.float32)
    model = system.freeze(source, Freeze(gradient="window_mean"))
    x = torch.from_numpy(source.array)[None]
    index = torch.randint(0, 3, x.shape[2:], generator=torch.Generator().manual_seed(1))
    _, _, gradient = model.value_and_grad(x, system.labels.target(index)[None], loss)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0


def test_components_by_brute_force(tmp_path):
    from voxward.systems.bundle.post import KeepLargest

    x = np.zeros((1, 5, 6, 7), np.float32)
    x[0, 0, 0, 0:3] = 1  # three voxels, and one that touches only at a corner
    x[0, 1, 1, 3] = 1
    x[0, 3, 3:5, 3] = 1
    x[0, 4, 5, 4] = 2
    for connectivity, kept in ((3, 4), (1, 3)):
        found = x.copy()
        KeepLargest(None, connectivity=connectivity).keep(found)
        assert (found == 1).sum() == kept
        assert (found == 2).sum() == 1
    found = x.copy()
    KeepLargest((1, 2), independent=False, connectivity=3, count=2).keep(found)
    assert (found == 1).sum() == 6  # the two largest of all together: 4 voxels, and 2 with the one of class 2
    assert (found == 2).sum() == 1
    masks = np.concatenate((x == 1, x == 2)).astype(np.float32)
    KeepLargest((0,)).keep(masks)
    assert (masks[0].sum(), masks[1].sum()) == (4, 1)
    # By themselves all but channel 0 are treated, which MONAI takes for the background.
    masks = np.concatenate((x == 1, x == 1)).astype(np.float32)
    KeepLargest(None).keep(masks)
    assert (masks[0].sum(), masks[1].sum()) == (6, 4)
    one = (x == 1).astype(np.float32)
    KeepLargest((0,), one_hot=True).keep(one)
    assert one.sum() == 4


def test_padding_of_the_target_is_background(tmp_path):
    system, source = opened(tmp_path, "padded", dtype=torch.float32)
    member = system.freeze(source).members[0]
    target = torch.ones(1, *source.shape, dtype=torch.long)
    assert int(member.target(target, "softmax").sum()) == target.numel()
