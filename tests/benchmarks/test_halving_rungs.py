"""The simulation of rungs: what schedules cost, who wins, and a gain that is read on networks that did not choose."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.halving_rungs import FINAL, RANDOM, affordable, chosen, cost, drawn, halved, named, read, report, values


def _table(networks=12, seed=0):
    """Courses in which each rung says more about the end."""
    rng = np.random.default_rng(seed)
    final = rng.normal(0.6, 0.04, networks)
    noise = rng.normal(0, 1, (3, networks)) * np.array([0.2, 0.05, 0.01])[:, None]
    return np.column_stack([*(final + noise), *(final + 2 * noise), rng.normal(14, 1, networks), final])


def test_every_schedule_takes_the_time_of_seven_random_candidates():
    assert cost(((27, 0), (9, 1), (3, 2)), 0.0) == pytest.approx(7)
    assert ((27, 0), (9, 1), (3, 2)) in affordable(0.0)
    for overhead in (0.0, 0.05):
        budget = cost(RANDOM, overhead)
        for rungs in affordable(overhead)[1:]:
            (count, place), *rest = rungs
            assert cost(rungs, overhead) <= budget + 1e-9 < cost(((count + 1, place), *rest), overhead) + 2e-9
    assert named(((27, 0), (9, 1), (3, 2))) == "27 to 1/9, 9 to 1/3, 3 to the end"


def test_the_best_at_each_rung_go_on():
    courses = drawn(_table(), 9, 50, np.random.default_rng(0), smooth=True)
    scored = [courses[..., place] for place in range(3)]
    expected = []
    for search in courses:
        left = search[np.argsort(-search[:, 0])[:4]]
        left = left[np.argsort(-left[:, 1])[:2]]
        expected.append(left[np.argmax(left[:, 2]), FINAL])
    assert chosen(courses[..., FINAL], scored, ((9, 0), (4, 1), (2, 2))) == pytest.approx(np.mean(expected))


def test_smoothed_draws_are_all_different_and_spread_as_the_networks():
    table = _table()
    found = drawn(table, 40, 500, np.random.default_rng(0), smooth=True).reshape(-1, 8)
    assert len(np.unique(found[:, FINAL])) == len(found)
    assert (abs(found.mean(0) - table.mean(0)) < 5 * table.std(0) / np.sqrt(len(found))).all()
    np.testing.assert_allclose(np.corrcoef(found.T), np.corrcoef(table.T), atol=0.05)
    plain = drawn(table, 40, 5, np.random.default_rng(0), smooth=False)
    assert set(plain[..., FINAL].ravel()) <= set(table[:, FINAL])


def test_a_gain_is_read_on_networks_that_did_not_choose():
    table = _table(24)
    table[:, FINAL] = np.random.default_rng(1).normal(0.6, 0.04, 24)  # nothing says who wins
    table[0, FINAL] = 1.5
    found = halved(table, affordable(0.0)[:5], 0, 200)
    ours = [max(half.values()) for half in (found["here"], found["there"])]
    assert max(ours) > 0.75 > min(ours)  # the outlier is in one half only


def test_the_report_names_what_was_chosen_and_what_it_gains(tmp_path):
    table, rungs = _table(30), affordable(0.0)[:8]
    halves = [halved(table, rungs, n, 100) for n in range(4)]
    whole = {name: values(table, table, rungs, 0, 100, name == "smooth") for name in ("smooth", "plain")}
    text = report(halves, [values(table, table, rungs, n, 100) for n in range(4)], whole, rungs, 0.0)
    assert "| all scores |" in text
    assert "19 to 1/3, 1 to the end; Dice |" in text


def test_courses_with_other_rungs_are_refused(tmp_path):
    row = {"dice": 0.5, "macs": 10, "rungs": [{"share": share, "ema": 0.1, "last": 0.2} for share in (1 / 9, 1 / 3, 1)]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row]))
    np.testing.assert_allclose(read(path), [[0.1] * 3 + [0.2] * 3 + [np.log(10), 0.5]])
    row["rungs"][0]["share"] = 0.5
    path.write_text(json.dumps([row]))
    with pytest.raises(ValueError, match="the rungs must end at 1/9, 1/3, the end"):
        read(path)
