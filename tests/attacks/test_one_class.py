import pytest
import torch

from tests.attacks.toys import THREAT, case, conv_model
from voxward.attacks.criteria import class_dice, judge
from voxward.attacks.objectives import at, create_objective
from voxward.attacks.one_class import Elsewhere, OneClass, elsewhere, only
from voxward.attacks.registry import create
from voxward.core.model import VolumeModel


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("index", [1, 2, 3])
def test_dice_is_that_of_the_class(dims, index):
    model = conv_model(dims, classes=4)
    volume, target = case(model, dims)
    logits = model.logits(volume)
    expected = class_dice(model.segment(logits), target, 4)[:, index - 1]
    alone = OneClass(model, index)
    assert isinstance(alone, VolumeModel)
    assert torch.equal(judge(alone, alone.logits(volume), only(target, index, "softmax")), expected)


def test_dice_of_one_region():
    model = conv_model(2, classes=3, head="regions")
    volume, target = case(model)
    expected = class_dice(model.segment(model.logits(volume)), target)[:, 2]
    alone = OneClass(model, 2)
    assert torch.equal(judge(alone, alone.logits(volume), only(target, 2, "regions")), expected)


def test_the_gradient_is_autograd_s():
    model = conv_model(2, classes=4)
    volume, target = case(model)
    truth = only(target, 2, "softmax")
    loss = at(create_objective("dice"), 0.0)
    logits, value, gradient = OneClass(model, 2).value_and_grad(volume, truth, loss)
    leaf = volume.clone().requires_grad_()
    z = model.network(leaf)
    pair = torch.stack([z[:, [0, 1, 3]].max(1).values, z[:, 2]], 1)
    torch.testing.assert_close(logits, pair.detach())
    (expected,) = torch.autograd.grad(loss(pair, truth).sum(), leaf)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(value, loss(pair, truth).detach())


@pytest.mark.parametrize("name", ["apgd-dice", "apgd-ce", "square", "fab-dice"])
def test_attacks_erase_the_class(name):
    model = conv_model(2, classes=4)
    volume, target = case(model)
    result = create(name)(OneClass(model, 1), volume, only(target, 1, "softmax"), THREAT)
    mask = model.segment(model.logits(result.adversarial))
    torch.testing.assert_close(class_dice(mask, target, 4)[:, 0], result.dice)
    assert (result.dice < result.clean_dice).all()


def test_a_lone_class_falls_further_than_in_the_mean_of_all():
    model = conv_model(2, classes=4)
    volume, target = case(model, batch=4, size=12)
    everything = create("apgd-dice")(model, volume, target, THREAT)
    shared = class_dice(model.segment(model.logits(everything.adversarial)), target, 4)[:, 0]
    erased = create("apgd-dice")(OneClass(model, 1), volume, only(target, 1, "softmax"), THREAT)
    assert float(erased.dice.mean()) < float(shared.mean())


def test_updates_after_a_local_change():
    model = conv_model(2, classes=4)
    volume, _ = case(model)
    alone = OneClass(model, 3)
    before = alone.sweep(volume)
    after = alone.logits_after(before, volume + 0.1, (slice(0, 8), slice(0, 8)))
    torch.testing.assert_close(after.logits, alone.logits(volume + 0.1))


def test_the_background_cannot_be_erased():
    with pytest.raises(ValueError, match="index must be at least 1"):
        OneClass(conv_model(), 0)
    with pytest.raises(ValueError, match="index must be at least 0"):
        OneClass(conv_model(head="regions"), -1)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_dice_of_all_but_a_class_is_its_volume_outside_the_truth(dims):
    model = conv_model(dims, classes=4)
    volume, target = case(model, dims)
    target[:, :2] = -1  # not annotated
    alone = Elsewhere(OneClass(model, 2))
    assert isinstance(alone, VolumeModel)
    truth = elsewhere(only(target, 2, "softmax"))
    logits = alone.logits(volume)
    found = model.segment(model.logits(volume)) == 2
    outside = ((target != 2) & (target != -1)).flatten(1)
    false = (found.flatten(1) & outside).sum(1).double()
    assert (false > 0).any()
    right = outside.sum(1).double() - false
    torch.testing.assert_close(judge(alone, logits, truth), 2 * right / (2 * right + false))
    assert torch.equal(alone.segment(logits), 1 - found.long())


def test_the_dice_of_all_but_a_region_is_its_volume_outside_the_truth():
    model = conv_model(2, classes=3, head="regions")
    volume, target = case(model)
    alone = Elsewhere(OneClass(model, 1))
    found, true = model.segment(model.logits(volume))[:, 1].flatten(1) == 1, target[:, 1].flatten(1) == 1
    false = (found & ~true).sum(1).double()
    right = (~true).sum(1) - false
    truth = elsewhere(only(target, 1, "regions"))
    torch.testing.assert_close(judge(alone, alone.logits(volume), truth), 2 * right / (2 * right + false))


@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_the_gradient_of_all_but_a_class_is_autograd_s(head):
    model = conv_model(2, classes=4, head=head)
    volume, target = case(model)
    truth = elsewhere(only(target, 2, head))
    loss = at(create_objective("dice"), 0.0)
    logits, value, gradient = Elsewhere(OneClass(model, 2)).value_and_grad(volume, truth, loss)
    leaf = volume.clone().requires_grad_()
    z = model.network(leaf)
    pair = torch.stack([z[:, 2], z[:, [0, 1, 3]].max(1).values], 1) if head == "softmax" else -z[:, 2:3]
    torch.testing.assert_close(logits, pair.detach())
    (expected,) = torch.autograd.grad(loss(pair, truth).sum(), leaf)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(value, loss(pair, truth).detach())


@pytest.mark.parametrize("head", ["softmax", "regions"])
@pytest.mark.parametrize("name", ["apgd-dice", "apgd-ce", "apgd-margin", "square", "coarse-2"])
def test_attacks_invent_the_class(name, head):
    model = conv_model(2, classes=4, head=head)
    volume, target = case(model, size=12)
    truth = only(target, 1, head)
    result = create(name)(Elsewhere(OneClass(model, 1)), volume, elsewhere(truth), THREAT)

    def false(shown):
        return (OneClass(model, 1).segment(OneClass(model, 1).logits(shown)) * (truth == 0)).flatten(1).sum(1)

    assert (false(result.adversarial) > false(volume)).all()
    assert (result.dice < result.clean_dice).all()


def test_updates_of_all_but_a_class_after_a_local_change():
    model = conv_model(2, classes=4)
    volume, _ = case(model)
    alone = Elsewhere(OneClass(model, 3))
    after = alone.logits_after(alone.sweep(volume), volume + 0.1, (slice(0, 8), slice(0, 8)))
    torch.testing.assert_close(after.logits, alone.logits(volume + 0.1))
