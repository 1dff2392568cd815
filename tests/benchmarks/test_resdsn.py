"""The tables of the ResDSN benchmark, on rows whose means are known."""

import pytest
from benchmarks.resdsn import settle, shares, table

ROWS = [
    {"row": "fine whole, counts", "case": "a", "dice": 0.8, "seconds": 30.0, "windows": 300},
    {"row": "fine whole, counts", "case": "b", "dice": 0.6, "seconds": 50.0, "windows": 500},
    {"row": "C2F, counts", "case": "a", "dice": 0.9, "seconds": 20.0, "windows": 200},
    {"row": "C2F, counts", "case": "b", "dice": 0.7, "seconds": 24.0, "windows": 160},
]


def test_table_6_compares_seconds_with_windows():
    *_, line = shares(ROWS)
    assert line == "| C2F, counts | 0.550 | 0.450 | 1.222 | +0.1000 |"


def test_every_figure_of_every_row_is_in_the_table():
    """Only cascades have a box that moves, and a Dice may be undefined."""
    rows = [
        {"row": "alone", "case": "a", "dice": 0.5, "deployed": None},
        {"row": "C2F", "case": "a", "dice": None, "deployed": 0.25, "stage": "both", "box_overlap": 0.75},
    ]
    assert list(table(rows)) == [
        "| | cases | Dice | sd | max | min | deployed | box_overlap |",
        "|---|---|---|---|---|---|---|---|",
        "| alone | 1 | 0.5000 | 0.0000 | 0.5000 | 0.5000 | - | - |",
        "| C2F | 1 | - | - | - | - | 0.25 | 0.75 |",
    ]


def test_a_folder_keeps_the_size_it_was_begun_with(tmp_path):
    settle(tmp_path, {"size": 24, "overrides": []})
    settle(tmp_path, {"size": 24, "overrides": []})
    with pytest.raises(ValueError, match=r"was begun with .*24.* got .*128.* another OUT"):
        settle(tmp_path, {"size": 128, "overrides": []})
