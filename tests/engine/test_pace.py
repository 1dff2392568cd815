"""How long units will take, from those that are done."""

from __future__ import annotations

import pytest

from voxward.engine.pace import Pace


def noted(*units):
    pace = Pace()
    for kind, weight, seconds in units:
        pace.note(kind, weight, seconds)
    return pace


def test_light_units_tell_nothing_about_heavy_ones():
    pace = noted(("clean", 3.0, 1.0), ("clean", 3.0, 1.4))
    assert pace.left({"apgd": (10, 630.0)}, []) is None
    assert pace.left({"clean": (2, 6.0), "noise": (3, 9.0)}, []) == pytest.approx(5 * 1.2)
    assert Pace().left({"clean": (2, 6.0)}, []) is None
    assert Pace().left({}, []) == 0


def test_what_a_heavy_unit_takes_is_a_part_for_each_and_a_part_for_its_weight():
    pace = noted(("clean", 3.0, 1.0), ("apgd", 63.0, 4.0))
    assert pace.left({"fab": (2, 246.0)}, []) == pytest.approx(2 * (1.0 + 0.05 * 120))
    assert pace.left({"apgd": (5, 315.0)}, []) == pytest.approx(5 * 4.0)  # its own kind says more than its weight
    faster = noted(("clean", 3.0, 1.0), ("apgd", 63.0, 0.5))  # such as a case that was prepared already
    assert faster.left({"fab": (1, 123.0)}, []) == pytest.approx(1.0)


def test_a_unit_that_runs_shows_the_pace_before_it_ends():
    pace = noted(("clean", 3.0, 1.0))
    half = (63.0, 2.5, 0.5)
    assert pace.left({}, [half]) == pytest.approx(2.5)
    assert pace.left({"apgd": (1, 63.0)}, [half]) == pytest.approx(2.5 + 1.0 + 60 * 1.5 / 28.5)
    assert pace.left({}, [(63.0, 2.5, 0.0)]) is None


def test_without_light_units_time_grows_with_the_weight():
    """As where the clean cases are an earlier call's."""
    assert noted(("apgd", 60.0, 6.0)).left({"fab": (1, 120.0), "apgd": (1, 60.0)}, []) == pytest.approx(12.0)


def test_a_unit_that_takes_longer_than_expected_is_not_about_to_end_for_ever():
    pace = noted(("clean", 3.0, 1.0))
    assert pace.left({}, [(3.0, 0.4, 0.0)]) == pytest.approx(0.6)
    assert pace.left({}, [(3.0, 100.0, 0.0)]) == pytest.approx(10.0)
