from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from voxward.attacks.objectives import create_objective
from voxward.attacks.square import CHECKPOINTS, Square, changed, cube, stripes
from voxward.attacks.threat import ThreatModel
from voxward.core.model import Box, PatchModel, Spaced, Swept
from voxward.core.progress import silent

UNIT = ((0.0, 1.0),)
THREAT = ThreatModel(0.1, bounds=UNIT)


class Scores(nn.Module):
    """Two classes; the second one's logit is weight * x summed over the channels, minus a constant."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).sum(1, keepdim=True) - 0.4
        return torch.cat([torch.zeros_like(score), score], 1)


@dataclass
class Watched:
    """A patch model that keeps every volume it was shown, and the boxes it was told of."""

    inner: PatchModel
    seen: list[Tensor] = field(default_factory=list)
    boxes: list[tuple[Swept, Tensor, Box]] = field(default_factory=list)

    @property
    def head(self):
        return self.inner.head

    def value_and_grad(self, volume, target, objective):
        raise AssertionError("Square asked for a gradient")

    def logits(self, volume):
        return self.inner.logits(volume)

    def sweep(self, volume):
        self.seen.append(volume.clone())
        return Swept(volume, self.inner.logits(volume), len(self.seen))

    def logits_after(self, before, volume, box):
        self.boxes.append((before, volume.clone(), box))
        return self.sweep(volume)

    def segment(self, logits):
        return self.inner.segment(logits)


def problem(dims: int = 3, batch: int = 2, channels: int = 1, size: int = 6) -> tuple[PatchModel, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shape = (batch, channels, *(size,) * dims)
    network = Scores(torch.ones(1, channels, *(1,) * dims))
    volume = torch.rand(shape, generator=generator)
    return PatchModel(network), volume, (volume.mean(1) > 0.5).long()


@pytest.mark.parametrize("proposals", [1, 4])
@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (3, 2)])
def test_every_query_is_legal_and_costs_one_forward(dims, channels, proposals):
    model, volume, target = problem(dims, channels=channels)
    watched = Watched(model)
    threat = ThreatModel(0.1, bounds=((0.0, 1.0), (-1.0, 2.0))[:channels])
    result = Square(queries=43, proposals=proposals)(watched, volume, target, threat, seed=2)
    ball = threat.ball(volume)
    queries = watched.seen[1:]  # the first sweep is the reference
    assert sum(len(shown) for shown in queries) == 2 * 43
    assert result.forwards == 43 + 2  # and the reference, and the final judgement
    assert result.gradients == 0
    assert result.history.shape == (2, 44)
    for shown in queries:
        nearest = (shown[:1, None] - volume[None]).flatten(2).abs().amax(2).argmin()
        reference = ball.rows(nearest[None])
        for row in shown:
            assert bool(reference.holds(row[None]))
    assert (result.distance <= 0.1 + 1e-6).all()
    assert (result.dice <= result.clean_dice).all()


def test_a_query_differs_from_what_is_kept_only_in_its_box_and_hands_on_the_memo():
    model, volume, target = problem(batch=1)
    watched = Watched(model)
    Square(queries=40)(watched, volume, target, THREAT)
    assert len(watched.boxes) == 39
    for before, after, box in watched.boxes:
        outside = torch.ones(after.shape[2:], dtype=torch.bool)
        outside[box] = False
        assert torch.equal(before.volume[:, :, outside], after[:, :, outside])
        assert not torch.equal(before.volume, after)
        assert before.memo is not None


def test_the_objective_of_what_is_kept_never_falls():
    model, volume, target = problem(batch=1)
    watched = Watched(model)
    Square(queries=60)(watched, volume, target, THREAT)
    loss = create_objective("dice")
    kept = [float(loss(before.logits, target, 0.0)) for before, _, _ in watched.boxes]
    assert all(later >= earlier for earlier, later in pairwise(kept))
    assert kept[0] >= float(loss(model.logits(volume), target, 0.0))


@pytest.mark.parametrize("shape", [(8, 8), (4, 4, 4)])
def test_linear_model_comes_near_the_optimum(shape):
    """The best of a linear objective puts every voxel at -eps * sign(weight); 1000 queries, 64 voxels."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((1, 1, *shape), generator=generator)
    model, loss = PatchModel(Scores(weight)), create_objective("margin")
    volume, target = torch.rand((1, 1, *shape), generator=generator), torch.ones((1, *shape), dtype=torch.long)
    watched, threat = Watched(model), ThreatModel(0.1, bounds=((-9.0, 9.0),), unit="native")
    Square(queries=1000, objective="margin")(watched, volume, target, threat)
    values = [float(loss(model.logits(shown), target, 0.0)) for shown in watched.seen]
    optimum = values[0] + 0.1 * float(weight.abs().mean())
    assert max(values) <= optimum + 1e-5
    assert max(values) - values[0] >= 0.9 * (optimum - values[0])


