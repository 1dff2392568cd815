from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from voxward.attacks.criteria import judge
from voxward.attacks.ensemble import Budget, Ensemble
from voxward.attacks.fab import FabDice
from voxward.attacks.random_models import Averaged, is_random
from voxward.attacks.square import Square
from voxward.attacks.threat import ThreatModel
from voxward.attacks.transfer import Transfer
from voxward.core.model import PatchModel, VolumeModel

THREAT = ThreatModel(0.2, bounds=((0.0, 1.0),))


class Steep(nn.Module):
    """Logits (0, slope * (x - level)); with `drop`, each voxel's x is left out by chance and made up for."""

    def __init__(self, slope: float = 5.0, level: float = 0.5, drop: float = 0.0) -> None:
        super().__init__()
        self.slope, self.level, self.drop = slope, level, drop
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.drop:
            x = x * (torch.rand_like(x) >= self.drop) / (1 - self.drop)
        score = self.slope * (x - self.level)
        return torch.cat([torch.zeros_like(score), score], 1)


def case(batch: int = 2) -> tuple[Tensor, Tensor]:
    volume = torch.rand(batch, 1, 8, 8)
    return volume, (volume[:, 0] > 0.5).long()


def mean_score(logits: Tensor, target: Tensor) -> Tensor:
    return logits[:, 1].flatten(1).mean(1)


@pytest.mark.parametrize("attack", [FabDice(), Square(queries=50)])
def test_transfer_asks_the_surrogate_and_is_judged_by_the_model(attack):
    volume, target = case()
    network, surrogate = Steep(5.0, 0.5), Steep(3.0, 0.52)
    transfer = Transfer(attack, PatchModel(surrogate))
    result = transfer(PatchModel(network), volume, target, THREAT)
    assert result.attack == f"transfer-{attack.name}"
    assert result.gradients == 0
    assert network.calls == result.forwards <= 4
    assert surrogate.calls > 20
    judged = judge(PatchModel(network), PatchModel(network).logits(result.adversarial), target)
    assert torch.equal(judged, result.dice)
    assert (result.dice < result.clean_dice - 0.1).all()
    assert (result.distance <= 0.2 + 1e-6).all()


def test_a_point_that_only_hurts_the_surrogate_is_not_taken():
    volume, target = case()
    opposite = PatchModel(Steep(-5.0))  # wrong from the start, and worse the other way
    result = Transfer(FabDice(), opposite)(PatchModel(Steep()), volume, target, THREAT)
    assert (result.dice <= result.clean_dice).all()
    assert not Transfer(FabDice(), opposite).needs_gradient


def test_transfer_refuses_a_surrogate_that_does_not_fit():
    volume, target = case()
    regions = PatchModel(nn.Conv2d(1, 1, 1), "regions")
    with pytest.raises(ValueError, match="surrogate"):
        Transfer(FabDice(), regions)(PatchModel(Steep()), volume, target, THREAT)
    assert Transfer(FabDice(), regions).norms == ("linf", "l2")
    assert Transfer(Square(), regions).norms == ("linf",)


def test_randomness_is_recognised():
    volume, _ = case()
    assert is_random(PatchModel(Steep(drop=0.3)), volume)
    assert not is_random(PatchModel(Steep()), volume)
    assert not is_random(PatchModel(nn.Sequential(Steep(), nn.Dropout(0.5))), volume)  # evaluation mode


def test_the_mean_over_samples_comes_near_the_expectation():
    """The drop is unbiased and the model linear, so the expectation is the model without it."""
    volume, target = case(1)
    random, plain = PatchModel(Steep(drop=0.3)), PatchModel(Steep())
    averaged = Averaged(random, 2000)
    assert isinstance(averaged, VolumeModel)
    logits, value, gradient = averaged.value_and_grad(volume, target, mean_score)
    expected = plain.value_and_grad(volume, target, mean_score)
    # One sample's deviation is at most 5 * sqrt(0.3 / 0.7) = 3.3; five of those of the mean of 2000.
    assert float((logits - expected[0]).abs().max()) < 5 * 3.3 / 2000**0.5
    assert float((value - expected[1]).abs()) < 5 * 3.3 / (2000 * 64) ** 0.5
    assert float((gradient - expected[2]).abs().max()) < 5 * 3.3 / 2000**0.5 / 64
    assert float((averaged.logits(volume) - expected[0]).abs().max()) < 5 * 3.3 / 2000**0.5


def test_averaging_a_deterministic_model_changes_nothing():
    volume, target = case()
    plain = PatchModel(Steep())
    averaged = Averaged(plain, 4)
    ours, theirs = (model.value_and_grad(volume, target, mean_score) for model in (averaged, plain))
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(ours, theirs, strict=True))
    before = averaged.sweep(volume)
    after = averaged.logits_after(before, volume + 0.1, (slice(0, 8), slice(0, 8)))
    assert torch.allclose(after.logits, plain.logits(volume + 0.1))
    assert torch.equal(averaged.segment(after.logits), plain.segment(after.logits))
    assert averaged.head == "softmax"
    with pytest.raises(ValueError, match="samples"):
        Averaged(plain, 0)


def test_an_ensemble_averages_a_random_model_and_books_every_answer():
    volume, target = case()
    options = {"steps": 10, "queries": 10, "fab_steps": 2}
    attack = Ensemble("autoattack", Budget(**options))
    plain = attack(PatchModel(Steep()), volume, target, THREAT)
    random = attack(PatchModel(Steep(drop=0.1)), volume, target, THREAT)
    assert random.gradients > 5 * plain.gradients
    assert (random.dice < random.clean_dice).all()


def test_an_attack_runs_on_an_averaged_model():
    volume, target = case()
    result = FabDice(steps=5)(Averaged(PatchModel(Steep(drop=0.1)), 8), volume, target, THREAT)
    assert (result.distance <= 0.2 + 1e-6).all()
    assert (result.dice < result.clean_dice).any()
