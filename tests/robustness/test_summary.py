"""Numbers worked out by hand from books.book()."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.robustness.books import book, clean, record
from voxward.robustness.summary import Key, View, area_under_curve


def test_mu_is_the_mean_of_the_clean_control() -> None:
    assert View(book()).mu("m") == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no clean control of model 'other'"):
        View(book()).mu("other")


def test_worst_case_is_the_lowest_per_case() -> None:
    worst = {key: found.dice for key, found in View(book()).worst().items()}
    expected = {("m", "a", 0.1): 0.3, ("m", "b", 0.1): 0.4, ("m", "a", 0.2): 0.2, ("m", "b", 0.2): 0.0}
    assert worst == {Key(*key): pytest.approx(dice) for key, dice in expected.items()}
    scores = View(book()).worst()
    assert scores[Key("m", "a", 0.2)].scores == (0.4, 0.0)


def test_no_perturbation_is_a_candidate() -> None:
    """A deployed file may come out better than the clean one: rounding, or a crop that fits better."""
    records = [
        clean("a", deployed=(0.6, 0.6)),
        record("x", "a", (0.5, 0.5), 0.1, deployed=(0.7, 0.7)),
        record("y", "a", (0.95, 0.95), 0.2, deployed=(0.4, 0.4)),
    ]
    deployed = {key: found.dice for key, found in View(records, deployed=True).worst().items()}
    assert deployed == {("m", "a", 0.1): pytest.approx(0.6), ("m", "a", 0.2): pytest.approx(0.4)}
    assert View(records).worst()[Key("m", "a", 0.2)].dice == pytest.approx(0.8)
    assert View(records, deployed=True).case_dice("m", 0.1) == {"a": pytest.approx(0.6)}


def test_robust_dice_and_accuracy() -> None:
    dice = View(book()).robust_dice("m", 0.1)
    assert dice is not None
    assert (dice.mean, dice.low, dice.high, dice.n) == (pytest.approx(0.35), pytest.approx(0.3), pytest.approx(0.4), 2)
    shares = {
        (eps, limit): View(book()).robust_accuracy("m", eps, threshold=limit).mean  # type: ignore[union-attr]
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
    assert View(book()).robust_dice("m", 0.3) is None


def test_a_case_at_the_threshold_is_not_broken() -> None:
    share = View(book(), attacks=("x",)).robust_accuracy("m", 0.1, threshold=0.5)
    assert share is not None
    assert share.mean == 0.5


def test_curves() -> None:
    curve = View(book()).curve("m")
    assert [eps for eps, _ in curve] == [0.0, 0.1, 0.2]
    assert [summary.mean for _, summary in curve] == pytest.approx([0.75, 0.35, 0.1])
    # (0.75 + 0.35) / 2 and (0.35 + 0.1) / 2, each over half of the span.
    assert area_under_curve([(eps, s.mean) for eps, s in curve]) == pytest.approx((0.55 + 0.225) / 2)
    assert View(book()).history("m", "x", 0.1) == pytest.approx((0.75, 0.5, 0.45))
    assert View(book()).history("m", "y", 0.1) == ()


def test_a_class_has_the_dice_of_the_attack_with_the_lowest_mean() -> None:
    """At 0.1 case a is worst under y (0.3, 0.3), b under x (0.5, 0.3); at 0.2 a under x (0.4, 0), b under y (0, 0)."""
    view = View(book())
    curves = [[(eps, summary.mean) for eps, summary in view.class_curve("m", place)] for place in (0, 1)]
    expected = [[0.85, 0.4, 0.2], [0.65, 0.3, 0.0]]
    assert curves == [list(zip((0.0, 0.1, 0.2), map(pytest.approx, means), strict=True)) for means in expected]


def test_an_area_needs_increasing_points() -> None:
    with pytest.raises(ValueError, match="at least two points"):
        area_under_curve([(0.0, 1.0)])
    with pytest.raises(ValueError, match="eps must increase"):
        area_under_curve([(0.1, 1.0), (0.0, 1.0)])


def test_smallest_breaking_eps() -> None:
    records = [
        clean("a"), clean("b"),
        record("fab", "a", (0.3, 0.3), 0.1, breaking_eps=0.05), record("fab", "a", (0.3, 0.3), 0.2, breaking_eps=0.05),
        record("fab-2", "a", (0.3, 0.3), 0.1, breaking_eps=0.03), record("fab", "b", (0.7, 0.7), 0.1),
    ]  # fmt: skip
    assert View(records).breaking_eps("m") == {"a": 0.03, "b": None}
    assert View(records).over(("fab",)).breaking_eps("m") == {"a": 0.05, "b": None}


def test_paired_difference() -> None:
    other = [
        replace(r, model="n", adversarial=tuple(None if d is None else d / 2 for d in r.adversarial)) for r in book()
    ]
    found = View([*book(), *other, record("x", "c", (0.1, 0.1), 0.1)]).difference("m", "n", 0.1)
    assert found is not None
    # a: 0.3 - 0.15, b: 0.4 - 0.2; case c has no partner.
    assert (found.mean, found.low, found.high, found.n) == (
        pytest.approx(0.175), pytest.approx(0.15), pytest.approx(0.2), 2,
    )  # fmt: skip
    assert View(book()).difference("m", "n", 0.1) is None


@pytest.mark.parametrize("policy", ["ignore", "one"])
def test_a_set_of_attacks_is_never_above_a_member(policy: str) -> None:
    """Also where classes and whole cases are undefined under some attacks."""
    draw = np.random.default_rng(0)

    def score() -> float | None:
        return None if draw.random() < 0.4 else float(draw.random())

    names = [f"attack{n}" for n in range(5)]
    cases = [f"case{n}" for n in range(20)]
    records = [record(name, case, (score(), score()), 0.1, clean=(1.0, None)) for name in names for case in cases]
    everything = View(records, policy=policy, attacks=names).robust_dice("m", 0.1)
    assert everything is not None
    for name in names:
        single = np.mean([r.dice(policy=policy) for r in records if r.attack == name])
        alone = View(records, policy=policy, attacks=(name,)).robust_dice("m", 0.1)
        assert alone is not None
        assert everything.mean <= alone.mean <= single + 1e-12
        assert everything.n == alone.n == 20
