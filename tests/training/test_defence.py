"""The steps that harden, against hand-written loops on a toy network."""

import copy
import math
from dataclasses import fields

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, softmax

from voxward.attacks.objectives import create_objective
from voxward.core.recipe import Choice, Defence
from voxward.losses.registry import create_loss
from voxward.training.defence import (
    DEFENCES,
    FreeStep,
    PgdStep,
    TradesStep,
    ascended,
    ascent_precision,
    divergence,
    patch_ball,
    random_start,
)
from voxward.training.learner import Learner
from voxward.training.schedule import create_schedule
from voxward.training.steps import HardeningStep, StandardStep, StepInput

EPS = 8 / 255
BALLS = ["free", "pgd", "trades"]
NONE = ("mixed", "saturation")
MIXED = ["consistency", "corruptions"]
SHAPE = (2, 1, 8, 8, 8)


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.InstanceNorm3d(4, affine=True), nn.SiLU(), nn.Conv3d(4, 3, 1)
    )


def _learner(network, clip=None):
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), 1e-2))
    schedule = create_schedule(Choice("constant"))
    return Learner(fabric, wrapped, optimizer, create_loss(Choice("dice-ce")), schedule, clip)


def _batch(number=1, done=0.5, shape=SHAPE):
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(shape, generator=generator)
    labels = torch.randint(0, 3, (shape[0], *shape[2:]), generator=generator)
    # Windows of different width per case; some voxels lie beyond.
    ranges = torch.tensor([[[-1.0, 1.5]], [[-2.0, 2.0]]])
    return StepInput(images, labels, ranges, number, done, torch.Generator().manual_seed(100 + number))


def _weights(network):
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


@pytest.mark.parametrize("name", list(DEFENCES))
def test_every_defence_is_a_step(name):
    step = DEFENCES[name](_learner(_network()), Defence(name))
    assert isinstance(step, HardeningStep)
    before = _weights(step.learner.network)
    figures = step(_batch(number=0))
    assert len(figures) == len(step.figures)
    # In a mixture there may be no attacked patch.
    assert all(x.isfinite() for x, known in zip(figures, step.figures, strict=True) if (name, known) != NONE)
    assert not torch.equal(_weights(step.learner.network), before)
    assert math.isnan(step(_batch(number=1))[1]) is (name != "trades")


