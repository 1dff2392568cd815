from __future__ import annotations

import pytest
import torch

from tests.attacks.toys import BOUNDS, THREAT, Recorder, case, conv_model, linear_model, linear_optimum
from voxward.attacks.apgd import APGD
from voxward.attacks.objectives import create_objective
from voxward.attacks.pgd import FGSM, IFGSM, PGD, CosPGD, SegPGD
from voxward.attacks.threat import ThreatModel

EPS = 8 / 255 * 4


def by_hand(model, x0, clean, target, steps, alpha):
    """Plain autograd on the mean cross-entropy of one case: every point whose gradient is taken, and the last."""
    points, x = [], x0.clone()
    low, high = min(-2.0, clean.min().item()), max(2.0, clean.max().item())
    for _ in range(steps):
        points.append(x)
        x = x.detach().requires_grad_()
        torch.nn.functional.cross_entropy(model.network(x), target).backward()
        x = (x + alpha * x.grad.sign()).detach()
        x = (clean + (x - clean).clamp(-EPS, EPS)).clamp(low, high)
    model.network.zero_grad()
    return [*points, x]


def test_fgsm_is_one_step_of_the_gradients_sign():
    model = Recorder(conv_model())
    volume, target = case(model.inner, batch=1)
    result = FGSM()(model, volume, target, THREAT)
    expected = by_hand(model.inner, volume, volume, target, 1, EPS)
    torch.testing.assert_close(model.looks[0], expected[1], rtol=0, atol=1e-12)
    assert (result.gradients, len(model.points)) == (1, 1)
    assert result.dice.item() < result.clean_dice.item()


@pytest.mark.parametrize("dims", [2, 3])
def test_ifgsm_follows_a_hand_written_loop(dims):
    model = Recorder(conv_model(dims))
    volume, target = case(model.inner, dims, batch=1)
    IFGSM(steps=4)(model, volume, target, THREAT)
    expected = by_hand(model.inner, volume, volume, target, 4, 1.25 / 4 * EPS)
    torch.testing.assert_close([*model.points, model.looks[0]], expected, rtol=0, atol=1e-12)


def test_pgd_follows_a_hand_written_loop_from_a_random_point():
    model = Recorder(conv_model())
    volume, target = case(model.inner, batch=1)
    result = PGD(steps=5, alpha=0.01, restarts=2)(model, volume, target, THREAT, seed=7)
    generator = torch.Generator().manual_seed(7)
    expected = []
    for _ in range(2):
        start = THREAT.ball(volume).random(generator)
        expected.append(by_hand(model.inner, start, volume, target, 5, 0.01 * 4))
    torch.testing.assert_close(model.points, [*expected[0][:-1], *expected[1][:-1]], rtol=0, atol=1e-12)
    torch.testing.assert_close(model.looks[:2], [expected[0][-1], expected[1][-1]], rtol=0, atol=1e-12)
    assert result.gradients == 10


def test_the_point_of_lowest_dice_is_returned_not_the_last():
    model = conv_model()
    volume, target = case(model)
    result = PGD(steps=8, alpha=0.03)(model, volume, target, THREAT)
    assert torch.equal(result.history.amin(1), result.dice)
    assert result.history.shape == (2, 1 + 8 + 1)


@pytest.mark.parametrize("build", [SegPGD, CosPGD])
def test_variants_are_pgd_with_their_objective(build):
    model = conv_model()
    volume, target = case(model)
    attack = build(steps=3)
    plain = PGD(objective=attack.name, steps=3)(model, volume, target, THREAT)
    found = attack(model, volume, target, THREAT)
    assert torch.equal(found.adversarial, plain.adversarial)
    assert attack.name in ("segpgd", "cospgd")


def test_segpgd_is_told_how_far_it_is():
    model = Recorder(conv_model())
    volume, target = case(model.inner)
    SegPGD(steps=4)(model, volume, target, THREAT)
    loss = create_objective("segpgd")
    for step, (point, value) in enumerate(zip(model.points, model.values, strict=True)):
        torch.testing.assert_close(value, loss(model.inner.logits(point), target, step / 4))


EVERY = [
    FGSM(objective="margin"),
    *(IFGSM(objective=name) for name in ("ce", "margin", "dice", "jsd", "tsallis")),
    *(PGD(objective=name) for name in ("ce", "margin", "dice")),
    *(APGD(objective=name) for name in ("ce", "margin", "dice", "jsd")),
    *(APGD(objective=name, radii=(2.0, 1.5, 1.0)) for name in ("ce", "dice")),
]


