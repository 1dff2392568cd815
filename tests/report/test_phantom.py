"""Tables of attacks that invent a class: volumes, and no Dice that means nothing."""

from __future__ import annotations

from dataclasses import replace

from tests.robustness import books
from voxward.report.classes import classes_table
from voxward.report.curves import areas_table
from voxward.report.iterations import iterations_table
from voxward.report.leaderboard import leaderboard_table
from voxward.report.robustness import robustness_table
from voxward.robustness.phantom import clean_phantoms, invented, phantoms, worst_phantoms
from voxward.robustness.record import Phantom
from voxward.robustness.sanity import sanity

# The clean volume, and what each attack makes of it, on two cases.
CLEAN = {"a": 10.0, "b": 30.0}
STRUCK = {
    ("pgd-ce", 0.05): {"a": 50.0, "b": 20.0},
    ("apgd-dice", 0.05): {"a": 40.0, "b": 25.0},
    ("pgd-ce", 0.1): {"a": 70.0, "b": 90.0},
    ("apgd-dice", 0.1): {"a": 400.0, "b": 80.0},
}


def records():
    """Every record of the books once for each case, with its volume; the Dice of all but the lesion is near 1."""
    found, pattern = [], books.book()
    clean = next(one for one in pattern if one.attack == "clean")
    struck = next(one for one in pattern if one.kind == "attack")
    common = {"classes": ("not lesion",), "clean": (0.99,), "adversarial": (0.98,), "deployed": None,
              "deployed_clean": None, "truth_mm3": ()}  # fmt: skip
    for case, before in CLEAN.items():
        found.append(replace(clean, case=case, phantom=Phantom("lesion", before, before), **common))
        for (attack, eps), after in STRUCK.items():
            phantom = Phantom("lesion", before, after[case])
            spent = {"gradients": 20, "forwards": 3, "seconds": 2.0}
            found.append(replace(struck, case=case, attack=attack, eps=eps, phantom=phantom, **common, **spent))
    return found


def test_the_greatest_volume_of_each_case_counts():
    book = records()
    model = book[0].model
    assert invented(book) == "lesion"
    assert invented(books.book()) is None
    assert clean_phantoms(book, model) == CLEAN
    assert phantoms(book, model, "pgd-ce", 0.05) == {"a": 50.0, "b": 20.0}
    assert phantoms(book, model, "clean", 0.05) == CLEAN
    assert worst_phantoms(book, model, 0.05) == {"a": 50.0, "b": 30.0}  # nothing is worse than the clean case on b
    assert worst_phantoms(book, model, 0.1) == {"a": 400.0, "b": 90.0}
    assert worst_phantoms(book, model, 0.1, ["pgd-ce"]) == {"a": 70.0, "b": 90.0}
    assert worst_phantoms(book, "another", 0.1) == {}


def test_the_table_shows_volumes_and_no_dice():
    book = records()
    table = robustness_table(book, {"both": ("pgd-ce", "apgd-dice")}, sanity(book))
    rows = {row.cells[1]: row.cells for row in table.rows}
    assert rows["clean"][2].startswith("20 [")
    assert rows["pgd-ce"][2].startswith("35 [")
    assert rows["both"][2].startswith("40 [")
    assert rows["both"][3].startswith("245 [")
    assert rows["both"][3].endswith("] mm3")
    assert rows["both"][4] == "80 + 12"
    assert rows["clean"][4] == "n/a"
    notes = " ".join(table.notes)
    assert "the volume that a system marks as lesion where the truth has none" in notes
    assert "the Dice, mu / 2 and broken cases mean nothing where a class is invented" in notes
    assert "both: most of pgd-ce, apgd-dice and clean" in notes
    partly = robustness_table(book, {"both": ("pgd-ce", "square")}, sanity(book))
    assert "both: most of pgd-ce, square (not run) and clean" in partly.notes
    assert not any("0.98" in cell or "%" in cell for row in table.rows for cell in row.cells)
    assert not any("dice" in field or "accuracy" in field for field in table.fields)
    data = {(row[1], row[3]): dict(zip(table.fields, row, strict=True)) for row in table.data}
    assert data["both", 0.1]["false_positive_mm3"] == 245.0
    assert data["both", 0.1]["cases"] == 2
    assert data["apgd-dice", 0.05]["gradients_per_case"] == 20


def test_one_case_has_no_interval():
    book = [one for one in records() if one.case == "a"]
    rows = {row.cells[1]: row.cells for row in robustness_table(book, {}, sanity(book)).rows}
    assert rows["apgd-dice"][2:4] == ("40 mm3", "400 mm3")


def test_no_leaderboard_says_unbroken_where_breaking_means_nothing():
    book = [replace(one, attack="fab-dice") if one.attack == "pgd-ce" else one for one in records()]
    assert all("unbroken" not in cell for row in leaderboard_table(book).rows for cell in row.cells)


def test_tables_of_dice_say_that_it_means_nothing_where_a_class_is_invented():
    for found, said in ((records(), True), (books.book(), False)):
        for table in (classes_table(found, False), areas_table(found, {}, False), iterations_table(found)):
            assert ("**lesion is invented here, and no Dice says how bad that is" in table.markdown()) is said
