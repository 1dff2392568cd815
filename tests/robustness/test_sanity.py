"""A sound benchmark passes its checks, and a broken set-up fails the one that is there for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.robustness.books import book, clean, record
from voxward.attacks.base import NOT_WRITABLE
from voxward.attacks.threat import ThreatModel
from voxward.robustness.record import Record
from voxward.robustness.sanity import STANDARD, Thresholds, sanity


def verdicts(records: list[Record], thresholds: Thresholds = STANDARD) -> dict[str, bool | None]:
    return {finding.name: finding.passed for finding in sanity(records, thresholds)}


def test_a_sound_book_passes_what_can_be_tested() -> None:
    found = verdicts(book())
    untestable = {"eps 1", "black-box", "deployed", "model", "rounding", "converged"}
    assert found == {name: None if name in untestable else True for name in found}
    assert len(found) == 14
    assert len(sanity([*book(), clean("a", model="n")])) == 28


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
    "gradients": (False, [record("y", "a", (0.3, 0.3), 0.1, warnings=("y: the gradient was 0",))]),
    "rounding": (False, [record("y", "a", (0.3, 0.3), 0.1, written=0.0)]),
}  # fmt: skip


def test_a_control_that_only_breaks_the_written_file_is_seen() -> None:
    """Noise on a skull-stripped volume changes what the deployed pipeline takes its statistics from."""
    deployed = [record("noise", c, (0.9, 0.7), 0.1, deployed=(0.1, 0.1), deployed_clean=(0.9, 0.7)) for c in "ab"]
    assert verdicts([*book(), *deployed])["noise control"] is False


def test_a_perturbation_outside_the_ball_is_seen_before_it_is_written() -> None:
    assert verdicts([*book(), record("y", "a", (0.3, 0.3), 0.1, distance=0.1002)])["in the ball"] is False


def _without_gradient(*more: Record) -> list[Record]:
    attacks = [record("square", case, (0.5, 0.5), 0.1, white_box=False) for case in "ab"]
    return [clean("a"), clean("b"), *attacks, *more]


def test_what_no_attack_without_a_gradient_can_tell_is_not_called_passed() -> None:
    options = {"random": False, "gradient": False}
    probe = record("probe", "a", (0.9, 0.7), kind="control", white_box=False, options=options)
    found = verdicts(_without_gradient(probe))
    assert {name: found[name] for name in ("white-box", "black-box", "gradients", "eps 1")} == dict.fromkeys(
        ("white-box", "black-box", "gradients", "eps 1")
    )
    assert found["model"] is True
    random = replace(probe, options={**options, "random": True})
    assert verdicts(_without_gradient(random))["model"] is False
    texts = {finding.name: finding.text for finding in sanity(_without_gradient())}
    assert "assume that stronger ones exist" in texts["white-box"]
    assert verdicts(book())["white-box"] is True


def test_a_system_that_does_not_look_at_the_volume_is_seen_without_a_gradient() -> None:
    """Such as a command that caches its results, or a function that reads a file of its own."""
    reach = record("reach", "a", (0.9, 0.7), 1.0, threat=LARGE, kind="control", white_box=False)
    assert verdicts(_without_gradient(reach))["eps 1"] is False
    falls = replace(reach, adversarial=(0.5, 0.1))
    assert verdicts(_without_gradient(falls))["eps 1"] is True  # an attack without a gradient need not reach 0


def test_what_moves_array_and_written_file_alike_is_said_once() -> None:
    def said(further: float) -> str:
        moved = [record("noise", case, (0.5, 0.3), 0.2) for case in "ab"]
        after = tuple(dice - further for dice in moved[0].adversarial)
        moved = [replace(one, deployed=after, deployed_clean=one.clean) for one in moved]
        return next(found.text for found in sanity([*book(), *moved]) if found.name == "noise control")

    assert said(0.0).count("moves the mean Dice") == 1
    assert said(0.1).count("moves the mean Dice") == 2


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
    "gradients": [record("y", "a", (0.3, 0.3), 0.1)],
    "rounding": [record("y", "a", (0.3, 0.3), 0.1, written=0.05)],
}  # fmt: skip


@pytest.mark.parametrize("name", list(MENDED))
def test_a_sound_set_up_passes_its_check(name: str) -> None:
    assert verdicts([*book(), *MENDED[name]])[name] is True


def test_a_finding_says_what_failed() -> None:
    (finding,) = (f for f in sanity([*book(), *BROKEN["noise control"][1]]) if f.name == "noise control")
    # 0.6 against a mean of 0.75.
    assert "noise at eps 51/255 moves the mean Dice by -0.150" in finding.text


def test_what_attacks_say_of_themselves_is_counted_by_sentence() -> None:
    said = ("y: the gradient was 0 in every step for 1 of 1 cases: nothing was learnt",)
    rows = [record("y", case, (0.3, 0.3), 0.1, warnings=said) for case in "abcde"]
    (finding,) = (f for f in sanity([*(clean(c, dice=(0.9, 0.7)) for c in "abcde"), *rows]) if f.name == "gradients")
    assert finding.text == ("m: y: the gradient was 0 in every step: nothing was learnt (5 of 5 cases: a, b, c, ...)")


def test_a_perturbation_that_rounding_took_away_is_named() -> None:
    rows = [record("y", case, (0.8, 0.6), 0.001, distance=0.001, written=0.0) for case in "ab"]
    (finding,) = (f for f in sanity([*book(), *rows]) if f.name == "rounding")
    assert finding.passed is False
    assert "y at eps 0.255/255: the written file equals the clean one in 2 cases (a, b)" in finding.text


def test_a_control_says_how_far_it_is_from_its_limit() -> None:
    (found,) = (f for f in sanity(book()) if f.name == "clip control")
    # (0.9, 0.684) in place of (0.9, 0.7) on one of two cases.
    assert found.text == "m: clip stays within 0.01 of clean, and moves the mean Dice by 0.004 at most"


def test_a_class_that_is_never_found_fails_the_check_by_its_name() -> None:
    def finding(*rows: Record) -> tuple[bool | None, str]:
        return next((found.passed, found.text) for found in sanity(rows) if found.name == "clean")

    lost = [clean("a", dice=(0.9, 0.0)), clean("b", dice=(0.8, 0.06))]
    passed, text = finding(*lost)
    assert passed is False
    assert "clean Dice of tumour (0.030 in 2 cases) is below 0.05" in text
    assert "liver" not in text
    # A class is judged on the cases in which it occurs: here one has no tumour, and a voxel is marked as one.
    without = [replace(lost[0], truth_mm3=(5.0, 0.0)), replace(lost[1], truth_mm3=(5.0, 5.0))]
    assert finding(*without)[0] is True
    assert finding(replace(lost[0], clean=(0.9, None), adversarial=(0.9, None)), lost[1])[0] is True
    assert finding(*[replace(one, truth_mm3=(5.0, 0.0)) for one in lost])[0] is True


def test_thresholds_decide() -> None:
    records = [*book(), *BROKEN["noise control"][1]]
    assert verdicts(records, Thresholds(tolerance=0.2))["noise control"] is True
    assert verdicts(book(), Thresholds(gone=0.8))["clean"] is False
    assert Thresholds() == Thresholds(tolerance=0.01, absolute=0.5, gone=0.05)
    with pytest.raises(ValueError, match=r"tolerance must be in \[0, 1\], got -1\.0"):
        Thresholds(tolerance=-1.0)


def test_an_eps_that_no_file_of_whole_numbers_can_hold_is_named_once() -> None:
    said = (f"y: {NOT_WRITABLE}",)
    rows = [record("y", case, (0.8, 0.6), 0.001, distance=0.0, written=0.0, warnings=said) for case in "ab"]
    found = {finding.name: finding for finding in sanity([*book(), *rows])}
    assert found["rounding"].passed is False
    assert "y at eps 0.255/255: the written file equals the clean one in 2 cases (a, b)" in found["rounding"].text
    assert found["gradients"].passed is not False
