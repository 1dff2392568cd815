"""The page's tables of channel names, and its numbers on intensities, say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from voxward.core.channels import SYNONYMS
from voxward.core.recipe import load_recipe
from voxward.data.intensities import AIR, AIR_SHARE, FEW
from voxward.data.normalization import NAMED, NORMALIZATIONS, check_normalization, chosen_normalization

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def section(heading: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


NAMES, INTENSITIES = section("Channels and their names"), section("Intensities: normalisation, air, masks, NaN")


def test_the_table_of_synonyms() -> None:
    rows = re.findall(r"^\| (\S+) \| (`.*`) \|$", NAMES, re.MULTILINE)
    assert {kind: tuple(re.findall(r"`([^`]+)`", names)) for kind, names in rows} == SYNONYMS


def test_the_table_of_names_that_are_normalisations() -> None:
    rows = re.findall(r"^\| (`.*`) \| `(\w+)` \|", INTENSITIES, re.MULTILINE)
    assert {name: kind for names, kind in rows for name in re.findall(r"`([^`]+)`", names)} == NAMED
    otherwise = re.search(r"^\| any other \| `(\w+)` \|", INTENSITIES, re.MULTILINE)
    assert otherwise is not None
    assert otherwise[1] == chosen_normalization(load_recipe("dynunet").preparation, "anything")


def test_the_recipes_of_the_page_are_read() -> None:
    changes = re.findall(r'--set "?(preparation\.normalization=.*?)"?$', INTENSITIES, re.MULTILINE)
    assert len(changes) == 3
    for change in changes:
        check_normalization(load_recipe("dynunet", [change]).preparation, ("T1w", "PET"))


def test_the_numbers() -> None:
    assert set(re.findall(r"2 to (\d+) different values", INTENSITIES)) == {str(FEW)}
    assert f"at least {AIR_SHARE:.0%}".replace("%", " %") in INTENSITIES
    assert f"are {AIR[0]:g} to {AIR[1]:g}" in INTENSITIES


def test_normalisations_that_keep_a_mask() -> None:
    kept = {name for name, kind in NORMALIZATIONS.items() if kind.keeps_values and not kind.for_maps}
    sentence = re.search(r"or (`none`.*?) for all", INTENSITIES)
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence[1])) == kept
