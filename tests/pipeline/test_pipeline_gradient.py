"""The pipeline's gradient against autograd through the same composition, written plainly with its whole graph kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
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
    boxes,
    ce,
    close,
    moved,
    plain,
    plain_image,
    plain_window,
    soft_dice,
)
from voxward.core.model import VolumeModel
from voxward.data.prepare import prepare
from voxward.data.resample import resample_labels
from voxward.pipeline import predictor as predictor_module
from voxward.pipeline.model import PipelineModel


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


@pytest.mark.no_cover  # long, and other tests run the same lines
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
