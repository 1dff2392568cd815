"""A search keeps its time budget whatever else the machine does, and every phase its share of the steps."""

import shutil
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from tests.core.test_plan import PLAN
from tests.training.test_budget import Clock
from voxward.architecture_search import loop
from voxward.architecture_search.bilevel import Bilevel
from voxward.architecture_search.loop import search_architecture
from voxward.architecture_search.run import set_up_search
from voxward.core.interrupt import Interrupted
from voxward.core.recipe import load_recipe
from voxward.runs.folder import RunFolder
from voxward.training import sitting
from voxward.training.log import read_log
from voxward.training.setup import TrainingCases

SECONDS, PASS = 256.0, 0.125
FLAT = replace(PLAN, patch_size=(16, 16, 1), window_size=(16, 16, 1), strides=((2, 2, 1), (2, 2, 1)))
SETTINGS = (
    "network.options.filters=2", "search.layers=2", "search.scales=2", "search.blocks=1", "search.part=2",
    "search.warmup_epochs=5", "search.cell_epochs=20", "search.network_epochs=20",
)  # fmt: skip

LOADS = {
    "none": lambda elapsed: 1,
    "ten times slower at first": lambda elapsed: 10 if elapsed < 30 else 1,
    "the first step alone, sixty times": lambda elapsed: 60 if 0.4 < elapsed < 0.6 else 1,
    "ten times slower from the middle": lambda elapsed: 10 if elapsed > SECONDS / 2 else 1,
    "ten times slower near the end": lambda elapsed: 10 if elapsed > 0.95 * SECONDS else 1,
    "faster near the end": lambda elapsed: 1 if elapsed > 0.9 * SECONDS else 10,
}


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A search whose steps only move a clock."""
    clock, phases = Clock(), []
    recipe = load_recipe("msnas-2d", SETTINGS)
    cases = TrainingCases(tmp_path / "prepared", ("a", "b"), ("c", "d"))

    def set_up():
        return set_up_search(RunFolder(tmp_path / "out"), recipe, FLAT, cases, 0, torch.device("cpu"), 1)

    def batches(sitting, ids, first):
        while True:
            yield SimpleNamespace()

    def begin(load):
        def learnt(sitting, batch):
            clock.now += PASS * load(clock.now - 1024.0)
            return sum(p.sum() for p in sitting.run.bilevel.net.weight_parameters())

        def advance(bilevel, weight_loss, architecture_loss):
            phases.append((bilevel.phase, bilevel.length.done))
            passes = 1 if bilevel.phase == "warm-up" else 2
            clock.now += passes * PASS * load(clock.now - 1024.0)
            bilevel._set_pace()
            bilevel.length.step += 1
            return 1.0, 1.0

        monkeypatch.setattr(loop.SearchSitting, "batches", batches)
        monkeypatch.setattr(loop.SearchSitting, "learnt", learnt)
        monkeypatch.setattr(Bilevel, "advance", advance)
        return set_up()

    return SimpleNamespace(clock=clock, phases=phases, begin=begin, set_up=set_up)


@pytest.mark.parametrize("load", LOADS)
def test_a_finished_search_has_used_its_budget_whatever_the_load(begun, load):
    run = begun.begin(LOADS[load])
    search_architecture(run, SECONDS / 60, clock=begun.clock)
    assert 0.85 <= (begun.clock.now - 1024.0) / SECONDS <= 1.10
    assert run.bilevel.step == run.bilevel.total_steps
    shares = [done for _, done in begun.phases]
    assert shares == sorted(shares)
    assert max(after - before for before, after in pairwise(shares)) < 0.05
    for phase, first, last in (("warm-up", 0.0, 0.125), ("cell", 0.125, 0.5), ("network", 0.5, 1.0)):
        assert {name for name, done in begun.phases if first <= done < last} == {phase}
    rows = read_log(run.log)
    assert [row["epoch"] for row in rows] == sorted({row["epoch"] for row in rows})
    assert rows[-1]["epoch"] == 40


def test_a_search_that_goes_on_has_the_length_it_would_have_had(begun, monkeypatch):
    """It stops twice, and the clock of the second and third sitting shows another time."""

    @contextmanager
    def stop_at(*steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sitting, "stop_on_signal", lambda: nullcontext(lambda: begun.run.bilevel.step in steps))
            yield

    load = LOADS["ten times slower at first"]
    begun.run = begun.begin(load)
    with stop_at():
        search_architecture(begun.run, SECONDS / 60, clock=begun.clock)
    whole, seen = begun.run, list(begun.phases)
    shutil.rmtree(whole.folder.root)
    begun.phases.clear()
    begun.clock.now = 1024.0
    for steps in ((100, 400), (400,), ()):
        begun.run = begun.set_up()
        with stop_at(*steps):
            try:
                search_architecture(begun.run, SECONDS / 60, clock=begun.clock)
            except Interrupted:
                continue
    assert begun.phases == seen
    assert begun.run.bilevel.length == whole.bilevel.length


def test_few_steps_are_warned_of(begun):
    run = begun.begin(LOADS["none"])
    run.bilevel.settings = replace(run.bilevel.settings, min_steps=100_000)
    with pytest.warns(UserWarning, match=r"was enough for 1[0-9]{3} updates of the weights; with fewer than 100000"):
        search_architecture(run, SECONDS / 60, clock=begun.clock)
