"""The deployed pipeline against autograd through the same composition, written plainly with its whole graph kept."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.core.test_plan import PLAN
from tests.data.test_prepare import make_affine
from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.model import VolumeModel
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Inference, load_recipe
from voxward.data.prepare import prepare
from voxward.data.resample import axis_matrix, resample_labels
from voxward.inference import predictor as predictor_module
from voxward.inference.pipeline import PipelineModel
from voxward.inference.postprocess import PostProcess
from voxward.inference.predictor import Predictor
from voxward.inference.run_folder import TrainedModel
from voxward.inference.windows import WEIGHTS, window_starts

CPU = torch.device("cpu")
SHAPE = (11, 12, 9)
WINDOW = (8, 8, 4)
WIDE = (12, 12, 16)  # longer than the prepared volume: padding, and one window
SAME, OTHER = (1.0, 1.2, 2.0), (1.3, 0.9, 1.7)
CODE = "PIL"


class Toy(nn.Module):
    """Not linear, and every voxel of a window sees every other one through the normalisation."""

    def __init__(self, seed: int = 0, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.Tanh(), nn.Conv3d(4, classes, 1)
        )
        with torch.no_grad():
            self.body[-1].weight.mul_(3)
        self.forwards = 0

    def forward(self, x):
        self.forwards += len(x)
        return self.body(x)


def a_volume(dtype=np.float64) -> Volume:
    """Zero at some of the borders, so that the crop box is smaller; the file's axes are permuted and flipped."""
    random = np.random.default_rng(0)
    array = np.zeros((2, *SHAPE), dtype)
    array[:, 1:-1, :-2, 1:] = random.uniform(20, 90, (2, *SHAPE))[:, 1:-1, :-2, 1:]
    spacing = [SAME[axis] for axis in (1, 2, 0)]  # P, I, L: the file's axes are y, z, x
    return Volume(array, make_affine(CODE, spacing))


def a_predictor(
    network, spacing=SAME, window=WINDOW, weights="gaussian", axes=(), overlap=0.5, process=None, order=(3, 1, 3)
):
    plan = replace(
        PLAN, spacing=spacing, spline_order=order, window_size=window, patch_size=window,
        labels=LabelSet(("background", "a", "b"), (0, 1, 2)), min_object_mm3=(0.0, 0.0),
        channels=(ChannelPlan("CT", "ct", 25.0, 85.0, 50.0, 20.0), ChannelPlan("MRI", "mr")),
    )  # fmt: skip
    recipe = replace(load_recipe("rog"), inference=Inference(overlap, weights, axes))
    return Predictor(TrainedModel(plan, recipe, network.eval(), process or PostProcess()), CPU, "fp32")


