"""How many seeds show a difference, against published tables and a simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.seeds import power, read_rows, seeds_for, shown_by, table
from scipy import stats

from voxward.core.errors import UserError


# Sample sizes of a paired t-test, two-sided at 0.05 with a power of 0.8, as G*Power gives them.
@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (2.0, 5)])
def test_as_many_seeds_as_in_published_tables(effect, seeds):
    assert seeds_for(0.02, 0.02 / effect) == seeds
    assert seeds_for(-0.02, 0.02 / effect) == seeds
    assert shown_by(0.02 / effect, seeds) <= 0.02 < shown_by(0.02 / effect, seeds - 1)


def test_the_power_is_the_share_of_simulated_tests_that_find_it():
    found = np.random.default_rng(0).normal(0.02, 0.03, (4000, 6))
    share = np.mean(stats.ttest_1samp(found, 0.0, axis=1).pvalue < 0.05)
    assert power(0.02, 0.03, 6) == pytest.approx(share, abs=0.03)


def _rows(folder, dice):
    for row, values in dice.items():
        for case, value in enumerate(values):
            path = folder / row.replace(" ", "_") / f"{case}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"row": row, "case": str(case), "dice": value}))


def test_a_table_of_rows(tmp_path):
    """Differences of 0.01, 0.03 and 0.05: a deviation of 0.02, for which 0.02 needs 10 seeds."""
    for seed, gap in enumerate((0.01, 0.03, 0.05)):
        _rows(tmp_path, {f"dsn seed {seed}": (0.5, 0.7, None), f"resdsn seed {seed}": (0.5 + gap, 0.7 + gap)})
    _rows(tmp_path, {"dsn seed 3": (0.9,)})  # its partner is not measured yet
    _rows(tmp_path, {"one seed 0": (0.6,)})
    rows = read_rows(tmp_path)
    assert rows["dsn"][1] == {"0": 0.5, "1": 0.7}
    lines = list(table(rows, 0.02))
    assert lines[2].startswith("| dsn - one | 1 | -0.1000 | - |")  # over the one case that both have
    assert lines[3].startswith("| dsn - resdsn | 3 | -0.0300 | 0.0200 | ")
    assert lines[3].endswith(" | 10 |")


def test_a_seed_that_is_not_finished_is_compared_over_the_cases_that_both_have(tmp_path):
    """Case 1 is easy: with it on one side only, a difference of 0.02 would be one of -0.13."""
    for seed, gap in enumerate((0.01, 0.03)):
        _rows(tmp_path, {f"dsn seed {seed}": (0.5, 0.8), f"resdsn seed {seed}": (0.5 + gap, 0.8 + gap)})
    (tmp_path / "resdsn_seed_1" / "1.json").unlink()
    lines = list(table(read_rows(tmp_path), 0.02))
    assert lines[2].startswith("| dsn - resdsn | 2 | -0.0200 | 0.0141 | ")
    assert lines[-1].endswith("left out: dsn - resdsn, seed 1: 1")
    (tmp_path / "resdsn_seed_1" / "0.json").unlink()
    assert "| dsn - resdsn | 1 | -0.0100 | - |" in list(table(read_rows(tmp_path), 0.02))[2]


def test_what_is_no_such_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no rows"):
        read_rows(tmp_path)
    _rows(tmp_path, {"coarse": (0.6,)})
    with pytest.raises(UserError, match="'coarse' does not end in 'seed' and a number"):
        read_rows(tmp_path)
