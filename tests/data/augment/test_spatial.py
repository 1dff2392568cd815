import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from tests.rounding import rounding
from voxward.core.recipe import Augmentation
from voxward.data.augment.spatial import SpatialDraw, active_axes, apply_spatial, draw_spatial, rotation_matrices

SPACING = (1.0, 1.0, 1.0)
PLANES = {0: (1, 2), 1: (2, 0), 2: (0, 1)}


def _draw(degrees=(0.0, 0.0, 0.0), scales=(1.0, 1.0, 1.0), flips=(False, False, False)):
    angles = torch.tensor([degrees], dtype=torch.float64)
    return SpatialDraw(rotation_matrices(angles), torch.tensor([scales], dtype=torch.float64), torch.tensor([flips]))


def _batch(size, batch=1, channels=2, classes=5):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, channels, *size, generator=generator)
    return images, torch.randint(classes, (batch, *size), generator=generator)


def _apply(images, labels, draw, patch, spacing=SPACING, padding="reflect"):
    return apply_spatial(images, labels, draw, patch, spacing, padding)


def _crop(x, patch):
    first = [(a - b) // 2 for a, b in zip(x.shape[-3:], patch, strict=True)]
    return x[(..., *(slice(a, a + n) for a, n in zip(first, patch, strict=True)))]


@pytest.mark.parametrize("patch", [(6, 5, 4), (9, 8, 7), (3, 8, 1)])
def test_identity_is_the_central_crop_bit_for_bit(patch):
    images, labels = _batch((9, 8, 7))
    patches, truth = _apply(images, labels, _draw(), patch)
    assert torch.equal(patches, _crop(images, patch))
    assert torch.equal(truth, _crop(labels, patch))
    assert patches.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("turns", [1, 2, -1])
@pytest.mark.parametrize("patch", [(6, 6, 6), (5, 5, 5)])
def test_quarter_turn_is_rot90(axis, turns, patch):
    images, labels = _batch((8, 8, 8) if patch[0] == 6 else (9, 9, 9))
    degrees = tuple(90.0 * turns if other == axis else 0.0 for other in range(3))
    patches, truth = _apply(images, labels, _draw(degrees), patch)
    plane = tuple(place - 3 for place in PLANES[axis])
    torch.testing.assert_close(patches, torch.rot90(_crop(images, patch), turns, plane), rtol=0, atol=1e-5)
    assert torch.equal(truth, torch.rot90(_crop(labels, patch), turns, plane))


def test_quarter_turn_in_an_off_centre_source_turns_the_patch_itself():
    images, labels = _batch((10, 9, 5))
    patches, truth = _apply(images, labels, _draw((0.0, 0.0, 90.0)), (5, 5, 4))
    torch.testing.assert_close(patches, torch.rot90(_crop(images, (5, 5, 4)), 1, (2, 3)), rtol=0, atol=1e-5)
    assert torch.equal(truth, torch.rot90(_crop(labels, (5, 5, 4)), 1, (1, 2)))


@pytest.mark.parametrize(("padding", "mode"), [("edge", "nearest"), ("zero", "grid-constant")])
def test_rotation_and_zoom_agree_with_scipy_on_anisotropic_voxels(padding, mode):
    spacing, patch, size = (0.8, 1.0, 2.0), (9, 8, 6), (13, 12, 8)
    images, labels = _batch(size, channels=1)
    draw = _draw((12.0, -8.0, 30.0), (1.1, 1.1, 1.1))
    patches, truth = _apply(images, labels, draw, patch, spacing, padding)
    # Independent statement: patch voxel -> mm about the patch centre -> undo zoom and rotation -> source voxel.
    mm = np.diag(spacing)
    matrix = np.linalg.inv(mm) @ np.linalg.inv(draw.rotations[0].numpy() * 1.1) @ mm
    centre = np.array([(a - b) // 2 + (b - 1) / 2 for a, b in zip(size, patch, strict=True)])
    offset = centre - matrix @ ((np.array(patch) - 1) / 2)
    kwargs = {"offset": offset, "output_shape": patch, "mode": mode}
    expected = affine_transform(images[0, 0].double().numpy(), matrix, order=1, **kwargs)
    np.testing.assert_allclose(patches[0, 0].numpy(), expected, atol=2e-5)
    nearest = affine_transform(labels[0].numpy(), matrix, order=0, **kwargs)
    np.testing.assert_array_equal(truth[0].numpy(), nearest)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_positive_angle_turns_the_next_axis_towards_the_one_after(axis):
    turned = rotation_matrices(torch.tensor([[90.0 * (other == axis) for other in range(3)]], dtype=torch.float64))
    one, two = torch.eye(3, dtype=torch.float64)[(axis + 1) % 3], torch.eye(3, dtype=torch.float64)[(axis + 2) % 3]
    torch.testing.assert_close(turned[0] @ one, two)


def test_zoom_above_one_magnifies():
    images, labels = torch.zeros(1, 1, 20, 20, 20), torch.zeros(1, 20, 20, 20, dtype=torch.int64)
    labels[0, 6:14, 6:14, 6:14] = 3
    _, truth = _apply(images, labels, _draw(scales=(1.5, 1.5, 1.5)), (20, 20, 20))
    assert (truth == 3).sum() == 12**3
    assert set(truth.unique().tolist()) == {0, 3}


@pytest.mark.parametrize("flips", [(True, False, False), (False, True, True), (True, True, True)])
def test_flips_are_exact(flips):
    images, labels = _batch((6, 5, 1))
    axes = [axis for axis in range(3) if flips[axis]]
    patches, truth = _apply(images, labels, _draw(flips=flips), (4, 5, 1))
    assert torch.equal(patches, _crop(images, (4, 5, 1)).flip([axis + 2 for axis in axes]))
    assert torch.equal(truth, _crop(labels, (4, 5, 1)).flip([axis + 1 for axis in axes]))


def test_each_sample_of_a_batch_gets_its_own_transform():
    images, labels = _batch((8, 9, 7), batch=6)
    draw = draw_spatial(Augmentation(), 6, (True, True, True), torch.Generator().manual_seed(3))
    assert 0 < draw.resampled.sum() < 6
    together = _apply(images, labels, draw, (6, 6, 6))
    for n in range(6):
        single = SpatialDraw(draw.rotations[n : n + 1], draw.scales[n : n + 1], draw.flips[n : n + 1])
        alone = _apply(images[n : n + 1], labels[n : n + 1], single, (6, 6, 6))
        torch.testing.assert_close(together[0][n : n + 1], alone[0], rtol=0, atol=rounding(images))
        assert torch.equal(together[1][n : n + 1], alone[1])


def test_labels_stay_labels_and_the_input_is_untouched():
    images, labels = _batch((12, 12, 12), batch=4)
    labels = (labels * 50 + 7).to(torch.uint8)
    before = images.clone(), labels.clone()
    recipe = Augmentation(rotation_probability=1.0, scale_probability=1.0, scale=(0.3, 3.0), rotation_degrees=180.0)
    draw = draw_spatial(recipe, 4, (True, True, True), torch.Generator().manual_seed(0))
    _, truth = _apply(images, labels, draw, (8, 8, 8))
    assert set(truth.unique().tolist()) <= set(labels.unique().tolist())
    assert truth.dtype == torch.int64
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_only_active_axes_turn_and_stretch():
    recipe = Augmentation(rotation_probability=1.0, scale_probability=1.0, scale=(1.1, 1.2))
    draw = draw_spatial(recipe, 8, (True, True, False), torch.Generator().manual_seed(0))
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(draw.rotations @ axis, axis.expand(8, 3), rtol=0, atol=0)
    assert (draw.rotations[:, 0, 1] != 0).all()
    assert (draw.scales[:, 2] == 1).all()
    assert (draw.scales[:, :2] > 1).all()


def test_two_dimensional_image_turns_in_its_plane():
    images, labels = _batch((9, 9, 1))
    patches, truth = _apply(images, labels, _draw((0.0, 0.0, 90.0)), (7, 7, 1), padding="zero")
    torch.testing.assert_close(patches, torch.rot90(_crop(images, (7, 7, 1)), 1, (2, 3)), rtol=0, atol=1e-5)
    assert torch.equal(truth, torch.rot90(_crop(labels, (7, 7, 1)), 1, (1, 2)))


@pytest.mark.parametrize(
    ("patch", "spacing", "expected"),
    [
        ((32, 32, 32), (1.0, 1.0, 1.0), (True, True, True)),
        ((32, 32, 1), (1.0, 1.0, 1.0), (True, True, False)),
        ((32, 32, 16), (0.8, 0.8, 5.0), (True, True, False)),
        ((32, 32, 16), (0.8, 0.8, 2.0), (True, True, True)),
    ],
)
def test_thin_axes(patch, spacing, expected):
    assert active_axes(patch, spacing) == expected


def test_draws_follow_the_recipe():
    recipe = Augmentation(mirror_axes=(1,), rotation_degrees=20.0, rotation_probability=0.25, scale_probability=0.75)
    draw = draw_spatial(recipe, 2000, (True, True, True), torch.Generator().manual_seed(0))
    turned = (draw.rotations != torch.eye(3, dtype=torch.float64)).flatten(1).any(1)
    zoomed = draw.scales[:, 0] != 1
    # Four standard deviations of the binomial: 77 for p = 1/4 and 3/4, 89 for 1/2.
    assert abs(turned.sum() - 500) < 77
    assert abs(zoomed.sum() - 1500) < 77
    assert abs(draw.flips[:, 1].sum() - 1000) < 89
    assert not draw.flips[:, [0, 2]].any()
    assert draw.scales.min() >= 0.85
    assert draw.scales.max() <= 1.15
    # R0 R1 R2 with angles within 20 degrees: the middle one shows alone, as asin of one entry.
    middle = torch.rad2deg(draw.rotations[turned][:, 0, 2].asin())
    assert middle.abs().max() <= 20
    assert middle.abs().max() > 19
    assert torch.linalg.det(draw.rotations).allclose(torch.ones(2000, dtype=torch.float64))


def test_everything_off_draws_the_identity():
    recipe = Augmentation(rotation_probability=0.0, scale_probability=0.0, mirror_axes=())
    draw = draw_spatial(recipe, 50, (True, True, True), torch.Generator())
    assert not draw.resampled.any()
    assert not draw.flips.any()


def test_patch_larger_than_its_source_is_refused():
    images, labels = _batch((4, 4, 4))
    with pytest.raises(ValueError, match="must not exceed"):
        _apply(images, labels, _draw(), (4, 5, 4))
