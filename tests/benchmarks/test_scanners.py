from dataclasses import replace

from benchmarks.scanners import EPS, certificate_table, corruptions_table

from tests.report.html.test_certificate import certificate_of
from tests.robustness.books import record
from tests.robustness.test_corruption_figures import book, untouched
from voxward.report.certificate import certified


def test_corruptions_stand_beside_the_attack_and_differences_are_paired():
    scanned = [*book("clean"), *book("mixed", 0.1)]
    attacked = [untouched("a", 0.8, name) for name in ("clean", "mixed")]
    for name, dice in (("clean", 0.2), ("mixed", 0.7)):
        attacked.append(
            record("strong", "a", (dice,), EPS, model=name, deployed=(dice,), clean=(0.8,), deployed_clean=(0.8,),
                   classes=("liver",), mode="volume")
        )  # fmt: skip
    text = corruptions_table(("clean", "mixed"), scanned, attacked)
    assert (
        "| clean | 0.700 [0.60, 0.80] | 0.475 [0.40, 0.55] | 0.225 [0.20, 0.25] | move 0.450 | 0.200 | 0.800 |" in text
    )
    assert (
        "| mixed | 0.700 [0.60, 0.80] | 0.575 [0.50, 0.65] | 0.125 [0.10, 0.15] | move 0.550 | 0.700 | 0.800 |" in text
    )
    assert "- mixed - clean: clean +0.000 [+0.00, +0.00], corrupted +0.100 [+0.10, +0.10]" in text


def test_a_certificate_has_a_row_for_each_number_of_runs():
    few = [certificate_of(case, dice) for case, dice in (("a", 0.8), ("b", 0.6))]
    many = [replace(one, runs=1000) for one in few]
    lines = certificate_table([*certified(few), *certified(many)]).splitlines()
    assert lines[2] == (
        "| m | 200 | 0.900 [0.90, 0.90] | 0.850 [0.85, 0.85] | 0.700 [0.60, 0.80] | too few runs | 0.600 [0.50, 0.70] |"
    )
    assert lines[3].startswith("| m | 1000 |")