@pytest.mark.parametrize("head", ["softmax", "regions"])
@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_a_linear_model_is_pushed_to_its_closed_form_optimum(attack, head):
    model = Recorder(linear_model(head))
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(2, 1, 6, 6, generator=generator) < 0.5
    target = (truth if head == "regions" else truth[:, 0]).long()
    volume = truth * 1.2 - 0.5 + 0.3 * torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    threat = ThreatModel(eps=0.1, bounds=((-0.9, 0.8),))
    best = linear_optimum(volume, target, threat)
    loss = create_objective(attack.objective)
    result = attack(model, volume, target, threat)
    ball = threat.ball(volume)
    reached = [
        loss(model.inner.logits(point), target, 0.0).where(ball.holds(point), -torch.inf)
        for point in [*model.points, *model.looks]
    ]
    torch.testing.assert_close(
        torch.stack(reached).amax(0), loss(model.inner.logits(best), target, 0.0), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(result.dice, model_dice(model, best, target))
    assert bool((result.dice > 0).all())


def model_dice(model, volume, target):
    mask = model.inner.segment(model.inner.logits(volume)).flatten(1).double()
    truth = target.flatten(1)
    return 2 * (mask * truth).sum(1) / (mask.sum(1) + truth.sum(1))


ALL = [
    FGSM(),
    IFGSM(objective="jsd", steps=3),
    PGD(objective="dice", steps=3, restarts=2),
    SegPGD(steps=3),
    CosPGD(steps=3),
    APGD(objective="balanced-ce", steps=10),
    APGD(objective="mask-norm", steps=10, radii=(2.0, 1.5, 1.0), restarts=2),
]


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
@pytest.mark.parametrize(("dims", "head"), [(2, "softmax"), (3, "softmax"), (2, "regions")])
def test_every_attack_keeps_its_promises(attack, dims, head):
    model = conv_model(dims, classes=3, head=head, dtype=torch.float32)
    model.network.train()
    volume, target = case(model, dims, size=6)
    before = [parameter.clone() for parameter in model.network.parameters()]
    result, again = (attack(model, volume, target, THREAT, seed=2) for _ in range(2))
    assert torch.equal(result.adversarial, again.adversarial)
    assert THREAT.ball(volume).holds(result.adversarial).all()
    assert bool((result.dice < result.clean_dice).all())
    for parameter, old in zip(model.network.parameters(), before, strict=True):
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, old)
    assert model.network.training
    none = attack(model, volume, target, THREAT.with_eps(0.0))
    assert torch.equal(none.adversarial, volume)
    assert torch.equal(none.dice, result.clean_dice)


@pytest.mark.parametrize("attack", [FGSM(), IFGSM(objective="dice", steps=4), APGD(objective="dice", steps=12)])
def test_a_batch_gives_what_its_cases_give(attack):
    model = conv_model()
    volume, target = case(model, batch=3)
    together = attack(model, volume, target, THREAT)
    for row in range(3):
        alone = attack(model, volume[row : row + 1], target[row : row + 1], THREAT)
        torch.testing.assert_close(together.adversarial[row], alone.adversarial[0], rtol=0, atol=1e-12)
        assert together.dice[row] == alone.dice[0]


@pytest.mark.parametrize("build", [PGD, APGD])
def test_l2_stays_in_the_ball_and_hurts(build):
    model = conv_model(channels=2)
    volume, target = case(model, channels=2)
    threat = ThreatModel(eps=0.3, norm="l2", bounds=((-2.0, 2.0), (-1.0, 1.0)))
    result = build(objective="dice", steps=10)(model, volume, target, threat)
    units = torch.tensor([4.0, 2.0]).view(1, 2, 1, 1)
    size = ((result.adversarial - volume) / units).flatten(1).norm(dim=1)
    assert bool((size <= 0.3 + 1e-9).all())
    assert bool((size > 0.15).all())
    assert bool((result.dice < result.clean_dice).all())


def test_no_work_is_done_once_every_dice_is_zero():
    model = linear_model("regions")
    target = torch.tensor([1, 1, 0, 0]).view(1, 1, 2, 2)
    volume = target * 0.4 - 0.1 + torch.zeros(1, 1, 2, 2).double()
    result = PGD(steps=50, alpha=1.0)(model, volume, target, ThreatModel(eps=0.5, bounds=BOUNDS))
    assert result.dice.item() == 0
    assert result.gradients <= 2


def test_progress_counts_the_steps_of_all_restarts():
    seen = []
    model = conv_model()
    volume, target = case(model)
    PGD(steps=3, restarts=2)(
        model, volume, target, THREAT, progress=lambda stage, done, total, /, **figures: seen.append((done, total))
    )
    assert seen == [(n, 6) for n in range(1, 7)]


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (PGD, {"steps": 0}, "steps"),
        (PGD, {"restarts": 0}, "restarts"),
        (IFGSM, {"alpha": -1.0}, "alpha"),
        (FGSM, {"objective": "cs"}, "unknown objective"),
        (FGSM, {"class_weights": (-1.0, 1.0)}, "class_weights"),
    ],
)
def test_illegal_options_are_refused(build, options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_what_does_not_fit_the_model_is_refused_before_any_gradient():
    model = Recorder(conv_model(classes=2))
    volume, target = case(model.inner)
    with pytest.raises(ValueError, match="use 'margin'"):
        FGSM(objective="dlr")(model, volume, target, THREAT)
    with pytest.raises(ValueError, match="one per class"):
        FGSM(class_weights=(1.0, 1.0, 1.0))(model, volume, target, THREAT)
    with pytest.raises(ValueError, match="norms linf, got 'l2'"):
        IFGSM()(model, volume, target, ThreatModel(eps=0.1, norm="l2", bounds=BOUNDS))
    assert not model.points