def test_a_free_step_is_the_hand_computed_one():
    """Twice the same batch: weights by Adam, perturbation by the sign of the same backward pass, kept for the next."""
    network = _network()
    twin = copy.deepcopy(network)
    step = FreeStep(_learner(network), Defence("free", EPS, replays=2, step=0.5))
    optimizer, loss = torch.optim.Adam(twin.parameters(), 1e-2), create_loss(Choice("dice-ce"))
    delta = torch.zeros(SHAPE)
    for number in (1, 2):
        batch = _batch(number)
        step(batch)
        width = (batch.ranges[..., 1] - batch.ranges[..., 0]).view(2, 1, 1, 1, 1)
        low = torch.stack([torch.minimum(w[0, 0], x.min()) for w, x in zip(batch.ranges, batch.images, strict=True)])
        high = torch.stack([torch.maximum(w[0, 1], x.max()) for w, x in zip(batch.ranges, batch.images, strict=True)])
        for _ in range(2):
            x = (batch.images + delta).clamp(low.view(2, 1, 1, 1, 1), high.view(2, 1, 1, 1, 1)).requires_grad_()
            optimizer.zero_grad()
            loss(twin(x), batch.labels).backward()
            optimizer.step()
            eps = EPS * width
            delta = torch.minimum(torch.maximum(delta + 0.5 * eps * x.grad.sign(), -eps), eps)
        torch.testing.assert_close(_weights(network), _weights(twin), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(step.share * EPS * width, delta, rtol=1e-4, atol=1e-7)
        delta = delta / width  # kept as a share, so that it fits the next batch's ranges
        delta = delta * (_batch(number + 1).ranges[..., 1] - _batch(number + 1).ranges[..., 0]).view(2, 1, 1, 1, 1)


def test_the_perturbation_reaches_eps_and_stays_in_ball_and_box():
    """The ROG authors' released step is a floor division: it never leaves zero."""
    network, seen, reached = _network(), [], []
    step = FreeStep(_learner(network), Defence("free", EPS, replays=5))
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    for number in range(1, 4):
        batch = _batch(number)
        seen.clear()
        figures = step(batch)
        ball = patch_ball(batch.images, batch.ranges, EPS)
        assert len(seen) == 5
        assert all(ball.holds(x).all() for x in seen)
        reached.append(max(float(ball.distance(x).max()) for x in seen))
        assert 0 <= figures[2] <= 1
    assert max(reached) == pytest.approx(EPS, rel=1e-5)
    assert figures[2] > 0.5


@pytest.mark.parametrize("clip", [None, 0.1])
def test_once_and_without_eps_it_is_standard_training_bit_for_bit(clip):
    plain, free = _network(), _network()
    standard = StandardStep(_learner(plain, clip))
    step = FreeStep(_learner(free, clip), Defence("free", 0.0, replays=1))
    for number in range(1, 6):
        one, other = standard(_batch(number)), step(_batch(number))
        assert torch.equal(one[0], other[0])
    assert torch.equal(_weights(plain), _weights(free))


def test_the_search_is_pgd_and_leaves_the_network_as_it_was():
    network = _network().train()
    batch = _batch()
    loss = create_objective("ce")
    ball = patch_ball(batch.images, batch.ranges, EPS)
    found = ascended(network, ball, batch.images, lambda z, progress: loss(z, batch.labels, progress), 3, 0.5)
    x = batch.images.clone()
    for _ in range(3):
        x.requires_grad_()
        values = cross_entropy(network(x), batch.labels, reduction="none").flatten(1).mean(1)
        (gradient,) = torch.autograd.grad(values.sum(), x)
        x = ball.project(x.detach() + 0.5 * ball.eps * gradient.sign())
    torch.testing.assert_close(found, x)
    assert network.training
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(
    ("kind", "options"),
    [(PgdStep, {"objective": "dice"}), (TradesStep, {"beta": 3.0}), (PgdStep, {"start": "reference"})]
    + [(PgdStep, {"objective": name}) for name in ("dice-sharp", "tsallis", "boundary", "frontier", "dice-ce")],
)
def test_weights_learn_on_what_the_search_found(kind, options):
    """The same update as one made by hand on the same perturbed batch."""
    network = _network()
    twin = copy.deepcopy(network)
    defence = Defence("pgd" if kind is PgdStep else "trades", EPS, steps=2, **options)
    batch, again = _batch(), _batch()
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    kind(_learner(network), defence)(batch)
    ball = patch_ball(again.images, again.ranges, EPS)
    start = again.images if defence.start == "reference" else random_start(ball, again)
    loss, inner = create_loss(Choice("dice-ce")), create_objective(defence.objective)
    own = twin(again.images).detach()
    if kind is PgdStep:
        x = ascended(twin, ball, start, lambda z, p: inner(z, again.labels, p), 2, 2.5 / 2)
        value = loss(twin(x), again.labels)
    else:
        x = ascended(twin, ball, start, lambda z, _: divergence(own, z, again.labels), 2, 2.5 / 2)
        clean = twin(again.images)
        value = loss(clean, again.labels) + 3.0 * divergence(clean, twin(x), again.labels).mean()
    # Adam's first step hardly depends on how large a gradient is, so that the patches are compared, too.
    torch.testing.assert_close(seen[-1][-len(x) :], x)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-2)
    value.backward()
    optimizer.step()
    torch.testing.assert_close(_weights(network), _weights(twin), rtol=1e-4, atol=1e-6)


def test_divergence_is_the_balanced_kl():
    clean, struck = torch.randn(2, 1, 3, 4, 4, 4)
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[:, 0, 0, :2] = 1
    p = softmax(clean, 1)
    kl = (p * (log_softmax(clean, 1) - log_softmax(struck, 1))).sum(1)
    expected = (kl[labels > 0].mean() + kl[labels == 0].mean()) / 2
    torch.testing.assert_close(divergence(clean, struck, labels)[0], expected)
    assert float(divergence(clean, clean, labels)) == pytest.approx(0, abs=1e-6)


def test_warm_up_and_clean_samples():
    """At the beginning of a warm-up nothing is perturbed; of clean samples nothing ever is."""
    for defence, done in ((Defence("pgd", EPS, warmup=0.5), 0.0), (Defence("pgd", EPS, clean=1.0), 0.5)):
        plain, hardened = _network(), _network()
        standard, step = StandardStep(_learner(plain)), PgdStep(_learner(hardened), defence)
        one, other = standard(_batch(done=done)), step(_batch(done=done))
        torch.testing.assert_close(one[0], other[0])
        torch.testing.assert_close(_weights(plain), _weights(hardened))
    # Nothing that moved is at a rim that is none.
    assert PgdStep(_learner(_network()), Defence("pgd", EPS, warmup=0.5))(_batch(done=0.0))[2] == 0


