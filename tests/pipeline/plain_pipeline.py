"""The deployed pipeline written plainly, with its whole graph kept, and a network, volume and target to put in."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.core.test_plan import PLAN
from tests.data.volumes import make_affine
from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Inference
from voxward.data.bands import axis_band
from voxward.data.prepare import prepare
from voxward.pipeline.placement import window_starts
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.windows import WEIGHTS
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess

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
    return Predictor(
        TrainedModel(plan, Inference(overlap, weights, axes), network.eval(), process or PostProcess()), CPU, "fp32"
    )


def plain_image(volume, predictor, frame):
    """Prepared and padded, (1, c, d, h, w): nothing of data.prepare is used."""
    plan = predictor.model.plan
    x = volume.permute(0, 1, *(2 + axis for axis in frame.axes))
    for axis, flip in enumerate(frame.flips):
        x = torch.flip(x, (axis + 2,)) if flip else x
    x = x[(..., *(slice(a, b) for a, b in zip(frame.box_start, frame.box_stop, strict=True)))]
    matrices = [axis_band(*pair).dense() for pair in zip(x.shape[2:], frame.shape, plan.spline_order, strict=True)]
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
    overlap, size = predictor.model.inference.overlap, predictor.model.plan.window_size
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
    weights = WEIGHTS[predictor.model.inference.weights](size).double()
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
    matrices = [axis_band(n, m, 1).dense().to(z) for n, m in zip(frame.shape, frame.box_shape, strict=True)]
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
