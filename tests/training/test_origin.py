"""What becomes of a changed patch: the same as of the patch of a changed file, for every normalisation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.volumes import SPACING, make_affine, make_plan, make_volumes
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Augmentation
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation, moved_mask
from voxward.data.normalization import NORMALIZATIONS, normalization_of
from voxward.data.prepare import prepare
from voxward.data.store import write_case
from voxward.training.origin import Origins, extent

HOLDING = [name for name, kind in NORMALIZATIONS.items() if kind.keeps_zero]
# Those by mean and standard deviation alone, those of the plan, and one that leaves intensities as they are.
EXACT = ["zscore", "standard", "ct", "rgb", "none"]


def _plan(kind, shape=(16, 16, 16), **changes):
    channel = ChannelPlan("a", kind, 50.0, 150.0, 90.0, 30.0)
    edges = {"patch_size": shape, "window_size": shape, "source_size": shape}
    return make_plan((1.0, 1.0, 1.0), channels=(channel,), crop_nonzero=False, **{**edges, **changes})


def _array(air=True):
    found = np.random.default_rng(3).uniform(60, 140, (1, 16, 16, 16)).astype(np.float32)
    if air:
        found[0, :6] = 0
    return found


def _stored(folder, array, plan):
    case = prepare(Volume(array, np.eye(4)), None, plan, "one")
    blank = torch.zeros(case.image.shape[1:], dtype=torch.uint8)
    write_case(folder / "one", replace(case, label=blank), plan.patch_size, plan.labels.count)
    return case


@pytest.mark.parametrize("kind", list(NORMALIZATIONS))
def test_air_is_found_where_the_normalisation_keeps_it(kind, tmp_path):
    plan = _plan(kind)
    case = _stored(tmp_path, _array(), plan)
    air = Origins(tmp_path, plan).air(case.image[None], ["one"])
    if kind not in HOLDING:
        assert air is None
        return
    inside = _array() == 0
    assert air[0].numpy()[inside].all()
    # What is clipped to the same value cannot be told from air: a few of the darkest voxels.
    assert air[0].numpy()[~inside].mean() < 0.03


@pytest.mark.parametrize("kind", EXACT)
def test_a_changed_patch_is_that_of_the_changed_file(kind, tmp_path):
    """Where the patch is the case: noise in the file, prepared, and the same noise in the patch."""
    plan, array = _plan(kind), _array(kind == "zscore")
    case = _stored(tmp_path, array, plan)
    noise = 25 * np.random.default_rng(4).standard_normal(array.shape)
    noisy = np.where((array == 0) & normalization_of(plan.channels[0]).keeps_zero, array, array + noise)
    expected = prepare(Volume(noisy.astype(np.float32), np.eye(4)), None, plan).image
    origins, images = Origins(tmp_path, plan), case.image[None]
    origin = origins.of(["one"], origins.air(images, ["one"]))
    frame = case.frame
    ranges = torch.tensor([[[(end - frame.mean[0]) / frame.std[0] for end in (frame.low[0], frame.high[0])]]])
    changed = images + torch.from_numpy(noise).float()[None] / frame.std[0]
    found = origin.prepared(changed, images, ranges)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["mr", "minmax", "clip", "rescale"])
def test_other_normalisations_are_met_closely(kind, tmp_path):
    """Their percentiles move otherwise than mean and standard deviation: a scale and a shift remain."""
    plan, array = _plan(kind), _array(False)
    case = _stored(tmp_path, array, plan)
    noise = 5 * np.random.default_rng(4).standard_normal(array.shape)
    expected = prepare(Volume((array + noise).astype(np.float32), np.eye(4)), None, plan).image
    frame, images = case.frame, case.image[None]
    ranges = torch.tensor([[[(end - frame.mean[0]) / frame.std[0] for end in (frame.low[0], frame.high[0])]]])
    origin = Origins(tmp_path, plan).of(["one"], None)
    changed = images + torch.from_numpy(noise).float()[None] / frame.std[0]
    found = origin.prepared(changed, images, ranges)[0]
    both = torch.stack([found.flatten(), expected.flatten()]).double()
    assert float(torch.corrcoef(both)[0, 1]) > 0.99


@pytest.mark.parametrize("kind", HOLDING)
def test_air_moves_with_the_augmentation(kind, tmp_path):
    """Rotated, zoomed, mirrored and corrected by gamma: what the mask calls air still has air's intensity."""
    plan = _plan(kind, patch_size=(10, 10, 10))
    case = _stored(tmp_path, _array(), plan)
    images = case.image[None].repeat(6, 1, 1, 1, 1)
    air = Origins(tmp_path, plan).air(images, ["one"] * 6)
    recipe = Augmentation(rotation_probability=0.5, scale_probability=0.5, gamma_probability=0.0, quarter_turns=(0,))
    draw = draw_augmentation(recipe, 6, 1, (True,) * 3, torch.Generator().manual_seed(0))
    moved = moved_mask(air, draw, plan.patch_size, plan.spacing, plan.padding)
    patches, _ = apply_augmentation(
        images, torch.zeros(6, 16, 16, 16, dtype=torch.uint8), draw, plan.patch_size, plan.spacing, plan.padding
    )
    level = float(images[0, 0, 0, 0, 0])
    torch.testing.assert_close(patches[moved], torch.full_like(patches[moved], level), rtol=0, atol=1e-3)
    assert 0 < int(moved.sum()) < moved.numel()
    # A voxel that is not called air, though it has its intensity, is one that was clipped to it.
    others = ((patches - level).abs() < 1e-6) & ~moved
    assert float(others.float().mean()) < 0.03


def test_it_knows_the_file_and_how_much_of_it_a_patch_covers(tmp_path):
    image, label = make_volumes(make_affine("PIL"))
    plan = make_plan((1.0, 1.0, 1.0), patch_size=(8, 80, 8))
    case = prepare(image, label, plan, "one")
    write_case(tmp_path / "one", case, plan.patch_size, plan.labels.count)
    origin = Origins(tmp_path, plan).of(["one"], None)
    # File axes run to the back, down and to the left: the file's second axis is the patch's third.
    i, j, k = (n * mm for n, mm in zip(image.array.shape[1:], SPACING, strict=True))
    assert extent(case.frame) == pytest.approx((k, i, j))
    assert origin.covered[0].tolist() == pytest.approx([8 / case.frame.shape[0], 1.0, 8 / case.frame.shape[2]])
    zero = -case.frame.mean[0] / case.frame.std[0]
    assert float(origin.zero) == pytest.approx(zero)
    assert torch.equal(origin.rows(torch.tensor([0])).covered, origin.covered)
