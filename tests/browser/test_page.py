"""The page of a report in Chromium: it works, it is readable everywhere, and it asks for nothing."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

import voxward
from tests.browser import folders
from voxward.report.html.page import asset
from voxward.report.table import Column, Row, Table

pytestmark = pytest.mark.filterwarnings("ignore:nothing is known about which images")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="package")
def written(tmp_path_factory):
    """The folders, and the pages that were written from them."""
    root = tmp_path_factory.mktemp("report")
    attack, run = folders.attacked(root), folders.trained(root)
    hardened = folders.trained(root, "hardened", ("clean_loss", "saturation", "gradient_norm", "robust_dice"))
    full = voxward.write_report([attack, run, hardened], out=root / "full.html")
    return SimpleNamespace(attack=attack, run=run, full=full)


@pytest.fixture
def shown(written, new_page):
    """Open the full page; the arguments are those of Playwright's ``Browser.new_context``."""

    def show(**options):
        page = new_page(**(DESKTOP | options))
        page.goto(written.full.as_uri())
        return page

    return show


def test_every_section_has_a_heading_and_a_link_to_it(shown):
    page = shown()
    assert page.title()
    assert page.locator("h1").count() == 1
    for section in page.locator("main > section").all():
        assert section.locator("h2").is_visible()
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_table_is_sorted_by_numbers(shown, by):
    """As text, 0.1 would come before 0.02, and 10 before 9."""
    page = shown()
    table = page.locator("#leaderboard table.sortable").last
    heading = table.locator("thead th.right").nth(1)
    place = heading.evaluate("cell => cell.cellIndex") + 1
    for order in ("descending", "ascending"):
        if by == "mouse":
            heading.click()
        else:
            heading.locator("button").focus()
            page.keyboard.press("Space")
        assert heading.get_attribute("aria-sort") == order
        page.wait_for_timeout(50)  # the rows move after the event
        cells = table.locator(f"tbody tr > :nth-child({place})").all_inner_texts()
        numbers = [float(found.group()) for found in (re.match(r"[-+]?[\d.]+", cell) for cell in cells) if found]
        assert len(set(numbers)) > 1
        assert numbers == sorted(numbers, reverse=order == "descending")


def test_what_is_no_number_stands_last_in_both_orders(page):
    rows = tuple(Row((name, value)) for name, value in (("a", "n/a"), ("b", "10"), ("c", "9.5 [1, 20]"), ("d", "")))
    table = Table((Column("name", "left"), Column("Dice")), rows)
    script = asset("vendor/sortable.min.js")
    page.set_content(f"<html lang='en'><title>t</title>{table.html()}<script>{script}</script>")
    for wanted in ("bc", "cb"):
        page.click("th:has-text('Dice')")
        page.wait_for_timeout(50)
        assert "".join(page.locator("tbody th").all_inner_texts())[:2] == wanted


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_screen(shown, options):
    page = shown(**options)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize(
    "options", [{}, {"color_scheme": "dark"}, PHONE, PHONE | {"color_scheme": "dark"}],
    ids=["light", "dark", "phone", "dark phone"],
)  # fmt: skip
def test_axe_finds_nothing(shown, accessible, options):
    accessible(shown(**options))


def test_dark_and_light_differ(shown):
    backs = [
        shown(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    light, dark = (sum(map(int, re.findall(r"\d+", back)[:3])) for back in backs)
    assert light > 600 > 150 > dark


def test_the_figures_can_be_downloaded(shown, written, tmp_path):
    page = shown()
    with page.expect_download() as waiting:
        page.click("#download-data")
    waiting.value.save_as(tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    files = sorted((written.attack / "records").rglob("*.json"))
    wanted = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))["records"]]
    table = found["attacks"][0]["records"]
    read = [table["common"] | dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]

    def key(entry):
        return json.dumps({name: entry[name] for name in entry if name not in table["left_out"]}, sort_keys=True)

    assert wanted
    assert sorted(map(key, read)) == sorted(map(key, wanted))
