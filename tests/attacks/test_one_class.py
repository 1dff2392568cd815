import pytest
import torch

from tests.attacks.toys import THREAT, case, conv_model
from voxward.attacks.criteria import class_dice, judge
from voxward.attacks.objectives import at, create_objective
from voxward.attacks.one_class import OneClass, only
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