def plain_image(volume, predictor, frame):
    """Prepared and padded, (1, c, d, h, w): nothing of data.prepare is used."""
    plan = predictor.model.plan
    x = volume.permute(0, 1, *(2 + axis for axis in frame.axes))
    for axis, flip in enumerate(frame.flips):
        x = torch.flip(x, (axis + 2,)) if flip else x
    x = x[(..., *(slice(a, b) for a, b in zip(frame.box_start, frame.box_stop, strict=True)))]
    matrices = [axis_matrix(*pair) for pair in zip(x.shape[2:], frame.shape, plan.spline_order, strict=True)]
    x = torch.einsum("bcijk,di,hj,wk->bcdhw", x, *(m.to(x) for m in matrices))
    low, high, mean, std = (
        torch.tensor(values, dtype=x.dtype).view(1, -1, 1, 1, 1)
        for values in (frame.low, frame.high, frame.mean, frame.std)
    )
    x = (torch.minimum(torch.maximum(x, low), high) - mean) / std
    for axis, wanted in enumerate(plan.window_size):
        missing = max(0, wanted - x.shape[axis + 2])
        source = np.pad(np.arange(x.shape[axis + 2]), (missing // 2, missing - missing // 2), mode="reflect")
        x = x.index_select(axis + 2, torch.from_numpy(source))
    return x


def boxes(image, predictor):
    overlap, size = predictor.model.recipe.inference.overlap, predictor.model.plan.window_size
    starts = [window_starts(n, w, overlap) for n, w in zip(image.shape[2:], size, strict=True)]
    return [tuple(slice(s, s + n) for s, n in zip(corner, size, strict=True)) for corner in itertools.product(*starts)]


def plain_window(crop, predictor):
    """The mean over the mirrors of one window."""
    axes = predictor.mirrors
    every = itertools.chain.from_iterable(itertools.combinations(axes, n) for n in range(len(axes) + 1))
    views = [[axis + 2 for axis in subset] for subset in every]
    return sum(predictor.model.network(crop.flip(v)).flip(v) for v in views) / len(views)


def plain_member(volume, predictor, frame, head):
    """Native logits (1, k, i, j, k) of one member."""
    image, size = plain_image(volume, predictor, frame), predictor.model.plan.window_size
    weights = WEIGHTS[predictor.model.recipe.inference.weights](size).double()
    total, norm = 0, 0
    for box in boxes(image, predictor):
        alone = torch.zeros(image.shape[2:], dtype=image.dtype)
        alone[box] = weights
        scores = plain_window(image[(..., *box)], predictor) * weights
        after = [n - s.stop for n, s in zip(image.shape[2:], box, strict=True)]
        amounts = [n for s, a in reversed(list(zip(box, after, strict=True))) for n in (s.start, a)]
        total, norm = total + nn.functional.pad(scores, amounts), norm + alone
    z = total / norm
    begin = [(n - m) // 2 for n, m in zip(image.shape[2:], frame.shape, strict=True)]
    z = z[(..., *(slice(b, b + n) for b, n in zip(begin, frame.shape, strict=True)))]
    matrices = [axis_matrix(n, m, 1).to(z) for n, m in zip(frame.shape, frame.box_shape, strict=True)]
    z = torch.einsum("bkdhw,id,jh,lw->bkijl", z, *matrices)
    oriented = [frame.source_shape[axis] for axis in frame.axes]
    value = torch.full((z.shape[1],), -20.0 if head == "regions" else 0.0, dtype=z.dtype)
    value[0] = -20.0 if head == "regions" else 20.0
    amounts = [n for s, e, whole in zip(frame.box_start[::-1], frame.box_stop[::-1], oriented[::-1], strict=True)
               for n in (s, whole - e)]  # fmt: skip
    inside = nn.functional.pad(torch.ones_like(z), amounts)
    z = nn.functional.pad(z, amounts) + (1 - inside) * value.view(1, -1, 1, 1, 1)
    for axis, flip in enumerate(frame.flips):
        z = torch.flip(z, (axis + 2,)) if flip else z
    return z.permute(0, 1, *(2 + axis for axis in np.argsort(frame.axes).tolist()))


def plain(volume, predictors, case, head, mean):
    """Native logits of the ensemble."""
    frames = [prepare(case, None, p.model.plan).frame for p in predictors]
    members = [plain_member(volume, p, f, head) for p, f in zip(predictors, frames, strict=True)]
    if mean == "logits" or len(members) == 1:  # one member's logits stand for its probabilities already
        return sum(members) / len(members)
    if head == "regions":
        share = sum(torch.sigmoid(z) for z in members) / len(members)
        return torch.log(share) - torch.log1p(-share)
    return torch.log(sum(z.softmax(1) for z in members) / len(members))


def soft_dice(logits, target):
    if target.ndim == logits.ndim:
        p, y = torch.sigmoid(logits), target.to(logits)
    else:
        p = logits.softmax(1)[:, 1:]
        y = nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits)
    overlap = (p * y).flatten(2).sum(2)
    return 1 - ((2 * overlap + 1) / ((p + y).flatten(2).sum(2) + 1)).mean(1)


def ce(logits, target):
    if target.ndim == logits.ndim:
        losses = nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
    else:
        losses = cross_entropy(logits, target, reduction="none")
    return losses.flatten(1).mean(1)


def a_target(head="softmax", cases=1):
    generator = torch.Generator().manual_seed(3)
    if head == "regions":
        return torch.randint(0, 2, (cases, 3, *SHAPE), generator=generator)
    return torch.randint(0, 3, (cases, *SHAPE), generator=generator)


def moved(case, cases=1):
    """Points near the clean case, so that frozen figures are not those of the volume itself."""
    noise = np.random.default_rng(7).normal(0, 2, (cases, *case.array.shape))
    return torch.from_numpy(case.array[None] + noise)


def close(found, expected, tolerance=1e-10):
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def agrees(predictors, head="softmax", mean="logits", objective=soft_dice, cases=1):
    """Logits, values and gradient are those of autograd through the plain composition."""
    case = a_volume()
    model = PipelineModel.freeze(predictors, case, head, mean)
    assert isinstance(model, VolumeModel)
    volume, target = moved(case, cases), a_target(head, cases)
    logits, values, gradient = model.value_and_grad(volume, target, objective)
    leaves = [volume[n : n + 1].clone().requires_grad_() for n in range(cases)]
    expected = torch.cat([plain(leaf, predictors, case, head, mean) for leaf in leaves])
    wanted = objective(expected, target)
    close(logits, expected)
    close(values, wanted)
    close(gradient, torch.cat(torch.autograd.grad(wanted.sum(), leaves)))
    assert not any(x.requires_grad for x in (logits, values, gradient))


@pytest.mark.parametrize("spacing", [SAME, OTHER])
@pytest.mark.parametrize("weights", ["inverse-distance", "gaussian", "constant"])
@pytest.mark.parametrize("axes", [(), (0, 1, 2)])
@pytest.mark.parametrize(("count", "mean"), [(1, "logits"), (2, "logits"), (2, "probabilities")])
@pytest.mark.parametrize(("head", "objective"), [("softmax", soft_dice), ("softmax", ce), ("regions", soft_dice)])
def test_the_gradient_is_autograds(spacing, weights, axes, count, mean, head, objective, monkeypatch):
    """A batch of 5 windows where there are many. The second member has another geometry and its own weights."""
    monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", 5 * 8 * 8 * 4)
    first = a_predictor(Toy(0).double(), spacing, weights=weights, axes=axes, overlap=0.25)
    second = a_predictor(Toy(1).double(), OTHER, (8, 12, 8), "constant", axes[:1], overlap=0.25)
    assert first.windows((11, 9, 7)).count > first.batch
    agrees([first, second][:count], head, mean, objective)


def test_a_sum_of_ce_over_regions_too(monkeypatch):
    monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", 1)
    agrees([a_predictor(Toy().double(), OTHER, axes=(1,))], "regions", "logits", ce)


@pytest.mark.parametrize("axes", [(), (0, 1, 2)])
@pytest.mark.parametrize("count", [1, 2])
def test_one_padded_window_and_a_batch_of_cases(axes, count):
    agrees([a_predictor(Toy(n).double(), OTHER, WIDE, axes=axes) for n in range(count)], cases=3, mean="probabilities")


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


@pytest.mark.parametrize("gradient", ["exact", "window_mean"])
def test_the_networks_are_left_as_they_were(gradient):
    network = Toy().double()
    predictor = a_predictor(network)
    network.train()
    network.body[1].eval()
    network.body[0].bias.requires_grad_(False)
    network.body[0].weight.grad = torch.ones_like(network.body[0].weight)
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    before = [parameter.clone() for parameter in network.parameters()]
    case = a_volume()
    model, volume = PipelineModel.freeze([predictor], case, gradient=gradient), moved(case)
    kept = volume.clone()
    with torch.no_grad():
        model.value_and_grad(volume, a_target(), ce)
    model.logits_after(model.sweep(volume), volume + 1, (slice(None),) * 3)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    grads = [parameter.grad for parameter in network.parameters()]
    assert torch.equal(grads[0], torch.ones_like(grads[0]))
    assert all(grad is None for grad in grads[1:])
    assert torch.equal(volume, kept)
    assert not volume.requires_grad


@pytest.mark.parametrize("axes", [(), (0, 2)])
@pytest.mark.parametrize("spacing", [SAME, OTHER])
@pytest.mark.parametrize("kinds", [(), ("organ", "lesion"), ("none", "none")])
def test_the_mask_is_the_predictors(axes, spacing, kinds):
    case = a_volume(np.float32)
    process = PostProcess(kinds, (0.0, 60.0) if kinds else ())
    predictor = a_predictor(Toy(), spacing, axes=axes, process=process)
    model = PipelineModel.freeze([predictor], case)
    mask = model.segment(model.logits(torch.from_numpy(case.array)[None]))
    assert mask.dtype == torch.int64
    assert len(mask.unique()) == 3
    np.testing.assert_array_equal(mask[0].numpy(), predictor.segment(case))


def test_region_masks_have_no_post_processing():
    predictor = a_predictor(Toy(), process=PostProcess(("organ", "organ"), (0.0, 0.0)))
    model = PipelineModel.freeze([predictor], a_volume(np.float32), "regions")
    logits = torch.randn(2, 3, *SHAPE)
    assert torch.equal(model.segment(logits), (logits > 0).long())


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


@pytest.mark.parametrize("head", ["softmax", "regions"])
@pytest.mark.parametrize("axes", [(), (0, 2)])
@pytest.mark.parametrize("window", [(4, 4, 4), WIDE])
def test_the_window_mean_is_the_loop(head, axes, window):
    case = a_volume()
    predictor = a_predictor(Toy().double(), OTHER, window, axes=axes)
    frame = prepare(case, None, predictor.model.plan).frame
    model = PipelineModel.freeze([predictor], case, head, gradient="window_mean")
    target = a_target(head)
    target[..., :6, :, :], target[..., 5:] = 0, 0
    leaf = moved(case).requires_grad_()
    image = plain_image(leaf, predictor, frame)
    truth = _plain_target(target, predictor, frame)
    kept = [box for box in boxes(image, predictor) if truth[(..., *box)].any()]
    if window != WIDE:
        assert 0 < len(kept) < len(boxes(image, predictor))
    total, count = torch.zeros_like(image), torch.zeros_like(image)
    for box in kept:
        value = ce(plain_window(image[(..., *box)], predictor), truth[(..., *box)]).sum()
        total += torch.autograd.grad(value, image, retain_graph=True)[0]
        count[(..., *box)] += 1
    (expected,) = torch.autograd.grad(image, leaf, torch.where(count > 0, total / count, 0.0))
    logits, values, gradient = model.value_and_grad(leaf.detach(), target, ce)
    close(gradient, expected)
    close(logits, model.logits(leaf.detach()))
    close(values, ce(logits, target))
    nothing = model.value_and_grad(leaf.detach(), torch.zeros_like(target), ce)[2]
    assert not nothing.any()


def _plain_target(target, predictor, frame):
    """Prepared and padded; interpolation by resample_labels, which has its own tests."""
    label = target[0].numpy()
    lead = label.ndim - 3
    turned = label.transpose(*range(lead), *(lead + axis for axis in frame.axes))
    turned = np.flip(turned, [lead + axis for axis, flip in enumerate(frame.flips) if flip])
    box = turned[(..., *(slice(a, b) for a, b in zip(frame.box_start, frame.box_stop, strict=True)))]
    maps = [torch.from_numpy(x.copy()) for x in (box if lead else box[None])]
    x = np.stack([resample_labels(x, frame.shape, 2 if lead else 3).numpy() for x in maps])
    wanted = [max(0, n - m) for n, m in zip(predictor.model.plan.window_size, frame.shape, strict=True)]
    x = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in wanted)], mode="reflect")
    return torch.from_numpy(x)[None] if lead else torch.from_numpy(x)


