"""A time budget is kept whatever else the machine does: fits by a clock that the test moves."""

import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.end_to_end.conftest import TINY
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold
from voxward.core.interrupt import Interrupted
from voxward.core.length import RunLength
from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import load_recipe
from voxward.data.loader import PatchBatch
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder, RunSplit
from voxward.training import loop, sitting
from voxward.training.fabric import start_fabric
from voxward.training.log import read_log
from voxward.training.loop import fit
from voxward.training.selection import Validation
from voxward.training.setup import TrainingCases, set_up
from voxward.training.steps import Stateless

# Sums of these are exact, so that two clocks that move alike show the same to the bit.
SECONDS, STEP, VALIDATION = 128.0, 0.125, 0.5


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self):
        self.now = 1024.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run's prepared cases, plan and split."""
    root = tmp_path_factory.mktemp("begun")
    write_phantoms(root / "data", 8, size=24)
    return RunFolder(
        train(
            root / "data", out=root / "run", recipe="dynunet", overrides=[*TINY, "training.epochs=1"], fold=Fold(seed=1)
        )
    )


def _set_up(begun, out, *overrides):
    recipe = load_recipe(begun.recipe, overrides)
    split = load_json(RunSplit, begun.splits)
    cases = TrainingCases(begun.root / "prepared", split.fit, split.selection)
    return set_up(RunFolder(out), recipe, load_plan(begun.plan), cases, 1, start_fabric(recipe, Compute("cpu")))


@pytest.fixture
def instant(monkeypatch):
    """Steps and validations that only move a clock: `speed(step, elapsed)` says how many times slower than STEP."""

    def prepare(clock, speed, start=1024.0, cost=VALIDATION):
        def step(sitting, batch):
            state = sitting.state
            clock.now += STEP * speed(state.step, clock.now - start)
            sitting.run.learner.case_losses = torch.zeros(1)
            return torch.tensor([0.5])

        def validation(run, batches):
            for _ in batches:
                clock.now += cost * speed(run.state.step, clock.now - start)
            return Validation(0.5, 0.5) if run.recipe.defence is None else Validation(0.5, 0.5, 0.5, 0.5)

        def batches(sitting):
            ids, size = (sitting.run.cases.fit[0],), (2, 2, 2)
            empty = torch.zeros(1, 1, *size), torch.zeros(1, *size, dtype=torch.uint8), torch.zeros(1, 1, 2)
            while True:
                yield PatchBatch(sitting.state.step, *empty, ids)

        monkeypatch.setattr(loop.TrainingSitting, "_train_on", step)
        monkeypatch.setattr(loop.TrainingSitting, "_batches", batches)
        monkeypatch.setattr(loop, "validate", validation)

    return prepare


class _Free(Stateless):
    """Counts as five updates of the weights."""

    figures, updates = ("training_loss",), 5

    def __call__(self, batch):
        raise AssertionError("the steps of this test are not real")


LOADS = {
    "none": lambda step, elapsed: 1,
    "ten times slower for the first steps": lambda step, elapsed: 10 if step < 40 else 1,
    "the first step alone, sixty times": lambda step, elapsed: 60 if step == 0 else 1,
    "ten times slower for the first half": lambda step, elapsed: 10 if elapsed < SECONDS / 2 else 1,
    "ten times slower from the middle": lambda step, elapsed: 10 if elapsed > SECONDS / 2 else 1,
    "ten times slower near the end": lambda step, elapsed: 10 if elapsed > 0.95 * SECONDS else 1,
    "ten times slower but near the end": lambda step, elapsed: 1 if elapsed > 0.9 * SECONDS else 10,
    "now and then": lambda step, elapsed: 10 if math.sin(elapsed / 7) > 0.5 else 1,
    "every fifth step": lambda step, elapsed: 20 if step % 5 == 0 else 1,
}
SHARPEST = "ten times slower near the end"
FREE = ("defence.method=free",)


