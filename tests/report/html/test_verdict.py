"""The verdict's claims are those of the raw records, in sentences that are true and read well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from markupsafe import escape

from tests.report.html.attack_source import attack_source, sources_of
from tests.report.test_phantom import records as phantom_records
from tests.robustness import books
from tests.robustness.books import clean, record
from voxward.attacks.threat import ThreatModel
from voxward.core.errors import Failure
from voxward.metrics.summary import bootstrap_interval
from voxward.report.html.case_rows import case_rows
from voxward.report.html.glossary import glossary
from voxward.report.html.page import Setting, render
from voxward.report.html.scope import left_out_lines
from voxward.report.html.sections.verdict import FolderVerdict, SystemVerdict, verdict
from voxward.report.sources import AttackSource, Sources
from voxward.robustness.asked import Aside
from voxward.robustness.record import Record
from voxward.robustness.require import FIGURES


def book() -> list[Record]:
    """Two attacks at two sizes on two cases, through the whole pipeline; see `books.book`."""
    return [replace(one, mode="volume") for one in books.book()]


def folder_of(source: AttackSource) -> FolderVerdict:
    return verdict(sources_of(source), Setting())[0]


def system_of(records: Sequence[Record], **protocol: object) -> SystemVerdict:
    return folder_of(attack_source(records, **protocol)).systems[0]


def text_of(system: SystemVerdict) -> str:
    return " ".join((*system.sentences, *system.notes, system.failing, system.scans))


def mean(scores: Sequence[float | None]) -> float:
    known = [value for value in scores if value is not None]
    return sum(known) / len(known)


def by_hand(records: Sequence[Record], eps: float) -> dict[str, tuple[float, float]]:
    """The Dice of each case without an attack and under the worst one, by plain loops over the raw records."""
    found: dict[str, tuple[float, float]] = {}
    for one in records:
        if one.kind == "attack" and one.eps == eps:
            before = mean(one.clean)
            lowest = min(before, mean(one.adversarial))
            found[one.case] = before, min(lowest, found.get(one.case, (0, 1))[1])
    return found


def test_the_sentences_and_tiles_hold_the_figures_of_the_records() -> None:
    system = system_of(book())
    worst = by_hand(book(), 0.2)
    dice = [after for _, after in worst.values()]
    limit = sum(before for before, _ in worst.values()) / 2 / 2
    broken = [case for case, (_, after) in worst.items() if after < limit]
    low, high = bootstrap_interval(dice)
    assert worst == {"a": (pytest.approx(0.8), pytest.approx(0.2)), "b": (pytest.approx(0.7), 0.0)}
    assert system.sentences[0] == (
        "On 2 scans, m has a mean Dice of 0.750 over liver and tumour when nothing is changed. Changes of each voxel "
        "by at most 51/255 of the intensity range (20.0 %), chosen by the strongest of 2 attacks, lower that to "
        f"{sum(dice) / 2:.3f} (95 % interval {low:.3f} to {high:.3f}). {len(broken)} of 2 scans break: their Dice ends "
        f"below {limit:.3f}, half of the mean of the unchanged scans."
    )
    assert [tile.value for tile in system.tiles] == ["0.750", "0.100", "2 of 2"]
    assert system.scans == "b (from 0.700 to 0.000), a (from 0.800 to 0.200)"


def test_each_size_has_a_row() -> None:
    system = system_of(book())
    assert system.table is not None
    none, small, large = (row.cells for row in system.table.rows)
    assert (none[0], none[1][:5]) == ("none", "0.750")
    dice = [after for _, after in by_hand(book(), 0.1).values()]
    noise = [mean(one.adversarial) for one in book() if one.attack == "noise"]
    # The limit is half of 0.75: a falls to 0.3, b to 0.4.
    assert small == ("25.5/255", f"{sum(dice) / 2:.3f} [0.300, 0.400]", "1 of 2", f"{sum(noise) / 2:.3f}")
    assert large == ("51/255", "0.100 [0.000, 0.200]", "2 of 2", "n/a")


def several(cases: int, after: float = 0.1, noise: float = 0.8) -> list[Record]:
    """Cases c00, c01, ... that fall from 0.8 to `after`, the last one to 0, and to `noise` by random noise."""
    records = []
    for n in range(cases):
        case, last = f"c{n:02}", n == cases - 1
        records += [
            clean(case, dice=(0.8,), classes=("liver",)),
            record("noise", case, (noise,), 0.1, clean=(0.8,), classes=("liver",)),
            record("pgd", case, (0.0 if last else after,), 0.1, clean=(0.8,), classes=("liver",)),
        ]
    return [replace(one, mode="volume") for one in records]


def test_one_scan_and_one_attack_are_said_in_the_singular() -> None:
    text = text_of(system_of(several(1)))
    assert text.startswith("On 1 scan, m has a mean Dice of 0.800 over liver")
    assert "chosen by one attack (pgd), lower that to 0.000. This scan breaks: its Dice ends below 0.400" in text
    assert "interval" not in text
    assert "1 scans" not in text


def test_one_of_many_scans_loses() -> None:
    text = text_of(system_of(several(3, after=0.7)))
    assert "1 of 3 scans breaks: its Dice ends below 0.400, half of the mean of the unchanged scans." in text
    assert "The scan that breaks at 25.5/255: c02 (from 0.800 to 0.000)" in text


def test_at_most_five_scans_are_named_the_worst_first() -> None:
    text = text_of(system_of(several(8)))
    assert "c07 (from 0.800 to 0.000), c00 (from 0.800 to 0.100)" in text
    assert text.endswith("and 3 more")
    assert "c05" not in text


def test_an_attack_that_does_nothing_lowers_nothing() -> None:
    records = [one for one in several(3, after=0.8) if one.case != "c02"]
    text = text_of(system_of(records))
    assert "leave it at 0.800" in text
    assert "No scan breaks: no Dice ends below 0.400" in text


@pytest.mark.parametrize(
    ("noise", "sentence"),
    [
        (
            0.8,
            "leaves 0.800 (the same; up to 0.01 counts as no change): the system is stable against it. Random changes",
        ),
        (0.78, "a little, from 0.800 to 0.780 (0.020 lower; more than 0.01 counts as harm): the system is not quite"),
        (0.6, "from 0.800 to 0.600 (0.200 lower; more than 0.01 counts as harm): the system is not safe against"),
        (0.9, "rises from 0.800 to 0.900 (0.100 higher; more than 0.01 counts as a change): the segmentation"),
    ],
)
def test_random_noise_is_judged(noise: float, sentence: str) -> None:
    assert sentence in text_of(system_of(several(3, noise=noise)))


@pytest.mark.parametrize(("after", "said"), [(0.8, False), (0.4, True)])
def test_plain_noise_is_a_part_of_the_fall_only_where_there_is_one(after: float, said: bool) -> None:
    records = [one for one in several(3, after, noise=0.78) if one.case != "c02"]
    assert ("A part of the fall under attack is that of plain noise." in text_of(system_of(records))) == said


@pytest.mark.parametrize(("noise", "weak"), [(0.3, True), (0.78, False)])
def test_attacks_that_do_less_than_noise_are_called_weak(noise: float, weak: bool) -> None:
    records = [one for one in several(4, 0.6, noise) if one.case != "c03"]
    assert ("the attacks are too weak" in text_of(system_of(records))) == weak
    # In single voxels such noise may be larger than an attack is allowed to be.
    equal = [replace(one, attack="gaussian") if one.attack == "noise" else one for one in records]
    assert "too weak" not in text_of(system_of(equal))


@pytest.mark.parametrize(
    ("noise", "found", "said"),
    [
        # 0.8 - 0.79 is a little more than 0.01 as a float.
        (0.79, "", "leaves 0.790 (0.010 lower; up to 0.01 counts as no change): the system is stable"),
        (0.7996, "", "leaves 0.800 (less than 0.001 lower; up to 0.01 counts as no change): the system is stable"),
        (0.78996, "by -0.01004 without an attack, more than 0.01", "(0.01004 lower; more than 0.01 counts as harm)"),
        (0.79004, "", "leaves 0.790 (0.010 lower; up to 0.01 counts as no change)"),
    ],
)
def test_noise_at_the_tolerance_has_its_figure_on_its_side_and_is_judged_as_its_check_does(
    noise: float, found: str, said: str
) -> None:
    system = system_of(several(3, noise=noise))
    assert said in text_of(system)
    assert [fault.found for fault in system.faults if "noise at eps" in fault.found] == (
        [f"What was found: noise at eps 25.5/255 moves the mean Dice {found}."] if found else []
    )


def test_the_scans_that_were_attacked_are_compared_with_themselves() -> None:
    good = [replace(clean(f"g{n}", dice=(0.95,), classes=("liver",)), mode="volume") for n in range(3)]
    text = text_of(system_of([*several(2, after=0.8)[:3], *good]))
    assert "On 4 scans, m has a mean Dice of 0.91" in text
    assert (
        "At 25.5/255 1 of these scans was attacked, which has a Dice of 0.800 when nothing is changed. Changes of"
        in text
    )
    assert "leave it at 0.80" in text


def test_a_system_that_finds_nothing_is_not_called_stable() -> None:
    nothing = [replace(one, clean=(0.01,), adversarial=(0.01,)) for one in several(3)]
    text = text_of(system_of(nothing))
    assert "This says nothing, because the system finds next to nothing" in text
    assert "stable" not in text


def test_every_figure_that_can_be_required_has_words() -> None:
    for figure in FIGURES:
        at = "" if figure in ("clean_dice", "corrupted_dice") else "@0.1"
        (line,) = folder_of(attack_source(book(), require=(f"{figure}{at} >= 0.1",))).judged
        assert figure not in line.sentence
        assert "share of scans" in line.sentence or "Dice" in line.sentence


def test_sizes_are_said_in_hu_where_the_scans_are_ct() -> None:
    ct = [replace(one, channels=("CT",)) for one in book()]
    # The range is 340 wide.
    assert any(
        "25.5/255 (10.0 % of the intensity range, 34 HU)" in line for line in folder_of(attack_source(ct)).measured
    )
    native = [replace(one, threat=ThreatModel(20.0, unit="native"), eps=one.eps * 100) for one in ct]
    assert "Changes of each voxel by at most 20 HU, chosen" in text_of(system_of(native))
    raw = [replace(one, channels=("T1w",)) for one in native]
    assert "at most 20 units of the stored intensity" in text_of(system_of(raw))


def test_noise_of_a_smaller_size_is_not_forgotten() -> None:
    noisy = [replace(one, adversarial=(0.2, 0.2)) if one.attack == "noise" else one for one in book()]
    text = text_of(system_of(noisy))
    assert "Random noise was measured up to 25.5/255 only." in text
    assert "not safe against random noise" in text


def test_a_requirement_on_a_folder_without_records_is_not_measured() -> None:
    folder = folder_of(attack_source([], require=("clean_dice >= 0.7",)))
    assert [one.light.word for one in folder.judged] == ["not measured"]
    assert not folder.unjudged


def test_a_folder_that_does_not_say_how_it_was_measured_is_not_said_to_require_nothing() -> None:
    folder = folder_of(replace(attack_source(book()), protocol=None))
    assert folder.unjudged.startswith("The folder does not say")
    assert folder.systems[0].tiles[0].value == "0.750"


def test_kinds_of_noise_that_all_do_nothing_are_one_sentence() -> None:
    values = {"clean": (0.8,), "classes": ("liver",), "kind": "control", "mode": "volume"}
    more = [record(name, f"c{n:02}", (0.8,), 0.1, **values) for name in ("gaussian", "rician") for n in range(3)]
    text = text_of(system_of([*several(3), *more]))
    assert (
        "stable against random noise, where a change of up to 0.01 counts as none: noise of the same size leaves 0.800 "
        "(the same), Gaussian noise as strong"
    ) in text
    assert text.count("stable") == 1


def test_a_system_that_outlines_poorly_is_told_from_a_good_one() -> None:
    poor = [replace(one, clean=(0.3,), adversarial=(0.3,)) for one in several(3)]
    assert "this system outlines poorly" in text_of(system_of(poor))
    assert "poorly" not in text_of(system_of(several(3)))


def test_noise_that_was_left_out_of_some_scans_says_so() -> None:
    one = record("rician", "c00", (0.8,), 0.1, clean=(0.8,), classes=("liver",), kind="control", mode="volume")
    assert "It was run on 1 of 3 scans." in text_of(system_of([*several(3), one]))


def test_a_mean_does_not_hide_the_scan_that_noise_breaks() -> None:
    records = several(100)
    hit = ("noise", "c04")
    broken = [replace(one, adversarial=(0.2,)) if (one.attack, one.case) == hit else one for one in records]
    text = text_of(system_of(broken))
    assert "1 scan breaks (c04): the system is not safe against random noise." in text
    assert "stable" not in text


def test_without_the_noise_control_nothing_is_said_about_noise() -> None:
    text = text_of(system_of([one for one in book() if one.attack != "noise"]))
    assert "Random noise of the same size was not measured" in text
    assert "safe" not in text


def test_noise_of_equal_strength_stands_beside() -> None:
    values = {"clean": (0.8,), "classes": ("liver",), "kind": "control", "mode": "volume"}
    more = [record(name, f"c{n:02}", (0.78,), 0.1, **values) for name in ("gaussian", "rician") for n in range(3)]
    system = system_of([*several(3), *more])
    assert (
        "Gaussian noise as strong in all as the worst attack alone lowers the Dice a little, from 0.800 to 0.780"
        in text_of(system)
    )
    assert system.table is not None
    assert system.table.rows[1].cells[-2:] == ("0.780", "0.780")


def test_files_and_arrays_are_told_apart() -> None:
    assert any("numbers that the attack computed" in line for line in folder_of(attack_source(book())).measured)
    written = [replace(one, deployed=(0.5, 0.5), deployed_clean=(0.5, 0.5)) for one in book()]
    folder = folder_of(attack_source(written))
    assert any("The Dice is of a file" in line for line in folder.measured)
    assert folder.systems[0].tiles[0].value == "0.500"


def test_a_failed_check_raises_an_alarm_that_says_what_it_means() -> None:
    records = [replace(one, adversarial=(0.2,)) if one.attack == "noise" else one for one in several(3)]
    system = system_of(records)
    assert system.alarm == "Do not rely on the figures of m: a check failed."
    assert [fault.means for fault in system.faults] == [
        "Random noise, which no attack chose, already changes the Dice. So a fall under attack is partly that of plain "
        "noise."
    ]
    assert "noise at eps 25.5/255 moves the mean Dice" in system.faults[0].found
    assert "cannot be relied on" in folder_of(attack_source(records, require=("clean_dice > 0",))).judged[0].measured
    page = render(sources_of(attack_source(records)))
    assert '<div class="banner" role="note">' in page
    assert not system_of(several(3)).alarm


def test_requirements_are_lights_with_words() -> None:
    folder = folder_of(attack_source(book(), require=("clean_dice >= 0.7", "robust_dice_low@0.2 >= 0.5")))
    met, failed = folder.judged
    assert (met.light.kind, met.light.word, met.sentence) == (
        "good",
        "passed",
        "Mean Dice without an attack at least 0.7",
    )
    assert (failed.light.kind, failed.light.word) == ("bad", "failed")
    assert failed.sentence == (
        "Lower end of the 95 % interval of the mean Dice under the strongest attack at 51/255 (20.0 % of the "
        "intensity range) at least 0.5"
    )
    assert failed.measured == "Measured: 0.000."
    open_ = folder_of(attack_source([one for one in book() if one.eps < 0.2], require=("robust_dice@0.2 >= 0.5",)))
    assert [(one.light.kind, one.light.word) for one in open_.judged] == [("open", "not measured")]
    assert folder_of(attack_source(book())).unjudged.startswith("The protocol requires nothing")


def test_the_first_lines_say_what_failed_and_whether_the_checks_passed() -> None:
    required, checked = folder_of(
        attack_source(several(3), require=("clean_dice >= 0.7", "robust_dice@0.1 >= 0.5"))
    ).headlines
    worst = sum(after for _, after in by_hand(several(3), 0.1).values()) / 3
    assert required.light.kind == "bad"
    assert required.text == (
        "1 of 2 requirements failed: mean Dice under the strongest attack at 25.5/255 (10.0 % of the intensity range) "
        f"at least 0.5 (measured: {worst:.3f})."
    )
    source = attack_source(several(3))
    left = sum(one.passed is None for one in source.findings)
    assert f"{left} of {len(source.findings)} checks" in checked.text
    assert checked.section == "trust"
    (only,) = folder_of(replace(attack_source(several(3), require=("clean_dice >= 0.7",)), findings=())).headlines
    assert (only.light.kind, only.text) == ("good", "The requirement passed.")
    noisy = [replace(one, adversarial=(0.2,)) if one.attack == "noise" else one for one in several(3)]
    assert [line.light.kind for line in folder_of(attack_source(noisy)).headlines] == ["bad"]


def test_the_first_lines_stand_before_the_tiles() -> None:
    page = render(sources_of(attack_source(several(3), require=("clean_dice >= 0.9",))))
    assert page.index("The requirement failed: mean Dice without an attack at least 0.9") < page.index('class="tiles"')


def test_what_makes_the_mean_unsure_stands_beside_it() -> None:
    assert any("There are 3 scans only." in line for line in system_of(several(3)).cautions)
    assert system_of(several(20)).cautions == ()
    falling = [replace(one, history=(0.8, 0.7, 0.6, 0.5, 0.4)) if one.attack == "pgd" else one for one in several(20)]
    (caution,) = system_of(falling).cautions
    assert caution.startswith("The attacks had not finished improving: 1 of 1 still lowered the Dice")
    rested = [replace(one, history=(0.8, 0.4, 0.4, 0.4, 0.4)) if one.attack == "pgd" else one for one in several(20)]
    assert system_of(rested).cautions == ()


def test_figures_that_are_not_converged_are_marked_in_the_table() -> None:
    """Twice the budget lowers the Dice of the first two of 20 scans at the larger size, whatever the courses say."""
    attacked = [one for one in several(20, after=0.3) if one.attack == "pgd"]
    larger = [replace(one, eps=0.2, history=(0.8, 0.7, 0.6, 0.5, 0.3)) for one in attacked]
    falling = [*several(20, after=0.3), *larger]

    def twice(fall: float) -> list[Record]:
        again = {"attack": "doubled", "kind": "control", "options": {"doubles": "pgd"}}
        falls = [(one, 0.0) for one in attacked[:2]] + [(one, fall) for one in larger[:2]]
        return [replace(one, adversarial=(0.3 - down,), **again) for one, down in falls]

    found = system_of([*falling, *twice(0.05)])
    assert found.cautions[0].startswith("The figures are not converged: pgd with twice its budget lowers the Dice")
    assert "by 0.050 at 51/255 on 2 scans" in found.cautions[0]
    assert found.table is not None
    assert ["not converged" in row.cells[1] for row in found.table.rows] == [False, False, True]
    assert found.alarm
    rested = system_of([*falling, *twice(0.0)])
    assert (rested.cautions, rested.alarm) == ((), "")


def test_broken_means_half_of_the_mean_as_in_the_robust_accuracy() -> None:
    # The mean is 0.65: c00 falls to 0.3 from 0.8, and c01, which was at 0.5, keeps more than half of its own.
    rows = [
        *(clean(case, dice=(dice,), classes=("liver",)) for case, dice in (("c00", 0.8), ("c01", 0.5))),
        *(record("pgd", case, (dice,), 0.1, clean=(before,), classes=("liver",))
          for case, before, dice in (("c00", 0.8, 0.35), ("c01", 0.5, 0.3))),
    ]  # fmt: skip
    source = attack_source([replace(one, mode="volume") for one in rows], require=("robust_accuracy@0.1 >= 0.5",))
    folder = folder_of(source)
    assert "1 of 2 scans breaks: its Dice ends below 0.325" in text_of(folder.systems[0])
    assert folder.systems[0].scans == "c01 (from 0.500 to 0.300)"
    assert "Measured: 0.500." in folder.judged[0].measured


def test_a_scan_that_is_below_the_limit_unchanged_is_not_said_to_fall() -> None:
    low = [replace(one, clean=(0.1,), adversarial=(0.1,)) if one.case == "c00" else one for one in several(4)]
    text = text_of(system_of(low))
    assert "1 of them is below it even when nothing is changed." in text
    assert "1 scan breaks (c00): the system is not safe" not in text


def test_what_an_earlier_call_attacked_is_named() -> None:
    source = attack_source(book())
    assert left_out_lines(source) == ()
    assert left_out_lines(replace(source, aside=Aside(("c",), ("48/255",)))) == (
        "An earlier call attacked 1 more scan, which the last call did not ask for, and no figure is over it: c.",
        "An earlier call attacked with other sizes, which the last call did not ask for, and no figure is of them: "
        "48/255.",
    )


def test_a_failed_scan_is_named_and_passes_nothing() -> None:
    source = attack_source(book(), failed=[Failure("z", "no label")], case_ids="abz", require=("clean_dice >= 0.7",))
    folder = folder_of(source)
    assert "1 scan failed, and no figure is over it: z (no label)." in folder.measured
    assert folder.left_out == ("1 scan failed, and no figure is over it: z (no label).",)
    assert folder.judged[0].light.kind == "bad"
    assert "1 scan failed. It might be the worst one" in folder.judged[0].measured
    assert "1 scan that failed" in [gap.title for gap in folder.gaps]


def test_scans_without_results_are_named() -> None:
    folder = folder_of(attack_source(book(), case_ids="abyz"))
    assert "2 scans have no results yet, and no figure is over them: y, z." in folder.measured


def test_a_requirement_is_not_passed_before_all_scans_have_results() -> None:
    records = [
        one for one in several(4, after=0.7) if (one.kind, one.case) not in {("attack", "c02"), ("attack", "c03")}
    ]
    texts = ("clean_dice >= 0.7", "robust_dice@0.1 >= 0.6", "robust_dice@0.1 >= 0.9")
    folder = folder_of(attack_source(records, case_ids=[f"c{n:02}" for n in range(5)], require=texts))
    assert [one.light.word for one in folder.judged] == ["not measured", "not measured", "failed"]
    unchanged, struck, _ = (one.measured for one in folder.judged)
    assert "1 scan has no results of this size yet. It might be the worst one" in unchanged
    assert "Measured: 0.700. 3 scans have no results of this size yet. They might be the worst ones" in struck
    done = folder_of(attack_source(several(4, after=0.7), require=texts[:1]))
    assert [one.light.word for one in done.judged] == ["passed"]


def test_one_scan_has_no_interval_that_could_hold_anything() -> None:
    source = attack_source(several(1), require=("clean_dice >= 0.7", "clean_dice_low >= 0.7"))
    folder = folder_of(source)
    assert [one.light.word for one in folder.judged] == ["passed", "not measured"]
    assert folder.judged[1].measured == "An interval needs records of at least two scans."
    page = render(sources_of(source))
    assert "0.800" in page
    assert not re.search(r"\[0\.\d+, 0\.\d+\]", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))


def test_noise_over_fewer_scans_says_so_in_the_table() -> None:
    fewer = [one for one in several(3) if (one.attack, one.case) not in {("noise", "c00"), ("noise", "c01")}]
    table = system_of(fewer).table
    assert table is not None
    assert table.rows[-1].cells[-1] == "0.800 (1 scan)"


def test_figures_of_files_and_arrays_never_stand_side_by_side() -> None:
    """One control without a file: everything on the page is then of arrays."""
    filed = [
        one if one.attack == "noise" else replace(one, deployed=(0.5,), deployed_clean=(0.5,))
        for one in several(3, after=0.7) if one.case != "c02"
    ]  # fmt: skip
    controls = [replace(one, attack="gaussian", eps=0.1) for one in filed if one.attack == "noise"]
    whole = [replace(one, deployed=(0.5,), deployed_clean=(0.5,)) for one in filed]
    for records in (filed, [*whole, *controls]):
        source = attack_source(records, require=("robust_dice@0.1 >= 0.6",))
        assert not source.deployed
        folder = folder_of(source)
        assert folder.systems[0].tiles[1].value == "0.700"
        assert folder.judged[0].measured.startswith("Measured: 0.700.")
        assert any("of the numbers that the attack computed" in line for line in folder.measured)
        assert {row.clean_dice for row in case_rows(source)} == {0.8}
    assert attack_source(whole).deployed


def test_other_kinds_of_measurement_are_said() -> None:
    patch = text_of(system_of([replace(one, mode="patch") for one in book()]))
    assert "On one window of each scan (2 scans), the bare network of m has a mean Dice of" in patch
    assert "The deployed pipeline was not attacked" in patch
    assert "window" not in text_of(system_of(book()))
    blind = [replace(one, white_box=False) for one in book()]
    assert "None of these attacks knew the inside of the system." in text_of(system_of(blind))
    assert "Only tumour counts here." in text_of(system_of(book(), erase="tumour"))


@pytest.mark.parametrize(
    ("threat", "sentence"),
    [
        (ThreatModel(20.0, unit="native"), "Changes of each voxel by at most 20"),
        (ThreatModel(20.0, "l2"), "Changes of all voxels together by at most 20 of the intensity range"),
    ],
)
def test_what_may_change_is_said_in_the_unit_of_the_threat(threat: ThreatModel, sentence: str) -> None:
    records = [replace(one, threat=threat, eps=one.eps * 100) for one in book()]
    assert sentence in text_of(system_of(records))


def test_many_classes_are_not_all_named_in_a_sentence() -> None:
    names = tuple(f"organ {n}" for n in range(12))
    records = [clean("a", dice=(0.5,) * 12, classes=names)]
    system = system_of(records)
    assert "over organ 0, organ 1, organ 2, organ 3 and 8 more classes when" in system.sentences[0]
    assert (
        system.sentences[1] == "No attack has finished on this system, so nothing can be said about how robust it is."
    )
    assert system.table is None


def test_records_without_a_clean_control_have_no_verdict() -> None:
    system = system_of([record("x", "a", (0.5, 0.5), 0.1)])
    assert system.sentences[0].startswith("No verdict on m: there is no clean control")


def test_a_folder_without_records_says_so() -> None:
    page = render(sources_of(attack_source([])))
    assert "Nothing was measured here yet" in page
    assert "No attack was measured." in render(Sources())


def test_several_systems_and_folders_each_have_their_verdict() -> None:
    other = [replace(one, model="n") for one in book()]
    page = render(sources_of(attack_source([*book(), *other], "one"), attack_source(book(), "two")))
    assert re.findall("<h4>[mn]</h4>", page) == ["<h4>m</h4>", "<h4>n</h4>"]
    assert page.count("What was not measured</h4>") == 2
    assert page.index("<p>Compared with &#39;one/m&#39; over the 2 scans") < page.index('class="tiles"')


def test_what_was_not_measured_is_listed_once_and_each_line_says_why() -> None:
    source = attack_source(book())
    page = render(sources_of(source))
    for gap in folder_of(source).gaps:
        assert page.count(f"</summary><p>{escape(gap.why)}</p>") == 1
        assert f"<li><strong>{escape(gap.title)}" not in page


def test_the_title_names_systems_and_datasets() -> None:
    source = replace(attack_source(book()), dataset="Task04_Hippocampus")
    heading = "How robust is the segmentation? &#39;m&#39; on Task04_Hippocampus</h1>"
    assert heading in render(sources_of(source))


def test_whether_the_system_knew_the_scans_is_said_only_where_it_is_known() -> None:
    run = replace(attack_source(book()), systems={"m": {"kind": "run"}}, checked=True)
    assert "None of these scans was used to train it." in folder_of(run).measured
    for unsure in (replace(run, checked=False), replace(run, systems={"m": {"kind": "blackbox"}})):
        measured = folder_of(unsure).measured
        assert "It is not known whether 'm' was trained on any of these scans." in measured
        assert "None of these scans was used to train it." not in measured
    told = replace(run, systems={"m": {"kind": "nnunet"}}, known=("m",))
    assert "As its own files say, 'm' was trained on none of these scans." in folder_of(told).measured
    seen = folder_of(replace(run, seen=("a",))).measured
    assert any("trained on 1 of these scans" in line for line in seen)
    assert "None of these scans was used to train it." not in seen


def test_scans_that_were_left_out_do_not_contradict_what_is_known_of_the_training() -> None:
    """Folders of before do not say which system told what it was trained on."""
    kinds = {"m": {"kind": "nnunet"}, "n": {"kind": "blackbox"}}
    other = [replace(one, model="n") for one in book()]
    alone = folder_of(replace(attack_source(book()), systems=kinds, checked=True, left_out=("q", "r")))
    assert "As its own files say, 'm' was trained on none of these scans." in alone.measured
    assert "2 scans of the dataset, because the system was trained on them" in [gap.title for gap in alone.gaps]
    both = replace(attack_source([*book(), *other]), systems=kinds, checked=True, left_out=("q",))
    assert "1 scan of the dataset, because at least one of the systems was trained on it" in [
        gap.title for gap in folder_of(both).gaps
    ]
    assert "It is not known whether 'm' was trained on any of these scans." in folder_of(both).measured
    measured = folder_of(replace(both, known=("m",))).measured
    assert "As its own files say, 'm' was trained on none of these scans." in measured
    assert "It is not known whether 'n' was trained on any of these scans." in measured


def test_every_attack_and_word_of_the_page_is_explained_in_sentences_with_one_full_stop() -> None:
    source = attack_source([replace(one, attack="apgd-ce") if one.attack == "x" else one for one in book()])
    page = render(sources_of(source))
    assert "<dt>attack apgd-ce</dt>" in page
    for word in ("Dice", "area", "breaking eps", "vs first", "not distinguishable", "fp32", "bf16"):
        assert f"<dt>{word}</dt>" in page, word
    for word, text in glossary(sources_of(source)).items():
        assert re.search(r"[^.]\.$", text), (word, text)
    assert 'id="glossary"' not in render(Sources())


def test_where_a_class_is_invented_volumes_say_what_was_found() -> None:
    system = system_of(phantom_records(), invent="lesion")
    assert [(one.value, one.label) for one in system.tiles] == [
        ("20 mm3", "falsely marked as lesion, unchanged scans"),
        ("245 mm3", "falsely marked as lesion under attack, 25.5/255"),
    ]
    text = text_of(system)
    assert "marks 20 mm3 as lesion where there is none" in text
    assert "raise that to 245 [90, 400] mm3." in text
    assert "find lesion where there is none" in text
    assert "No Dice says how bad that is" in text
    assert "mean Dice" not in text
    assert not system.failing
    assert system.table is not None
    assert [row.cells[0] for row in system.table.rows] == ["none", "12.75/255", "25.5/255"]
    assert system.table.rows[1].cells[1] == "40 [30, 50] mm3"
