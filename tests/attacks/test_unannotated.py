"""Attacks on partly annotated cases: only annotated voxels count, and any voxel may be changed."""

import pytest
import torch

from tests.attacks.toys import THREAT, case, conv_model
from voxward.attacks.criteria import class_dice, judge
from voxward.attacks.fab import FabT
from voxward.attacks.fab_boundary import hinge
from voxward.attacks.objectives import OBJECTIVES, create_objective
from voxward.attacks.one_class import OneClass, only
from voxward.attacks.registry import create
from voxward.core.labels import UNANNOTATED
from voxward.pipeline.bound import resampled_truth

HEADS = ("softmax", "regions")


def partial_case(head, batch=2):
    model = conv_model(2, classes=4 if head == "softmax" else 3, head=head)
    volume, target = case(model, batch=batch, size=12)
    generator = torch.Generator().manual_seed(3)
    unknown = torch.rand(batch, 12, 12, generator=generator) < 0.4
    partial = target.masked_fill(unknown if head == "softmax" else unknown[:, None], UNANNOTATED)
    return model, volume, target, unknown, partial


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 1.5)])
def test_objectives_are_those_of_the_annotated_part(name, head, weights):
    model, volume, target, _, _ = partial_case(head)
    loss = create_objective(name, weights if weights is None or head == "softmax" else weights[:3])
    logits = model.logits(volume)
    partial = target.clone()
    partial[..., 5:] = UNANNOTATED
    expected = loss(logits[..., :5], target[..., :5], 0.5)
    torch.testing.assert_close(loss(logits, partial, 0.5), expected)
    leaf = logits.clone().requires_grad_()
    loss(leaf, partial, 0.5).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad[..., 5:] == 0).all()
    torch.testing.assert_close(loss(logits, target, 0.5), loss(logits, target.clone(), 0.5), rtol=0, atol=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_without_any_annotated_voxel_an_objective_is_finite(name, head):
    model, volume, target, _, _ = partial_case(head)
    leaf = model.logits(volume).requires_grad_()
    value = create_objective(name)(leaf, torch.full_like(target, UNANNOTATED), 0.5)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert (leaf.grad == 0).all()


@pytest.mark.parametrize("head", HEADS)
def test_the_dice_is_that_of_the_annotated_part(head):
    model, volume, target, _, _ = partial_case(head)
    mask = model.segment(model.logits(volume))
    partial = target.clone()
    partial[..., 7:] = UNANNOTATED
    classes = 4 if head == "softmax" else None
    assert torch.equal(class_dice(mask, partial, classes), class_dice(mask[..., :7], target[..., :7], classes))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["fgsm-ce", "apgd-dice", "pgd-balanced-ce", "square", "fab-dice", "fab-t"])
def test_attacks_lower_the_dice_of_the_annotated_part(name, head):
    model, volume, _, unknown, partial = partial_case(head)
    result = create(name)(model, volume, partial, THREAT)
    mask = model.segment(model.logits(result.adversarial))
    torch.testing.assert_close(result.dice, judge(model, model.logits(result.adversarial), partial))
    assert (result.dice < result.clean_dice).all()
    assert ((mask >= 0) & (mask <= 3)).all()
    moved = (result.adversarial != volume).any(1)
    assert (moved & unknown).any()


@pytest.mark.parametrize("name", ["fab-t", "fab-dice"])
def test_fab_s_functions_do_not_see_unannotated_logits(name):
    model, volume, _, unknown, partial = partial_case("softmax")
    logits = model.logits(volume)
    other = torch.where(unknown[:, None], 7.0 * torch.randn_like(logits), logits)
    torch.testing.assert_close(hinge(logits, partial), hinge(other, partial), rtol=0, atol=0)
    result = create(name).smallest(model, volume, partial, THREAT)
    assert torch.isfinite(result.distance).all()
    assert isinstance(FabT(), type(create("fab-t")))


def test_one_class_keeps_what_is_not_annotated():
    model, volume, _, unknown, partial = partial_case("softmax")
    truth = only(partial, 2, "softmax")
    assert torch.equal(truth == UNANNOTATED, unknown)
    assert torch.equal(truth == 1, partial == 2)
    result = create("apgd-ce")(OneClass(model, 2), volume, truth, THREAT)
    expected = class_dice(model.segment(model.logits(result.adversarial)), partial, 4)[:, 1]
    torch.testing.assert_close(result.dice, expected)


@pytest.mark.parametrize("head", HEADS)
def test_a_case_without_annotation_is_refused(head):
    model, volume, target, _, partial = partial_case(head)
    partial[1] = UNANNOTATED
    with pytest.raises(ValueError, match="no voxel of the ground truth is annotated"):
        create("fgsm-ce")(model, volume, partial, THREAT)
    target[0] = -2
    with pytest.raises(ValueError, match="ground truth must hold 0 to"):
        create("fgsm-ce")(model, volume, target, THREAT)


def test_a_resampled_truth_keeps_what_is_not_annotated():
    target = torch.zeros(4, 4, 4, dtype=torch.int64)
    target[2:], target[:2, :2] = UNANNOTATED, 1
    found = resampled_truth(target, (8, 8, 8), 2)
    assert torch.equal(found, target.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2))