@pytest.mark.parametrize(
    ("load", "defence"),
    [(load, ()) for load in LOADS]
    + [pytest.param(load, FREE, marks=[] if load == SHARPEST else pytest.mark.slow) for load in LOADS],
)
def test_a_finished_run_has_used_its_budget_whatever_the_load(begun, tmp_path, instant, load, defence):
    clock, seen = Clock(), []
    instant(clock, LOADS[load])
    run = _set_up(begun, tmp_path, *defence)
    if defence:  # of which a step has figures of its own
        run = replace(run, step=_Free())

    def watch(name, step, total, /, **figures):
        seen.append((step, run.state.done))

    fit(run, SECONDS / 60, watch, clock)
    used = (clock.now - 1024.0) / SECONDS
    assert 0.85 <= used <= 1.10
    assert run.state.step == run.state.total_steps == seen[-1][0]
    shares = [done for _, done in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # The share never leaps before the end, where a load that came at once may have taken the rest of the time.
    assert max(after - before for before, after in pairwise(shares[:-1])) < 0.05
    assert len(read_log(run.folder.log)) >= 3


def test_without_a_load_the_share_is_the_step_over_the_steps(begun, tmp_path, instant):
    clock, seen = Clock(), []
    instant(clock, LOADS["none"])
    run = _set_up(begun, tmp_path)
    fit(run, SECONDS / 60, lambda name, step, total, /, **figures: seen.append((step, run.state.done)), clock)
    late = [(step, done) for step, done in seen if step > 13]
    assert all(done == pytest.approx(step / run.state.total_steps, abs=0.02) for step, done in late)


def test_the_length_is_corrected_and_warned_of(begun, tmp_path, instant):
    """The first steps of a busy machine promise a tenth of what there will be; the end is judged by what there was."""
    clock, totals = Clock(), []
    instant(clock, LOADS["ten times slower for the first steps"])
    run = _set_up(begun, tmp_path, "training.min_steps=400")
    with pytest.warns(UserWarning, match="the result is poor") as caught:
        fit(run, SECONDS / 60, lambda name, step, total, /, **figures: totals.append(total), clock)
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("at this speed there is time for 89 updates of the weights; with fewer than 400")
    assert totals[13] < 150
    assert totals[-1] > 500


def test_too_few_steps_are_warned_of_at_the_end(begun, tmp_path, instant):
    clock = Clock()
    instant(clock, LOADS["none"])
    run = _set_up(begun, tmp_path, "training.min_steps=5000")
    with pytest.warns(UserWarning, match=r"was enough for 9[0-9]{2} updates of the weights; with fewer than 5000"):
        fit(run, SECONDS / 60, clock=clock)


def test_a_short_run_judges_as_many_patches_as_it_has_the_time_for(begun, tmp_path, instant):
    """Seven per cent of 128 seconds are over before the fourth batch of 4 seconds."""
    clock, judged = Clock(), []
    instant(clock, LOADS["none"], cost=4.0)
    real = loop.validate

    def counted(batches):
        for batch in batches:
            judged[-1] += 1
            yield batch

    def counting(run, batches):
        judged.append(0)
        return real(run, counted(batches))

    loop.validate = counting  # instant puts the real one back
    run = _set_up(begun, tmp_path)
    run = replace(run, validation=run.validation * 10)
    with pytest.warns(UserWarning, match="too short for all validation patches: 3 of 10 batches of them are judged"):
        fit(run, SECONDS / 60, clock=clock)
    assert run.state.judged == 3
    assert judged == [3, 3]
    assert _set_up(begun, tmp_path).state.judged == 3  # a resumed run judges the same ones
    assert (clock.now - 1024.0) / SECONDS == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("cost", "count"), [(4.0, 3), (0.1, 10)])
@pytest.mark.filterwarnings("ignore:this time budget is too short")
def test_weights_are_compared_with_the_first_ones_on_the_same_patches(
    begun, tmp_path, instant, monkeypatch, cost, count
):
    """A validation that takes longer than that of the weights which a hardening begins with judges no fewer patches."""
    clock, judged = Clock(), []
    instant(clock, LOADS["none"], cost=8.0)
    real = loop.validate

    def counting(run, batches):
        judged.append(len(batches := list(batches)))
        return real(run, iter(batches))

    def first(run, batches):
        judged.append(0)
        for _ in batches:
            clock.now += cost
            judged[0] += 1

    monkeypatch.setattr(loop, "note_start", first)
    loop.validate = counting  # instant puts the real one back
    run = replace(_set_up(begun, tmp_path), judges_start=True)
    fit(replace(run, validation=run.validation * 10), SECONDS / 60, clock=clock)
    assert len(judged) > 1
    assert set(judged) == {count}


