import pytest

from tests.robustness.books import clean, record
from voxward.report.hardening import Hardening, hardening_table


def test_differences_are_over_common_cases():
    """Before: worst case a 0.3, b 0.5; after: a 0.6, c 0.2. Common is a alone: a difference of 0.3."""
    records = [
        clean("a", "old"), clean("b", "old"), clean("a", "new"), clean("c", "new", (0.8, 0.8)),
        record("x", "a", (0.3, 0.3), 8 / 255, "old"), record("y", "a", (0.7, 0.7), 8 / 255, "old"),
        record("x", "b", (0.5, 0.5), 8 / 255, "old"),
        record("x", "a", (0.6, 0.6), 8 / 255, "new"), record("x", "c", (0.2, 0.2), 8 / 255, "new"),
    ]  # fmt: skip
    table = hardening_table(records, Hardening("old", "new", 600.0, 300.0), deployed=False)
    lines = table.markdown().splitlines()
    assert lines[0] == "| eps | old | new | difference |"
    cells = {line.split("|")[1].strip(): [cell.split()[0] for cell in line.split("|")[2:5]] for line in lines[2:4]}
    assert cells["clean"] == ["0.750", "0.800", "+0.000"]
    assert cells["8/255"] == ["0.400", "0.400", "+0.300"]
    assert "10.0 min, then 5.0 min of hardening: 0.50 of the first training" in lines[-1]
    assert [dict(zip(table.fields, row, strict=True))["difference"] for row in table.data] == pytest.approx([0.0, 0.3])
