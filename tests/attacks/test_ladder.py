"""Attacks along a curve of eps: what they promise whatever the model, and what the way down a ladder is good for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.attacks.toys import THREAT, Recorder, case, conv_model
from voxward.attacks import create
from voxward.attacks.criteria import judge
from voxward.attacks.curve import CurveAttack
from voxward.attacks.ladder import Fast, Strong, Tour, Walk
from voxward.attacks.state import AttackState, Counted
from voxward.attacks.threat import ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import PatchModel, Swept

CURVES = ("strong", "fast", "blade-300")
SIZES = tuple(eps / 255 for eps in (2, 4, 8, 12, 16))


def along(name: str, model, volume, target, threat: ThreatModel = THREAT, sizes=SIZES, seed: int = 0):
    attack = create(name)
    assert isinstance(attack, CurveAttack)
    return attack.along(model, volume, target, threat, sizes, seed, warn=False)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("dims", "head"), [(2, "softmax"), (3, "regions")])
def test_the_dice_never_rises_with_eps_and_no_volume_leaves_its_ball(name, dims, head):
    model = conv_model(dims, head=head)
    volume, target = case(model, dims, batch=1, size=6)
    results = along(name, model, volume, target)
    assert [result.threat.eps for result in results] == list(SIZES)
    for result in results:
        assert float(result.distance) <= result.threat.eps * (1 + 1e-6) + 1e-9
        assert bool(THREAT.with_eps(result.threat.eps).ball(volume).holds(result.adversarial).all())
        assert float(result.dice) <= float(result.clean_dice)
    assert all(float(above.dice) <= float(below.dice) for below, above in pairwise(results))
    assert float(results[-1].dice) < float(results[-1].clean_dice)


@pytest.mark.parametrize("name", CURVES)
def test_the_books_hold_every_gradient(name):
    model = conv_model(2)
    volume, target = case(model, 2, batch=1)
    recorder = Recorder(model)
    results = along(name, recorder, volume, target)
    attack = create(name)
    most = attack.price(len(SIZES))[0]
    assert sum(result.gradients for result in results) == len(recorder.points) <= most
    assert sum(result.seconds for result in results[1:]) == 0 < results[0].seconds
    assert create(name).doubled().price(5)[0] > 1.9 * most - 5 * 7


class Restless(Recorder):
    """A model that answers differently each time, and counts its answers."""

    def value_and_grad(self, volume, target, objective):
        return super().value_and_grad(self._moved(volume), target, objective)

    def logits(self, volume):
        found = self.inner.logits(self._moved(volume))
        self.looks.append(found)
        return found

    def sweep(self, volume):
        return Swept(volume, self.logits(volume))

    def _moved(self, volume):
        return volume + 0.3 * torch.sin(torch.arange(volume.numel()) * (1.0 + len(self.points) + len(self.looks))).view(
            volume.shape
        )


def test_every_answer_of_a_random_model_is_booked():
    inner = conv_model(2)
    volume, target = case(inner, 2, batch=1)
    model = Restless(inner)
    results = along("fast", model, volume, target, sizes=SIZES[:2])
    assert sum(result.gradients for result in results) == len(model.points) > 0
    assert sum(result.forwards for result in results) == len(model.looks)
    model = Restless(inner)
    result = create("fast")(model, volume, target, THREAT, warn=False)
    assert (result.gradients, result.forwards) == (len(model.points), len(model.looks))
    assert result.gradients > 0


def test_fast_takes_twenty_gradients_for_each_size_and_strong_a_third_of_sea():
    for sizes in range(1, 13):
        assert Fast().price(sizes)[0] == 20 * sizes
    sea = 3 * 300 * 5
    assert Strong().price(5)[0] <= sea / 3
    assert create("blade-300").price(5)[0] == 300


@pytest.mark.parametrize("sizes", [1, 2, 3, 5, 8])
def test_fast_spends_all_where_something_is_left_and_comes_down_as_far_as_that_reaches(sizes):
    """A larger ball that is lost early leaves its gradients to the smaller ones."""
    model = conv_model(2)
    volume, target = case(model, 2, batch=1)
    found = along("fast", model, volume, target, sizes=[eps / 2550 for eps in range(1, sizes + 1)])
    assert all(float(one.dice) > 0 for one in found)
    assert sum(one.gradients for one in found) == 20 * sizes
    assert [one.gradients for one in found[:2]] == {1: [20], 2: [15, 25], 3: [6, 19]}.get(sizes, [5, 5])
    lost = along("fast", model, volume, target, sizes=(0.001, 0.002, 1.0))
    assert float(lost[2].dice) == 0 < float(lost[1].dice)
    assert lost[0].gradients > 5


def test_fast_reports_what_it_has_spent():
    """What an early end leaves goes to later searches; to count both would say that it is over when it is not."""
    model = conv_model(2)
    volume, target = case(model, 2, batch=1)
    recorder, heard = Recorder(model), list[tuple[int, int]]()

    def progress(stage, done, total, /, **figures):
        heard.append((done, len(recorder.points)))

    attack = create("fast")
    assert isinstance(attack, CurveAttack)
    attack.along(recorder, volume, target, THREAT, SIZES, progress=progress, warn=False)
    assert len(heard) > len(SIZES)
    assert all(done == spent for done, spent in heard)


@pytest.mark.parametrize("name", CURVES)
def test_a_call_searches_one_ball_and_every_case_on_its_own(name):
    model = conv_model(2)
    volume, target = case(model, 2, batch=2)
    both = create(name)(model, volume, target, THREAT, warn=False)
    for row in range(2):
        one = create(name)(model, volume[row : row + 1], target[row : row + 1], THREAT, warn=False)
        if name != "blade-300":  # it draws its first point, for every case another one
            torch.testing.assert_close(both.adversarial[row : row + 1], one.adversarial)
        assert float(one.dice) < float(one.clean_dice)
    assert bool((both.dice < both.clean_dice).all())


def test_a_case_of_which_nothing_is_left_is_attacked_no_further():
    network = nn.Conv2d(1, 2, 1).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 2.0]).view(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -0.002]))
    model, volume = PatchModel(network), torch.zeros(1, 1, 6, 6, dtype=torch.float64) - 0.5
    volume[..., 2:4, 2:4] = 0.01
    target = (volume[:, 0] > 0).long()
    recorder = Recorder(model)
    results = along("strong", recorder, volume, target, ThreatModel(eps=0.1, bounds=((-1.0, 1.0),)))
    assert all(float(result.dice) == 0 for result in results)
    assert [result.gradients for result in results[1:]] == [0] * 4
    assert results[0].gradients == len(recorder.points) < 5


def test_strong_finds_what_a_network_that_is_sure_of_itself_hides():
    """Soft Dice has no gradient where logits are hundreds apart; softened logits have one."""
    network = nn.Conv2d(1, 2, 1).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 300.0]).view(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -450.0]))
    model, target = PatchModel(network, "softmax"), torch.zeros(1, 24, 24, dtype=torch.long)
    target[:, 6:18, 6:18] = 1
    noise = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)).double()
    volume, threat = 0.6 * noise + 2.2 * target[:, None], ThreatModel(0.3, unit="native", bounds=((-5.0, 6.0),))
    found = {name: float(create(name)(model, volume, target, threat, warn=False).dice)
             for name in ("strong", "apgd-dice", "apgd-dice-sharp")}  # fmt: skip
    assert found["apgd-dice-sharp"] < found["apgd-dice"] - 0.01  # the network is one that hides
    assert found["strong"] <= found["apgd-dice-sharp"]


def test_a_tour_alone_begins_at_the_reference_and_only_adds_to_what_was_found():
    model = conv_model(2)
    volume, target = case(model, 2, batch=1)
    recorder, told = Recorder(model), list[float]()
    balls = [THREAT.with_eps(eps).ball(volume) for eps in (8 / 255, 64 / 255)]
    counted = Counted(recorder)
    begun = counted.sweep(volume)
    rungs = [
        AttackState(
            counted, target, ball, torch.Generator(), begun, lambda *_, **figures: told.append(figures["dice"]), ""
        )
        for ball in balls
    ]
    walk = Walk(rungs, 1000)
    walk.tour(Tour(4, 4, 4))
    before, asked, heard = [float(rung.best_dice) for rung in rungs], len(recorder.points), len(told)
    assert (
        0 < before[1] < before[0] < float(rungs[0].clean_dice)
    )  # the case is not lost: there is something to begin at
    walk.tour(Tour(4, 4, 4, near="ce", alone=True))
    torch.testing.assert_close(recorder.points[asked], volume, rtol=0, atol=0)
    assert counted.gradients == len(recorder.points) > asked
    assert all(float(rung.best_dice) <= earlier for rung, earlier in zip(rungs, before, strict=True))
    assert max(told[heard:]) <= before[0]  # a report is of the lowest Dice of all tours
    for rung in rungs:
        again = model.logits(rung.best)
        assert bool(rung.ball.holds(rung.best).all())
        torch.testing.assert_close(judge(model, again, target), rung.best_dice)
        assert float(rung.history[-1]) == float(rung.best_dice)


def test_whole_number_files_are_kept_whole():
    model = conv_model(2)
    volume, target = case(model, 2, batch=1)
    volume = (volume * 40).round()
    threat = ThreatModel(eps=8 / 255, bounds=((-80.0, 80.0),), limits=(-128.0, 127.0), steps=(1.0,))
    scaled = PatchModel(model.network, normalise=lambda x: x / 40)
    for result in along("strong", scaled, volume, target, threat):
        torch.testing.assert_close(result.adversarial, result.adversarial.round(), rtol=0, atol=0)
        assert float((result.adversarial - volume).abs().max()) <= result.threat.eps * 160 + 1e-9


def test_a_ball_without_any_other_file_costs_nothing_and_is_named():
    model = conv_model(2)
    volume, target = case(model, 2, batch=1)
    volume = (volume * 40).round()
    threat = ThreatModel(eps=8 / 255, bounds=((-80.0, 80.0),), limits=(-128.0, 127.0), steps=(1.0,))
    scaled = PatchModel(model.network, normalise=lambda x: x / 40)
    small, large = along("fast", scaled, volume, target, threat, sizes=(1 / 255, 8 / 255))
    assert (small.gradients, float(small.distance)) == (0, 0.0)
    assert [text for text in small.warnings if "no file with a perturbation of this size exists" in text]
    assert 0 < large.gradients <= 20
    assert not [text for text in large.warnings if "no file" in text]


def test_a_curve_is_of_one_case_and_needs_a_size():
    model = conv_model(2)
    volume, target = case(model, 2, batch=2)
    with pytest.raises(UserError, match="one case and at least one size, got 2 and 5"):
        along("fast", model, volume, target)
    with pytest.raises(UserError, match="got 1 and 0"):
        along("fast", model, volume[:1], target[:1], sizes=())
    with pytest.raises(UserError, match=r"every size of a curve must be above 0, got 0\.0"):
        along("fast", model, volume[:1], target[:1], sizes=(0.0, 0.1))