def test_two_batches_are_judged_in_any_case(begun, tmp_path, instant):
    clock = Clock()
    instant(clock, LOADS["none"], cost=40.0)
    run = _set_up(begun, tmp_path)
    run = replace(run, validation=run.validation * 10)
    with pytest.warns(UserWarning, match="2 of 10 batches"):
        fit(run, SECONDS / 60, clock=clock)


def test_steps_longer_than_the_budget_end_at_once(begun, tmp_path, instant):
    clock = Clock()
    instant(clock, lambda step, elapsed: 3000)
    run = _set_up(begun, tmp_path)
    fit(run, SECONDS / 60, clock=clock)
    assert run.state.step == 1  # the time is up after it
    assert run.folder.weights("last").is_file()


@contextmanager
def _timed(monkeypatch, clock, load):
    """Real steps, and a clock that moves with each of them."""
    real = loop.TrainingSitting._train_on

    def step(sitting, batch):
        clock.now += STEP * load(sitting.state.step, 0)
        return real(sitting, batch)

    monkeypatch.setattr(loop.TrainingSitting, "_train_on", step)
    yield
    monkeypatch.setattr(loop.TrainingSitting, "_train_on", real)


@pytest.mark.slow
def test_a_corrected_run_goes_on_as_the_run_that_never_stopped(begun, tmp_path, monkeypatch):
    """To the bit, corrections of the length included, when it stops before, between and after them."""

    def load(step, elapsed):
        return 10 if step < 18 else 1 if step < 60 else 4

    minutes = 30 / 60
    clock = Clock()
    with _timed(monkeypatch, clock, load):
        whole = _set_up(begun, tmp_path / "whole")
        fit(whole, minutes, clock=clock)
    clock = Clock()
    with _timed(monkeypatch, clock, load):
        for step in (5, 17, 40, 10**9):
            parts = _set_up(begun, tmp_path / "parts")
            with _stopping(monkeypatch, step):
                try:
                    fit(parts, minutes, clock=clock)
                except Interrupted:
                    continue
    assert whole.state.step > 50
    assert parts.state == whole.state
    states = [torch.load(run.folder.state, weights_only=True) for run in (whole, parts)]
    assert all(torch.equal(states[0]["network"][name], states[1]["network"][name]) for name in states[0]["network"])
    logs = [read_log(run.folder.log) for run in (whole, parts)]
    assert logs[0] == logs[1]


@contextmanager
def _stopping(monkeypatch, at):
    """As by a signal after step `at`."""

    @contextmanager
    def signal():
        yield lambda: stops[0].state.step == at

    stops = []
    begin = loop.TrainingSitting.__init__

    def remembered(self, *arguments):
        begin(self, *arguments)
        stops.append(self)

    monkeypatch.setattr(loop.TrainingSitting, "__init__", remembered)
    monkeypatch.setattr(sitting, "stop_on_signal", signal)
    yield
    monkeypatch.setattr(loop.TrainingSitting, "__init__", begin)


def test_a_state_of_a_run_whose_length_was_told_once_is_read(begun, tmp_path):
    """It says neither when it was validated last nor what its steps took."""
    run = _set_up(begun, tmp_path)
    run.state.step, run.state.total_steps, run.state.validate_every = 7, 20, 3
    loop.save_state(run.folder.state, run.state, run.learner, run.step)
    content = torch.load(run.folder.state, weights_only=True)
    for name in ("since", "validated", "judged", "snapshots", "recent", "validation_costs", "correct_at"):
        del content["state"][name]
    torch.save(content, run.folder.state)
    state = _set_up(begun, tmp_path).state
    assert (state.validated, state.done) == (6, 7 / 20)
    assert not state.must_validate


def test_the_share_done_is_exact_without_corrections_and_never_leaps_with_them():
    assert [RunLength(step, 7).done for step in range(8)] == [step / 7 for step in range(8)]
    length = RunLength(3, 10)
    length.correct(70)
    assert (length.done, length.total_steps) == (0.3, 73)
    length.step = 38
    assert length.done == pytest.approx(0.65)
    length.correct(0)
    assert length.done == 1.0
