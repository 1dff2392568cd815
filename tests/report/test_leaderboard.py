"""The leaderboard's order and figures are those of the records."""

from __future__ import annotations

from dataclasses import replace

from tests.report.test_robustness import headings, printed
from tests.robustness.books import book, record
from voxward.report.leaderboard import leaderboard_table
from voxward.robustness.record import Record


def weaker() -> list[Record]:
    """A second model: the same clean, at most 0.1 everywhere under attack."""
    return [
        replace(r, model="n", adversarial=(0.1, 0.1) if r.kind == "attack" else r.adversarial, history=())
        for r in book()
    ]


def test_leaderboard_orders_by_area() -> None:
    report = leaderboard_table([*weaker(), *book()], ("x", "y"))
    assert headings(report) == ("rank", "model", "clean", "25.5/255", "51/255", "area", "breaking eps", "vs first")
    first, second = (row.cells for row in report.rows)
    assert first == ("1", "m", "0.750", "0.350 [0.30, 0.40]", "0.100 [0.00, 0.20]", "0.388", "n/a", "")
    # n is 0.1 everywhere; its area ((0.75 + 0.1) / 2 + 0.1) / 2; m is 0.2 and 0.0 at the largest eps.
    assert second[:3] == ("2", "n", "0.750")
    assert second[5:] == ("0.263", "n/a", "+0.000 [-0.10, +0.10]; not distinguishable")
    assert "m" in printed(report)
    assert "holds 0" in printed(report)
    assert len(report.csv().splitlines()) == 1 + 2 * 3


def test_breaking_eps_is_the_median_over_cases() -> None:
    fab = [record("fab-dice", c, (0.3, 0.3), 0.1, breaking_eps=e) for c, e in (("a", 0.02), ("b", 0.06))]
    assert leaderboard_table([*book(), *fab]).rows[0].cells[6] == "10.2/255"
    assert leaderboard_table([*book(), fab[0], replace(fab[1], breaking_eps=None)]).rows[0].cells[6] == "unbroken"


def test_the_notes_say_whether_files_or_arrays_were_broken() -> None:
    fab = [record("fab-dice", case, (0.3, 0.3), 0.1, breaking_eps=0.02) for case in "ab"]
    in_files = [replace(one, breaking_file=True) for one in fab]
    for found, said in ((fab, "computed array"), (in_files, "written file"), ([fab[0], in_files[1]], "computed array")):
        note = next(note for note in leaderboard_table([*book(), *found]).notes if note.startswith("breaking eps"))
        assert f"whose {said} broke the case" in note
    assert not [note for note in leaderboard_table(book()).notes if "breaking" in note]


def test_three_sizes_fit_a_terminal_and_no_number_is_cut() -> None:
    both = [*book(), *weaker()]
    third = [
        replace(one, eps=0.05, threat=replace(one.threat, eps=0.05), distance=0.05) for one in both if one.eps == 0.1
    ]
    text = printed(leaderboard_table([*both, *third]))
    assert text.count("[0.30, 0.40]") == 2
    for part in ("model", "area", "0.750", "[-0.10,", "+0.10]", "12.75/255", "25.5/255", "51/255"):
        assert part in text, part
