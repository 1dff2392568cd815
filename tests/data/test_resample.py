"""Oracles: scipy.ndimage at explicit coordinates, and finite definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from voxward.data import resample as module
from voxward.data.bands import axis_band
from voxward.data.resample import resample, resample_labels


def coordinates(n_in: int, n_out: int) -> np.ndarray:
    return (np.arange(n_out) + 0.5) * n_in / n_out - 0.5


def scipy_resample(x: np.ndarray, shape: tuple[int, int, int], order: int) -> np.ndarray:
    grid = np.meshgrid(*(coordinates(n, m) for n, m in zip(x.shape, shape, strict=True)), indexing="ij")
    return ndimage.map_coordinates(x.astype(np.float64), grid, order=order, mode="nearest")


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("n_in", "n_out"), [(7, 11), (12, 5), (1, 4), (2, 9), (8, 4), (30, 13), (9, 9), (5, 1)])
def test_axis_band_equals_scipy(n_in: int, n_out: int, order: int) -> None:
    x = np.random.default_rng(0).normal(size=n_in)
    expected = ndimage.map_coordinates(x, [coordinates(n_in, n_out)], order=order, mode="nearest")
    np.testing.assert_allclose(axis_band(n_in, n_out, order).dense().numpy() @ x, expected, atol=1e-10)


@pytest.mark.parametrize(("arguments", "message"), [((0, 3, 1), "at least one voxel"), ((3, 3, 4), "order")])
def test_axis_band_refuses(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        axis_band(*arguments)


@pytest.mark.parametrize("shape", [(9, 4, 7), (3, 13, 5), (6, 8, 2), (6, 5, 9)])
def test_volume_equals_scipy_in_three_dimensions(shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(1).normal(size=(6, 8, 5))
    np.testing.assert_allclose(resample(torch.from_numpy(x), shape, (3, 3, 3)), scipy_resample(x, shape, 3), atol=1e-9)


def test_equals_the_zoom_of_skimage_and_nnunet() -> None:
    x = np.random.default_rng(2).normal(size=(10, 6, 8))
    expected = ndimage.zoom(x, (0.7, 1.5, 1.25), order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resample(torch.from_numpy(x), expected.shape, (3, 3, 3)), expected, atol=1e-9)


def test_orders_apply_per_axis() -> None:
    x = torch.rand(6, 6, 6, dtype=torch.float64)
    mixed = resample(x, (9, 6, 4), (3, 3, 0))
    np.testing.assert_array_equal(mixed, resample(resample(x, (9, 6, 6), (3, 3, 3)), (9, 6, 4), (0, 0, 0)))


def test_slabs_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    x, label = torch.rand(2, 11, 9, 7, dtype=torch.float64), torch.randint(0, 4, (11, 9, 7))
    whole, whole_label = resample(x, (6, 14, 9), (3, 3, 3)), resample_labels(label, (6, 14, 9), 4)
    monkeypatch.setattr(module, "_SLAB", 100)
    torch.testing.assert_close(resample(x, (6, 14, 9), (3, 3, 3)), whole, rtol=0, atol=1e-13)
    assert torch.equal(resample_labels(label, (6, 14, 9), 4), whole_label)


def test_gradient_is_exact_and_twice_differentiable() -> None:
    x = torch.rand(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: resample(value, (6, 3, 5), (3, 1, 0)), x)
    assert torch.autograd.gradgradcheck(lambda value: resample(value, (6, 3, 5), (3, 1, 0)), x)


def test_integers_become_float32_and_floats_keep_their_type() -> None:
    x = torch.randint(-1000, 1000, (5, 6, 7), dtype=torch.int16)
    assert resample(x, (4, 6, 9), (3, 3, 3)).dtype == torch.float32
    assert resample(x, (5, 6, 7), (3, 3, 3)).dtype == torch.float32
    assert resample(x.double(), (4, 6, 9), (3, 3, 3)).dtype == torch.float64
    assert resample(x[None, None], (4, 6, 9), (3, 3, 3)).shape == (1, 1, 4, 6, 9)


@pytest.mark.parametrize("shape", [(13, 5, 9), (4, 12, 7), (5, 7, 4), (3, 2, 11)])
def test_labels_take_the_class_with_the_most(shape: tuple[int, int, int]) -> None:
    label = np.random.default_rng(3).integers(0, 5, (9, 7, 6)).astype(np.uint8)
    label[label == 3] = 1  # an absent class between present ones
    shares = np.stack([scipy_resample(label == k, shape, 1) for k in range(5)])
    found = resample_labels(torch.from_numpy(label), shape, 5).numpy()
    clear = np.sort(shares, axis=0)[-1] - np.sort(shares, axis=0)[-2] > 1e-5
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(found[clear], shares.argmax(0)[clear])
    # In a tie, one of the tied classes wins.
    assert (np.take_along_axis(shares, found[None].astype(int), 0)[0] > shares.max(0) - 1e-5).all()


def test_exact_ties_go_to_the_lower_class() -> None:
    label = torch.tensor([2, 1, 0, 2], dtype=torch.uint8).reshape(4, 1, 1)
    assert resample_labels(label, (2, 1, 1), 3).flatten().tolist() == [1, 0]


def test_labels_keep_type_and_are_copied() -> None:
    label = torch.randint(0, 3, (4, 4, 4), dtype=torch.int32)
    same = resample_labels(label, (4, 4, 4), 3)
    assert same.dtype == torch.int32
    assert torch.equal(same, label)
    assert same.data_ptr() != label.data_ptr()


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        resample_labels(torch.full((2, 2, 2), 2), (3, 3, 3), 2)


@pytest.mark.parametrize("voxel", [(1, 2, 2), (2, 1, 1), (2, 2, 2), (0, 4, 6)])
def test_an_object_between_the_samples_is_no_fault(voxel):
    """Every third voxel is sampled, the second of each three."""
    label = torch.zeros(9, 9, 9, dtype=torch.uint8)
    label[4, 4, 4], label[voxel] = 2, 1
    found = resample_labels(label, (3, 3, 3), 3)
    assert found[1, 1, 1] == 2
    assert found.count_nonzero() == 1
