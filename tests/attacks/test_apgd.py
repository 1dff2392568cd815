from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
import torch

from tests.attacks.toys import BOUNDS, THREAT, Recorder, case, conv_model
from voxward.attacks.apgd import APGD, Ascent, checkpoints, slots
from voxward.attacks.objectives import create_objective
from voxward.attacks.pgd import FGSM
from voxward.attacks.threat import ThreatModel


def test_checkpoints_of_the_paper_and_of_the_released_code():
    assert checkpoints(20) == (5, 9, 12, 14, 16, 18, 19, 20)
    assert checkpoints(20, "released") == (4, 7, *range(9, 21))
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(100, "released") == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(5, "released") == (1, 2, 3, 4, 5)
    assert checkpoints(1) == (1,)
    with pytest.raises(ValueError, match="steps"):
        checkpoints(0)


def test_slots_are_30_30_40_percent():
    assert slots(20, 3) == (6, 12, 20)
    assert slots(100, 3) == (30, 60, 100)
    assert slots(7, 1) == (7,)
    for steps in range(4, 40):
        for count in range(1, 5):
            ends = (0, *slots(steps, count))
            assert ends[-1] == steps
            assert all(late > early for early, late in pairwise(ends))


def published(f, project, step_of, start, steps, marks, rho=0.75, alpha=0.75):
    """Algorithm 1 for ONE case, by f: (x, progress) -> (value, gradient): all its points, and when it halved."""
    eta, x, before, halvings = 2.0, start, start, []
    points, rose, came_from, eta_at, best_at, best, last = [start], [], [], [], [], None, 0
    for k in range(steps):
        value, gradient = f(x, k / steps)
        # The objective of this step is asked about the earlier points, too.
        rose += [value > f(came_from[-1], k / steps)[0]] if k else []
        came_from.append(x)
        if best is None or value > f(best[0], k / steps)[0]:
            best = (x, gradient)
        eta_at.append(eta)
        best_at.append(best[0])
        if k in marks:
            first = sum(rose[last:k]) < rho * (k - last)
            if first or (eta_at[last] == eta_at[k] and best_at[last] is best_at[k]):
                eta, (x, gradient) = eta / 2, best
                came_from[-1] = x
                halvings.append(k)
            last = k
        ahead = project(x + eta * step_of(gradient))
        if k:
            ahead = project(x + alpha * (ahead - x) + (1 - alpha) * (x - before))
        x, before = ahead, x
        points.append(x)
    return points, halvings


def own_ball(volume, eps, norm):
    """Projection and unit step (length eps) of one case with window -2..2, written out."""
    low, high = min(-2.0, volume.min().item()), max(2.0, volume.max().item())

    def project(x):
        delta = x - volume
        if norm == "linf":
            delta = delta.clamp(-eps, eps)
        elif delta.norm() > eps:
            delta = delta * eps / delta.norm()
        return (volume + delta).clamp(low, high)

    def step_of(gradient):
        return eps * (gradient.sign() if norm == "linf" else gradient / gradient.norm())

    return project, step_of


def plain_gradient(network, loss, target):
    def f(x, progress):
        leaf = x.clone().requires_grad_()
        value = loss(network(leaf), target, progress).sum()
        return value.item(), torch.autograd.grad(value, leaf)[0]

    return f


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("schedule", ["paper", "released"])
# Balls so wide that the cases halve at different steps, and that no search converges to rounding, where it is chance
# which of two equal values is the best.
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 3.0)])
@pytest.mark.parametrize("objective", ["ce", "dice", "tsallis"])
def test_every_point_is_that_of_the_published_algorithm(objective, norm, eps, schedule, batch):
    model = Recorder(conv_model())
    volume, target = (rows[:batch] for rows in case(model.inner, batch=3))
    threat = ThreatModel(eps=eps, norm=norm, bounds=BOUNDS)
    model.segment = lambda logits: target  # a Dice that stays 1 does not end the search
    APGD(objective=objective, steps=25, schedule=schedule)(model, volume, target, threat)
    points = torch.stack([*model.points, model.looks[0]])
    assert len(points) == 26
    halvings = set()
    for row in range(batch):
        own, truth = volume[row : row + 1], target[row : row + 1]
        f = plain_gradient(model.inner.network, create_objective(objective), truth)
        expected, halved = published(f, *own_ball(own, 4 * eps, norm), own, 25, checkpoints(25, schedule))
        torch.testing.assert_close(points[:, row], torch.cat(expected), rtol=0, atol=1e-12)
        halvings.add(tuple(halved))
    # The cases halve at different steps: a step halved for the whole batch would be seen.
    assert all(halvings)
    assert len(halvings) == batch


def test_the_step_is_halved_per_case_and_the_search_resumes_from_its_best_point():
    ball = THREAT.ball(torch.zeros(2, 1, 2, 2).double())
    ascent = Ascent(ball, ball.reference, 0.75, 0.75)
    up = torch.ones(2, 1, 2, 2).double()
    for values in ([0.0, 0.0], [1.0, -1.0], [2.0, -2.0]):
        ascent.note(torch.tensor(values).double(), up)
        last = ascent.x
        ascent.move()
    ascent.note(torch.tensor([3.0, -3.0]).double(), up)
    here = ascent.x
    ascent.decide()
    assert ascent.step.tolist() == [2.0, 1.0]
    assert torch.equal(ascent.x[0], here[0])
    assert torch.equal(ascent.x[1], ball.reference[1])
    assert torch.equal(ascent.previous, last)
    assert ascent.value.tolist() == [3.0, 0.0]


