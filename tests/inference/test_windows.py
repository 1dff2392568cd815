import itertools

import pytest
import torch
from monai.inferers import sliding_window_inference

from voxward.inference.windows import WEIGHTS, plan_windows, sweep, window_starts


@pytest.mark.parametrize(
    ("length", "window", "overlap"), itertools.product((8, 9, 15, 16, 17, 40), (1, 4, 8), (0.0, 0.25, 0.5, 0.9))
)
def test_windows_cover_every_voxel_evenly_with_at_least_the_overlap(length, window, overlap):
    starts = window_starts(length, window, overlap)
    covered = set(itertools.chain.from_iterable(range(s, s + window) for s in starts))
    assert covered == set(range(length))
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(1 <= step <= max(1, window * (1 - overlap)) for step in steps)
    assert not steps or max(steps) - min(steps) <= 1


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="pad the volume"):
        window_starts(7, 8, 0.5)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("shape", "size"), [((17, 12, 9), (8, 8, 4)), ((16, 16, 1), (8, 16, 1)), ((9, 9, 9), (9, 9, 9))]
)
def test_constant_in_constant_out(weights, shape, size):
    windows = plan_windows(shape, size, 0.5, weights)
    out = torch.cat(list(sweep(lambda x: torch.full((len(x), 3, *size), 7.25), torch.randn(2, *shape), windows)), 1)
    assert out.shape == (3, *shape)
    torch.testing.assert_close(out, torch.full_like(out, 7.25), rtol=1e-6, atol=0)  # float32 rounding


@pytest.mark.parametrize("weights", WEIGHTS)
def test_voxelwise_networks_are_reproduced_exactly_anywhere(weights):
    image = torch.randn(1, 21, 10, 13, dtype=torch.float64)
    windows = plan_windows((21, 10, 13), (8, 6, 5), 0.6, weights)
    out = torch.cat(list(sweep(lambda x: torch.cat([x, x**2], 1), image, windows, batch=3)), 1)
    torch.testing.assert_close(out, torch.cat([image, image**2]), rtol=1e-6, atol=1e-6)


def test_equals_the_plain_weighted_sum():
    """Brute force over all windows, with a network that sees its whole window."""
    torch.manual_seed(0)
    image = torch.randn(1, 14, 11, 9, dtype=torch.float64)
    network = torch.nn.Conv3d(1, 2, 3, padding=1).double().requires_grad_(False)
    windows = plan_windows((14, 11, 9), (6, 6, 4), 0.5, "inverse-distance")
    total, norm = torch.zeros(2, 14, 11, 9, dtype=torch.float64), torch.zeros(14, 11, 9, dtype=torch.float64)
    for i, j, k in itertools.product(*windows.starts):
        place = (slice(None), slice(i, i + 6), slice(j, j + 6), slice(k, k + 4))
        total[place] += network(image[place][None])[0] * windows.weights
        norm[place[1:]] += windows.weights
    for batch in (1, 5):
        ours = torch.cat(list(sweep(network, image, windows, batch)), 1)
        torch.testing.assert_close(ours, total / norm, rtol=1e-6, atol=1e-7)


def test_agrees_with_monai_on_shared_windows():
    """With windows at a regular step and constant weights both tile the volume alike."""
    torch.manual_seed(0)
    image = torch.randn(1, 16, 16, 16)
    network = torch.nn.Conv3d(1, 2, 3, padding=1).requires_grad_(False)
    ours = torch.cat(list(sweep(network, image, plan_windows((16, 16, 16), (8, 8, 8), 0.5, "constant"))), 1)
    theirs = sliding_window_inference(image[None], (8, 8, 8), 4, network, overlap=0.5, mode="constant")[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_slabs_hold_no_more_rows_than_a_window():
    windows = plan_windows((100, 4, 4), (10, 4, 4), 0.5, "constant")
    heard = []
    slabs = list(sweep(lambda x: x, torch.randn(1, 100, 4, 4), windows, done=heard.append))
    assert max(slab.shape[1] for slab in slabs) <= 10
    assert heard[-1] == windows.count == len(windows.starts[0])


def test_differentiable_with_respect_to_the_image():
    image = torch.randn(1, 9, 6, 6, dtype=torch.float64, requires_grad=True)
    windows = plan_windows((9, 6, 6), (4, 4, 4), 0.5, "gaussian")
    out = torch.cat(list(sweep(lambda x: x * 3, image, windows)), 1)
    (gradient,) = torch.autograd.grad(out.sum(), image)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 3.0), rtol=1e-6, atol=1e-6)


def test_weights_are_positive_and_highest_in_the_middle():
    for name in WEIGHTS:
        weights = WEIGHTS[name]((9, 7, 5))
        assert weights.min() > 0
        assert weights[4, 3, 2] == weights.max()
    # 1 / (1 + distance from the centre in half windows), the centre voxel's own centre being at distance 0
    assert WEIGHTS["inverse-distance"]((9, 9, 9))[4, 4, 0] == pytest.approx(1 / (1 + 4 / 4.5))
