"""What the page says about left and right, and about labels that get lost, is what the code does."""

import re
from pathlib import Path

import pytest

from voxward.core.labels import LabelSet
from voxward.core.recipe import Preparation, load_recipe
from voxward.core.sides import sides_of
from voxward.data.label_losses import WARN_FROM
from voxward.data.resample_labels import FILLED, LABEL_RESAMPLING, LOST_BELOW
from voxward.pipeline.tta import symmetry_views
from voxward.training.sides import LARGEST_ROTATION, settled_sides

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S).group(1)


def rows(text):
    """The cells of all tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


SIDES = rows(section("Left and right"))


def test_the_names_are_read_as_the_page_says():
    seen = [(re.findall("`(.*?)`", names), what) for names, what in (row for row in SIDES if len(row) == 2)]
    checked = [(names, what) for names, what in seen if re.match("a pair|one side|no side", what)]
    assert len(checked) == 7
    for names, what in checked:
        found = sides_of(names)
        kind = "a pair" if found.pairs else "one side" if found.single else "no side"
        assert what.startswith(kind)
        assert len(found.names) in (0, len(names))


def test_the_numbers_of_rotations_and_symmetries():
    cells = {row[0]: row[1:] for row in SIDES if len(row) == 4}
    assert cells["rotations"][1:] == [f"up to {LARGEST_ROTATION:g} degrees"] * 2
    counts = [len(symmetry_views(*how)) for how in ((False,), (True,), (True, [0, 2, 1]))]
    assert [int(cell.split(",")[0]) for cell in cells["`tta=symmetries`"]] == counts


@pytest.mark.parametrize("override", re.findall("`--set (.*?)`", section("Left and right")))
def test_every_setting_is_understood(override):
    labels = LabelSet(("background", "roi1", "roi2", "roi3", "roi4"), (0, 1, 2, 3, 4))
    recipe = load_recipe("rog", [override])
    settled = settled_sides(recipe, labels)
    assert settled_sides(settled, labels) == settled  # what was decided stays


LOST = section("Labels that get lost on the way")


def test_the_numbers_of_lost_labels():
    limits = [row[0] for row in rows(LOST) if len(row) == 2]
    for limit in (f"less than {WARN_FROM:.0%} of".replace("%", " %"), f"{WARN_FROM:.0%} or more".replace("%", " %")):
        assert any(cell.startswith(limit) for cell in limits)
    (said,) = (row[1] for row in rows(LOST) if row[0].startswith("`objects`"))
    assert [int(number) for number in re.findall(r"(\d+) %", said)] == [100 * LOST_BELOW, 100 * FILLED]


def test_every_label_resampling_is_on_the_page():
    named = {row[0].split("`")[1]: row[0] for row in rows(LOST) if re.match("`[a-z]+`( |$)", row[0])}
    assert set(named) == set(LABEL_RESAMPLING)
    assert [name for name, cell in named.items() if "(default)" in cell] == [Preparation().label_resampling]
    for override in re.findall("`--set (.*?)`", LOST):
        assert load_recipe("rog", [override]).preparation.allow_lost_labels