@pytest.mark.parametrize("name", BALLS)
@pytest.mark.parametrize(("done", "expected"), [(0.2, EPS / 2), (0.4, EPS), (0.9, EPS)])
def test_eps_grows_in_proportion_to_what_is_done_of_the_warm_up(name, done, expected):
    network, seen = _network(), []
    step = DEFENCES[name](_learner(network), Defence(name, EPS, warmup=0.4))
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    batch = _batch(done=done)
    step(batch)
    ball = patch_ball(batch.images, batch.ranges, expected)
    assert float(ball.distance(seen[-1][-2:]).max()) == pytest.approx(expected, rel=1e-3)  # trades: the second half


@pytest.mark.parametrize("name", BALLS)
def test_eps_can_grow_until_the_end_of_the_run(name):
    network, seen, sizes = _network(), [], []
    step = DEFENCES[name](_learner(network), Defence(name, 2 * EPS, warmup=1.0))
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    for done in (0.0, 0.25, 0.5, 1.0):
        batch = _batch(done=done)
        step(batch)
        sizes.append(float(patch_ball(batch.images, batch.ranges, 2 * EPS).distance(seen[-1][-2:]).max()))
    assert sizes == pytest.approx([0.0, EPS / 2, EPS, 2 * EPS], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["free", "pgd"])
def test_each_sample_is_clean_or_not_by_itself(name):
    network, seen, clean = _network(), [], []
    step = DEFENCES[name](_learner(network), Defence(name, EPS, replays=2, steps=1, clean=0.25))
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    for number in range(1, 61):
        batch = _batch(number)
        step(batch)
        clean.append((seen[-1] == batch.images).flatten(1).all(1))
    found = torch.stack(clean).float()
    assert float(found.mean()) == pytest.approx(0.25, abs=0.12)  # three standard deviations of 120 draws
    assert (found.sum(1) == 1).any()


def test_each_channel_has_its_own_window():
    images = torch.zeros(2, 2, 3, 3, 3)
    images[1, 1, 0, 0, 0] = 9.0  # beyond its window: the box reaches as far
    ranges = torch.tensor([[[-1.0, 1.0], [-2.0, 2.0]], [[-4.0, 4.0], [0.0, 8.0]]])
    ball = patch_ball(images, ranges, 0.5)
    high, low = (ball.project(images + sign * 100) for sign in (1, -1))
    assert high.amax((2, 3, 4)).tolist() == [[1.0, 2.0], [4.0, 9.0]]
    assert high[1, 1, 1, 1, 1] == 4.0  # eps ends before the box does
    assert low.amin((2, 3, 4)).tolist() == [[-1.0, -2.0], [-4.0, 0.0]]


@pytest.mark.parametrize(("precision", "cast"), [("bf16-mixed", True), ("32-true", False)])
def test_searches_compute_as_training_does_but_never_in_fp16(precision, cast):
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    with ascent_precision(fabric):
        assert torch.is_autocast_enabled("cpu") is cast
    if cast:
        fabric.strategy.precision.precision = "16-mixed"  # a processor has none
        with ascent_precision(fabric):
            assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("options", "word"),
    [({"eps": 1.5}, "eps"), ({"replays": 0}, "replays"), ({"step": 0.0}, "step"), ({"clean": -0.1}, "clean"),
     ({"beta": -1.0}, "beta"), ({"steps": 0}, "steps"), ({"robust": 2.0}, "robust"), ({"warmup": 1.1}, "warmup"),
     ({"sigma": -0.1}, "sigma"), ({"consistency": -1.0}, "consistency"),
     ({"method": "trades", "start": "reference"}, "start must be random in trades")],
)  # fmt: skip
def test_numbers_out_of_range_are_problems(options, word):
    assert any(word in problem for problem in Defence(**options).problems())


@pytest.mark.parametrize(
    ("method", "unused"),
    [("free", ["steps", "objective", "start", "beta", "sigma", *MIXED]),
     ("pgd", ["replays", "beta", "sigma", *MIXED]),
     ("trades", ["replays", "objective", "start", "clean", "sigma", *MIXED]),
     ("noise", ["eps", "replays", "steps", "step", "objective", "start", "beta", *MIXED]),
     ("mixed", ["replays", "clean", "beta", "sigma"])],
)  # fmt: skip
def test_a_method_names_the_settings_that_it_does_not_use(method, unused):
    names = [entry.name for entry in fields(Defence)]
    assert Defence(method=method).unused(names) == unused
