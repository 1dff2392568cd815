import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel

from voxward.core.recipe import Choice
from voxward.core.recipe.averaging import Averaging
from voxward.training.averaging import ExponentialMean, Restarting, WeightAverage
from voxward.training.schedule import Schedule, create_schedule

RELEASED = Averaging(stretch=4 / 3, initial=True)
"""As in the authors' code: 51 snapshots, and a cosine over 40 epochs of which 30 are run."""


def _steps(count, total):
    """The steps of a run of `total` at which `count`, a function of the share done that never falls, has grown."""

    def grown(first, last, before, after):
        if before == after:
            return ()
        if last - first == 1:
            return (last,)
        middle = (first + last) // 2
        between = count(middle / total)
        assert before <= between <= after
        return grown(first, middle, before, between) + grown(middle, last, between, after)

    return grown(-1, total, 0, count(1.0))


def _snapshot_steps(averaging, total):
    return _steps(averaging.snapshots_due, total)


def _restart_steps(averaging, total):
    return _steps(averaging.restarts_begun, total)


def test_snapshots_of_the_paper():
    """5 x 30 epochs behind the 200th, every 3: 50 snapshots."""
    assert _snapshot_steps(Averaging(), 350) == tuple(range(203, 351, 3))
    assert len(_snapshot_steps(Averaging(), 350)) == 50
    assert _restart_steps(Averaging(), 350) == (200, 230, 260, 290, 320)


def test_snapshots_of_the_authors_code():
    assert _snapshot_steps(RELEASED, 350) == tuple(range(200, 351, 3))
    assert len(_snapshot_steps(RELEASED, 350)) == 51


@pytest.mark.parametrize("length", [1, 295, 236 * 7])
def test_epochs_of_any_length_keep_the_schedule(length):
    """Counted in steps, whole epochs stay whole."""
    assert _snapshot_steps(Averaging(), 350 * length) == tuple(length * epoch for epoch in range(203, 351, 3))
    assert _restart_steps(Averaging(), 350 * length) == tuple(length * epoch for epoch in (200, 230, 260, 290, 320))


@pytest.mark.parametrize("total", [1, 2, 17, 100, 1001])
def test_odd_runs_have_ascending_snapshots_to_the_end(total):
    steps = _snapshot_steps(Averaging(), total)
    assert list(steps) == sorted(set(steps))
    assert steps[0] > 0
    assert steps[-1] == total
    assert len(steps) <= 50
    assert all(step >= 200 / 350 * total for step in steps)
    restarts = _restart_steps(Averaging(), total)
    assert all(restart <= total for restart in restarts)


def _torch_rates(period, epochs=30):
    """What torch's cosine gives an optimiser that begins with half the initial rate, which is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule, rates = CosineAnnealingLR(optimizer, period), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("averaging", "period"), [(Averaging(), 30), (RELEASED, 40)])
def test_rates_are_torch_s_cosine_at_every_restart(averaging, period):
    rates = [averaging.factor(epoch / 350) for epoch in range(200, 350)]
    assert rates == pytest.approx(5 * _torch_rates(period))


def test_the_released_rate_never_nears_zero():
    assert 1e-4 * RELEASED.factor(200 / 350) == pytest.approx(5e-5)
    assert 1e-4 * RELEASED.factor(229 / 350) == pytest.approx(0.88e-5, rel=0.01)
    assert Averaging().factor(1.0) == pytest.approx(0.0)


def test_the_schedule_before_the_restarts_has_its_whole_course():
    """Pipeline A: 100 epochs flat, 100 cosine, 5 restarts."""
    schedule = Restarting(create_schedule(Choice("flat-cosine", {"flat": 0.5})), Averaging())
    assert isinstance(schedule, Schedule)
    expected = [1.0] * 101 + [0.5 * (1 + math.cos(math.pi * epoch / 100)) for epoch in range(1, 100)]
    assert [schedule.factor(epoch / 350) for epoch in range(200)] == pytest.approx(expected)
    assert schedule.factor(200 / 350) == pytest.approx(0.5)
    assert schedule.factor(230 / 350) == pytest.approx(0.5)


@pytest.mark.parametrize("total", [350, 7 * 331, 1001, 4096])
def test_every_restart_begins_with_the_full_rate(total):
    averaging = Averaging()
    step_of_cosine = math.pi * averaging.restarts / (1 - averaging.start) / total
    for step in _restart_steps(averaging, total):
        assert averaging.factor(step / total) >= 0.25 * (1 + math.cos(step_of_cosine))


def test_averaging_from_the_first_step_needs_no_schedule_before_it():
    schedule = Restarting(create_schedule(Choice("constant")), Averaging(start=0.0, restarts=1))
    assert schedule.factor(0.0) == 0.5
    assert schedule.factor(0.5) == pytest.approx(0.25)


def test_the_schedule_before_is_told_its_own_time_and_resumes():
    def plateau():
        return Restarting(create_schedule(Choice("plateau", {"patience": 0.3})), Averaging(start=0.5))

    schedule = plateau()
    for done, loss in ((0.05, 1.0), (0.15, 2.0), (0.25, 2.0), (0.6, 0.0)):
        schedule.observe(done, loss)
    assert schedule.factor(0.3) == 0.5  # 0.4 of its own run without progress, patience 0.3
    assert schedule.state()["best"] == 1.0  # what happened behind the first restart is not its concern
    again = plateau()
    again.restore(schedule.state())
    assert again.factor(0.3) == 0.5


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1))

    def forward(self, x):
        return self.layers(x)


def _train(network, count, seen):
    """`count` steps on noise, `seen` called after each."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(count):
        optimizer.zero_grad()
        network(torch.randn(2, 1, 4, 4, 4).to(next(network.parameters()))).square().mean().backward()
        optimizer.step()
        seen()


