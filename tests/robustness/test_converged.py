"""Whether figures are converged: an attack is compared with itself, with twice its budget."""

from __future__ import annotations

import pytest

from tests.robustness.books import book, clean, record
from voxward.robustness.converged import convergence, unconverged
from voxward.robustness.sanity import Thresholds, sanity

SMALL, LARGE = 4 / 255, 8 / 255


def attacked(name, case, dice, eps=LARGE, file=None, **others):
    """The same Dice for both classes; file: that of the written file."""
    written = {} if file is None else {"deployed": (file, file), "deployed_clean": (0.9, 0.7)}
    return record(name, case, (dice, dice), eps, **{**written, **others})


def again(of, case, dice, eps=LARGE, **others):
    return attacked("doubled", case, dice, eps, kind="control", options={"doubles": of}, **others)


def finding(rows, tolerance=0.01):
    found = [one for one in sanity([clean("a"), clean("b"), *rows], Thresholds(tolerance)) if one.name == "converged"]
    assert len(found) == 1
    return found[0]


ONCE = [attacked("x", case, dice, eps) for case, dice in (("a", 0.5), ("b", 0.3)) for eps in (SMALL, LARGE)]


def test_the_mean_over_the_cases_counts_at_every_size():
    twice = [again("x", "a", 0.5, SMALL), again("x", "b", 0.31, SMALL), again("x", "a", 0.4), again("x", "b", 0.28)]
    found = convergence("m", [*ONCE, *twice])
    assert (found.attack, found.best, found.cases) == ("x", "x", ("a", "b"))
    assert found.falls == {SMALL: pytest.approx(-0.005), LARGE: pytest.approx(0.06)}
    assert unconverged("m", [*ONCE, *twice], 0.01) == ("x", (LARGE,))
    told = finding([*ONCE, *twice])
    assert told.passed is False
    assert told.text == (
        "m: not converged: x with twice its budget, on 2 cases, lowers the mean Dice by 0.060 at eps 8/255"
    )


def test_less_than_the_tolerance_is_converged():
    twice = [again("x", "a", 0.5, SMALL), again("x", "a", 0.492), again("x", "b", 0.29)]  # 0.009 lower in the mean
    told = finding([*ONCE, *twice])
    assert told.passed is True
    assert told.text.endswith("lowers the mean Dice by less than 0.01 at every eps (at most 0.009, at 8/255)")
    assert finding([*ONCE, *twice], tolerance=0.009 - 1e-6).passed is False


def test_where_nothing_is_left_nothing_can_be_lowered():
    rows = [attacked("x", "a", 0.0), again("x", "a", 0.0)]
    assert finding(rows, tolerance=0.0).passed is True


def test_the_written_file_counts():
    once = attacked("x", "a", 0.5, file=0.6)
    assert finding([once, again("x", "a", 0.3, file=0.598)]).passed is True
    assert finding([once, again("x", "a", 0.5, file=0.4)]).passed is False


def test_only_the_same_case_size_and_seed_are_compared():
    rows = [attacked("x", "a", 0.5), attacked("x", "a", 0.2, seed=1), attacked("x", "b", 0.9)]
    assert convergence("m", [*rows, again("x", "a", 0.45)]).falls == {LARGE: pytest.approx(0.05)}
    assert convergence("m", [*rows, again("x", "a", 0.1, SMALL)]) is None
    assert convergence("m", [*rows, again("x", "a", 0.1, model="other")]) is None


def test_every_size_must_have_been_run_again():
    """Sizes that were added later are not among those of the control until the command is given again."""
    rows = [*ONCE, again("x", "a", 0.5), again("x", "b", 0.3)]
    told = finding(rows)
    assert told.passed is None
    assert "x was run again with twice its budget, but not at eps 4/255" in told.text
    assert unconverged("m", [*ONCE, again("x", "a", 0.1)], 0.01) == ("", ())


def test_what_was_not_run_is_not_called_converged():
    told = finding(ONCE)
    assert told.passed is None
    assert told.text == (
        "m: not testable: no attack was run again with twice its budget (by the control doubled), so that more steps "
        "may lower the figures"
    )


def test_another_attack_may_be_the_strongest_by_now():
    """Cases that were added later have changed the order."""
    rows = [attacked("x", "a", 0.5), attacked("y", "a", 0.6), attacked("x", "b", 0.5), attacked("y", "b", 0.1)]
    told = finding([*rows, again("x", "a", 0.5)])
    assert told.passed is None
    assert "x was run again with twice its budget, but y is the strongest attack by now" in told.text
    assert unconverged("m", [*rows, again("x", "a", 0.1)], 0.01) == ("", ())
    # What was run again of the present one counts.
    assert convergence("m", [*rows, again("x", "a", 0.1), again("y", "b", 0.1)]).falls == {LARGE: 0.0}


def test_the_control_belongs_to_no_worst_case():
    before = {one.name: one for one in sanity(book())}
    added = [again("y", case, 0.0, 0.1) for case in "ab"]
    after = {one.name: one for one in sanity([*book(), *added])}
    assert {name for name in before if before[name] != after[name]} == {"converged"}
