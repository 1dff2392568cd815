"""The frozen cascade against autograd through both stages at once, written plainly with its whole graph kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pipeline.plain_pipeline import OTHER, SAME, Toy, a_predictor, a_volume, plain_member
from tests.systems.build import cascade as joined
from tests.systems.build import ensemble, frozen
from tests.systems.test_cascade import AFFINES, by_hand, predictor, scan
from tests.systems.test_ensemble import REGIONS
from voxward.attacks.objectives import at, create_objective
from voxward.core.case import Volume
from voxward.core.gradientless import NotDifferentiable
from voxward.core.model import VolumeModel
from voxward.data.prepare import prepare
from voxward.pipeline.model import PipelineModel
from voxward.systems.crop import crop

# Longer than a window along two axes, shorter along one; at the border along one.
BOX = (slice(1, 11), slice(3, 12), slice(0, 6))
INSIDE = (..., *BOX)
VOLUME = a_volume()
X = torch.from_numpy(VOLUME.array)[None]
TARGET = torch.from_numpy(np.random.default_rng(1).integers(0, 3, VOLUME.shape))[None]
CLASSES = torch.from_numpy(np.random.default_rng(2).integers(0, 4, VOLUME.shape))[None]


def cascade(axes=()):
    """The two prepare, resample and blend differently."""
    coarse = a_predictor(Toy(0).double(), SAME, weights="constant")
    return joined(coarse, a_predictor(Toy(1).double(), OTHER, (8, 4, 8), axes=axes, overlap=0.6), margin=1.0)


def of_regions(one):
    """The same predictor, its three outputs three nested regions."""
    plan = replace(one.model.plan, labels=REGIONS, min_object_mm3=(0.0,) * 3)
    return replace(one, model=replace(one.model, plan=plan))


def a_cascade_of_regions(size):
    """Behind one coarse model an ensemble of `size` that prepare differently."""
    both = cascade()
    others = [a_predictor(Toy(seed).double(), SAME, overlap=0.3) for seed in (2, 3)]
    members = [of_regions(one) for one in (both.fine.predictor, *others)][:size]
    return joined(of_regions(both.coarse.predictor), ensemble(members), margin=1.0)


def held_frame(predictor):
    """The fine stage's crop with the figures of the whole scan."""
    whole = prepare(VOLUME, None, predictor.model.plan).frame
    figures = {name: getattr(whole, name) for name in ("low", "high", "mean", "std")}
    return replace(prepare(crop(VOLUME, BOX), None, predictor.model.plan).frame, **figures)


def plain_cascade(x, both, stage):
    head = both.fine.labels.head
    outside = plain_member(x, both.coarse.predictor, prepare(VOLUME, None, both.coarse.network().plan).frame, head)
    if stage == "fine":
        outside = torch.full_like(outside, -20.0 if head == "regions" else 0.0)
        outside[:, 0] = -20.0 if head == "regions" else 20.0
    members = [plain_member(x[INSIDE], one, held_frame(one), head) for one, _ in both.fine.members]
    inside = sum(members) / len(members)
    held = torch.zeros(x.shape[2:], dtype=torch.bool)
    held[BOX] = True
    after = [n - side.stop for n, side in zip(x.shape[2:], BOX, strict=True)]
    amounts = [n for side, a in reversed(list(zip(BOX, after, strict=True))) for n in (side.start, a)]
    return torch.where(held, torch.nn.functional.pad(inside, amounts), outside)


@pytest.mark.parametrize("objective", ["ce", "dice"])
@pytest.mark.parametrize(("stage", "axes"), [("both", ()), ("both", (0, 2)), ("fine", ())])
def test_the_gradient_is_autograds_through_both_stages(stage, axes, objective):
    agrees_with_autograd(cascade(axes), TARGET, stage, objective)


@pytest.mark.parametrize("objective", ["ce", "dice"])
@pytest.mark.parametrize(("stage", "size"), [("both", 1), ("both", 3), ("fine", 2)])
def test_stages_may_have_regions_and_be_ensembles(stage, size, objective):
    agrees_with_autograd(a_cascade_of_regions(size), REGIONS.target(CLASSES), stage, objective)


def agrees_with_autograd(both, target, stage, objective):
    loss = at(create_objective(objective), 0.5)
    model = frozen(both, VOLUME, BOX, stage)
    assert isinstance(model, VolumeModel)
    leaf = X.clone().requires_grad_()
    expected = plain_cascade(leaf, both, stage)
    value = loss(expected, target)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    logits, values, found = model.value_and_grad(X, target, loss)
    torch.testing.assert_close(logits, expected.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(values, value.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)
    torch.testing.assert_close(found / found.abs().max(), gradient / gradient.abs().max(), rtol=0, atol=1e-10)
    torch.testing.assert_close(model.logits(X), logits, rtol=0, atol=1e-10)
    outside = torch.ones_like(X, dtype=torch.bool)
    outside[INSIDE] = False
    assert (found[outside] != 0).any() == (stage == "both")
    assert (found[INSIDE] != 0).any()


def test_a_cascade_of_regions_and_ensembles_is_deployed_as_it_is_attacked():
    volume, both = a_volume(np.float32), a_cascade_of_regions(2)
    result = both.refine(volume)
    assert result.refined
    x = torch.from_numpy(volume.array)[None]
    for stage in ("both", "fine"):
        model = frozen(both, volume, result.box, stage)
        mask = model.segment(model.logits(x))
        assert mask.shape == (1, 3, *volume.shape)
        assert torch.equal(mask[0], REGIONS.target(torch.from_numpy(result.label)))
    _, _, gradient = frozen(both, volume, result.box, gradient="window_mean").value_and_grad(
        x, REGIONS.target(CLASSES), at(create_objective("ce"), 0.0)
    )
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


@pytest.mark.parametrize("gradient", ["exact", "window_mean"])
def test_cases_of_a_batch_do_not_meet(gradient):
    model, loss = frozen(cascade(), VOLUME, BOX, gradient=gradient), at(create_objective("dice"), 0.0)
    two, targets = torch.cat([X, X.flip(2) + 3]), torch.cat([TARGET, TARGET.roll(1, 3)])
    together = model.value_and_grad(two, targets, loss)
    alone = [model.value_and_grad(two[n : n + 1], targets[n : n + 1], loss) for n in range(2)]
    for whole, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-12)


