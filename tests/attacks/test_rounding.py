"""The last search on a file of whole numbers, against all volumes that the file can hold."""

from __future__ import annotations

import itertools

import torch

from tests.attacks.toys import conv_model, linear_model, linear_optimum
from voxward.attacks.criteria import judge
from voxward.attacks.objectives import at, create_objective
from voxward.attacks.pgd import PGD
from voxward.attacks.rounding import moved, polish
from voxward.attacks.state import AttackState
from voxward.attacks.threat import ThreatModel
from voxward.core.progress import silent

STEP = 0.5
DICE = at(create_objective("dice"), 0.0)


def _state(model, eps: float, seed: int = 0, shape=(1, 1, 2, 3)) -> AttackState:
    volume = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).double() * STEP
    target = model.segment(model.logits(volume))
    threat = ThreatModel(eps, unit="native", bounds=((-2.0, 2.0),), steps=(STEP,))
    return PGD("dice").begin(model, volume, target, threat, threat.ball(volume), 0, silent)


def _lowest(state: AttackState, most: int) -> float:
    """The lowest Dice of all volumes of the ball that the file can hold."""
    ball, offsets = state.ball, itertools.product(range(-most, most + 1), repeat=state.best.numel())
    all_points = ball.reference + torch.tensor(list(offsets)).double().view(-1, *state.best.shape[1:]) * STEP
    points = all_points[((all_points >= ball.low) & (all_points <= ball.high)).flatten(1).all(1)]
    target = state.target.expand(len(points), *state.target.shape[1:])
    return float(judge(state.model, state.model.logits(points), target).min())


def test_steps_of_the_file_find_what_all_its_volumes_show():
    """Greedy steps need not end at the lowest Dice of all, but mostly come near it, and never leave the ball."""
    clean, found, lowest = 0.0, 0.0, 0.0
    for seed in range(12):
        state = _state(conv_model(), 1.3 * STEP, seed)
        polish(state, DICE, rounds=6)
        assert state.ball.holds(state.best).all()
        assert torch.equal(state.best, (state.best / STEP).round() * STEP)
        assert state.model.gradients <= 7
        clean, found = clean + float(state.clean_dice), found + float(state.best_dice)
        lowest += _lowest(state, 1)
    assert lowest <= found < clean
    assert found - lowest < 0.25 * (clean - lowest)


def test_where_every_voxel_counts_alone_the_best_file_of_the_ball_is_found():
    state = _state(linear_model(), 2.4 * STEP, shape=(2, 1, 2, 2))
    polish(state, DICE, rounds=4, share=1.0)
    threat = ThreatModel(2 * STEP, unit="native", bounds=((-2.0, 2.0),))
    best = linear_optimum(state.ball.reference, state.target, threat)
    logits = state.model.logits(best)
    assert torch.equal(state.best_dice, judge(state.model, logits, state.target))


def test_the_greatest_gradients_move_first_and_only_where_they_can():
    volume = torch.tensor([[[[5.0, 9.0, 5.0, 5.0]]]])
    ball = ThreatModel(2.0, unit="native", bounds=((0.0, 9.0),), steps=(1.0,)).ball(volume)
    gradient = torch.tensor([[[[1.0, 8.0, -3.0, 0.0]]]])  # the second is at the rim, the last has no slope
    assert moved(ball, volume, gradient, torch.tensor([0.5])).flatten().tolist() == [5.0, 9.0, 4.0, 5.0]
    assert moved(ball, volume, gradient, torch.tensor([1.0])).flatten().tolist() == [6.0, 9.0, 4.0, 5.0]


def test_a_file_that_holds_any_value_is_left_as_it_is():
    state = _state(conv_model(), STEP)
    state.ball = ThreatModel(STEP, unit="native", bounds=((-2.0, 2.0),)).ball(state.ball.reference)
    polish(state, DICE)
    assert state.model.gradients == 0
