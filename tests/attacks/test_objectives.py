from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage

from voxward.attacks.criteria import class_dice
from voxward.attacks.objectives import OBJECTIVES, SharpDiceLoss, SoftDiceLoss, at, check_objective, create_objective

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


def softened(logits, divisor):
    """The softmax of logits that are divided by a number."""
    powers = [math.exp(z / divisor) for z in logits]
    return [power / sum(powers) for power in powers]


def dice_of_class_2(divisor):
    """The soft Dice of the only foreground class of `two_voxels`, from logits divided by a number."""
    a, b = softened((2, 1, 0), divisor)[2], softened((0, 3, 1), divisor)[2]
    return 2 * b / (a + b + 1)


CE = -math.log(P["a"][0]), -math.log(P["b"][2])
SOFTMAX = {
    "ce": sum(CE) / 2,
    "masked-ce": CE[0] / 2,
    "balanced-ce": CE[0] / 2,
    "dlr": (-(2 - 1) / 2 + (3 - 1) / 3) / 2,
    "margin": (-1 + 2) / 2,
    # Class 1 is absent from the truth; of class 2: 2 p_b / (p_a + p_b + 1).
    "dice": 1 - dice_of_class_2(1),
    # The margins are 1 and -2, so their mean size is 1.5.
    "dice-sharp": 1 - dice_of_class_2(0.2 * 1.5),
    "dice-anneal": 1 - dice_of_class_2((0.2 * 1.5) ** 0.6),
    "dice-ce": 1 - dice_of_class_2(1) + sum(CE) / 2,
    "boundary": (P["a"][2] - P["b"][2]) / 2,  # one voxel outside, one voxel inside
    "frontier": (-1 + 0) / 2,
    "jsd": (jsd(P["a"], [1, 0, 0]) + jsd(P["b"], [0, 0, 1])) / 2,
    "mask-norm": -2 / math.sqrt(5) / 2,
    "tsallis": (1 - P["a"][0] ** 1.2 + 1 - P["b"][2] ** 1.2) / 1.2 / 2,  # q is -.2
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
    "dice-sharp": 1 - 2 * sigmoid(1.5 / 0.2) / (sigmoid(1.5 / 0.2) + 1),  # the mean size of the margins is 1
    "dice-anneal": 1 - 2 * sigmoid(1.5 / 0.2**0.6) / (sigmoid(1.5 / 0.2**0.6) + 1),
    "dice-ce": 1 - 2 * A / (A + 1) + sum(BCE) / 2,
    "boundary": -A,  # all is inside
    "frontier": (-1.5 + 0) / 2,
    "jsd": (jsd([A, 1 - A], [1, 0]) + jsd([B, 1 - B], [1, 0])) / 2,
    "mask-norm": -1.5 / math.sqrt(1 + 1.5**2 + 0.5**2) / 2,
    "tsallis": (1 - A**1.2 + 1 - B**1.2) / 1.2 / 2,
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


# A factor of these is a constant in their gradient by definition.
HELD = ("cospgd", "dice-sharp", "dice-anneal")
HEADS = [("softmax", 2), ("softmax", 3), ("regions", 2), ("regions", 3)]


@pytest.mark.parametrize(("head", "dims"), HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_independence_of_cases(name, head, dims):
    logits, target = problem(head, dims, size=2)
    truth = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) if head == "softmax" else target
    logits[..., 0] += 4.0 * (2 * truth - 1)[..., 0]  # some voxels are correct in either case
    loss = create_objective(name)
    if name not in HELD:
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


@pytest.mark.parametrize(("head", "dims"), HEADS)
@pytest.mark.parametrize("annealed", [False, True])
def test_a_sharp_dice_is_the_soft_dice_of_logits_over_a_number_that_is_held(head, dims, annealed):
    logits, target = problem(head, dims, size=2)
    loss = SharpDiceLoss(temperature=0.3, annealed=annealed)
    held = loss.divisor(logits, target, 0.4).view(-1, *(1,) * (dims + 1))
    assert torch.autograd.gradcheck(lambda z: SoftDiceLoss()(z / held, target, 0.4), logits.requires_grad_())
    (found,) = torch.autograd.grad(loss(logits, target, 0.4).sum(), logits)
    (expected,) = torch.autograd.grad(SoftDiceLoss()(logits / held, target, 0.4).sum(), logits)
    torch.testing.assert_close(found, expected)
    # A network whose logits are larger is attacked in the same way, unless the attack begins with its own logits.
    larger = loss(1000 * logits, target, 1.0)
    torch.testing.assert_close(larger, loss(logits, target, 1.0))
    assert torch.equal(loss(logits, target, 0.0), create_objective("dice")(logits, target, 0.0)) == annealed


@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_a_soft_dice_comes_close_to_the_dice_of_the_mask_as_its_temperature_falls(head):
    logits, target = problem(head, 3, size=6)
    classes = None if head == "regions" else 3
    mask = logits.argmax(1) if classes else (logits > 0).long()
    hard = 1 - class_dice(mask, target, classes).mean(1)
    distances = [float((SoftDiceLoss(None, t)(logits, target, 0.0) - hard).abs().max()) for t in (1.0, 0.1, 1e-4)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3
    with pytest.raises(ValueError, match="temperature must be above 0"):
        SoftDiceLoss(temperature=0.0)


@pytest.mark.parametrize(("progress", "power"), [(0.0, 3.0), (0.5, 1.5), (1.0, 0.0)])
@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_tsallis_weighs_the_cross_entropys_gradient_ever_less(head, progress, power):
    logits, target = problem(head, 2)
    logits.requires_grad_()
    (found,) = torch.autograd.grad(create_objective("tsallis")(logits, target, progress).sum(), logits)
    (ce,) = torch.autograd.grad(create_objective("ce")(logits, target, 0.0).sum(), logits)
    if head == "softmax":
        weight = logits.softmax(1).gather(1, target[:, None]) ** power
    else:
        weight = torch.where(target == 1, logits.sigmoid(), 1 - logits.sigmoid()) ** power
    torch.testing.assert_close(found, weight * ce)


def test_tsallis_comes_to_the_cross_entropy_without_a_jump():
    logits, target = problem("softmax", 2)
    last = [create_objective("tsallis")(logits, target, 1 - gap) for gap in (1e-9, 1e-15, 0.0)]
    for found in last:
        torch.testing.assert_close(found, create_objective("ce")(logits, target, 0.0), rtol=1e-7, atol=0)


def brute_distances(mask, known, cap):
    """The signed distance of every voxel, from the distances of all pairs."""
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in mask.shape), indexing="ij"), -1).double()
    found = torch.zeros(mask.shape, dtype=torch.float64)
    for place in places.view(-1, mask.ndim).long().tolist():
        here = tuple(place)
        others = places[(mask != mask[here]) & known].view(-1, mask.ndim)
        nearest = (others - places[here]).norm(dim=1).amin().clamp(max=cap) if len(others) else torch.tensor(cap)
        found[here] = known[here] * (-nearest if mask[here] else nearest)
    return found


