"""Where windows lie under each rule, against the formula of the paper and loops written out by hand."""

import itertools
from dataclasses import replace

import pytest
import torch

from voxward.pipeline.placement import PLACEMENTS, window_starts
from voxward.pipeline.windows import plan_windows, pull_back, sweep, update, voting


def _covered(starts, window):
    return set(itertools.chain.from_iterable(range(start, start + window) for start in starts))


@pytest.mark.parametrize("extra", [6, 12])
def test_count_is_the_papers_formula_for_every_length(extra):
    for length in range(64, 1122):
        starts = PLACEMENTS["count"](length, 64, 0.5, extra)
        assert len(starts) == min(length // 64 + extra, length - 63)
        assert list(starts) == sorted(set(starts))
        assert (starts[0], starts[-1]) == (0, length - 64)
        assert _covered(starts, 64) == set(range(length))


@pytest.mark.parametrize("placement", ["count", "heartseg"])
@pytest.mark.parametrize("extra", [1, 2, 6])
def test_any_window_covers_any_length(placement, extra):
    for window, length in itertools.product((1, 2, 5, 8, 13), range(1, 60)):
        if window <= length:
            starts = PLACEMENTS[placement](length, window, 0.5, extra)
            assert _covered(starts, window) == set(range(length))
            assert list(starts) == sorted(starts)


def test_table_6_of_the_paper():
    """NIH scans of 512 x 512 x 240: 1764 windows in the coarse stage, 6000 were the fine one run on all of it."""
    for extra, count in ((6, 14 * 14 * 9), (12, 20 * 20 * 15)):
        assert plan_windows((512, 512, 240), (64, 64, 64), 0.5, "constant", "count", extra).count == count


def _released(length, window, extra):
    """HeartSeg's rule as the specification words it: 0, step, .. <= L - W, plus L - W."""
    count = length // window + extra
    step, room = 1, length - window
    while step * (count - 1) < room:
        step += 1
    starts, start = [], 0
    while start <= room:
        starts.append(start)
        start += step
    return (*starts, room)


def test_heartseg_with_its_repeats():
    """221 of 2114 cases miss the formula, 187 repeat the last window: the numbers of the specification."""
    assert PLACEMENTS["heartseg"](240, 64, 0.5, 6) == (0, 22, 44, 66, 88, 110, 132, 154, 176, 176)
    cases = list(itertools.product((6, 12), range(65, 1122)))
    starts = [PLACEMENTS["heartseg"](length, 64, 0.5, extra) for extra, length in cases]
    assert starts == [_released(length, 64, extra) for extra, length in cases]
    formula = [length // 64 + extra for extra, length in cases]
    assert sum(len(own) != count for own, count in zip(starts, formula, strict=True)) == 221
    assert sum(len(set(own)) < len(own) for own in starts) == 187


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_step_is_the_default_and_unchanged(overlap):
    shape, size = (40, 33, 17), (16, 8, 8)
    windows = plan_windows(shape, size, overlap, "gaussian")
    assert windows.starts == tuple(window_starts(n, w, overlap) for n, w in zip(shape, size, strict=True))
    assert plan_windows(shape, size, overlap, "gaussian", "step", 99).starts == windows.starts


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"unknown window placement 'counts'.*count, heartseg, step"):
        plan_windows((8, 8, 8), (8, 8, 8), 0.5, "constant", "counts")
    for placement in ("count", "heartseg"):
        with pytest.raises(ValueError, match="extra must be at least 1"):
            plan_windows((8, 8, 8), (8, 8, 8), 0.5, "constant", placement, 0)
        with pytest.raises(ValueError, match="pad the volume"):
            plan_windows((8, 7, 8), (8, 8, 8), 0.5, "constant", placement)


def _brute_force(network, image, windows):
    """The weighted mean over all windows, each as often as it is there."""
    total, norm = 0.0, 0.0
    for corner in itertools.product(*windows.starts):
        place = tuple(slice(start, start + length) for start, length in zip(corner, windows.size, strict=True))
        logits = network(image[(slice(None), *place)][None])[0]
        whole, weights = logits.new_zeros(len(logits), *windows.shape), logits.new_zeros(windows.shape)
        whole[(slice(None), *place)], weights[place] = logits * windows.weights, windows.weights.double()
        total, norm = total + whole, norm + weights
    return total / norm


def _swept(forward, image, windows):
    return torch.cat(list(sweep(forward, image, windows)), windows.axis + 1)


@pytest.mark.parametrize("placement", ["count", "heartseg"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sweep_pullback_and_update_count_repeats_double(placement, axis):
    """10, 12 and 8 voxels with windows of 4: heartseg repeats its last window on the first and the last axis."""
    shape, size = (10, 12, 8), (4, 4, 4)
    windows = replace(plan_windows(shape, size, 0.5, "inverse-distance", placement, 1), axis=axis)
    repeated = [len(set(starts)) < len(starts) for starts in windows.starts]
    assert repeated == ([True, False, True] if placement == "heartseg" else [False] * 3)
    conv = torch.nn.Conv3d(1, 2, 3, padding=1).double().requires_grad_(False)
    network = lambda x: conv(x).tanh()  # noqa: E731
    image = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    expected, cotangent = _brute_force(network, image, windows), torch.randn(2, *shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((expected * cotangent).sum(), image)
    ours = _swept(network, image, windows)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
    (through,) = torch.autograd.grad((ours * cotangent).sum(), image)
    torch.testing.assert_close(through, gradient, rtol=1e-6, atol=1e-7)

    def pull(crops, part):
        leaf = crops.detach().requires_grad_()
        return torch.autograd.grad((network(leaf) * part).sum(), leaf)[0]

    pulled = pull_back(pull, image.detach(), windows, cotangent)
    torch.testing.assert_close(pulled, gradient, rtol=1e-6, atol=1e-7)
    other = image.detach() + 1
    changed = update(network, ours.detach(), (image.detach(), other), windows, windows.corners, 3)
    torch.testing.assert_close(changed, _brute_force(network, other, windows), rtol=1e-6, atol=1e-7)


def test_a_majority_is_not_a_mean():
    """Two windows vote 1 by a little, one votes 0 by a lot: the mean of the logits is 0, the majority 1."""
    windows = plan_windows((5, 1, 1), (3, 1, 1), 0.99, "constant", "count", 3)
    assert windows.starts[0] == (0, 1, 2)
    calls = iter((-9.0, 1.0, 1.0))
    scores = lambda x: torch.cat([torch.zeros_like(x), torch.full_like(x, next(calls))], 1)  # noqa: E731
    image = torch.zeros(1, 5, 1, 1)
    shares = _swept(voting(scores), image, windows)[:, :, 0, 0]
    torch.testing.assert_close(shares[1], torch.tensor([0, 0.5, 2 / 3, 1, 1]))
    torch.testing.assert_close(shares.sum(0), torch.ones(5))
    # Of two equal shares (voxel 1) the lower class wins.
    assert shares.argmax(0).tolist() == [0, 0, 1, 1, 1]
    calls = iter((-9.0, 1.0, 1.0))
    assert _swept(scores, image, windows)[:, :, 0, 0].argmax(0).tolist() == [0, 0, 0, 1, 1]


def test_votes_are_counted_as_by_hand():
    torch.manual_seed(3)
    conv = torch.nn.Conv3d(1, 4, 3, padding=1).requires_grad_(False)
    image = torch.randn(1, 11, 9, 7)
    windows = plan_windows((11, 9, 7), (4, 4, 4), 0.5, "constant", "count", 3)
    counts = torch.zeros(4, 11, 9, 7)
    for i, j, k in itertools.product(*windows.starts):
        label = conv(image[None, :, i : i + 4, j : j + 4, k : k + 4])[0].argmax(0)
        for klass in range(4):
            counts[klass, i : i + 4, j : j + 4, k : k + 4] += label == klass
    shares = _swept(voting(conv), image, windows)
    torch.testing.assert_close(shares, counts / counts.sum(0))
    assert (shares.max(0).indices == counts.max(0).indices).all()
