"""Which attack counts as the worst one, and how strong noise is to be that is compared with it."""

from __future__ import annotations

from tests.robustness.books import record
from voxward.robustness.summary import Key
from voxward.robustness.visibility import Visibility
from voxward.robustness.worst import equal_noise, worst_attacks

KEY = Key("m", "a", 0.1)


def attacked(name, dice, rms=None, deployed=None, **others):
    seen = None if rms is None else Visibility(rms, 30.0, None)
    return record(
        name, "a", (dice, dice), 0.1, clean=(0.8, 0.8), visibility=seen,
        deployed=None if deployed is None else (deployed, deployed),
        deployed_clean=None if deployed is None else (0.8, 0.8), **others,
    )  # fmt: skip


def test_the_worst_is_that_of_the_written_file():
    rows = [attacked("x", 0.1, 0.02, 0.6), attacked("y", 0.5, 0.03, 0.4)]
    assert worst_attacks(rows)[KEY].attack == "y"
    assert equal_noise(rows) == {KEY: 0.03}
    assert worst_attacks([attacked("x", 0.1), attacked("y", 0.5)])[KEY].attack == "x"


def test_equal_attacks_are_told_apart_in_any_order():
    rows = [attacked(name, 0.3, 0.01, seed=seed) for name in "yx" for seed in (1, 0)]
    for order in (rows, rows[::-1]):
        found = worst_attacks(order)[KEY]
        assert (found.attack, found.seed) == ("x", 0)


def test_controls_are_no_attacks():
    rows = [attacked("noise", 0.1, 0.05), attacked("reach", 0.0, 0.5, kind="control"), attacked("x", 0.5, 0.02)]
    assert worst_attacks(rows)[KEY].attack == "x"
    assert equal_noise(rows) == {KEY: 0.02}


def test_where_no_attack_hurt_noise_is_as_strong_as_the_strongest():
    """The worst case is then the clean one, and noise of no size would say nothing."""
    assert equal_noise([attacked("x", 0.8, 0.01), attacked("y", 0.9, 0.03)]) == {KEY: 0.03}
    assert equal_noise([attacked("x", 0.3, 0.0), attacked("y", 0.5, 0.03)]) == {KEY: 0.03}
    assert equal_noise([attacked("x", 0.8, 0.0)]) == {KEY: 0.0}
    assert equal_noise([attacked("x", 0.3)]) == {KEY: 0.0}  # records of older versions do not say