@pytest.mark.parametrize("shape", [(4, 30), (3, 14, 4)])
@pytest.mark.parametrize("regions", [False, True])
def test_boundary_weighs_probabilities_by_the_signed_distance(shape, regions):
    generator = torch.Generator().manual_seed(len(shape))
    target = torch.zeros(1, *shape, dtype=torch.long)
    target[0, 1:3, 2:5], target[0, 1:3, 5:7] = 1, 2
    target[..., -1], known = -1, torch.ones(shape, dtype=torch.bool)
    known[..., -1] = False
    logits = torch.randn(1, 3, *shape, generator=generator, dtype=torch.float64)
    p = logits.sigmoid()[0, 1:] if regions else logits.softmax(1)[0, 1:]
    if regions:
        target, logits = torch.where(known, torch.stack([target == 1, target == 2], 1).long(), -1), logits[:, 1:]
    parts = []
    for n in (0, 1):
        mask = target[0, n] == 1 if regions else target[0] == n + 1
        phi = brute_distances(mask, known, 10.0)
        parts.append((phi * p[n]).sum() / phi.abs().sum())
    weights = (1.0, 3.0) if regions else (7.0, 1.0, 3.0)
    found = create_objective("boundary", weights)(logits, target, 0.0)
    torch.testing.assert_close(found, (parts[0] + 3 * parts[1])[None] / 4, rtol=1e-6, atol=0)


