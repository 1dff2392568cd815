"""All attacks on an accelerator: nothing is mixed with the processor's tensors, and the results are the same bits."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch

from tests.attacks.samples import RUN, cheap
from tests.attacks.toys import THREAT, case, conv_model
from voxward.attacks.objectives import at, create_objective
from voxward.attacks.registry import create
from voxward.attacks.smoothed import smoothed
from voxward.attacks.threat import ThreatModel
from voxward.core.labels import UNANNOTATED
from voxward.core.model import PatchModel

SHOWN = ("adversarial", "clean_dice", "dice", "history", "forwards", "gradients")
L2 = ThreatModel(eps=0.5, norm="l2", bounds=((-2.0, 2.0),))
FEW = {
    "apgd-boundary": {"steps": 3}, "apgd-dice": {"steps": 2, "restarts": 2}, "segpgd": {"steps": 2},
    "coarse-4": {"steps": 2}, "band-2": {"steps": 2}, "square": {"queries": 4},
}  # fmt: skip


def attacked(make, device, head="softmax", threat=THREAT, unknown=False):
    """What an attack finds on a patch model on a device."""
    model = conv_model(2, classes=3, head=head, dtype=torch.float32)
    volume, target = case(model, batch=2, size=6)
    if unknown:
        target[..., :2] = UNANNOTATED
    moved = PatchModel(model.network.to(device), head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = make()(moved, volume.to(device), target.to(device), threat, seed=3)
    return {name: getattr(result, name) for name in SHOWN}


@pytest.mark.parametrize("name", FEW)
def test_an_attack_finds_the_same(name, both):
    both.same(lambda device: attacked(partial(create, name, **FEW[name]), device))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_every_attack_finds_the_same(name, both):
    both.same(lambda device: attacked(partial(cheap, name), device))


@pytest.mark.parametrize("name", ["pgd-dice", "fab-dice"])
def test_it_does_so_in_an_l2_ball_around_partly_annotated_regions(name, both):
    attack = partial(create, name, steps=2)
    both.same(lambda device: attacked(attack, device, "regions", L2, unknown=True))


@pytest.mark.parametrize(("name", "threat"), [("pgd-dice", L2), ("fab-t", THREAT), ("coarse-4", THREAT)])
def test_no_attack_needs_float64(name, threat, no_double):
    attack = partial(create, name, steps=2)
    with no_double.pretend:
        found = attacked(attack, no_double.device, threat=threat)
    expected = attacked(attack, torch.device("cpu"), threat=threat)
    assert found["dice"].dtype == torch.float32
    torch.testing.assert_close(found["dice"].cpu().double(), expected["dice"], rtol=0, atol=0.05)


def test_a_model_under_noise_answers_the_same(both):
    """Certificates and the attack on them draw their noise on the CPU."""

    def work(device):
        model = conv_model(2, classes=3, dtype=torch.float32)
        volume, target = case(model, batch=2, size=6)
        noisy = smoothed(PatchModel(model.network.to(device)), torch.full((1, 1, 1, 1), 0.3).to(device), 0, 2)
        return noisy.value_and_grad(volume.to(device), target.to(device), at(create_objective("dice"), 0.0))

    both.same(work)


def test_a_step_sends_nothing_and_waits_seldom(both):
    """A step waits for: is all annotated (twice), the counts of the Dice, who got lower, is it done, the report."""
    few, many = (
        both.same(lambda device, steps=steps: attacked(partial(create, "pgd-dice", steps=steps), device))
        for steps in (3, 7)
    )
    assert many.sent == few.sent
    assert many.waits - few.waits <= 4 * 6
