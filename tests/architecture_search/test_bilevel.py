import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from voxward.architecture_search.bilevel import Bilevel, Budget
from voxward.architecture_search.cost import cost_table
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.core.recipe.search import Search
from voxward.nets.layout import Layout

SPACE = MacroSpace(2, 2)
LAYOUT = Layout(2, ((1, 1), (2, 2)), filters=2, blocks=2)


@cache
def _table():
    return cost_table(SPACE, LAYOUT, 1, 2, (8, 8))


def _search(seed=0, steps_per_epoch=2, **settings):
    torch.manual_seed(seed)
    net = SuperNet(1, 2, SPACE, LAYOUT, part=2)
    chosen = Search(**{"warmup_epochs": 1, "cell_epochs": 2, "network_epochs": 2, "layers": 2, "scales": 2} | settings)
    return Bilevel(net, chosen, steps_per_epoch, Budget(_table(), 2))


def _advance(search):
    generator = torch.Generator().manual_seed(search.step)
    batches = [
        (torch.randn(2, 1, 8, 8, generator=generator), torch.randint(2, (2, 8, 8), generator=generator))
        for _ in range(2)
    ]
    return search.advance(*(lambda x=x, y=y: F.cross_entropy(search.net(x), y) for x, y in batches))


def _architecture(net):
    return [p.detach().clone() for p in net.cell_parameters()], [p.detach().clone() for p in net.network_parameters()]


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_each_phase_moves_its_own_parameters_and_leaves_the_others_bit_for_bit(optimizer):
    search = _search(arch_optimizer=optimizer, budget_gmac=1e-4)
    with torch.no_grad():
        for parameter in (*search.net.cell_parameters(), *search.net.network_parameters()):
            parameter.normal_()  # at 0 weight decay would hide
    expected = {"warm-up": (True, True), "cell": (False, True), "network": (True, False)}
    phases = []
    while search.step < search.total_steps:
        phase, before = search.phase, _architecture(search.net)
        weights = [p.detach().clone() for p in search.net.weight_parameters()]
        _, searched = _advance(search)
        after = _architecture(search.net)
        assert (_same(before[0], after[0]), _same(before[1], after[1])) == expected[phase]
        assert not _same(weights, search.net.weight_parameters())
        assert math.isnan(searched) == (phase == "warm-up")
        phases.append(phase)
    assert phases == ["warm-up"] * 2 + ["cell"] * 2 + ["network"] * 4


def test_rates_and_temperature_follow_their_schedule():
    search = _search(temperature=0.1)
    seen = []
    for _ in range(search.total_steps):
        _advance(search)
        seen.append((search.weights.param_groups[0]["lr"], search.net.temperature))
    assert seen[0] == (pytest.approx(0.025), 1.0)
    assert seen[4] == (pytest.approx(0.013), pytest.approx(0.1 ** (2 / 6)))
    assert [t for _, t in seen[:3]] == [1.0] * 3
    search.finish()
    assert search.net.temperature == 0.1


@pytest.mark.parametrize(("at", "optimizer"), [(1, "adam"), (3, "adam"), (6, "adam"), (3, "sgd")])
def test_a_search_that_goes_on_is_the_one_that_never_stopped(at, optimizer, tmp_path):
    whole = _search(arch_optimizer=optimizer, temperature=0.3)
    losses = [_advance(whole) for _ in range(whole.total_steps)]
    first = _search(arch_optimizer=optimizer, temperature=0.3)
    for _ in range(at):
        _advance(first)
    torch.save(first.state(), tmp_path / "state.pt")
    second = _search(seed=5, arch_optimizer=optimizer, temperature=0.3)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert repr([_advance(second) for _ in range(at, second.total_steps)]) == repr(losses[at:])  # NaN equals NaN
    assert _same(whole.net.state_dict().values(), second.net.state_dict().values())
    assert whole.figures() == second.figures()


def test_figures_at_the_start_and_when_all_is_chosen():
    search = _search(steps_per_epoch=1)
    start = search.figures()
    assert start == pytest.approx(
        {"operation_entropy": 1, "input_entropy": 1, "path_entropy": 1, "temperature": 1}
        | {"expected_gmac": start["expected_gmac"]}
    )
    with torch.no_grad():
        for parameter in (*search.net.cell_parameters(), search.net.beta):
            parameter.copy_(1000 * torch.randn_like(parameter))
    chosen = search.figures()
    assert chosen["operation_entropy"] == chosen["input_entropy"] == pytest.approx(0, abs=1e-3)
    assert chosen["path_entropy"] == pytest.approx(0, abs=1e-3)


