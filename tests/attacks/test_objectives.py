from __future__ import annotations

import math

import pytest
import torch

from voxward.attacks.objectives import OBJECTIVES, at, check_objective, create_objective

NAMES = sorted(OBJECTIVES)
P = {  # softmax of logits (2, 1, 0) and (0, 3, 1)
    "a": [math.exp(z) / (math.exp(2) + math.e + 1) for z in (2, 1, 0)],
    "b": [math.exp(z) / (1 + math.exp(3) + math.e) for z in (0, 3, 1)],
}


def two_voxels():
    """Truth 0 with logits (2, 1, 0): correct; truth 2 with logits (0, 3, 1): wrong."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]]).double().T.reshape(1, 3, 1, 2)
    return logits, torch.tensor([0, 2]).view(1, 1, 2)


def jsd(p, q):
    mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    kl = lambda x: sum(a * math.log(a / m) for a, m in zip(x, mean, strict=True) if a > 0)  # noqa: E731
    return (kl(p) + kl(q)) / 2


CE = -math.log(P["a"][0]), -math.log(P["b"][2])
SOFTMAX = {
    "ce": sum(CE) / 2,
    "masked-ce": CE[0] / 2,
    "balanced-ce": CE[0] / 2,
    "dlr": (-(2 - 1) / 2 + (3 - 1) / 3) / 2,
    "margin": (-1 + 2) / 2,
    # Class 1 is absent from the truth; of class 2: 2 p_b / (p_a + p_b + 1).
    "dice": 1 - 2 * P["b"][2] / (P["a"][2] + P["b"][2] + 1),
    "jsd": (jsd(P["a"], [1, 0, 0]) + jsd(P["b"], [0, 0, 1])) / 2,
    "mask-norm": -2 / math.sqrt(5) / 2,
    "tsallis": (2 - 2 * math.sqrt(P["a"][0]) + 2 - 2 * math.sqrt(P["b"][2])) / 2,
    "segpgd": (0.7 * CE[0] + 0.3 * CE[1]) / 2,  # progress .6
    "cospgd": (CE[0] * P["a"][0] / math.hypot(*P["a"]) + CE[1] * P["b"][2] / math.hypot(*P["b"])) / 2,
}


def two_regions():
    """One voxel, two regions: logit 1.5 inside (correct), logit 0.5 outside (wrong)."""
    return torch.tensor([1.5, 0.5]).double().view(1, 2, 1, 1), torch.tensor([1, 0]).view(1, 2, 1, 1)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


A, B = sigmoid(1.5), sigmoid(-0.5)  # probabilities of the truth
BCE = -math.log(A), -math.log(B)
REGIONS = {
    "ce": sum(BCE) / 2,
    "masked-ce": BCE[0] / 2,
    "balanced-ce": BCE[0] / 2,
    "dlr": (-1.5 + 0.5) / 2,
    "margin": (-1.5 + 0.5) / 2,
    "dice": 1 - 2 * A / (A + 1),  # the second region is absent from the truth
    "jsd": (jsd([A, 1 - A], [1, 0]) + jsd([B, 1 - B], [1, 0])) / 2,
    "mask-norm": -1.5 / math.sqrt(1 + 1.5**2 + 0.5**2) / 2,
    "tsallis": (2 - 2 * math.sqrt(A) + 2 - 2 * math.sqrt(B)) / 2,
    "segpgd": (0.7 * BCE[0] + 0.3 * BCE[1]) / 2,
    "cospgd": (BCE[0] * A / math.hypot(A, 1 - A) + BCE[1] * B / math.hypot(B, 1 - B)) / 2,
}


@pytest.mark.parametrize("name", NAMES)
def test_values_by_hand(name):
    for (logits, target), expected in ((two_voxels(), SOFTMAX), (two_regions(), REGIONS)):
        value = create_objective(name)(logits, target, 0.6)
        assert value.tolist() == pytest.approx([expected[name]], abs=1e-12)


def test_class_weights_give_a_weighted_mean():
    logits, target = two_voxels()
    assert create_objective("ce", (1.0, 5.0, 3.0))(logits, target, 0.0).item() == pytest.approx((CE[0] + 3 * CE[1]) / 4)
    assert create_objective("balanced-ce", (3.0, 5.0, 1.0))(logits, target, 0.0).item() == pytest.approx(3 * CE[0] / 4)
    # A class without weight does not count.
    assert create_objective("ce", (0.0, 0.0, 2.0))(logits, target, 0.0).item() == pytest.approx(CE[1])
    logits, target = two_regions()
    assert create_objective("ce", (1.0, 3.0))(logits, target, 0.0).item() == pytest.approx((BCE[0] + 3 * BCE[1]) / 4)
    logits, target = torch.randn(1, 3, 4, 4), torch.arange(16).view(1, 4, 4) % 3
    one, two = (
        create_objective("dice", weights)(logits, target, 0.0) for weights in ((9.0, 1.0, 0.0), (9.0, 0.0, 1.0))
    )
    both = create_objective("dice", (0.0, 1.0, 3.0))(logits, target, 0.0)
    torch.testing.assert_close(both, (one + 3 * two) / 4)


def test_balanced_ce_counts_each_class_of_the_case_once():
    logits = torch.zeros(1, 2, 1, 10).double()
    target = torch.tensor([[[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]])
    logits[0, 0, 0, :9], logits[0, 1, 0, 9] = 1.0, 3.0
    ce = math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(-3.0))
    assert create_objective("balanced-ce")(logits, target, 0.0).item() == pytest.approx(sum(ce) / 2)
    regions = torch.where(target == 1, 3.0, -1.0).double()[:, None]
    assert create_objective("balanced-ce")(regions, target[:, None], 0.0).item() == pytest.approx(sum(ce) / 2)


def test_dice_of_a_case_without_foreground_rises_with_any_prediction():
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    low, high = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    low[:, 0], high[:, 1] = 9.0, 9.0
    loss = create_objective("dice")
    assert loss(low, target, 0.0).item() < 0.01 < 0.4 < loss(high, target, 0.0).item()


def problem(head, dims, classes=3, batch=2, dtype=torch.float64, size=4):
    generator = torch.Generator().manual_seed(classes)
    shape = (batch, classes, *(size,) * dims)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    top = classes if head == "softmax" else 2
    target = torch.randint(0, top, shape if head == "regions" else (batch, *shape[2:]), generator=generator)
    return logits, target


HEADS = [("softmax", 2), ("softmax", 3), ("regions", 2), ("regions", 3)]


@pytest.mark.parametrize(("head", "dims"), HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_independence_of_cases(name, head, dims):
    logits, target = problem(head, dims, size=2)
    truth = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) if head == "softmax" else target
    logits[..., 0] += 4.0 * (2 * truth - 1)[..., 0]  # some voxels are correct in either case
    loss = create_objective(name)
    if name != "cospgd":  # whose cosine is a constant by definition
        assert torch.autograd.gradcheck(lambda z: loss(z, target, 0.3), logits.requires_grad_())
    logits = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, target, 0.3)[0], logits)
    assert bool(gradient[0].any())
    assert not gradient[1].any()
    alone = loss(logits[1:], target[1:], 0.3)
    torch.testing.assert_close(loss(logits, target, 0.3)[1:], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_cospgds_gradient_is_the_cross_entropys_times_the_cosine(head):
    logits, target = problem(head, 2)
    logits.requires_grad_()
    (found,) = torch.autograd.grad(create_objective("cospgd")(logits, target, 0.0).sum(), logits)
    (ce,) = torch.autograd.grad(create_objective("ce")(logits, target, 0.0).sum(), logits)
    if head == "softmax":
        p = logits.softmax(1)
        cosine = (p.gather(1, target[:, None])) / p.norm(dim=1, keepdim=True)
    else:
        p = torch.where(target == 1, logits.sigmoid(), 1 - logits.sigmoid())
        cosine = p / (p**2 + (1 - p) ** 2).sqrt()
    torch.testing.assert_close(found, cosine * ce)


def test_tsallis_weighs_the_cross_entropys_gradient():
    logits, target = problem("softmax", 2)
    logits.requires_grad_()
    (found,) = torch.autograd.grad(create_objective("tsallis")(logits, target, 0.0).sum(), logits)
    (ce,) = torch.autograd.grad(create_objective("ce")(logits, target, 0.0).sum(), logits)
    torch.testing.assert_close(found, logits.softmax(1).gather(1, target[:, None]).sqrt() * ce)


@pytest.mark.parametrize(("head", "dims"), HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_objectives_rise_as_correct_voxels_lose_confidence(name, head, dims):
    _, target = problem(head, dims)
    truth = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) if head == "softmax" else target
    # The other classes stay 0.1 apart, without which DLR's ratio would be constant.
    others = 0.1 * torch.arange(3).view(1, 3, *(1,) * dims)
    sure = [s * truth + others if head == "softmax" else s * (2.0 * truth - 1) for s in (3.0, 2.0, 1.0, 0.5)]
    values = torch.stack([create_objective(name)(logits.double(), target, 0.5) for logits in sure])
    assert bool((values.diff(dim=0) > 0).all())


@pytest.mark.parametrize("head", ["softmax", "regions"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["huge", "right", "wrong", "zero", "ties"])
def test_extreme_logits_give_finite_values_and_gradients(name, head, kind):
    logits, target = problem(head, 2, dtype=torch.float32)
    truth = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) if head == "softmax" else target
    signs = 2.0 * truth - 1
    logits = {
        "huge": logits.sign() * 1e4,
        "right": 1e4 * signs,
        "wrong": -1e4 * signs,
        "zero": torch.zeros_like(logits),
        "ties": torch.full_like(logits, 7.0),
    }[kind].requires_grad_()
    values = create_objective(name)(logits, target, 0.9)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()
    # No voxel may outweigh all others.
    assert float(gradient.abs().max()) < (1e6 if name == "mask-norm" else 10)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_logits_are_accumulated_in_float32(name):
    logits, target = problem("softmax", 2, dtype=torch.bfloat16, size=32)
    loss = create_objective(name)
    found = loss(logits, target, 0.5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits.double(), target, 0.5).float(), rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"unknown objective 'cse'.*ce"):
        create_objective("cse")
    for weights in ((1.0, -1.0), (0.0, 0.0), (math.nan, 1.0), ()):
        with pytest.raises(ValueError, match="class_weights must be finite"):
            create_objective("ce", weights)
    with pytest.raises(ValueError, match=r"one per class or region \(2\), got 3"):
        check_objective(create_objective("dice", (1.0, 1.0, 1.0)), "regions", 2)
    with pytest.raises(ValueError, match="at least 3 classes, got 2: use 'margin'"):
        check_objective(create_objective("dlr"), "softmax", 2)
    check_objective(create_objective("dlr"), "regions", 1)


def test_dlr_does_not_change_with_shift_or_scale():
    logits, target = problem("softmax", 3, classes=5)
    loss = at(create_objective("dlr"), 0.0)
    torch.testing.assert_close(loss(logits * 7 + 3, target), loss(logits, target))
