"""Oracles: scipy.ndimage at explicit coordinates, dense matrices, and counts of numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.data.test_resample import coordinates
from voxward.data import bands
from voxward.data.bands import axis_band
from voxward.data.resample import apply_matrices, resample, resample_labels
from voxward.data.resample_rows import resampled_rows

LONG = [(900, 900), (700, 1300), (1500, 400), (3000, 60), (80, 2500)]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("n_in", "n_out"), LONG)
def test_a_long_axis_equals_scipy(n_in: int, n_out: int, order: int) -> None:
    x = np.random.default_rng(0).normal(size=n_in)
    expected = ndimage.map_coordinates(x, [coordinates(n_in, n_out)], order=order, mode="nearest")
    found = resample(torch.from_numpy(x)[:, None, None], (n_out, 1, 1), (order, order, order)).flatten()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks_equal_one_dense_matrix(axis: int, order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, target = [3, 4, 5], [3, 4, 5]
    shape[axis], target[axis] = 300, 170
    x = torch.rand(2, *shape, dtype=torch.float64)
    dense = axis_band(300, 170, order)
    monkeypatch.setattr(bands, "_ONE_PIECE", 0)
    banded = axis_band.__wrapped__(300, 170, order)
    assert len(dense.blocks) == 1 < len(banded.blocks)
    place = [None, None, None]
    whole, parts = ([*place[:axis], band, *place[axis + 1 :]] for band in (dense, banded))
    torch.testing.assert_close(apply_matrices(x, tuple(parts)), apply_matrices(x, tuple(whole)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("n_in", "n_out"), LONG)
def test_the_transpose_is_exact(n_in: int, n_out: int, order: int) -> None:
    band = axis_band(n_in, n_out, order)
    assert torch.equal(band.transposed.dense(), band.dense().T)
    x = torch.rand(n_in, 1, 1, dtype=torch.float64, requires_grad=True)
    given = torch.rand(n_out, 1, 1, dtype=torch.float64)
    (found,) = torch.autograd.grad(resample(x, (n_out, 1, 1), (order, order, order)), x, given)
    torch.testing.assert_close(found[:, 0, 0], band.dense().T @ given[:, 0, 0], rtol=1e-12, atol=1e-13)


def test_the_gradient_of_a_long_axis_can_be_differentiated() -> None:
    x = torch.rand(1, 1, 400, dtype=torch.float64, requires_grad=True)
    target = torch.rand(1, 1, 600, dtype=torch.float64)
    loss = ((resample(x, (1, 1, 600), (3, 3, 3)) - target) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    dense = axis_band(400, 600, 3).dense()
    torch.testing.assert_close(second.flatten(), 2 * dense.T @ dense.sum(1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("order", "most"), [(0, 200), (1, 200), pytest.param(3, 500, marks=pytest.mark.slow)])
def test_the_numbers_grow_with_the_length_and_not_with_its_square(order: int, most: int) -> None:
    """33,000 voxels: a dense matrix would take 5 to 10 GB."""
    assert axis_band(33_000, 20_000, order).weights < most * 20_000


@pytest.mark.parametrize(("n_in", "n_out"), [(900, 1100), (900, 500)])
def test_labels_of_a_long_axis(n_in: int, n_out: int) -> None:
    label = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (n_in, 2, 3)).astype(np.uint8))
    shares = torch.stack([resample((label == k).double(), (n_out, 2, 3), (1, 1, 1)) for k in range(3)])
    ordered = shares.sort(0).values
    clear = ordered[-1] - ordered[-2] > 1e-5
    found = resample_labels(label, (n_out, 2, 3), 3)
    assert clear.float().mean() > 0.5
    assert torch.equal(found[clear].long(), shares.argmax(0)[clear])


@pytest.mark.parametrize("target", [(900, 4, 3), (1300, 4, 5), (300, 2, 3)])
def test_rows_of_a_long_axis(target: tuple[int, int, int]) -> None:
    logits = torch.rand(2, 900, 4, 3)
    whole = resample(logits, target, (1, 1, 1))
    rows = dict(resampled_rows(logits.split(70, 1), (900, 4, 3), target))
    assert list(rows) == list(np.cumsum([0, *(len(part[0]) for part in rows.values())])[:-1])
    torch.testing.assert_close(torch.cat(list(rows.values()), 1), whole, rtol=0, atol=1e-6)
