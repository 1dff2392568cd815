from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from voxward.attacks.criteria import judge
from voxward.attacks.fab import FabDice, FabT
from voxward.attacks.objectives import create_objective
from voxward.attacks.planes import least_move, onto_plane
from voxward.attacks.threat import ThreatModel
from voxward.core.model import PatchModel

UNIT = ((0.0, 1.0),)
WIDE = ((-100.0, 100.0),)


class OneScore(nn.Module):
    """All voxels share one score w.x - b: logits (0, w.x - b), so all of them turn at one hyperplane."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1) - self.bias
        score = score.view(-1, 1, *(1,) * (x.ndim - 2)).expand(-1, 1, *x.shape[2:])
        return torch.cat([torch.zeros_like(score), score], 1)


def linear_case(shape: tuple[int, ...], unit: float) -> tuple[PatchModel, Tensor, Tensor, float]:
    """Volume in the box's middle part, all foreground; the score is positive, so the clean Dice is 1."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(shape, generator=generator).double() / unit
    volume = (0.05 + 0.9 * torch.rand((1, *shape), generator=generator).double()) * unit
    height = 0.3 * float(weight.abs().sum()) * unit
    bias = float((volume * weight).sum()) - height
    return PatchModel(OneScore(weight, bias)), volume, torch.ones((1, *shape[1:]), dtype=torch.long), height


def oracle(weight: Tensor, x: Tensor, height: float, low: float, high: float, norm: str) -> float:
    """Least norm of d with weight.d = -height in the box, by bisection on the multiplier (monotone in each norm)."""

    def move(t: float) -> Tensor:
        d = -weight.sign() * t if norm == "linf" else -weight * t
        return torch.minimum(torch.maximum(d, low - x), high - x)

    start, end = 0.0, 1e6
    for _ in range(200):
        middle = (start + end) / 2
        start, end = (middle, end) if float((weight * move(middle)).sum()) > -height else (start, middle)
    d = move(end)
    return float(d.abs().max() if norm == "linf" else d.norm())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [FabDice(), FabT()])
@pytest.mark.parametrize("bounds", [UNIT, WIDE])
def test_linear_model_exact_distance(attack, norm, bounds):
    """In the unit box (active for a part of the voxels) and in a wide one, whose width is the unit."""
    shape = (1, 4, 4, 4)
    model, volume, target, height = linear_case(shape, 1.0)
    (low, high), weight = bounds[0], model.network.weight[None]
    want = oracle(weight, volume, height, low, high, norm) / (high - low)
    found = attack.smallest(model, volume, target, ThreatModel(0.1, norm, bounds=bounds))
    assert want <= float(found.distance) + 1e-9
    assert float(found.distance) == pytest.approx(want, rel=0.01)


def test_the_unit_box_is_active_for_some_voxels():
    model, volume, _, height = linear_case((1, 4, 4, 4), 1.0)
    weight = model.network.weight[None]
    boxed = oracle(weight, volume, height, 0.0, 1.0, "linf")
    assert boxed > 1.01 * oracle(weight, volume, height, -100.0, 100.0, "linf")