def test_a_budget_makes_the_network_cheaper():
    """The data say nothing (constant losses), so only the budget pulls."""
    costs = []
    for budget in (None, 1e-5):
        search = _search(
            steps_per_epoch=10, warmup_epochs=0, arch_lr=0.1, arch_weight_decay=0.0, budget_gmac=budget,
            budget_weight=1.0,
        )  # fmt: skip
        start = search.figures()["expected_gmac"]
        while search.step < search.total_steps:
            search.advance(_nothing(search), _nothing(search))
        costs.append(search.figures()["expected_gmac"])
        assert costs[0] == pytest.approx(start)
    assert abs(costs[1] - 1e-5) < 0.5 * abs(costs[0] - 1e-5)


def _nothing(search):
    return lambda: sum((0.0 * p).sum() for p in search.net.parameters())


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_an_entropy_weight_makes_choices_clear_phase_by_phase(temperature):
    """The data say nothing, so only the entropy moves what stands a little apart; off, nothing moves."""
    seen = []
    for weight in (0.0, 1.0):
        search = _search(
            steps_per_epoch=25, arch_lr=0.1, arch_weight_decay=0.0, entropy_weight=weight, temperature=temperature
        )
        with torch.no_grad():
            for n, parameter in enumerate((*search.net.cell_parameters(), search.net.beta)):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)))
        start, rows = _architecture(search.net), []
        while search.step < search.total_steps:
            search.advance(_nothing(search), _nothing(search))
            if search.step % 25 == 0:
                rows.append(search.figures())
        still = all(_same(a, b) for a, b in zip(start, _architecture(search.net), strict=True))
        seen.append((still, rows))
    assert seen[0][0]
    warm, cell, _, last = seen[1][1]
    for name in ("operation_entropy", "input_entropy"):
        assert warm[name] > 0.99
        assert cell[name] < 0.9
    assert last["path_entropy"] < 0.9
    if temperature == 1.0:
        assert cell["path_entropy"] == pytest.approx(warm["path_entropy"])


def test_entropies_are_those_of_the_choices_and_the_loss_adds_them_by_a_ramp():
    search = _search(steps_per_epoch=4, entropy_weight=0.5, arch_optimizer="sgd", weight_decay=0.0, momentum=0.0)
    net = search.net
    with torch.no_grad():
        for parameter in (*net.cell_parameters(), net.beta):
            parameter.normal_()
    rows = [row for kind in net.alpha for row in net.cell_weights(kind)[0]]
    expected = torch.stack([torch.distributions.Categorical(row).entropy() for row in rows]).mean() / math.log(5)
    assert search.entropies()["operation_entropy"].item() == pytest.approx(float(expected.detach()))
    rows = [net.cell_weights(kind)[1][1:3] for kind in net.p]
    expected = torch.stack([torch.distributions.Categorical(row).entropy() for row in rows]).mean() / math.log(2)
    assert search.entropies()["input_entropy"].item() == pytest.approx(float(expected.detach()))
    assert search.entropies()["path_entropy"] <= 1
    search.length.step = 5  # the second of the four steps of the cell phase
    search._set_pace()
    rate, before = search.weights.param_groups[0]["lr"], net.alpha["up"].detach().clone()
    (slope,) = torch.autograd.grad(search.entropies()["operation_entropy"], [net.alpha["up"]])
    search.advance(_nothing(search), _nothing(search))
    torch.testing.assert_close(net.alpha["up"].detach(), before - rate * 0.5 * 2 / 4 * slope)


@pytest.mark.parametrize("seed", range(5))
def test_the_search_picks_the_only_operation_that_can_solve_the_task(seed):
    """The label of a voxel is the sign of the noise 3 voxels away; the stem sees 1, and only two operations see 2."""
    torch.manual_seed(seed)
    space = MacroSpace(1, 1)
    layout = Layout(2, ((1, 1),), filters=4, blocks=1)
    net = SuperNet(1, 2, space, layout, part=1)
    settings = Search(
        layers=1, scales=1, blocks=1, part=1, warmup_epochs=1, cell_epochs=4, network_epochs=0, arch_lr=0.1,
        lr=(0.1, 0.01),
    )  # fmt: skip
    search = Bilevel(net, settings, 15, Budget(cost_table(space, layout, 1, 2, (16, 16)), 1))

    def loss():
        x = torch.randn(8, 1, 16, 16)
        y = (torch.roll(x, (3, 3), (2, 3))[:, 0] > 0).long()
        return F.cross_entropy(net(x), y)

    while search.step < search.total_steps:
        search.advance(loss, loss)
    assert net.best_cells().same[0].operation in ("sep5", "dil3")


def test_what_is_not_finite_stops_the_search():
    search = _search()
    with pytest.raises(FloatingPointError, match="weight loss is nan"):
        search.advance(lambda: torch.tensor(math.nan), lambda: torch.tensor(0.0))
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1, got 0"):
        _search(steps_per_epoch=0)
