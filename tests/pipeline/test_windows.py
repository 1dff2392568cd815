import itertools
import weakref
from dataclasses import replace

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.rounding import rounding
from voxward.pipeline import windows as module
from voxward.pipeline.placement import window_starts
from voxward.pipeline.windows import WEIGHTS, plan_windows, sweep


def swept(forward, image, windows, batch=1):
    """The slabs put together again."""
    return torch.cat(list(sweep(forward, image, windows, batch)), windows.axis + 1)


def plan_along(axis, *arguments):
    return replace(plan_windows(*arguments), axis=axis)


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [*itertools.product((8, 9, 15, 16, 17, 40), (1, 4, 8), (0.0, 0.25, 0.5, 0.9))]
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
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("shape", "size"), [((17, 12, 9), (8, 8, 4)), ((16, 16, 1), (8, 16, 1)), ((9, 9, 9), (9, 9, 9))]
)
def test_constant_in_constant_out(weights, axis, shape, size):
    windows = plan_along(axis, shape, size, 0.5, weights)
    out = swept(lambda x: torch.full((len(x), 3, *size), 7.25), torch.randn(2, *shape), windows)
    assert out.shape == (3, *shape)
    torch.testing.assert_close(out, torch.full_like(out, 7.25), rtol=0, atol=rounding(out))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_voxelwise_networks_are_reproduced_exactly_anywhere(weights, axis):
    image = torch.randn(1, 21, 10, 13, dtype=torch.float64)
    windows = plan_along(axis, (21, 10, 13), (8, 6, 5), 0.6, weights)
    out = swept(lambda x: torch.cat([x, x**2], 1), image, windows, 3)
    torch.testing.assert_close(out, torch.cat([image, image**2]), rtol=1e-6, atol=1e-6)


def weighted_sum(network, image, windows):
    """Brute force over all windows."""
    total, norm = 0.0, 0.0
    for corner in itertools.product(*windows.starts):
        place = [slice(start, start + length) for start, length in zip(corner, windows.size, strict=True)]
        logits = network(image[(slice(None), *place)][None])[0]
        whole, weights = logits.new_zeros(len(logits), *windows.shape), logits.new_zeros(windows.shape)
        whole[(slice(None), *place)], weights[tuple(place)] = logits * windows.weights, windows.weights.double()
        total, norm = total + whole, norm + weights
    return total / norm


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("budget", [1, 400, 2**25])
def test_equals_the_plain_weighted_sum_and_so_does_its_gradient(axis, overlap, budget, monkeypatch):
    """With a network that sees its whole window; the buffer is written over in place, which autograd must survive."""
    monkeypatch.setattr(module, "_SLAB", budget)
    image = torch.randn(1, 14, 11, 9, dtype=torch.float64, requires_grad=True)
    conv = torch.nn.Conv3d(1, 2, 3, padding=1).double().requires_grad_(False)
    network = lambda x: conv(x).tanh()  # noqa: E731
    windows = plan_along(axis, (14, 11, 9), (6, 6, 4), overlap, "inverse-distance")
    expected, pull = weighted_sum(network, image, windows), torch.randn(2, 14, 11, 9, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((expected * pull).sum(), image)
    for batch in (1, 5):
        ours = swept(network, image, windows, batch)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
        (ours_back,) = torch.autograd.grad((ours * pull).sum(), image)
        torch.testing.assert_close(ours_back, gradient, rtol=1e-6, atol=1e-7)


def test_agrees_with_monai_on_shared_windows():
    """With windows at a regular step and constant weights both tile the volume alike."""
    torch.manual_seed(0)
    image = torch.randn(1, 16, 16, 16)
    network = torch.nn.Conv3d(1, 2, 3, padding=1).requires_grad_(False)
    ours = swept(network, image, plan_windows((16, 16, 16), (8, 8, 8), 0.5, "constant"))
    theirs = sliding_window_inference(image[None], (8, 8, 8), 4, network, overlap=0.5, mode="constant")[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=rounding(ours, image))


def test_slabs_hold_no_more_rows_than_a_window():
    windows = plan_windows((100, 4, 4), (10, 4, 4), 0.5, "constant")
    heard = []
    slabs = list(sweep(lambda x: x, torch.randn(1, 100, 4, 4), windows, done=heard.append))
    assert max(slab.shape[1] for slab in slabs) <= 10
    assert heard[-1] == windows.count == len(windows.starts[0])


@pytest.mark.parametrize(
    ("shape", "size", "axis"),
    [
        ((512, 512, 800), (256, 256, 96), 2),
        ((20, 40, 30), (16, 16, 16), 1),
        ((40, 40, 40), (8, 8, 8), 0),
        ((32, 64, 1), (16, 16, 1), 1),
    ],
)
def test_the_sweep_runs_where_a_layer_is_smallest(shape, size, axis):
    windows = plan_windows(shape, size, 0.5, "constant")
    assert windows.axis == axis
    assert windows.layer_shape == (*shape[:axis], size[axis], *shape[axis + 1 :])


class LiveBytes(TorchDispatchMode):
    """The most bytes that the tensors made under it held at any time."""

    def __init__(self):
        super().__init__()
        self.made, self.peak = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.made += [weakref.ref(x) for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.made = [ref for ref in self.made if ref() is not None]
        storages = [ref().untyped_storage() for ref in self.made]
        self.peak = max(self.peak, sum({x.data_ptr(): x.nbytes() for x in storages}.values()))
        return out


def test_memory_is_one_layer_and_one_slab(monkeypatch):
    """Many classes and a long volume: little more than k x window rows x the two shorter axes is alive at any time."""
    monkeypatch.setattr(module, "_SLAB", 2000)
    image, classes = torch.randn(1, 24, 24, 60), 60
    windows = plan_windows((24, 24, 60), (12, 12, 6), 0.5, "gaussian")
    with torch.no_grad(), LiveBytes() as live:
        slabs = [slab.shape for slab in sweep(lambda x: x.expand(-1, classes, -1, -1, -1), image, windows)]
    assert sum(shape[3] for shape in slabs) == 60
    assert max(shape.numel() for shape in slabs) <= classes * 24 * 24
    layer = classes * 24 * 24 * 6 * 4
    assert layer < live.peak < 1.6 * layer


def test_differentiable_with_respect_to_the_image():
    image = torch.randn(1, 9, 6, 6, dtype=torch.float64, requires_grad=True)
    windows = plan_windows((9, 6, 6), (4, 4, 4), 0.5, "gaussian")
    out = swept(lambda x: x * 3, image, windows)
    (gradient,) = torch.autograd.grad(out.sum(), image)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 3.0), rtol=1e-6, atol=1e-6)


def test_weights_are_positive_and_highest_in_the_middle():
    for name in WEIGHTS:
        weights = WEIGHTS[name]((9, 7, 5))
        assert weights.min() > 0
        assert weights[4, 3, 2] == weights.max()
    # 1 / (1 + distance from the centre in half windows), the centre voxel's own centre being at distance 0
    assert WEIGHTS["inverse-distance"]((9, 9, 9))[4, 4, 0] == pytest.approx(1 / (1 + 4 / 4.5))