def plane(seed: int, voxels: int = 12) -> tuple[Tensor, Tensor, Tensor, ThreatModel]:
    """Two cases of two channels with windows of different width, inside their boxes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((2, 2, voxels // 2), generator=generator).double()
    normal = torch.randn(x.shape, generator=generator).double()
    normal[:, :, 0] = 0
    share = torch.tensor([0.15, 0.6], dtype=torch.float64)
    rise = share * normal.abs().flatten(1).sum(1) * torch.tensor([1.0, -0.5], dtype=torch.float64) * 0.5
    return x, normal, rise, ThreatModel(0.1, bounds=((0.0, 1.0), (-1.0, 2.0)))


@pytest.mark.parametrize("seed", range(5))
def test_projection_linf_matches_a_linear_program(seed):
    x, normal, rise, threat = plane(seed)
    ball = threat.ball(x)
    moved = onto_plane(ball, x, normal, rise)
    unit = ball.unit.expand_as(x)[0].flatten().numpy()
    for n in range(2):
        w, at = normal[n].flatten().numpy(), x[n].flatten()
        low = (ball.low.expand_as(x)[n].flatten() - at).numpy()
        high = (ball.high.expand_as(x)[n].flatten() - at).numpy()
        size = len(w)
        bound = np.vstack([np.c_[np.eye(size), -unit], np.c_[-np.eye(size), -unit]])
        best = linprog(
            np.r_[np.zeros(size), 1], A_ub=bound, b_ub=np.zeros(2 * size), A_eq=[np.r_[w, 0]], b_eq=[float(rise[n])],
            bounds=[*zip(low, high, strict=True), (0, None)],
        )  # fmt: skip
        assert best.success
        ours = moved[n].flatten().numpy()
        assert abs(ours @ w - float(rise[n])) < 1e-10
        assert (ours >= low - 1e-12).all()
        assert (ours <= high + 1e-12).all()
        assert abs(np.abs(ours / unit).max() - best.fun) < 1e-8


@pytest.mark.parametrize("seed", range(5))
def test_projection_l2_matches_the_multiplier_and_a_solver(seed):
    x, normal, rise, threat = plane(seed)
    ball = replace(threat, norm="l2").ball(x)
    moved = (onto_plane(ball, x, normal, rise) / ball.unit).flatten(1)
    w = (normal * ball.unit).flatten(1)
    low, high = ((ball.low - x) / ball.unit).flatten(1), ((ball.high - x) / ball.unit).flatten(1)
    for n in range(2):
        start, end = -1e4, 1e4
        for _ in range(200):
            middle = (start + end) / 2
            below = float((w[n] * (middle * w[n]).clamp(low[n], high[n])).sum()) < float(rise[n])
            start, end = (middle, end) if below else (start, middle)
        assert torch.allclose(moved[n], (end * w[n]).clamp(low[n], high[n]), atol=1e-8, rtol=0)
        solved = minimize(
            lambda d: d @ d, np.zeros(w.shape[1]), jac=lambda d: 2 * d, method="SLSQP", tol=1e-14,
            bounds=list(zip(low[n].tolist(), high[n].tolist(), strict=True)),
            constraints={"type": "eq", "fun": lambda d, n=n: d @ w[n].numpy() - float(rise[n])},
        )  # fmt: skip
        assert float(moved[n].square().sum()) <= solved.fun + 1e-8


def test_a_plane_out_of_reach_gives_the_corner():
    weight, room = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.5, 0.25, 0.3]])
    for norm in ("linf", "l2"):
        moved = least_move(weight, room, torch.tensor([5.0]), norm)
        assert moved[0, :2].tolist() == [0.5, 0.25]
    assert least_move(weight, room, torch.tensor([0.0]), "linf").tolist() == [[0.0, 0.0, 0.0]]
    assert least_move(torch.zeros(1, 3), room, torch.tensor([0.0]), "l2").tolist() == [[0.0, 0.0, 0.0]]


def blobs(count: int, size: int, dims: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise of up to 0.25 with two brighter balls, classes 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.stack(torch.meshgrid(*[torch.arange(size).float()] * dims, indexing="ij"))
    image = 0.25 * torch.rand((count, 1, *(size,) * dims), generator=generator)
    label = torch.zeros((count, *(size,) * dims), dtype=torch.long)
    for n in range(count):
        for of in (1, 2):
            centre = size * (0.25 + 0.5 * torch.rand(dims, generator=generator))
            radius = size * (0.15 + 0.1 * float(torch.rand((), generator=generator)))
            inside = (axes - centre.view(-1, *(1,) * dims)).square().sum(0).sqrt() < radius
            label[n][inside] = of
            image[n, 0][inside] += 0.35 * of
    return image.clamp(0, 1), label


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def trained(request: pytest.FixtureRequest) -> tuple[PatchModel, Tensor, Tensor]:
    dims: int = request.param
    size = 24 if dims == 2 else 12
    torch.manual_seed(0)
    conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
    network = nn.Sequential(
        conv(1, 6, 3, padding=1), norm(6, affine=True), nn.LeakyReLU(),
        conv(6, 6, 3, padding=1), norm(6, affine=True), nn.LeakyReLU(), conv(6, 3, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(200):
        image, label = blobs(4, size, dims, step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(image), label).backward()
        optimizer.step()
    return PatchModel(network), *blobs(8, size, dims, 1001)


def bisected_pgd(model: PatchModel, x: Tensor, t: Tensor, broken: Tensor, norm: str) -> Tensor:
    """The least radius at which 40 steps of a tenth of it, up the soft Dice loss, break a case."""
    loss = create_objective("dice")
    scale = 1.0 if norm == "linf" else x[0].numel() ** 0.5
    low, high = torch.zeros(len(x)), torch.ones(len(x))
    for _ in range(9):
        middle = (low + high) / 2
        around = ThreatModel(1.0, norm, bounds=UNIT).ball(x)
        ball = replace(around, eps=(scale * middle).view(-1, *(1,) * (x.ndim - 1)))
        at, hit = x, torch.zeros(len(x), dtype=torch.bool)
        for _ in range(40):
            logits, _, gradient = model.value_and_grad(at, t, lambda z, y: loss(z, y, 0.0))
            hit |= judge(model, logits, t) < broken
            at = ball.project(at + 0.1 * ball.step(gradient))
        hit |= judge(model, model.logits(at), t) < broken
        high, low = torch.where(hit, middle, high), torch.where(hit, low, middle)
    return scale * high


@pytest.mark.slow  # the shortest way to a plane and to a known boundary is tested above
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_dice_breaks_a_network_as_near_as_a_bisection_of_pgd(trained, norm):
    model, volume, target = trained
    threshold = judge(model, model.logits(volume), target) / 2
    assert float(threshold.mean()) > 0.35, "the toy did not learn"
    found = FabDice().smallest(model, volume, target, ThreatModel(0.01, norm, bounds=UNIT))
    ratio = (found.distance / bisected_pgd(model, volume, target, threshold, norm)).double()
    assert float(ratio.log().mean().exp()) <= 1.03, ratio.tolist()
    # No search from one start is safe from a local minimum; it met one in 144 toy cases, at 1.25.
    assert int((ratio > 1.1).sum()) <= 1, ratio.tolist()
    assert float(ratio.max()) <= 1.3, ratio.tolist()
    judged = judge(model, model.logits(found.adversarial), target)
    assert (judged < threshold).all()
    assert torch.equal(judged, found.dice)
    assert (found.adversarial >= 0).all()
    assert (found.adversarial <= 1).all()
    moved = (found.adversarial - volume).flatten(1)
    size = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    assert torch.allclose(found.distance.float(), size, rtol=1e-5)
    assert found.gradients == 20 + 1


def test_inside_a_ball_it_breaks_what_it_can_reach(trained):
    model, volume, target = trained
    threat = ThreatModel(0.1, bounds=UNIT)
    found = FabDice().smallest(model, volume, target, threat)
    for eps in (float(found.distance.max()) * 1.001, float(found.distance.min()) / 4):
        result = FabDice()(model, volume, target, threat.with_eps(eps))
        assert (result.distance <= eps + 1e-6).all()
        assert (result.dice <= result.clean_dice).all()
        if eps > float(found.distance.max()):
            assert (result.dice < found.threshold).all()


def test_restarts_are_never_farther_and_seeds_repeat(trained):
    model, volume, target = trained
    threat = ThreatModel(0.1, bounds=UNIT)
    once = FabDice(steps=5).smallest(model, volume, target, threat)
    twice = [FabDice(steps=5, restarts=3).smallest(model, volume, target, threat, seed=4) for _ in range(2)]
    assert (twice[0].distance <= once.distance).all()
    assert torch.equal(twice[0].adversarial, twice[1].adversarial)


class Saturated(nn.Module):
    """A class score so steep that the soft Dice has no gradient at all in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), 1e4 * (x - 0.5)], 1)