def test_the_coarse_stage_is_the_coarse_pipeline():
    both, loss = cascade(), at(create_objective("ce"), 0.0)
    model = frozen(both, VOLUME, BOX, "coarse")
    expected = PipelineModel.freeze([both.coarse.predictor], VOLUME).value_and_grad(X, TARGET, loss)
    for found, wanted in zip(model.value_and_grad(X, TARGET, loss), expected, strict=True):
        assert torch.equal(found, wanted)


def test_without_a_box_the_coarse_result_is_the_result():
    both = cascade()
    model = frozen(both, VOLUME, None)
    assert torch.equal(model.logits(X), PipelineModel.freeze([both.coarse.predictor], VOLUME).logits(X))


@pytest.mark.parametrize("stage", ["both", "fine"])
def test_window_mean_is_the_sum_of_the_models_own(stage):
    both, loss = cascade(), at(create_objective("ce"), 0.0)
    _, values, found = frozen(both, VOLUME, BOX, stage, "window_mean").value_and_grad(X, TARGET, loss)
    fine = PipelineModel.freeze([both.fine.predictor], crop(VOLUME, BOX), gradient="window_mean", whole=VOLUME)
    expected = torch.zeros_like(X)
    if stage == "both":
        coarse = PipelineModel.freeze([both.coarse.predictor], VOLUME, gradient="window_mean")
        expected += coarse.value_and_grad(X, TARGET, loss)[2]
    expected[INSIDE] += fine.value_and_grad(X[INSIDE], TARGET[INSIDE], loss)[2]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(values, loss(plain_cascade(X, both, stage), TARGET), rtol=0, atol=1e-10)


@pytest.mark.parametrize("stage", ["both", "fine"])
@pytest.mark.parametrize(
    "change", [(slice(0, 3), slice(2, 5), slice(4, 8)), (slice(1, 3), slice(0, 2), slice(7, 9)), (slice(4, 5),) * 3]
)
def test_a_local_change_is_followed(stage, change):
    model = frozen(cascade(), VOLUME, BOX, stage)
    changed = X.clone()
    changed[(..., *change)] += 7.0
    before = model.sweep(X)
    after = model.logits_after(before, changed, change)
    torch.testing.assert_close(after.logits, model.logits(changed), rtol=0, atol=1e-6)
    again = model.logits_after(after, X, change)
    torch.testing.assert_close(again.logits, before.logits, rtol=0, atol=1e-6)
    assert not torch.equal(model.logits(changed), before.logits) or stage == "fine"


@pytest.mark.parametrize("name", AFFINES)
def test_the_held_mask_is_the_cascades_while_the_box_is_the_held_one(name):
    """The coarse model also sees a stray speck, which the cascade drops."""
    volume, organ, halo, speck = scan(AFFINES[name])
    both = joined(predictor(160.0), predictor(60.0), margin=4.0)
    result = both.refine(volume)
    x = torch.from_numpy(volume.array.astype(np.float32))[None]
    for stage in ("both", "fine"):
        model = frozen(both, volume, result.box, stage)
        logits = model.logits(x)
        np.testing.assert_array_equal(model.segment(logits)[0].numpy(), result.label)
        assert bool((logits.argmax(1)[0].numpy()[speck] == 1).all()) == (stage == "both")
    assert result.box == by_hand(organ, (4, 4, 4))
    assert result.label.sum() == (organ | halo).sum()


def test_the_fine_model_sees_the_whole_scans_statistics():
    """Normalised by the case: the crop's own figures would be others, and the model was trained with these."""
    volume = scan()[0]
    channel = predictor(60.0).model.plan.channels[0]
    fine = predictor(0.5, channels=(replace(channel, normalization="clip", low=-100.0, high=240.0),))
    both = joined(predictor(160.0), fine, margin=2.0)
    box = both.refine(volume).box
    expected = prepare(volume, None, fine.model.plan).image[(slice(None), *box)]
    seen = fine.model.network.seen[0][0]
    patch = expected[(slice(None), *(slice(0, n) for n in seen.shape[1:]))]
    torch.testing.assert_close(seen, patch, rtol=0, atol=1e-6)
    alone = prepare(crop(volume, box), None, fine.model.plan).image
    assert (alone - expected).abs().max() > 0.5


def test_what_cannot_be_attacked_is_refused():
    volume, both = scan()[0], joined(predictor(160.0), predictor(60.0))
    for wrong in ({"classes": ("a",)}, {"localise_only": True}, {"mask_outside": True}):
        with pytest.raises(NotDifferentiable, match=f"without a gradient: {next(iter(wrong))} must be"):
            frozen(replace(both, region=replace(both.region, **wrong)), volume, BOX)

    two = Volume(np.concatenate([volume.array] * 2), volume.affine)
    with pytest.raises(ValueError, match="1 channels"):
        frozen(both, two, BOX)
