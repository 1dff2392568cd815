"""The comparison of a speed table with the one before."""

import json

import pytest
from benchmarks.speed import kept as kept_module
from benchmarks.speed.harness import Duel, Outcome
from benchmarks.speed.kept import Kept

DUEL = Duel("sum", lambda: None, lambda: None, "another sum")


def outcome(*ratios):
    return Outcome("sum", "another sum", (1.0,) * len(ratios), ratios)


@pytest.fixture
def rounds(monkeypatch):
    """The outcomes that a duel will have, one after the other."""
    waiting = []
    monkeypatch.setattr(kept_module, "settle", lambda duel, rounds: waiting.pop(0))
    return waiting


def kept(folder, ratio, conditions="this machine"):
    path = folder / "cpu.json"
    path.write_text(json.dumps({"format": 1, "machines": {"this machine": {"sum": ratio, "other": 3.0}}}))
    return Kept.read(path, conditions)


def machines(folder):
    return json.loads((folder / "cpu.json").read_text())["machines"]


def test_a_ratio_that_fell_by_more_than_15_percent_in_all_rounds_together_fails(tmp_path, rounds):
    earlier = kept(tmp_path, 2.0)
    rounds += [outcome(1.6, 1.65, 1.6), outcome(1.6, 1.6, 1.9)]
    found = earlier.settled(DUEL, 3)
    assert earlier.fell(found)
    assert "from 2.00 to 1.60, by more than 15%, in 6 rounds" in earlier.sentence(found)


def test_a_ratio_that_fell_in_the_first_rounds_alone_does_not(tmp_path, rounds):
    earlier = kept(tmp_path, 2.0)
    rounds += [outcome(1.6, 1.6, 1.9), outcome(2.0, 2.0, 2.0)]
    found = earlier.settled(DUEL, 3)
    assert found.ratio == pytest.approx(1.95)
    assert not earlier.fell(found)


def test_a_ratio_that_holds_is_measured_once(tmp_path, rounds):
    earlier = kept(tmp_path, 2.0)
    rounds += [outcome(1.71)]
    assert not earlier.fell(earlier.settled(DUEL, 1))
    assert not rounds


def test_ratios_of_another_machine_are_not_compared_and_stay(tmp_path, capsys):
    other = kept(tmp_path, 2.0, "another machine")
    assert "nothing is compared" in capsys.readouterr().out
    assert not other.fell(outcome(0.1))
    other.save([outcome(0.1)])
    assert machines(tmp_path) == {"this machine": {"sum": 2.0, "other": 3.0}, "another machine": {"sum": 0.1}}


@pytest.mark.parametrize(("accept", "ratio"), [(False, 2.0), (True, 1.8)])
def test_a_ratio_stays_until_another_one_is_accepted(tmp_path, accept, ratio):
    kept(tmp_path, 2.0).save([outcome(1.8)], accept)
    assert machines(tmp_path) == {"this machine": {"sum": ratio, "other": 3.0}}


def test_the_first_run_has_nothing_to_compare_with(tmp_path):
    first = Kept.read(tmp_path / "cpu.json", "this machine")
    assert not first.fell(outcome(0.1))
    first.save([outcome(0.5, 1.5, 2.5)])
    assert Kept.read(tmp_path / "cpu.json", "this machine").fell(outcome(1.2))
