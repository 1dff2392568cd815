"""What a benchmark costs is foreseen from short trials, and the time of several workers from how they share units."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.robustness.build import a_bench
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.budget import Budget
from voxward.core.errors import UserError
from voxward.robustness import cost
from voxward.robustness.bench import Source
from voxward.robustness.cost import Estimate, estimate
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.unit import Unit
from voxward.systems.run import RunSystem

SIZES = (8 / 255, 96 / 255)
PROTOCOL = Protocol(
    "small", attacks=("apgd-ce", "fab-dice", "square"), threat=Threat(SIZES), budget=Budget(50, 2, 400, 30),
    controls=("clip", "noise", "gaussian", "doubled"),
)  # fmt: skip


def unit(case, number, model="m"):
    return Unit(model, f"attack {number}", case, None, 0)


def hours(phases, workers, **options):
    return Estimate(tuple(phases), **options).wall_hours(workers) * 3600


def test_one_process_does_everything_and_begins_a_case_in_every_round():
    first = {unit("a", 0): 1.0, unit("b", 0): 2.0}
    main = {unit(case, n): 4.0 for case in "ab" for n in (1, 2)}
    begins, opens = {("m", "a"): 0.5, ("m", "b"): 0.25}, {"m": 100.0}
    whole = hours([first, main], 1, begins=begins, opens=opens)
    assert whole == pytest.approx(3.0 + 16.0 + 2 * 0.75)  # the system is open already
    assert Estimate((first, main), begins, opens).hours * 3600 == pytest.approx(whole)


def test_rounds_wait_for_each_other_and_workers_help_with_the_longest_case():
    first = {unit("a", 0): 1.0, unit("b", 0): 3.0}
    main = {unit("a", n): 1.0 for n in range(1, 7)} | {unit("b", 1): 2.0}
    assert hours([first], 2) == 3.0
    # The second worker is ready with b after 2 seconds, and takes 2 of the 4 units that are left of a.
    assert hours([first, main], 2) == 3.0 + 4.0
    assert hours([first, main], 2, opens={"m": 5.0}) == 5.0 + 3.0 + 4.0
    times = [hours([first, main], workers) for workers in (1, 2, 3, 50)]
    assert times == sorted(times, reverse=True)
    assert times[-1] == 3.0 + 2.0
    with pytest.raises(UserError, match="workers must be at least 1, got 0"):
        hours([first], 0)


@pytest.fixture
def worker(tmp_path):
    bench = {"volumes": tmp_path / "volumes", "segmentations": tmp_path / "segmentations", "dataset": "the data"}
    return a_bench({"m": RunSystem(lesion_predictor())}, [lesion_case(tmp_path)], PROTOCOL, **bench)


def with_times(monkeypatch, per_pass, judging, end=math.inf):
    monkeypatch.setattr(cost, "_spent", lambda *_: cost._Spent(per_pass, judging, 0.0))
    monkeypatch.setattr(cost, "_end", lambda *_: cost._Short(end, per_pass))
    monkeypatch.setattr(cost, "_seconds", lambda work: 0.0)


def test_seconds_of_a_pass_count_for_the_whole_budget(worker, monkeypatch):
    with_times(monkeypatch, 2.0, 0.5)
    bench = worker.bench
    units = [*bench.first_units(), *bench.units(), *bench.last_units()]
    classes, trials = bench.target("m").classes, bench.trials("m")
    spent = [trials[one.attack].cost(classes) for one in units]
    wanted = math.fsum(2.0 * (3 * gradients + forwards) + 0.5 for gradients, forwards in spent)
    assert estimate(worker).hours * 3600 == pytest.approx(wanted)


def test_an_attack_that_leaves_nothing_at_once_costs_no_more(worker, monkeypatch):
    with_times(monkeypatch, 1.0, 0.0)
    whole = {one: seconds for phase in estimate(worker).phases for one, seconds in phase.items()}
    with_times(monkeypatch, 1.0, 0.0, end=7.0)
    ended = {one: seconds for phase in estimate(worker).phases for one, seconds in phase.items()}
    for one, seconds in ended.items():
        at_once = {"apgd-ce": 7.0, "square": 7.0, "doubled": 7.0 * len(SIZES)}
        assert seconds == at_once.get(one.attack, whole[one])


def test_larger_cases_count_for_more(worker, monkeypatch):
    with_times(monkeypatch, 1.0, 0.0)
    case = next(iter(worker.bench.cases.values()))
    worker.bench = replace(worker.bench, cases={"small": case, "large": case})
    monkeypatch.setattr(cost, "_end", lambda _, unit, told: cost._Short(math.inf, 3.0 if unit.case == "large" else 1.0))
    found = {one: seconds for phase in estimate(worker).phases for one, seconds in phase.items()}
    attacks = [one for one in found if one.case == "large" and one.attack == "square"]
    assert len(attacks) == len(SIZES)
    for one in attacks:
        assert found[one] == pytest.approx(3 * found[replace(one, case="small")])


def test_cases_that_were_not_tried_count_by_their_size():
    found = cost._settled({"a": 2.0, "b": 4.0, "c": 4.0, "d": 8.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, "b")
    # Twice as large as a, b takes no longer: so much does d, too, in the median of what was measured.
    assert found == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 2.0}
    assert cost._settled({"a": 2.0, "b": 4.0}, {}, "a") == {"a": 1.0, "b": 2.0}


def test_short_trials_are_told_and_leave_nothing_behind_and_the_worker_as_it_was(worker, tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(Source, "open", lambda self: RunSystem(lesion_predictor()))
    before = sorted(tmp_path.rglob("*"))
    worker.bench = replace(worker.bench, protocol=replace(PROTOCOL, attacks=("apgd-ce",), controls=()))
    found = estimate(worker, 3, progress=lambda *of, **figures: heard.append((*of, figures.get("running"))))
    (case,) = worker.bench.cases
    tried = f"m \u00b7 case {case} \u00b7 "
    said = ["m is opened", f"{tried}clean", *[f"{tried}apgd-ce"] * (1 + len(SIZES)), None]  # once for its pace
    assert heard == [("short trials", max(0, n - 1), 4, words) for n, words in enumerate(said)]
    assert 0 < found.wall_hours(3) <= found.hours < 1
    assert (found.workers, found.kind) == (3, "CPU-hours")
    assert all(seconds > 0 for phase in found.phases for seconds in phase.values())
    assert sorted(tmp_path.rglob("*")) == before
    assert worker.bench.protocol.budget == PROTOCOL.budget
