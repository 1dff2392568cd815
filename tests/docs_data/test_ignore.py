"""The page's section on labels says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs_data.test_labels import section
from voxward.core.labels import IGNORED, LabelSet
from voxward.data.formats.description import labels_of

HEADING = "Labels: values, regions, the ignore label"
TEXT = section(HEADING)


@pytest.mark.parametrize("layout", ["nnU-Net", "Decathlon", "plain folder"])
def test_the_declarations_of_the_ignore_label(layout: str) -> None:
    (row,) = re.findall(rf"^\| {layout}[^|]*\| `(.*)` \|$", TEXT, re.MULTILINE)
    given = json.loads(row) if layout == "plain folder" else json.loads("{" + row + "}")["labels"]
    labels = labels_of({"background": 0, **given} if layout == "plain folder" else given, Path("dataset.json"))
    assert labels.names == ("background", "tumour")
    assert (labels.values, labels.ignore) == ((0, 1), 2)


def test_the_most_classes_beside_it() -> None:
    assert f"at most {IGNORED} classes" in TEXT
    LabelSet(tuple(map(str, range(IGNORED))), tuple(range(IGNORED)), ignore=IGNORED)


def test_the_regions_of_the_page() -> None:
    nested, general = (json.loads(text) for text in re.findall(r'`(\{"(?:ET|WT)".*?\})`', TEXT))
    order = json.loads(re.search(r"order `(\[.*?\])`", TEXT).group(1))  # type: ignore[union-attr]
    classes = LabelSet(("background", "NETC", "SNFH", "ET"), (0, 1, 2, 3))
    assert classes.with_regions(nested).scored == ("ET", "TC", "WT")
    cavity = LabelSet((*classes.names, "RC"), (*classes.values, 4)).with_regions(general, order)
    assert cavity.rewritten == {}
