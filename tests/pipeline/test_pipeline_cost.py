"""What the pipeline spends: graphs in memory, forward passes of a gradient, and windows that a change touches."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch

from tests.pipeline.plain_pipeline import (
    OTHER,
    SAME,
    WIDE,
    Toy,
    a_predictor,
    a_target,
    a_volume,
    close,
    moved,
    soft_dice,
)
from voxward.pipeline import predictor as predictor_module
from voxward.pipeline.model import PipelineModel


def test_windows_whose_graphs_are_held_cost_one_forward(monkeypatch):
    """A batch's always are; others where it was allowed, and then the gradient is the same."""
    case, target, counts, gradients = a_volume(), a_target(), [], []
    for batch, graphs in ((10_000, 0), (3, 0), (3, 10_000)):
        network = Toy().double()
        predictor = replace(a_predictor(network, overlap=0.0), graphs=graphs)
        monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", batch * 8 * 8 * 4)
        model = PipelineModel.freeze([predictor], case)
        gradients.append(model.value_and_grad(moved(case), target, soft_dice)[2])
        counts.append(network.forwards / model.members[0].windows.count)
    assert counts == [1.0, 2.0, 1.0]
    close(gradients[2], gradients[1])


class Watched(Toy):
    """Counts the bytes that autograd keeps for the network's pullback, at their peak."""

    live = peak = 0

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda box: box.tensor):
            return super().forward(x)

    def _pack(self, tensor):
        box = type("Box", (), {"tensor": tensor})()
        size = tensor.numel() * tensor.element_size()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(box, self._gone, size)
        return box

    def _gone(self, size):
        self.live -= size


@pytest.mark.parametrize("gradient", ["exact", "window_mean"])
@pytest.mark.parametrize("axes", [(), (0, 1)])
def test_the_graph_is_that_of_one_batch_however_many_windows(gradient, axes, monkeypatch):
    window = (6, 6, 4)
    monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", 2 * 6 * 6 * 4)
    case, peaks, counts = a_volume(), [], []
    for overlap in (0.0, 0.8):
        networks = [Watched(n).double() for n in range(2)]
        predictors = [a_predictor(network, SAME, window, overlap=overlap, axes=axes) for network in networks]
        model = PipelineModel.freeze(predictors, case, gradient=gradient)
        model.value_and_grad(moved(case), a_target(), soft_dice)
        assert sum(network.live for network in networks) == 0
        peaks.append(sum(network.peak for network in networks) / 2)
        counts.append(model.members[0].windows.count)
    assert counts[0] <= 12 < 80 < counts[1]
    batch = Watched().double()
    batch(torch.zeros(2, 2, *window, dtype=torch.float64, requires_grad=True))
    assert 0 < peaks[0] == peaks[1] <= batch.peak


def test_a_waiting_graph_is_the_only_one():
    """Of several members with one batch each, one graph at a time."""
    case, networks = a_volume(), [Watched(n).double() for n in range(3)]
    live = []
    for network in networks:
        network.register_forward_hook(lambda *_: live.append(sum(n.live for n in networks)))
    model = PipelineModel.freeze([a_predictor(network, window=WIDE) for network in networks], case)
    model.value_and_grad(moved(case), a_target(), soft_dice)
    assert max(live) == networks[0].peak


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("spacing", "order"), [(SAME, 3), (OTHER, 1), (OTHER, 3)])
@pytest.mark.parametrize("count", [1, 2])
def test_only_touched_windows_are_computed_again(dtype, tolerance, spacing, order, count):
    """A cubic spline spreads a change over the whole of this volume, fading: there everything is computed."""
    networks = [Toy(n).to(dtype) for n in range(count)]
    case = a_volume()
    model = PipelineModel.freeze(
        [a_predictor(n, spacing, (4, 4, 2), axes=(0,), overlap=0.4, order=(order,) * 3) for n in networks], case
    )
    start = moved(case).to(dtype)
    before = model.sweep(start)
    box = (slice(1, 3), slice(1, 3), slice(1, 3))
    volumes = torch.cat([start, start])
    volumes[0][(slice(None), *box)] += 5
    volumes[1][(slice(None), *box)] -= 9
    done = [network.forwards for network in networks]
    after = model.logits_after(before, volumes, box)
    spent = [network.forwards - n for network, n in zip(networks, done, strict=True)]
    whole = 2 * 2 * model.members[0].windows.count  # mirrors and volumes
    assert all(0 < n < whole / 2 if (spacing, order) != (OTHER, 3) else 0 < n <= whole for n in spent)
    close(after.logits, model.logits(volumes), tolerance)
    assert not torch.allclose(after.logits, before.logits, atol=1e-3)
    back = model.logits_after(after, torch.cat([start, volumes[:1]]), box)
    close(back.logits, torch.cat([before.logits, after.logits[:1]]), tolerance)


def test_a_large_change_is_a_full_sweep_and_none_costs_nothing():
    network, case = Toy().double(), a_volume()
    model = PipelineModel.freeze([a_predictor(network)], case)
    start, count = moved(case), model.members[0].windows.count
    before = model.sweep(start)
    everywhere = (slice(None),) * 3
    network.forwards = 0
    assert torch.equal(model.logits_after(before, start, everywhere).logits, before.logits)
    assert network.forwards == 0
    after = model.logits_after(before, start + 3, everywhere)
    assert network.forwards == count
    assert torch.equal(after.logits, model.logits(start + 3))
    with pytest.raises(ValueError, match=r"before must hold 1 case or as many as volume \(3\), got 2"):
        model.logits_after(model.sweep(start.repeat(2, 1, 1, 1, 1)), start.repeat(3, 1, 1, 1, 1), everywhere)


def test_changes_too_small_to_see_do_not_add_up():
    network, case = Toy().double(), a_volume()
    model = PipelineModel.freeze([a_predictor(network)], case)
    volume, box = moved(case), (slice(3, 5),) * 3
    state = model.sweep(volume)
    for _ in range(40):  # 4e-7 standard deviations each
        volume = volume.clone()
        volume[0, 0][box] += 8e-6
        state = model.logits_after(state, volume, box)
    assert (state.logits - model.logits(volume)).abs().max() < 2e-6
