from itertools import product

import numpy as np
import pytest
import torch

from voxward.pipeline.symmetries import Symmetry, seen_through, symmetries

IDENTITY = Symmetry()
NORMALS = (0, 1, 2)


@pytest.fixture(params=["array", "tensor"])
def kind(request):
    return torch.as_tensor if request.param == "tensor" else np.asarray


def _volume(shape=(2, 3, 4, 5)):
    """Every voxel another number, no two sizes equal."""
    return np.arange(np.prod(shape)).reshape(shape)


def _by_hand(volume, symmetry):
    """Voxel by voxel: mirror the plane's first axis and the normal, then turn from the first axis to the second."""
    volume = np.moveaxis(volume, symmetry.normal, 2)  # (first, second, normal)
    first, second, normal = volume.shape
    out = {}
    for x, y, z in np.ndindex(volume.shape):
        u, v, w = (first - 1 - x if symmetry.mirrored else x), y, (normal - 1 - z if symmetry.flipped else z)
        sizes = [first, second]
        for _ in range(symmetry.turns):
            u, v = sizes[1] - 1 - v, u  # as numpy.rot90 turns (0, 1)
            sizes.reverse()
        out[u, v, w] = volume[x, y, z]
    shape = (second, first, normal) if symmetry.turns % 2 else (first, second, normal)
    made = np.empty(shape, volume.dtype)
    for place, value in out.items():
        made[place] = value
    return np.moveaxis(made, 2, symmetry.normal)


@pytest.mark.parametrize("normal", NORMALS)
def test_moves_every_voxel_where_it_belongs(normal, kind):
    volume = _volume((3, 4, 5))
    for symmetry in symmetries(normal):
        assert np.array_equal(symmetry.apply(kind(volume)), _by_hand(volume, symmetry)), symmetry


@pytest.mark.parametrize("normal", NORMALS)
def test_the_sixteen_are_different(normal):
    """On a volume of square slices, where all results have one shape."""
    shape = [3, 3, 3]
    shape[normal] = 2
    results = {np.ascontiguousarray(symmetry.apply(_volume(shape))).tobytes() for symmetry in symmetries(normal)}
    assert len(results) == len(symmetries(normal)) == 16
    assert symmetries(normal)[0] == Symmetry(normal=normal)


@pytest.mark.parametrize("normal", NORMALS)
def test_the_inverse_undoes_it_on_volumes_that_are_not_square(normal, kind):
    volume = kind(_volume())
    for symmetry in symmetries(normal):
        back = symmetry.inverse()
        assert np.array_equal(back.apply(symmetry.apply(volume)), volume), symmetry
        assert np.array_equal(symmetry.apply(back.apply(volume)), volume), symmetry
        assert back in symmetries(normal)


def test_quarter_turns_swap_the_sizes_in_the_plane():
    volume = _volume((2, 3, 4, 5))
    assert Symmetry(1).apply(volume).shape == (2, 4, 3, 5)
    assert Symmetry(1, normal=0).apply(volume).shape == (2, 3, 5, 4)
    assert Symmetry(3, True, True, 1).apply(volume).shape == (2, 5, 4, 3)
    for symmetry in symmetries():
        assert (symmetry.apply(volume).shape != volume.shape) is (symmetry.turns % 2 == 1)


def test_the_plane_is_axial_unless_said_otherwise():
    """A turn leaves every slice across the third axis where it is."""
    volume = np.broadcast_to(np.arange(5), (3, 4, 5))
    for symmetry in symmetries():
        slices = symmetry.apply(volume)[0, 0]
        assert slices.tolist() == ([4, 3, 2, 1, 0] if symmetry.flipped else [0, 1, 2, 3, 4])


def test_the_authors_products_are_twelve_and_four_inverses_are_wrong():
    """What this module is for, of `flip then turn` over 4 flips and 4 turns in the plane of axes 0 and 1."""
    volume, seen, wrong = _volume((3, 3, 2)), set(), []
    for axis, turns in product((0, 1, 2, None), range(4)):
        moved = np.rot90(volume if axis is None else np.flip(volume, axis), turns)
        seen.add(np.ascontiguousarray(moved).tobytes())
        back = np.rot90(moved if axis is None else np.flip(moved, axis), -turns)
        wrong += [] if np.array_equal(back, volume) else [(axis, turns)]
    assert len(seen) == 12
    assert wrong == [(0, 1), (0, 3), (1, 1), (1, 3)]
    ours = {np.ascontiguousarray(symmetry.apply(volume)).tobytes() for symmetry in symmetries()}
    assert seen < ours


@pytest.mark.parametrize("normal", NORMALS)
def test_a_pointwise_forward_sees_no_difference(normal):
    images = torch.randn(2, 1, 3, 4, 5)
    expected = torch.cat([images, -2 * images], 1)
    for symmetry in symmetries(normal):
        view = seen_through(lambda x: torch.cat([x, -2 * x], 1), symmetry)
        assert torch.equal(view(images), expected)


def test_a_forward_that_looks_sideways_sees_the_moved_volume():
    """A shift along the first axis comes back as a shift along wherever that axis has been turned from."""
    images = torch.randn(1, 1, 4, 4, 4)
    view = seen_through(lambda x: x.roll(1, 2), Symmetry(turns=1))
    assert any(torch.equal(view(images), images.roll(step, 3)) for step in (1, -1))
    assert torch.equal(seen_through(lambda x: x.roll(1, 2), Symmetry(mirrored=True))(images), images.roll(-1, 2))


def test_gradients_come_back_to_their_voxels():
    weights = torch.randn(3, 4, 5)
    for symmetry in symmetries():
        volume = torch.randn(3, 4, 5, requires_grad=True)
        (symmetry.apply(volume) * symmetry.apply(weights)).sum().backward()
        assert torch.equal(volume.grad, weights)


@pytest.mark.parametrize("options", [{"turns": 4}, {"turns": -1}, {"normal": 3}])
def test_other_symmetries_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        Symmetry(**options)


def test_what_does_not_fit_is_refused(kind):
    with pytest.raises(ValueError, match="three spatial axes"):
        IDENTITY.apply(kind(np.zeros((2, 2))))