def test_an_unchanged_best_halves_the_step_every_second_time():
    """Condition 2 alone (rho so small that condition 1 holds only without any rise)."""
    ball = THREAT.ball(torch.zeros(1, 1, 2, 2).double())
    ascent = Ascent(ball, ball.reference, 0.75, 1e-9)
    steps = []
    for value in (9.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        ascent.note(torch.tensor([value]).double(), torch.ones(1, 1, 2, 2).double())
        if value in (2.0, 3.0, 4.0, 5.0):
            ascent.rises = ascent.rises.clamp_min(1)
            ascent.decide()
            steps.append(ascent.step.item())
        ascent.move()
    assert steps == [1.0, 1.0, 0.5, 0.5]


def test_radii_search_wider_balls_first_and_return_only_legal_points():
    model = Recorder(conv_model())
    volume, target = case(model.inner)
    threat = THREAT.with_eps(0.2)  # wide enough that a slot's last point is not its best
    result = APGD(objective="dice", radii=(2.0, 1.5, 1.0))(model, volume, target, threat)
    ball = threat.ball(volume)
    reach = torch.stack([ball.distance(point) for point in model.points]).amax(1) / 0.2
    assert len(model.points) == 20
    for slot, factor in ((reach[:6], 2.0), (reach[6:12], 1.5), (reach[12:], 1.0)):
        assert slot.max().item() == pytest.approx(factor)
    # Each slot begins at the best of the last one, projected.
    values = torch.stack(model.values)
    for begin, end, factor in ((0, 6, 1.5), (6, 12, 1.0)):
        best = values[begin:end].argmax(0)
        chosen = torch.stack([model.points[begin + int(k)][row] for row, k in enumerate(best)])
        torch.testing.assert_close(model.points[end], ball.scaled(factor).project(chosen), rtol=0, atol=1e-12)
        if begin == 0:  # and is judged inside the true ball
            torch.testing.assert_close(model.looks[0], ball.project(chosen), rtol=0, atol=1e-12)
    assert ball.holds(result.adversarial).all()
    # Look after slot 1, last point, and what every attack pays: the reference and the final judgement.
    assert (result.gradients, result.forwards) == (20, 4)


def test_restarts_begin_at_the_reference_and_then_at_random():
    model = Recorder(conv_model())
    volume, target = case(model.inner)
    once = APGD(steps=10)(model, volume, target, THREAT)
    model.points.clear()
    twice = APGD(steps=10, restarts=2)(model, volume, target, THREAT, seed=5)
    assert torch.equal(model.points[0], volume)
    assert torch.equal(model.points[10], THREAT.ball(volume).random(torch.Generator().manual_seed(5)))
    assert bool((twice.dice <= once.dice).all())
    assert (once.gradients, once.forwards, twice.gradients) == (10, 3, 20)


def test_the_first_restart_can_begin_at_random():
    """In the widest of several balls, as SEA and Tsallis-PGD do."""
    model = Recorder(conv_model())
    volume, target = case(model.inner)
    for options, size in (({}, 1), ({"radii": (2.0, 1.5, 1.0)}, 2)):
        model.points.clear()
        APGD(steps=10, start="random", **options)(model, volume, target, THREAT, seed=5)
        far = (model.points[0] - volume).abs().max() / THREAT.ball(volume).eps.max()
        assert 0.9 * size < far <= size * (1 + 1e-9)
        first = model.points[0]
        model.points.clear()
        APGD(steps=10, start="random", **options)(model, volume, target, THREAT, seed=6)
        assert not torch.equal(model.points[0], first)


def test_apgd_is_stronger_than_one_step_and_noise():
    model = conv_model()
    volume, target = case(model, batch=3)
    noise = THREAT.ball(volume).sign_noise(torch.Generator().manual_seed(0))
    loss = create_objective("dice")
    found = APGD(objective="dice")(model, volume, target, THREAT)
    single = FGSM(objective="dice")(model, volume, target, THREAT)
    assert found.dice.mean() < single.dice.mean() < found.clean_dice.mean()
    assert loss(model.logits(noise), target, 0.0).mean() < loss(model.logits(found.adversarial), target, 0.0).mean()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"restarts": 0}, "restarts"),
        ({"rho": 0.0}, "rho"),
        ({"momentum": 1.5}, "momentum"),
        ({"radii": (2.0, 1.5)}, "radii"),
        ({"radii": (0.5, 2.0, 1.0)}, "radii"),
        ({"steps": 2, "radii": (3.0, 2.0, 1.0)}, "one per radius"),
        ({"objective": "dise"}, "Did you mean 'dice'"),
    ],
)
def test_illegal_options_are_refused(options, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=words):
            APGD(**options)


def test_a_start_that_a_protocol_misspells_is_refused():
    attack = APGD()
    object.__setattr__(attack, "start", "randon")  # as a file says it: tests check types, a program does not
    with pytest.raises(ValueError, match="start must be one of reference, random, got 'randon'"):
        attack.__post_init__()


def test_few_steps_are_allowed_with_a_warning():
    with pytest.warns(UserWarning, match="APGD with 5 steps"):
        APGD(steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        APGD(steps=10)
