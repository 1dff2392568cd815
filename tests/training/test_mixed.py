"""Training on clean, attacked and corrupted patches together, against a step made by hand."""

import copy
import math

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.training.test_defence import EPS, _batch, _learner, _network, _weights
from tests.training.test_steps import _Deep
from voxward.attacks.objectives import create_objective
from voxward.core.labels import IGNORED, LabelSet
from voxward.core.recipe import Choice, Defence
from voxward.losses.deep import supervised
from voxward.losses.registry import create_loss
from voxward.training.defence import MixedStep, ascended, divergence, patch_ball
from voxward.training.defence.mixed import ATTACKED, CLEAN, CORRUPTED, kinds_of
from voxward.training.defence.perturbation import random_points
from voxward.training.patch_corruptions import PatchCorruptions
from voxward.training.share import Share
from voxward.training.steps import StandardStep, StepInput


def _of(number, size=8, **changes):
    """A batch of several patches, whose kinds a number decides."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(size, 1, 8, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (size, 8, 8, 8), generator=generator)
    ranges = torch.tensor([[[-2.0, 2.0]]]).repeat(size, 1, 1)
    own = torch.Generator().manual_seed(100 + number)
    return StepInput(images, changes.pop("labels", labels), ranges, number, 0.5, own, **changes)


def _kinds(number, size=8):
    images, own = torch.zeros(size, 1, 1, 1, 1), torch.Generator().manual_seed(100 + number)
    ranges = torch.zeros(size, 1, 2)
    return kinds_of(StepInput(images, images[:, 0].long(), ranges, number, 0.5, own)).tolist()


EVERY = next(number for number in range(100) if set(_kinds(number)) == {CLEAN, ATTACKED, CORRUPTED})


class _Trained(_Deep):
    """Auxiliary outputs while it is trained only, as the networks of this package."""

    def forward(self, x):
        outputs = super().forward(x)
        return outputs if self.training else outputs[0]


def test_half_a_quarter_and_a_quarter_in_the_mean_for_any_size_of_a_batch():
    for size in (1, 2, 3):
        found = [kind for number in range(900 // size) for kind in _kinds(number, size)]
        for kind, share in ((CLEAN, 0.5), (ATTACKED, 0.25), (CORRUPTED, 0.25)):
            spread = math.sqrt(share * (1 - share) / len(found))
            assert abs(found.count(kind) / len(found) - share) < 5 * spread


def test_the_kinds_do_not_depend_on_the_number_of_processes():
    whole = kinds_of(_of(3))
    for rank in range(4):
        batch = _of(3)
        share = Share(8, rank, 4)
        images, labels, ranges = (each[share.places] for each in (batch.images, batch.labels, batch.ranges))
        part = StepInput(images, labels, ranges, 3, 0.5, batch.generator, share)
        assert torch.equal(kinds_of(part), whole[share.places])


@pytest.mark.parametrize("start", ["random", "reference"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_step_is_the_one_made_by_hand(deep, start):
    torch.manual_seed(0)
    network = _Trained() if deep else _network()
    twin, loss = copy.deepcopy(network), create_loss(Choice("dice-ce"))
    learner = _learner(network)
    if deep:
        loss = learner.loss = supervised(loss, (0.5,))
    defence = Defence("mixed", EPS, steps=2, consistency=3.0, start=start)
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    figures = MixedStep(learner, defence)(_of(EVERY))
    # By hand, from the same random numbers.
    batch = _of(EVERY)
    kinds, sources = kinds_of(batch), batch.generators()
    x, rows = batch.images.clone(), (kinds == ATTACKED).nonzero().flatten()
    ball, dice = patch_ball(batch.images, batch.ranges, EPS).rows(rows), create_objective("dice")
    begin = random_points(ball, [sources[n] for n in rows]) if start == "random" else ball.reference
    main = (lambda z: twin(z)[0]) if deep else twin
    x[rows] = ascended(twin, ball, begin, lambda z, p: dice(z, batch.labels[rows], p), 2, 2.5 / 2)
    for n in (kinds == CORRUPTED).nonzero().flatten().tolist():
        one = slice(n, n + 1)
        x[one] = PatchCorruptions.chosen().corrupted(batch.images[one], batch.ranges[one], None, sources[n])
    changed = kinds != CLEAN
    torch.testing.assert_close(seen[-1], torch.cat([x, batch.images[changed]]))
    assert torch.equal(seen[-1][:8][~changed], batch.images[~changed])
    clean, perturbed = main(batch.images[changed]), main(x[changed])
    apart = divergence(clean, perturbed, batch.labels[changed]).sum() / 8
    value = loss(twin(x), batch.labels)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-2)
    (value + 3.0 * apart).backward()
    optimizer.step()
    torch.testing.assert_close(_weights(network), _weights(twin), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(figures[[0, 4]], torch.stack([value, apart]).detach())
    assert learner.case_losses.shape == (8,)
    moved = (x[rows] - ball.reference).abs()
    assert float(figures[2]) == pytest.approx(float((moved >= 0.99 * ball.eps).float().mean()))
    assert len(MixedStep.figures) == len(figures)


def _number_of(*kinds):
    """The first batch with these kinds of patches."""
    return next(number for number in range(500) if _kinds(number, len(kinds)) == list(kinds))


def test_a_clean_batch_is_standard_training_bit_for_bit():
    number = _number_of(CLEAN, CLEAN)
    plain, hardened = _network(), _network()
    one = StandardStep(_learner(plain))(_of(number, 2))
    other = MixedStep(_learner(hardened), Defence("mixed", consistency=5.0))(_of(number, 2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(_weights(plain), _weights(hardened))
    assert math.isnan(other[2])  # nothing was attacked
    assert other[4] == 0


@pytest.mark.parametrize("kind", [CLEAN, ATTACKED, CORRUPTED])
def test_a_batch_of_one_is_of_one_kind(kind):
    network, seen = _network(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    batch = _of(_number_of(kind), 1)
    before = _weights(network)
    figures = MixedStep(_learner(network), Defence("mixed", EPS, steps=1))(batch)
    assert len(seen[-1]) == (1 if kind == CLEAN else 2)
    assert torch.equal(seen[-1][:1], batch.images) is (kind == CLEAN)
    assert torch.equal(seen[-1][-1:], batch.images)
    assert math.isnan(figures[2]) is (kind != ATTACKED)
    assert not torch.equal(_weights(network), before)


def test_eps_grows_during_the_warm_up():
    number = _number_of(ATTACKED, ATTACKED)
    network, seen = _network(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    batch = _of(number, 2)
    MixedStep(_learner(network), Defence("mixed", EPS, warmup=1.0))(batch)  # half of the run is done
    distance = patch_ball(batch.images, batch.ranges, EPS).distance(seen[-1][:2])
    assert float(distance.max()) == pytest.approx(EPS / 2, rel=1e-3)


def test_unannotated_voxels_change_nothing():
    """Whatever a network says where nobody has annotated: neither the loss nor the divergence counts it."""
    labels = LabelSet(("background", "a", "b"), (0, 1, 2), ignore=7)
    found = []
    for unlike in (1.0, -5.0):
        batch = _of(_number_of(CORRUPTED, CLEAN), 2)
        truth = batch.labels.clone()
        truth[:, :4] = IGNORED
        learner = _learner(_network())
        learner.labels, learner.loss = labels, create_loss(Choice("dice-ce"), labels)
        other = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * unlike
        known = torch.arange(8).view(1, 1, 8, 1, 1) >= 4
        learner.network.register_forward_hook(lambda _, given, z, other=other, known=known: z.where(known, other))
        masked = StepInput(batch.images, truth, batch.ranges, 1, 0.5, batch.generator)
        found.append(MixedStep(learner, Defence("mixed"))(masked)[[0, 4]])
    torch.testing.assert_close(found[0], found[1])
    assert found[0][1] > 0


def test_regions_are_read_one_by_one():
    labels = LabelSet(("background", "a", "b"), (0, 1, 2)).with_regions({"whole": (1, 2), "core": (2,)})
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.SiLU(), nn.Conv3d(4, 2, 1))
    learner = _learner(network)
    learner.labels, learner.loss = labels, create_loss(Choice("dice-ce"), labels)
    before = _weights(network)
    figures = MixedStep(learner, Defence("mixed", steps=1))(_of(EVERY))
    assert figures[[0, 2, 3, 4]].isfinite().all()
    assert figures[4] > 0
    assert not torch.equal(before, _weights(network))


def test_it_trains_in_bf16():
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    learner = _learner(_network())
    network = _network()
    wrapped, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), 1e-2))
    learner.fabric, learner.network, learner.optimizer = fabric, wrapped, optimizer
    figures = MixedStep(learner, Defence("mixed", steps=1))(_of(EVERY))
    assert figures.dtype == torch.float32
    assert figures[[0, 2, 3, 4]].isfinite().all()


def test_a_validation_is_attacked_as_in_pgd():
    network = _network().eval()
    step = MixedStep(_learner(network), Defence("mixed", EPS))
    batch = _batch()
    found = step.challenge(batch)
    ball, dice = patch_ball(batch.images, batch.ranges, EPS), create_objective("dice")
    expected = ascended(network, ball, batch.images, lambda z, p: dice(z, batch.labels, p), 5, 2.5 / 5)
    assert torch.equal(found, expected)
