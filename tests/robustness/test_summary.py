"""Numbers worked out by hand from books.book(), and the checks that a broken set-up fails."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.robustness.books import book, clean, record
from voxward.attacks.threat import ThreatModel
from voxward.robustness import summary as robust
from voxward.robustness.record import Record

BOTH = ("x", "y")


def test_mu_is_the_mean_of_the_clean_control() -> None:
    assert robust.mu(book(), "m") == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no clean control of model 'other'"):
        robust.mu(book(), "other")


def test_worst_case_is_the_lowest_per_case() -> None:
    worst = robust.worst_case(book())
    expected = {("m", "a", 0.1): 0.3, ("m", "b", 0.1): 0.4, ("m", "a", 0.2): 0.2, ("m", "b", 0.2): 0.0}
    assert worst == {robust.Key(*key): pytest.approx(dice) for key, dice in expected.items()}
    scores = robust.worst_scores(book())
    assert scores[robust.Key("m", "a", 0.2)].scores == (0.4, 0.0)


def test_no_perturbation_is_a_candidate() -> None:
    """A deployed file may come out better than the clean one: rounding, or a crop that fits better."""
    records = [
        clean("a", deployed=(0.6, 0.6)),
        record("x", "a", (0.5, 0.5), 0.1, deployed=(0.7, 0.7)),
        record("y", "a", (0.95, 0.95), 0.2, deployed=(0.4, 0.4)),
    ]
    deployed = robust.worst_case(records, deployed=True)
    assert deployed == {("m", "a", 0.1): pytest.approx(0.6), ("m", "a", 0.2): pytest.approx(0.4)}
    assert robust.worst_case(records)[robust.Key("m", "a", 0.2)] == pytest.approx(0.8)
    assert robust.case_dice(records, "m", 0.1, deployed=True) == {"a": pytest.approx(0.6)}


def test_robust_dice_and_accuracy() -> None:
    dice = robust.robust_dice(book(), "m", 0.1)
    assert dice is not None
    assert (dice.mean, dice.low, dice.high, dice.n) == (pytest.approx(0.35), pytest.approx(0.3), pytest.approx(0.4), 2)
    shares = {
        (eps, limit): robust.robust_accuracy(book(), "m", eps, threshold=limit).mean  # type: ignore[union-attr]
        for eps in (0.1, 0.2)
        for limit in (None, 0.5, 0.25)
    }
    assert shares == {
        (0.1, None): 0.5,
        (0.1, 0.5): 0.0,
        (0.1, 0.25): 1.0,
        (0.2, None): 0.0,
        (0.2, 0.5): 0.0,
        (0.2, 0.25): 0.0,
    }
    assert robust.robust_dice(book(), "m", 0.3) is None


def test_a_case_at_the_threshold_is_not_broken() -> None:
    share = robust.robust_accuracy(book(), "m", 0.1, ("x",), threshold=0.5)
    assert share is not None
    assert share.mean == 0.5


def test_curves() -> None:
    curve = robust.curve_over_eps(book(), "m")
    assert [eps for eps, _ in curve] == [0.0, 0.1, 0.2]
    assert [summary.mean for _, summary in curve] == pytest.approx([0.75, 0.35, 0.1])
    # (0.75 + 0.35) / 2 and (0.35 + 0.1) / 2, each over half of the span.
    assert robust.area_under_curve([(eps, s.mean) for eps, s in curve]) == pytest.approx((0.55 + 0.225) / 2)
    assert robust.curve_over_iterations(book(), "m", "x", 0.1) == pytest.approx((0.75, 0.5, 0.45))
    assert robust.curve_over_iterations(book(), "m", "y", 0.1) == ()


def test_an_area_needs_increasing_points() -> None:
    with pytest.raises(ValueError, match="at least two points"):
        robust.area_under_curve([(0.0, 1.0)])
    with pytest.raises(ValueError, match="eps must increase"):
        robust.area_under_curve([(0.1, 1.0), (0.0, 1.0)])


def test_smallest_breaking_eps() -> None:
    records = [
        clean("a"), clean("b"),
        record("fab", "a", (0.3, 0.3), 0.1, breaking_eps=0.05), record("fab", "a", (0.3, 0.3), 0.2, breaking_eps=0.05),
        record("fab-2", "a", (0.3, 0.3), 0.1, breaking_eps=0.03), record("fab", "b", (0.7, 0.7), 0.1),
    ]  # fmt: skip
    assert robust.smallest_breaking_eps(records, "m") == {"a": 0.03, "b": None}
    assert robust.smallest_breaking_eps(records, "m", ("fab",)) == {"a": 0.05, "b": None}


def test_paired_difference() -> None:
    other = [
        replace(r, model="n", adversarial=tuple(None if d is None else d / 2 for d in r.adversarial)) for r in book()
    ]
    found = robust.paired_difference([*book(), *other, record("x", "c", (0.1, 0.1), 0.1)], "m", "n", 0.1)
    assert found is not None
    # a: 0.3 - 0.15, b: 0.4 - 0.2; case c has no partner.
    assert (found.mean, found.low, found.high, found.n) == (
        pytest.approx(0.175), pytest.approx(0.15), pytest.approx(0.2), 2,
    )  # fmt: skip
    assert robust.paired_difference(book(), "m", "n", 0.1) is None


@pytest.mark.parametrize("policy", ["ignore", "one"])
def test_a_set_of_attacks_is_never_above_a_member(policy: str) -> None:
    """Also where classes and whole cases are undefined under some attacks."""
    draw = np.random.default_rng(0)

    def score() -> float | None:
        return None if draw.random() < 0.4 else float(draw.random())

    names = [f"attack{n}" for n in range(5)]
    cases = [f"case{n}" for n in range(20)]
    records = [record(name, case, (score(), score()), 0.1, clean=(1.0, None)) for name in names for case in cases]
    everything = robust.robust_dice(records, "m", 0.1, names, policy=policy)
    assert everything is not None
    for name in names:
        single = np.mean([r.dice(policy=policy) for r in records if r.attack == name])
        alone = robust.robust_dice(records, "m", 0.1, (name,), policy=policy)
        assert alone is not None
        assert everything.mean <= alone.mean <= single + 1e-12
        assert everything.n == alone.n == 20


def verdicts(records: list[Record]) -> dict[str, bool | None]:
    return {finding.name: finding.passed for finding in robust.sanity(records)}


def test_a_sound_book_passes_what_can_be_tested() -> None:
    found = verdicts(book())
    untestable = {"eps 1", "black-box", "deployed", "model"}
    assert found == {name: None if name in untestable else True for name in found}
    assert len(found) == 10
    assert len(robust.sanity([*book(), clean("a", model="n")])) == 20


LARGE = ThreatModel(1.0)


def _probe(random: bool = False, reached: float = 0.9) -> Record:
    return record("probe", "a", (0.9, 0.7), kind="control", options={"random": random, "reached": reached})


BROKEN: dict[str, tuple[bool, list[Record]]] = {
    "noise control": (False, [record("noise", case, (0.6, 0.6), 0.2) for case in "ab"]),
    "clip control": (False, [record("clip", case, (0.95, 0.95), 0.2) for case in "ab"]),
    "larger eps": (False, [record("y", case, (0.6, 0.6), 0.3) for case in "ab"]),
    "eps 1": (False, [record("reach", "a", (0.2, 0.0), 1.0, threat=LARGE, kind="control")]),
    "black-box": (False, [record("square", case, (0.1, 0.1), 0.1, white_box=False) for case in "ab"]),
    "in the ball": (False, [record("y", "a", (0.3, 0.3), 0.1, written=0.1002)]),
    "clean": (False, [clean("a", dice=(0.0, 0.05)), clean("b", dice=(0.0, 0.0))]),
    "complete": (False, [record("z", "a", (0.3, 0.3), 0.1)]),
    "deployed": (False, [clean("a", deployed=(0.1, 0.1))]),
    "model": (False, [_probe(random=True)]),
}  # fmt: skip


def test_a_control_that_only_breaks_the_written_file_is_seen() -> None:
    """Noise on a skull-stripped volume changes what the deployed pipeline takes its statistics from."""
    deployed = [record("noise", c, (0.9, 0.7), 0.1, deployed=(0.1, 0.1), deployed_clean=(0.9, 0.7)) for c in "ab"]
    assert verdicts([*book(), *deployed])["noise control"] is False


def test_a_perturbation_outside_the_ball_is_seen_before_it_is_written() -> None:
    assert verdicts([*book(), record("y", "a", (0.3, 0.3), 0.1, distance=0.1002)])["in the ball"] is False


def test_a_class_that_was_nowhere_does_not_fail_a_control() -> None:
    """One false voxel of an absent class makes its Dice 0 where it did not count before."""
    sound = [record("noise", c, (0.9, 0.0), 0.1, clean=(0.9, None)) for c in "ab"]
    assert verdicts([clean("a", dice=(0.9, None)), clean("b", dice=(0.9, None)), *sound])["noise control"] is True


def test_masked_gradients_are_seen() -> None:
    assert verdicts([*book(), _probe(reached=0.0)])["model"] is False


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_set_up_fails_its_check(name: str) -> None:
    passed, more = BROKEN[name]
    assert verdicts([*book(), *more])[name] is passed


MENDED: dict[str, list[Record]] = {
    # At the width of the window noise may do anything.
    "noise control": [record("noise", case, (0.0, 0.0), 1.0, threat=LARGE) for case in "ab"],
    "larger eps": [record("y", case, (0.155, 0.155), 0.3) for case in "ab"],
    "eps 1": [record("reach", "a", (0.04, 0.0), 1.0, threat=LARGE, kind="control")],
    "black-box": [record("square", case, (0.4, 0.4), 0.1, white_box=False) for case in "ab"],
    "in the ball": [record("y", "a", (0.3, 0.3), 0.1, distance=0.1 * (1 + 1e-5))],
    "deployed": [clean("a", deployed=(0.895, 0.7)), clean("b", deployed=(0.8, 0.6))],
    # A look at one case is no unfinished attack.
    "complete": [_probe(), record("reach", "a", (0.04, 0.0), 1.0, threat=LARGE, kind="control")],
    "model": [_probe()],
}  # fmt: skip


@pytest.mark.parametrize("name", list(MENDED))
def test_a_sound_set_up_passes_its_check(name: str) -> None:
    assert verdicts([*book(), *MENDED[name]])[name] is True


def test_a_finding_says_what_failed() -> None:
    (finding,) = (f for f in robust.sanity([*book(), *BROKEN["noise control"][1]]) if f.name == "noise control")
    # 0.6 against a mean of 0.75.
    assert "noise at eps 0.2 moves the mean Dice by -0.150" in finding.text
    assert math.isclose(robust.TOLERANCE, 0.01)
