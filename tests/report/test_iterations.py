"""How fast attacks lower the Dice: areas and ends are those of the records, by hand."""

from __future__ import annotations

from dataclasses import replace

from tests.robustness.books import book, record
from voxward.report.iterations import iterations_table


def test_every_course_has_a_row_with_its_area_and_both_of_its_ends() -> None:
    """x at 0.1: the courses (0.8, 0.6, 0.5) and (0.7, 0.4, 0.4) are in the mean 0.75, 0.5, 0.45."""
    table = iterations_table(book())
    assert [row.cells for row in table.rows] == [("m", "x", "25.5/255", "2", "0.550", "0.450", "n/a")]
    assert "array (tensor)" in table.markdown()
    files = [replace(one, deployed=(0.6 if one.case == "a" else 0.5,) * 2, deployed_clean=(0.7, 0.7)) for one in book()]
    assert iterations_table(files).rows[0].cells[-2:] == ("0.450", "0.550")
    # Where a single file is missing, the mean would be over other cases.
    assert (
        iterations_table([*files[:-1], record("x", "c", (0.5, 0.5), 0.1, history=(0.7, 0.5))]).rows[0].cells[-1]
        == "n/a"
    )


def test_a_case_that_needed_no_evaluation_is_in_both_ends() -> None:
    """What a smaller size has broken begins and ends at 0 in the larger one."""
    written = [
        record("strong", case, (dice, dice), 0.2, history=history, deployed=(dice, dice), deployed_clean=(0.7, 0.7))
        for case, dice, history in (("a", 0.4, (0.8, 0.4)), ("b", 0.0, (0.0,)))
    ]
    assert iterations_table(written).rows[0].cells[-2:] == ("0.200", "0.200")


def test_rows_are_those_of_every_attack_and_size() -> None:
    records = [replace(one, history=(0.8, 0.4)) if one.kind == "attack" else one for one in book()]
    assert [row.cells[:3] for row in iterations_table(records).rows] == [
        ("m", "x", "25.5/255"), ("m", "x", "51/255"), ("m", "y", "25.5/255"), ("m", "y", "51/255"),
    ]  # fmt: skip
    assert iterations_table([one for one in records if one.kind == "control"]).rows == ()


def test_what_is_searched_at_all_sizes_at_once_is_said_not_to_compare_by_its_area() -> None:
    assert "in one go" not in iterations_table(book()).markdown()
    chained = [replace(one, chained=one.attack == "x") for one in book()]
    assert any(note.startswith("x: searched all sizes in one go") for note in iterations_table(chained).notes)
