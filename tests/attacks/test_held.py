"""Every attack on a volume of whole numbers evaluates, judges and returns volumes that the file can hold."""

from __future__ import annotations

import pytest
import torch

from tests.attacks.samples import RUN, cheap
from tests.attacks.toys import conv_model
from voxward.attacks.base import NOT_WRITABLE
from voxward.attacks.ensemble import ENSEMBLES, Budget, Ensemble
from voxward.attacks.fab import FabDice
from voxward.attacks.one_class import OneClass, only
from voxward.attacks.registry import create_with
from voxward.attacks.threat import ThreatModel
from voxward.attacks.transfer import Transfer
from voxward.core.model import PatchModel, Wrapped

BUDGET = Budget(10, 1, 12, 4)
STEP = 0.125


class Seen(Wrapped):
    """A model that keeps every volume it was asked for."""

    def __init__(self, inner):
        self.inner, self.volumes = inner, []

    def value_and_grad(self, volume, target, objective):
        self.volumes.append(volume)
        return self.inner.value_and_grad(volume, target, objective)

    def logits(self, volume):
        self.volumes.append(volume)
        return self.inner.logits(volume)

    def sweep(self, volume):
        self.volumes.append(volume)
        return self.inner.sweep(volume)

    def logits_after(self, before, volume, box):
        self.volumes.append(volume)
        return self.inner.logits_after(before, volume, box)


def _whole(volume):
    return torch.equal(volume, (volume / STEP).round() * STEP)


def _case(model: PatchModel, batch: int = 2):
    volume = torch.randint(-16, 17, (batch, 1, 8, 8), generator=torch.Generator().manual_seed(1)).double() * STEP
    return volume, model.segment(model.logits(volume))


def _threat(eps: float, norm="linf") -> ThreatModel:
    return ThreatModel(eps, norm, "native", bounds=((-2.0, 2.0),), steps=(STEP,))


@pytest.mark.parametrize("name", [name for name in RUN if name not in ENSEMBLES])
def test_an_attack_evaluates_and_returns_what_a_file_can_hold(name):
    model, attack = Seen(conv_model()), cheap(name)
    volume, target = _case(model)
    for norm in attack.norms:
        threat = _threat(2.7 * STEP * (4 if norm == "l2" else 1), norm)
        ball, model.volumes = threat.ball(volume), []
        found = attack(model, volume, target, threat, warn=False)
        assert _whole(found.adversarial)
        assert ball.holds(found.adversarial).all()
        assert (found.dice <= found.clean_dice).all()
        inside = [row for seen in model.volumes if len(seen) == 2 for row in seen[ball.holds(seen)]]
        assert inside
        assert all(map(_whole, inside))


def test_ensembles_transfers_and_the_attack_on_one_class_are_no_exception():
    model, other = Seen(conv_model()), Seen(conv_model(classes=3))
    volume, target = _case(model)
    threat = _threat(2.7 * STEP)
    erased = OneClass(model, 1), volume, only(target, 1, "softmax"), threat
    found = [create_with("apgd-dice", BUDGET)(*erased, warn=False)]
    for attack in (Ensemble("autoattack", BUDGET), Transfer(create_with("pgd-ce", BUDGET), other)):
        found.append(attack(model, volume, target, threat, warn=False))
    assert all(_whole(one.adversarial) for one in found)
    assert any(bool((one.dice < one.clean_dice).any()) for one in found)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_smallest_perturbation_is_one_that_a_file_can_hold(norm):
    model = Seen(conv_model())
    volume, target = _case(model)
    found = FabDice(steps=10).smallest(model, volume, target, _threat(0.0, norm), warn=False)
    assert _whole(found.adversarial)
    assert all(map(_whole, model.volumes))
    assert found.distance.isfinite().all()
    assert (found.dice < found.threshold).all()
    exact = FabDice(steps=10).smallest(
        model, volume, target, ThreatModel(0.0, norm, "native", bounds=((-2.0, 2.0),)), warn=False
    )
    assert (found.distance <= 2 * exact.distance + STEP).all()


def test_points_of_a_wider_ball_are_evaluated_as_they_are():
    """The radius schedule begins outside of the ball, where no file lies."""
    model = Seen(conv_model())
    volume, target = _case(model)
    threat = _threat(1.5 * STEP)
    found = create_with("apgd-dice-radii", BUDGET)(model, volume, target, threat, warn=False)
    far = [seen for seen in model.volumes if not threat.ball(volume).holds(seen).all()]
    assert far
    assert not all(map(_whole, far))
    assert _whole(found.adversarial)


def test_an_eps_below_one_step_of_the_file_is_said_and_costs_nothing():
    model = Seen(conv_model())
    volume, target = _case(model)
    with pytest.warns(UserWarning, match="eps is smaller than the distance between two intensities"):
        found = create_with("apgd-dice", BUDGET)(model, volume, target, _threat(0.9 * STEP))
    assert torch.equal(found.adversarial, volume)
    assert found.gradients == 0
    assert found.warnings == (f"apgd-dice: {NOT_WRITABLE}",)


def test_a_clipped_reference_between_two_values_is_attacked_inside_its_ball():
    model = conv_model()
    volume, target = _case(model)
    threat = ThreatModel(2.3 * STEP, unit="native", reference="window", bounds=((-1.57 + 0.01, 1.53),), steps=(STEP,))
    found = create_with("pgd-dice", BUDGET)(model, volume, target, threat, warn=False)
    ball = threat.ball(volume)
    assert ball.holds(found.adversarial).all()
    assert _whole(found.adversarial)
    assert (found.dice < found.clean_dice).any()
