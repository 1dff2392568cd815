"""Training on noise: what is added to a patch, and what the preparation would make of it."""

import copy
import math

import pytest
import torch

from tests.training.test_defence import _batch, _learner, _network, _weights
from voxward.core.recipe import Choice, Defence
from voxward.losses.registry import create_loss
from voxward.training.defence import NoiseStep, with_noise
from voxward.training.origin import Origin
from voxward.training.share import Share
from voxward.training.steps import StandardStep, StepInput

WIDE = (2, 2, 16, 16, 16)


def _origin(images, air=None, clipped=False, per_case=False):
    b, c = images.shape[:2]
    return Origin(
        zero=torch.full((b, c), -2.0), air=air, clipped=(clipped,) * c, per_case=(per_case,) * c,
        covered=torch.ones(b, 3), extent=torch.full((b, 3), 100.0), spacing=(1.0, 1.0, 1.0),
    )  # fmt: skip


def _wide(**origin):
    images = torch.randn(WIDE, generator=torch.Generator().manual_seed(5))
    ranges = torch.tensor([[[-1.0, 1.0], [-2.0, 2.0]], [[-4.0, 4.0], [0.0, 8.0]]])
    labels = torch.zeros(2, 16, 16, 16, dtype=torch.long)
    made = _origin(images, **origin) if origin else None
    return StepInput(images, labels, ranges, 1, 0.5, torch.Generator().manual_seed(6), origin=made)


def test_the_noise_is_gaussian_and_a_share_of_each_channel_s_range():
    batch = _wide()
    noise = with_noise(batch, 0.25) - batch.images
    for n, c, width in ((0, 0, 2.0), (0, 1, 4.0), (1, 0, 8.0), (1, 1, 8.0)):
        unit = noise[n, c].double() / (0.25 * width)
        count = unit.numel()
        # Five standard errors of mean, variance and fourth moment of a Gaussian.
        assert abs(float(unit.mean())) < 5 / math.sqrt(count)
        assert abs(float(unit.var()) - 1) < 5 * math.sqrt(2 / count)
        assert abs(float((unit**4).mean()) - 3) < 5 * math.sqrt(96 / count)
    flat = noise.flatten(2) / noise.flatten(2).std(2, keepdim=True)
    for one, other in ((flat[0, 0], flat[0, 1]), (flat[0, 0], flat[1, 0])):  # each draws by itself
        assert abs(float((one * other).mean())) < 5 / math.sqrt(one.numel())


def test_the_noise_does_not_depend_on_the_number_of_processes():
    whole = with_noise(_wide(), 0.25)
    for rank in (0, 1):
        batch = _wide()
        own = slice(rank, rank + 1)
        part = StepInput(
            batch.images[own], batch.labels[own], batch.ranges[own], 1, 0.5, batch.generator, Share(2, rank, 2)
        )
        assert torch.equal(with_noise(part, 0.25), whole[own])


def test_a_step_is_the_one_made_by_hand():
    network = _network()
    twin = copy.deepcopy(network)
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    figures = NoiseStep(_learner(network), Defence("noise", sigma=0.1))(_batch())
    again = _batch()
    x = with_noise(again, 0.1)
    assert torch.equal(seen[-1], x)
    loss, optimizer = create_loss(Choice("dice-ce")), torch.optim.Adam(twin.parameters(), 1e-2)
    value = loss(twin(x), again.labels)
    value.backward()
    optimizer.step()
    torch.testing.assert_close(_weights(network), _weights(twin), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(figures[0], value.detach())
    norm = torch.stack([p.grad.norm() for p in twin.parameters()]).norm()
    torch.testing.assert_close(figures[2], norm)


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)])
def test_sigma_is_fixed_after_its_warm_up(done, share):
    network, seen = _network(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    NoiseStep(_learner(network), Defence("noise", sigma=0.2, warmup=0.4))(_batch(done=done))
    torch.testing.assert_close(seen[-1], with_noise(_batch(), 0.2 * share))


def test_clean_samples_stay_as_they_are():
    plain, hardened = _network(), _network()
    one = StandardStep(_learner(plain))(_batch())
    other = NoiseStep(_learner(hardened), Defence("noise", clean=1.0))(_batch())
    assert torch.equal(one[0], other[0])
    assert torch.equal(_weights(plain), _weights(hardened))


def test_a_validation_is_challenged_at_the_full_sigma():
    step = NoiseStep(_learner(_network()), Defence("noise", sigma=0.3, warmup=1.0))
    assert torch.equal(step.challenge(_batch(done=0.0)), with_noise(_batch(), 0.3))


def test_air_stays_and_does_not_count():
    air = torch.zeros(WIDE, dtype=torch.bool)
    air[0, 0, :8] = True  # of one channel of one sample
    batch = _wide(air=air, per_case=True)
    batch.images[0, 0, :8] = -2.0
    found = with_noise(batch, 0.25)
    assert torch.equal(found[air], batch.images[air])
    body, before = found[0, 0, 8:], batch.images[0, 0, 8:]
    torch.testing.assert_close(body.mean(), before.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(body.std(), before.std(), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(body, before).all()


def test_where_the_plan_clips_the_noise_is_clipped():
    """As a CT is: what a patch holds beyond the range, by an augmentation, stays legal."""
    batch = _wide(clipped=True)
    found = with_noise(batch, 0.25)
    free = with_noise(_wide(), 0.25)
    low = torch.minimum(batch.ranges[..., 0], batch.images.amin((2, 3, 4)))[..., None, None, None]
    high = torch.maximum(batch.ranges[..., 1], batch.images.amax((2, 3, 4)))[..., None, None, None]
    assert torch.equal(found, free.clamp(low, high))
    assert not torch.equal(found, free)


def test_a_constant_channel_stays_finite():
    batch = _wide(per_case=True)
    batch.images[:] = 1.0
    assert with_noise(batch, 0.25).isfinite().all()
    batch.ranges[:] = 1.0  # a range without a width gives no noise
    assert torch.equal(with_noise(batch, 0.25), batch.images)
