import pytest

from tests.robustness.books import book
from voxward.report.classes import classes_table


def test_each_case_counts_under_the_attack_that_hurts_its_mean_most():
    """At 0.1 case a is worst under y (0.3, 0.3), b under x (0.5, 0.3); at 0.2 a under x (0.4, 0), b under y (0, 0)."""
    rows = [
        line.split(" | ") for line in classes_table(book(), False).markdown().splitlines() if line.startswith("| m |")
    ]
    assert [row[1] for row in rows] == ["0", "25.5/255", "51/255"]
    means = [[float(cell.strip("| ").split()[0]) for cell in row[2:]] for row in rows]
    assert means == [pytest.approx([0.85, 0.65]), pytest.approx([0.4, 0.3]), pytest.approx([0.2, 0.0])]
    data = classes_table(book(), False).data
    assert data[2] == ("m", 0.1, "liver", 2, pytest.approx(0.4), pytest.approx(0.3), pytest.approx(0.5), "25.5/255")


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="no records"):
        classes_table([], False)
