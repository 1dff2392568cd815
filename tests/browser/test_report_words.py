"""What a reader meets in the words and tables of the page: sorting, narrow screens, print, accessibility."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness.books import book
from voxward.report.html.page import render


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a page about two systems, one of which fails a check and both of which are judged."""
    systems = [replace(one, mode="volume") for one in book()]
    systems += [replace(one, model="n", adversarial=(0.1, 0.1)) if one.kind == "attack" else replace(one, model="n")
                for one in systems]  # fmt: skip
    noisy = [replace(one, adversarial=(0.2, 0.2)) if (one.model, one.attack) == ("n", "noise") else one
             for one in systems]  # fmt: skip
    source = attack_source(noisy, require=("clean_dice >= 0.7", "robust_dice@0.2 >= 0.5"))
    source = replace(source, command="voxward attack run data " + "--set a.long.option=1 " * 20)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(sources_of(source)), encoding="utf-8")
    return path.as_uri()


def test_a_table_is_sorted_with_the_keyboard(page, report):
    page.goto(report)
    table = page.locator("#leaderboard table").first
    names = lambda: table.locator("tbody tr td:nth-child(2)").all_inner_texts()  # noqa: E731
    assert names() == ["m", "n"]
    button = table.get_by_role("button", name="rank")
    button.focus()
    for direction in ("descending", "ascending", "descending"):
        page.keyboard.press("Enter")
        page.wait_for_function(
            "([table, first]) => table.tBodies[0].rows[0].cells[1].innerText === first",
            arg=[table.element_handle(), {"descending": "n", "ascending": "m"}[direction]],
        )
        assert table.locator("thead th").first.get_attribute("aria-sort") == direction


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_are_accessible(new_page, violations, report, scheme):
    page = new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.goto(report)
    assert violations(page) == ""


def test_a_phone_scrolls_downwards_only(new_page, report):
    page = new_page(viewport={"width": 390, "height": 800})
    page.goto(report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_headings_of_sorted_tables_are_printed(page, report):
    page.goto(report)
    page.emulate_media(media="print")
    assert page.locator("#leaderboard table th button").first.is_visible()
    assert not page.get_by_role("button", name="Download all figures").is_visible()


def test_what_was_measured_and_what_was_not_have_headings_of_their_own(page, report):
    page.goto(report)
    assert page.get_by_role("heading", name="What was measured", exact=True).is_visible()
    assert page.get_by_role("heading", name="What was not measured", exact=True).is_visible()
    gap = page.locator("#verdict details.gap").first
    gap.locator("summary").click()
    assert gap.locator("p").is_visible()