def test_bounds_are_the_clip_window_and_always_legal():
    case = a_volume()
    case.array[1] = 0
    model = PipelineModel.freeze([a_predictor(Toy().double())], case)
    assert model.bounds[0] == (25.0, 85.0)
    low, high = model.bounds[1]
    assert low == 0.0 < high < 1e-5
    assert (model.channels, model.head) == (2, "softmax")


def test_what_cannot_work_is_refused():
    case, predictor = a_volume(), a_predictor(Toy())
    with pytest.raises(ValueError, match="at least one"):
        PipelineModel.freeze([], case)
    with pytest.raises(ValueError, match="'fp16' loses gradients"):
        PipelineModel.freeze([replace(predictor, precision="fp16")], case)
    with pytest.raises(ValueError, match="mirror_axes"):
        PipelineModel.freeze([replace(predictor, mirror_axes=(3,))], case)
    with pytest.raises(ValueError, match="graphs must be at least 0"):
        replace(predictor, graphs=-1)
    with pytest.raises(ValueError, match="takes 2 channels"):
        PipelineModel.freeze([predictor], Volume(case.array[:1], case.affine))
    other = replace(predictor.model, plan=replace(predictor.model.plan, labels=LabelSet(("background", "c"), (0, 1))))
    with pytest.raises(ValueError, match="agree on their labels"):
        PipelineModel.freeze([predictor, replace(predictor, model=other)], case)
    with pytest.raises(ValueError, match=r"volume must be \(b, c, i, j, k\)"):
        PipelineModel.freeze([predictor], case).logits(torch.zeros(1, 2, 5, 5, 5))


def test_bf16_gradients_are_close_to_float32():
    case, target = a_volume(np.float32), a_target()
    predictor = a_predictor(Toy(), OTHER)
    exact, rough = (
        PipelineModel.freeze([replace(predictor, precision=p)], case).value_and_grad(
            moved(case).float(), target, soft_dice
        )[2]
        for p in ("fp32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rough.flatten(), 0) > 0.98