def test_breaks_a_model_whose_soft_dice_has_no_gradient():
    volume = torch.where(torch.arange(16).view(1, 1, 4, 4) < 8, 0.2, 0.9)
    target = (volume[:, 0] > 0.5).long()
    with pytest.warns(UserWarning, match="the gradient was 0 in most steps"):
        found = FabDice().smallest(PatchModel(Saturated()), volume, target, ThreatModel(0.1, bounds=UNIT))
    assert float(found.dice) < 0.5
    assert 0.3 < float(found.distance) < 1.0


def test_what_cannot_be_broken_is_infinitely_far_and_what_is_broken_is_at_0():
    stubborn = OneScore(torch.zeros(1, 4, 4), -2.0)
    volume, target = torch.rand(2, 1, 4, 4), torch.ones(2, 4, 4, dtype=torch.long)
    target[1, 0, 0] = 0
    for attack in (FabDice(steps=3), FabT(steps=3)):
        with pytest.warns(UserWarning, match="0 in every step for 2 of 2 cases: nothing was learnt from this attack"):
            found = attack.smallest(PatchModel(stubborn), volume, target, ThreatModel(0.1, bounds=UNIT))
        assert found.distance.tolist() == [float("inf")] * 2
        assert torch.equal(found.adversarial, volume)
    found = FabDice(steps=3, threshold=0.99).smallest(
        PatchModel(stubborn), volume, target, ThreatModel(0.1, bounds=UNIT), warn=False
    )
    assert found.distance.tolist() == [float("inf"), 0.0]


@pytest.mark.parametrize("attack", [FabDice(), FabT()])
def test_regions(attack):
    class Regions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([4 * (x - 0.5), 4 * (x - 0.75)], 1)

    volume = torch.linspace(0, 1, 36).view(1, 1, 6, 6)
    target = torch.cat([volume > 0.5, volume > 0.75], 1).long()
    found = attack.smallest(PatchModel(Regions(), "regions"), volume, target, ThreatModel(0.1, bounds=UNIT))
    assert float(found.dice) < 0.5
    assert 0 < float(found.distance) < 0.5


def test_refusals():
    with pytest.raises(ValueError, match="steps and restarts"):
        FabDice(steps=0)
    with pytest.raises(ValueError, match="threshold"):
        FabT(threshold=0.0)
    with pytest.raises(ValueError, match="NaN"):
        FabDice().smallest(
            PatchModel(Saturated()), torch.full((1, 1, 2, 2), torch.nan), torch.ones(1, 2, 2, dtype=torch.long),
            ThreatModel(0.1, bounds=UNIT),
        )  # fmt: skip
