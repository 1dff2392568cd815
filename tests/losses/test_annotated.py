"""Losses of partly annotated labels: unannotated voxels change nothing, annotated ones weigh as in a whole patch."""

import itertools

import pytest
import torch
from monai.losses import DiceLoss

from voxward.core.labels import IGNORED, LabelSet
from voxward.core.recipe import Choice
from voxward.losses.deep import loss_by_case, supervised
from voxward.losses.registry import LOSSES, REGION_LOSSES, create_loss

PLAIN = LabelSet(("background", "a", "b"), (0, 1, 2), ignore=3)
REGIONS = LabelSet(("background", "a", "b"), (0, 1, 2), ignore=7).with_regions({"ab": (1, 2), "b": (2,)})
CHOICES = [
    *((PLAIN, Choice(name)) for name in LOSSES),
    (PLAIN, Choice("dice-ce", {"batch_dice": True})),
    *((REGIONS, Choice(name, {})) for name in REGION_LOSSES),
    (REGIONS, Choice("region-dice", {"ce_weight": 0.5, "smooth": 0.0, "batch_dice": False, "squared": False})),
]  # fmt: skip


def patches(labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, labels.outputs, 6, 6, 6, generator=generator)
    index = torch.randint(0, 3, (2, 6, 6, 6), generator=generator).to(torch.uint8)
    unknown = torch.rand(2, 6, 6, 6, generator=generator) < 0.4
    return logits, index, unknown


def value_and_gradient(loss, logits, index):
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, index)
    value.backward()
    return value.detach(), leaf.grad


def test_every_loss_is_tried():
    assert {choice.name for labels, choice in CHOICES if not labels.regions} == set(LOSSES)
    assert {choice.name for labels, choice in CHOICES if labels.regions} == set(REGION_LOSSES)


@pytest.mark.parametrize(("labels", "choice"), CHOICES)
def test_what_is_predicted_where_nothing_is_annotated_changes_nothing(labels, choice):
    loss = create_loss(choice, labels)
    logits, index, unknown = patches(labels)
    partial = index.masked_fill(unknown, IGNORED)
    value, gradient = value_and_gradient(loss, logits, partial)
    other = torch.where(unknown[:, None], 50 * torch.randn_like(logits), logits)
    again, moved = value_and_gradient(loss, other, partial)
    assert torch.equal(value, again)
    assert (gradient.movedim(1, -1)[unknown] == 0).all()
    assert torch.equal(gradient.movedim(1, -1)[~unknown], moved.movedim(1, -1)[~unknown])
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(("labels", "choice"), CHOICES)
def test_a_partly_annotated_patch_is_its_annotated_part(labels, choice):
    logits, index, _ = patches(labels)
    partial = index.clone()
    partial[:, 3:] = IGNORED
    part = create_loss(choice, labels)(logits, partial)
    cropped = create_loss(choice, labels.predicted)(logits[:, :, :3], index[:, :3])
    torch.testing.assert_close(part, cropped, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("labels", "choice"), CHOICES)
def test_without_unannotated_voxels_an_ignore_label_changes_nothing(labels, choice):
    logits, index, _ = patches(labels)
    whole = create_loss(choice, labels.predicted)(logits, index)
    torch.testing.assert_close(create_loss(choice, labels)(logits, index), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("labels", "choice"), CHOICES)
def test_nothing_annotated_is_a_loss_of_zero(labels, choice):
    loss = supervised(create_loss(choice, labels), [0.5])
    logits, index, _ = patches(labels)
    leaf, small = logits.clone().requires_grad_(), logits[..., ::2, ::2, ::2].clone().requires_grad_()
    value = loss((leaf, small), torch.full_like(index, IGNORED))
    value.backward()
    assert float(value.detach()) == 0
    assert (leaf.grad == 0).all()
    assert (small.grad == 0).all()


def test_the_cross_entropy_is_torch_s():
    logits, index, unknown = patches(PLAIN)
    partial = index.masked_fill(unknown, IGNORED)
    expected = torch.nn.functional.cross_entropy(logits, partial.long(), ignore_index=IGNORED)
    torch.testing.assert_close(create_loss(Choice("ce"), PLAIN)(logits, partial), expected)


def test_the_dice_is_monai_s_of_masked_probabilities():
    logits, index, unknown = patches(PLAIN)
    p = torch.where(unknown[:, None], 0.0, logits.softmax(1))
    t = torch.nn.functional.one_hot(index.long(), 3).movedim(-1, 1) * ~unknown[:, None]
    expected = DiceLoss(include_background=False)(p, t.float())
    choice = Choice("dice-ce", {"ce_weight": 0.0})
    torch.testing.assert_close(create_loss(choice, PLAIN)(logits, index.masked_fill(unknown, IGNORED)), expected)


def test_auxiliary_outputs_and_single_cases_know_what_is_annotated():
    loss = supervised(create_loss(Choice("ce"), PLAIN), [1.0])
    logits, index, unknown = patches(PLAIN)
    partial = index.masked_fill(unknown, IGNORED)
    outputs = (logits, logits[..., ::2, ::2, ::2])
    lost = loss_by_case(loss, outputs, partial)
    other = torch.where(unknown[:, None], 9.0, logits)
    small = torch.nn.functional.interpolate(partial[:, None].float(), size=(3, 3, 3), mode="nearest-exact")[:, 0]
    changed = torch.where((small == IGNORED)[:, None], 9.0, outputs[1])
    assert torch.equal(loss_by_case(loss, (other, changed), partial), lost)


def test_a_forgotten_mask_is_an_error():
    logits, index, _ = patches(PLAIN)
    for name, labels in itertools.product(("ce", "dice-ce"), (None, PLAIN.predicted)):
        with pytest.raises((IndexError, RuntimeError, AssertionError)):
            create_loss(Choice(name), labels)(logits, torch.full_like(index, IGNORED))