def test_boundary_never_takes_the_distances_of_another_ground_truth():
    loss = create_objective("boundary")
    logits = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    target = torch.zeros(1, 6, 6, dtype=torch.long)
    for step in range(12):
        target[0, step % 6, step // 2] = 1 + step % 2  # the same tensor in the same place, changed
        expected = create_objective("boundary")(logits, target, 0.0)
        assert torch.equal(loss(logits, target, 0.0), expected)
    regions = torch.ones(1, 6, 6, dtype=torch.long).expand(1, 6, 6)
    volume = torch.randn(1, 2, 1, 6, 6, dtype=torch.float64)
    # The same numbers are classes of a thin volume or regions of an image.
    assert loss(volume, regions, 0.0) == create_objective("boundary")(volume, regions, 0.0)
    assert loss(volume[:, :1, 0], regions[:, None], 0.0) == create_objective("boundary")(
        volume[:, :1, 0], regions[:, None], 0.0
    )


def test_boundary_measures_the_distances_of_a_ground_truth_once(monkeypatch):
    counted, real = [], ndimage.distance_transform_edt
    monkeypatch.setattr(ndimage, "distance_transform_edt", lambda mask: counted.append(1) or real(mask))
    logits, target = problem("softmax", 2, size=6)
    loss = create_objective("boundary")
    loss(logits, target, 0.0)
    first = len(counted)
    loss(logits, target.clone(), 0.5)
    assert len(counted) == first > 0


@pytest.mark.parametrize("head", ["softmax", "regions"])
@pytest.mark.parametrize("name", ["boundary", "dice-ce", "dice-sharp", "dice"])
def test_a_case_without_foreground_is_driven_to_predict_something(name, head):
    target = torch.zeros(1, 3, 4, 4, dtype=torch.long) if head == "regions" else torch.zeros(1, 4, 4, dtype=torch.long)
    logits = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    value = create_objective(name)(logits, target, 0.0)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.isfinite(value).all()
    assert (gradient[:, 0] < 0).any() if head == "softmax" else (gradient > 0).any()


@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_frontier_is_the_mean_margin_of_the_tenth_that_falls_next(head):
    """By sorting: 21 correct voxels of class 0, one of class 1, and class 2 without a correct one."""
    margins = torch.cat([torch.linspace(3.0, 1.0, 21), torch.tensor([5.0, -1.0, -2.0])]).double()
    target = torch.tensor([0] * 21 + [1, 2, 2]).view(1, 1, 24)
    if head == "softmax":
        logits = torch.zeros(1, 4, 1, 24).double().scatter(1, target[None], margins.view(1, 1, 1, 24))
        weights, rest = (1.0, 2.0, 4.0, 8.0), 1 + 2 + 4
    else:  # one region: class 1 is inside, the others outside
        target = (target[:, None] == 1).long()
        logits = torch.where(target == 1, margins, -margins)
        weights, rest = (2.0,), 2 * 2
    # Ten percent of 21 voxels, rounded up, are three: margins 1, 1.1 and 1.2.
    expected = -(weights[0] * 1.1 + (2.0 * 5.0)) / rest
    leaf = logits.requires_grad_()
    found = create_objective("frontier", weights)(leaf, target, 0.0)
    assert found.tolist() == pytest.approx([expected])
    found.sum().backward()
    assert int((leaf.grad != 0).any(1).sum()) == 4


@pytest.mark.parametrize(("head", "dims"), HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_objectives_rise_as_correct_voxels_lose_confidence(name, head, dims):
    _, target = problem(head, dims)
    truth = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) if head == "softmax" else target
    # The other classes stay 0.1 apart, without which DLR's ratio would be constant.
    others = 0.1 * torch.arange(3).view(1, 3, *(1,) * dims)
    values = []
    for sure in (3.0, 2.0, 1.0, 0.5):
        # `dice-sharp` does not see the scale of all logits, but that some are lower than the others.
        size = torch.full(truth.shape, sure) if name != "dice-sharp" else torch.full(truth.shape, 3.0)
        size[..., 0] = sure
        logits = size * truth + others if head == "softmax" else size * (2.0 * truth - 1)
        values.append(create_objective(name)(logits.double(), target, 0.5))
    assert bool((torch.stack(values).diff(dim=0) > 0).all())


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