def test_the_mean_is_torch_s():
    network = _Network()
    theirs, ours = AveragedModel(network), WeightAverage(network)
    _train(network, 7, lambda: (theirs.update_parameters(network), ours.add()))
    assert ours.count == int(theirs.n_averaged) == 7
    with ours.applied():
        applied = {name: value.clone() for name, value in network.state_dict().items()}
    assert applied.keys() == theirs.module.state_dict().keys()
    for name, value in theirs.module.state_dict().items():
        torch.testing.assert_close(applied[name], value)


def test_the_mean_is_the_mean():
    network, snapshots = _Network().double(), []
    average = WeightAverage(network)
    _train(network, 5, lambda: (average.add(), snapshots.append([p.detach().clone() for p in network.parameters()])))
    for mean, values in zip(average.mean.values(), zip(*snapshots, strict=True), strict=True):
        torch.testing.assert_close(mean, sum(values) / 5)


def test_one_snapshot_is_its_own_mean_and_no_view():
    network = _Network()
    average = WeightAverage(network)
    average.add()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert all(map(torch.equal, average.mean.values(), before))


def test_the_network_gets_its_own_weights_back_even_after_an_error():
    network = _Network()
    average = WeightAverage(network)
    _train(network, 3, average.add)
    own = [parameter.detach().clone() for parameter in network.parameters()]
    places = [parameter.data_ptr() for parameter in network.parameters()]
    with pytest.raises(RuntimeError, match="stopped"), average.applied():
        assert all(map(torch.equal, network.parameters(), average.mean.values()))
        raise RuntimeError("stopped")
    assert all(map(torch.equal, network.parameters(), own))
    assert [parameter.data_ptr() for parameter in network.parameters()] == places


def test_buffers_stay_the_network_s_own():
    network = _Network()
    average = WeightAverage(network)
    _train(network, 3, average.add)
    own = {name: value.clone() for name, value in network.named_buffers()}
    assert not set(own) & set(average.mean)
    with average.applied():
        assert all(torch.equal(value, own[name]) for name, value in network.named_buffers())


def test_a_resumed_mean_is_the_same(tmp_path):
    network = _Network()
    average = WeightAverage(network)
    _train(network, 3, average.add)
    torch.save(average.state(), tmp_path / "state")
    again = WeightAverage(network)
    again.restore(torch.load(tmp_path / "state", weights_only=True))
    _train(network, 4, lambda: (average.add(), again.add()))
    assert again.count == average.count == 7
    assert all(torch.equal(again.mean[name], value) for name, value in average.mean.items())


def test_a_restored_mean_shares_no_memory_with_the_state():
    network = _Network()
    average, again = WeightAverage(network), WeightAverage(network)
    average.add()
    state = average.state()
    again.restore(state)
    _train(network, 1, again.add)
    assert all(torch.equal(state[f"mean.{name}"], value) for name, value in average.mean.items())
    assert not torch.equal(again.mean["layers.0.weight"], average.mean["layers.0.weight"])


def test_an_empty_mean_resumes_empty_and_is_not_applied():
    average = WeightAverage(_Network())
    average.restore(WeightAverage(_Network()).state())
    assert (average.count, average.mean) == (0, {})
    with pytest.raises(ValueError, match="before the first snapshot"), average.applied():
        pass


def test_a_state_of_another_network_is_refused():
    average = WeightAverage(_Network())
    average.add()
    with pytest.raises(ValueError, match=r"does not fit the network, e\.g\. bias"):
        WeightAverage(nn.Linear(1, 1)).restore(average.state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 1.0}, "start must be in"),
        ({"start": 0.0, "initial": True}, "initial needs a start above 0"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"snapshots": 0}, "snapshots must be at least 1"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"stretch": 0.5}, "stretch must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Averaging(**options)


def test_an_exponential_mean_forgets_fast_at_first_and_then_by_its_decay():
    network, values = _Network().double(), []
    average = ExponentialMean(network, decay=0.8)
    _train(network, 60, lambda: (average.add(), values.append(next(iter(network.parameters())).detach().clone())))
    expected = values[0]
    for n, value in enumerate(values[1:], 1):
        decay = min(0.8, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(next(iter(average.mean.values())), expected)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"decay": 1.0}, "decay must be above 0 and below 1, got 1.0"),
        ({"decay": 0.0}, "decay must be above 0 and below 1, got 0.0"),
        ({"decay": 0.9, "restarts": 3}, "leave the other settings out"),
    ],
)
def test_an_exponential_mean_takes_its_decay_alone(options, problem):
    with pytest.raises(ValueError, match=problem):
        Averaging(**options)
