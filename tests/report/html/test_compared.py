"""The sentences that compare systems hold the paired differences of the records, and say no more than they show."""

from __future__ import annotations

from dataclasses import replace

from tests.report.html.attack_source import attack_source, sources_of
from tests.report.test_phantom import records as phantom_records
from tests.robustness.books import clean, record
from voxward.metrics.summary import bootstrap_interval
from voxward.report.card import card_text
from voxward.report.html.compared import compared_lines
from voxward.report.sources import AttackSource
from voxward.report.unfinished import Planned
from voxward.robustness.record import Record
from voxward.robustness.unit import Unit

AFTER = {"run": (0.1, 0.3, 0.2), "hardened": (0.4, 0.5, 0.6)}
BEFORE = {"run": (0.9, 0.8, 0.9), "hardened": (0.85, 0.79, 0.87)}


def rows(model: str, before: tuple[float, ...], after: tuple[float, ...]) -> list[Record]:
    """A system on as many scans: the Dice of each without an attack, and at 0.1 and 0.2 under one."""
    values = {"model": model, "classes": ("liver",), "mode": "volume"}
    found = []
    for n, (whole, left) in enumerate(zip(before, after, strict=True)):
        found.append(clean(f"c{n}", dice=(whole,), **values))
        found += [record("pgd", f"c{n}", (left + lift,), eps, clean=(whole,), **values)
                  for eps, lift in ((0.1, 0.1), (0.2, 0.0))]  # fmt: skip
    return found


def both(n: int = 3, **others: tuple[float, ...]) -> list[Record]:
    after = AFTER | others
    return [row for model in ("run", "hardened") for row in rows(model, BEFORE[model][:n], after[model][:n])]


def source(records: list[Record], **values: object) -> AttackSource:
    # As the attack was given them: the folder names the systems in this order, and the records by their names.
    return replace(attack_source(records, **values), systems={"run": {}, "hardened": {}})


def test_the_gain_and_its_price_are_the_paired_differences() -> None:
    (lines,) = compared_lines(sources_of(source(both())))
    gain = [b - a for a, b in zip(AFTER["run"], AFTER["hardened"], strict=True)]
    loss = [a - b for a, b in zip(BEFORE["run"], BEFORE["hardened"], strict=True)]
    ends = [(sum(one) / 3, *bootstrap_interval(one)) for one in (gain, loss)]
    gained, lost = (f"{mean:.3f} [{low:.3f}, {high:.3f}] of mean Dice" for mean, low, high in ends)
    assert lines[0] == (
        f"Compared with 'run' over the 3 scans that both were attacked on, 'hardened' gained {gained} under attack at "
        f"51/255, and lost {lost} without an attack."
    )
    assert "95 % interval" in lines[1]


def test_scans_with_an_unfinished_attack_are_not_compared() -> None:
    """Without it, the stronger attack would count for the first system alone."""
    stronger = [record("apgd", f"c{n}", (0.0,), 0.2, clean=(BEFORE["run"][n],), model="run", classes=("liver",),
                       mode="volume") for n in range(3)]  # fmt: skip
    left = tuple(Unit("hardened", "apgd", case, 0.2, 0) for case in ("c1", "c2"))
    records = [*both(), *stronger, replace(stronger[0], model="hardened", adversarial=(0.0,))]
    (lines,) = compared_lines(sources_of(replace(source(records), plan=Planned(14, left))))
    assert lines[0].startswith("Compared with 'run' on the 1 scan that both")
    assert "has the same mean Dice under attack" in lines[0]
    assert "gained" not in lines[0]
    every = tuple(Unit("hardened", "apgd", case, 0.2, 0) for case in ("c0", "c1", "c2"))
    assert compared_lines(sources_of(replace(source(records), plan=Planned(13, every)))) == ((),)


def test_brackets_are_explained_where_there_are_some() -> None:
    (one,) = compared_lines(sources_of(source(both(1))))
    assert not any("In brackets" in line for line in one)
    same = [*rows("run", BEFORE["run"], AFTER["run"]), *rows("hardened", BEFORE["run"], AFTER["run"])]
    (equal,) = compared_lines(sources_of(source(same)))
    assert len(equal) == 1
    assert "[" not in equal[0]


def test_the_sentences_stand_on_the_card() -> None:
    assert "gained 0.300" in card_text(sources_of(source(both())))


def test_an_interval_that_holds_0_tells_nothing_apart() -> None:
    (lines,) = compared_lines(sources_of(source(both(hardened=(0.0, 0.5, 0.2)))))
    assert "'hardened' is not distinguishable from it under attack at 51/255 (+0.033 [-0.100, +0.200])" in lines[0]
    (same,) = compared_lines(sources_of(source(both(hardened=AFTER["run"]))))
    assert "has the same mean Dice under attack at 51/255, and lost" in same[0]


def test_one_scan_has_no_interval() -> None:
    (lines,) = compared_lines(sources_of(source(both(1))))
    assert lines[0] == (
        "Compared with 'run' on the 1 scan that both were attacked on, 'hardened' gained 0.300 of mean Dice under "
        "attack at 51/255, and lost 0.050 of mean Dice without an attack. One scan has no interval, so this is an "
        "example."
    )


def test_only_scans_that_both_have_are_compared() -> None:
    fewer = [one for one in both() if (one.model, one.case) != ("hardened", "c2")]
    (lines,) = compared_lines(sources_of(source(fewer)))
    assert "over the 2 scans that both were attacked on, 'hardened' gained 0.250 [" in lines[0]


def test_folders_that_were_measured_alike_are_compared_with_the_first_one() -> None:
    first, second = (rows("run", BEFORE[name], AFTER[name]) for name in ("run", "hardened"))
    one, two = attack_source(first, "one"), attack_source(second, "two")
    found = compared_lines(sources_of(one, two))
    assert found[0][0].startswith(
        "Compared with 'one/run' over the 3 scans that both were attacked on, 'two/run' gained"
    )
    assert found[1] == ()
    assert compared_lines(sources_of(one, attack_source(second, "two", seeds=(1,)))) == ((), ())


def test_one_system_and_an_invented_class_have_nothing_to_compare() -> None:
    assert compared_lines(sources_of(attack_source(rows("run", BEFORE["run"], AFTER["run"])))) == ((),)
    invented = [*phantom_records(), *(replace(one, model="n") for one in phantom_records())]
    assert compared_lines(sources_of(attack_source(invented, invent="lesion"))) == ((),)