@pytest.mark.parametrize("shape", [(192, 192, 16), (256, 256, 48), (256, 256, 96), (30, 40), (64, 64, 1), (1, 1, 1)])
@pytest.mark.parametrize("share", [1.0, 0.8, 0.1, 1e-9])
def test_a_cube_fits_every_axis(shape, share):
    assert all(1 <= side <= length for side, length in zip(cube(share, shape), shape, strict=True))


def test_a_slice_stored_as_a_volume_gets_squares():
    assert cube(0.25, (64, 64, 1)) == (32, 32, 1)
    assert cube(0.125, (64, 64, 64)) == (32, 32, 32)


def test_the_schedule_follows_the_budget():
    for queries in (500, 10_000):
        square = Square(queries=queries)
        shares = [square.share_after(done) for done in range(queries)]
        assert shares[0] == 0.8
        assert shares[-1] == 0.8 / 2 ** len(CHECKPOINTS)
    assert Square(queries=500, rescale=False).share_after(499) == 0.8 / 8


def test_stripes_are_at_the_rim_and_constant_along_the_first_axis():
    ball = ThreatModel(0.1, bounds=((-9.0, 9.0),), unit="native").ball(torch.rand(1, 2, 5, 6, 7))
    delta = stripes(ball, torch.Generator().manual_seed(0)) - ball.reference
    assert torch.allclose(delta.abs(), torch.tensor(0.1), atol=1e-6)
    assert torch.equal(delta[:, :, :1].sign().expand_as(delta), delta.sign())
    assert len(delta[0, 0, 0].sign().unique()) == 2


def test_a_cube_has_equal_sides_in_mm():
    assert cube(0.125, (64, 64, 16), (1.0, 1.0, 4.0)) == (32, 32, 8)
    assert cube(0.125, (64, 64, 64), (2.0, 2.0, 2.0)) == cube(0.125, (64, 64, 64))
    assert cube(0.001, (64, 64, 16), (1.0, 1.0, 4.0)) == (6, 6, 2)
    assert cube(0.00001, (64, 64, 16), (1.0, 1.0, 4.0)) == (1, 1, 1)  # at least 1 voxel
    assert cube(0.8, (64, 64, 4), (1.0, 1.0, 1.0)) == (24, 24, 4)  # never longer than the axis
    assert cube(0.25, (64, 64, 1), (1.0, 2.0, 9.0)) == (45, 23, 1)  # an axis of length 1 is no dimension


def test_square_takes_the_spacing_from_the_model():
    model, volume, target = problem(3, batch=1, size=12)
    watched = Watched(model)
    Square(queries=30, share=0.1, rescale=False)(Spaced(watched, (1.0, 1.0, 3.0)), volume, target, THREAT)
    sides = [[one.stop - one.start for one in box] for _, _, box in watched.boxes]
    assert sides
    for first, second, third in sides:
        assert first == second
        assert abs(3 * third - first) <= 2  # each is rounded to whole voxels
    assert max(first for first, _, _ in sides) == 8  # the cube root of 0.1 * 12 * 12 * 36 mm3


def test_a_cube_that_would_change_nothing_is_reversed():
    ball = THREAT.ball(torch.full((1, 1, 4, 4), 0.5))
    generator = torch.Generator().manual_seed(0)
    at = ball.project(ball.reference + ball.eps)
    for _ in range(20):
        proposal, _ = changed(ball, at, (2, 2), generator)
        assert not torch.equal(proposal, at)


def test_same_seed_same_result_and_a_batch_stops_when_nothing_is_left():
    model, volume, target = problem()
    one, two = (Square(queries=30)(model, volume, target, THREAT, seed=8) for _ in range(2))
    assert torch.equal(one.adversarial, two.adversarial)
    assert not torch.equal(one.adversarial, Square(queries=30)(model, volume, target, THREAT, seed=9).adversarial)
    broken = target.clone()
    broken[0] = 1 - model.segment(model.logits(volume))[0]  # no Dice from the start
    watched = Watched(model)
    result = Square(queries=30)(watched, volume, broken, THREAT, progress=silent)
    assert len(watched.seen) == 1 + 30
    assert float(result.distance[0]) == 0


def test_refusals():
    for options in ({"queries": 0}, {"proposals": 0}, {"share": 0.0}, {"objective": "nonsense"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Square(**options)
    model, volume, target = problem(2)
    with pytest.raises(ValueError, match="norms"):
        Square()(model, volume, target, ThreatModel(0.1, "l2", bounds=UNIT))
    with pytest.raises(ValueError, match="3 classes"):
        Square(objective="dlr")(model, volume, target, THREAT)
