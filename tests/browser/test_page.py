"""The page of a report in Chromium: it works, it is readable everywhere, and it asks for nothing."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

import voxward
from tests.browser import folders
from voxward.core.files import write_json
from voxward.report.html.page import asset
from voxward.report.table import Column, Row, Table

pytestmark = pytest.mark.filterwarnings("ignore:nothing is known about which images")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
SMALL = {"viewport": {"width": 760, "height": 640}}  # few pixels, which the processor draws
SCREENS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE,
    "dark phone": PHONE | {"color_scheme": "dark"},
}


@pytest.fixture(scope="package")
def written(tmp_path_factory):
    """The folders, and the pages that were written from them."""
    root = tmp_path_factory.mktemp("report")
    attack, run = folders.attacked(root), folders.trained(root)
    hardened = folders.trained(root, "hardened", ("clean_loss", "saturation", "gradient_norm", "robust_dice"))
    full = voxward.write_report([attack, run, hardened], out=root / "full.html").path
    return SimpleNamespace(root=root, attack=attack, full=full)


@pytest.fixture
def shown(written, new_page):
    """Open the full page; the arguments are those of Playwright's ``Browser.new_context``."""

    def show(**options):
        page = new_page(**(DESKTOP | options))
        page.goto(written.full.as_uri())
        return page

    return show


def opened(page):
    """Open the worst scan, and wait until it is drawn."""
    page.locator("[data-open-case]").first.click()
    page.wait_for_function("voxwardViewer.state().state === 'shown'", timeout=30_000)
    return page


def state(page):
    """What the viewer shows."""
    return SimpleNamespace(**page.evaluate("voxwardViewer.state()"))


def pixels(page):
    """The picture of the viewer, after the browser has painted it."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("#viewer-canvas").screenshot()


def test_every_section_has_a_heading_and_a_link_to_it(shown):
    page = shown()
    assert page.title()
    assert page.locator("h1").count() == 1
    for section in page.locator("main > section").all():
        assert section.locator("h2").first.is_visible()
    links = page.locator("nav a").all()
    assert len(links) >= 6
    assert all(page.locator(link.get_attribute("href")).count() == 1 for link in links)


def numbers_in(cells):
    found = (re.match(r"[-+]?[\d.]+", cell) for cell in cells.all_inner_texts())
    return [float(number.group()) for number in found if number]


def in_the_end(page, found, wanted):
    """What is found on a page as soon as it is what is wanted, at the latest after five seconds.

    Rows move some time after the click, which on a busy machine may be long.
    """
    for _ in range(100):
        if found() == wanted:
            break
        page.wait_for_timeout(50)
    return found()


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_table_is_sorted_by_numbers(shown, by):
    """As text, 0.1 would come before 0.02, and 10 before 9."""
    page = shown()
    page.locator("#leaderboard details summary").last.click()
    table = page.locator("#leaderboard table.sortable").last
    heading = table.locator("thead th.right").nth(1)
    place = heading.evaluate("cell => cell.cellIndex") + 1
    cells = table.locator(f"tbody tr > :nth-child({place})")
    for order in ("descending", "ascending"):
        if by == "mouse":
            heading.locator("button").click()
        else:
            heading.locator("button").focus()
            page.keyboard.press("Space")
        assert heading.get_attribute("aria-sort") == order

        wanted = sorted(numbers_in(cells), reverse=order == "descending")
        assert len(set(wanted)) > 1
        assert in_the_end(page, lambda: numbers_in(cells), wanted) == wanted


def test_what_is_no_number_stands_last_in_both_orders(page):
    rows = tuple(Row((name, value)) for name, value in (("a", "n/a"), ("b", "10"), ("c", "9.5 [1, 20]"), ("d", "")))
    table = Table((Column("name", "left"), Column("Dice")), rows)
    script = asset("vendor/sortable.min.js")
    page.set_content(f"<html lang='en'><title>t</title>{table.html()}<script>{script}</script>")
    for wanted in ("bc", "cb"):
        page.click("th button:has-text('Dice')")
        first = in_the_end(page, lambda: "".join(page.locator("tbody th").all_inner_texts())[:2], wanted)
        assert first == wanted


# Both sizes and both schemes at once; all pairs of them run before a release.
@pytest.mark.parametrize(
    "screen", ["dark phone", *(pytest.param(pair, marks=pytest.mark.slow) for pair in ("light", "dark", "phone"))]
)
def test_axe_finds_nothing_and_nothing_is_too_wide(shown, violations, screen):
    """On the page, and in the viewer that is open above it."""
    page = shown(**SCREENS[screen])
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert violations(page) == ""
    assert not page.evaluate(wide)
    opened(page)
    assert violations(page) == ""
    assert not page.evaluate(wide)


def test_dark_and_light_differ(shown):
    backs = [
        shown(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    light, dark = (sum(map(int, re.findall(r"\d+", back)[:3])) for back in backs)
    assert light > 600 > 150 > dark


def test_a_scan_opens_and_its_slices_move(shown):
    """By keys, by buttons, and by the wheel over the picture; Escape closes, and the focus is where it was."""
    page = shown(**SMALL)
    button = page.locator("[data-open-case]").first
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("voxwardViewer.state().state === 'shown'", timeout=30_000)
    first, picture = state(page), pixels(page)
    assert first.open
    assert page.locator("#viewer-title").inner_text()
    for act, step in ((lambda: page.keyboard.press("]"), 1), (lambda: page.click("#viewer-previous"), -1)):
        before = state(page).slice
        act()
        assert state(page).slice == before + step
    page.keyboard.press("[")
    assert state(page).slice == first.slice - 1
    assert pixels(page) != picture
    box = page.locator("#viewer-canvas").bounding_box()
    page.click("[data-view=axial]")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    before = state(page).slice
    page.mouse.wheel(0, 120)
    page.wait_for_function("before => voxwardViewer.state().slice !== before", arg=before)
    page.keyboard.press("Escape")
    assert not state(page).open
    assert page.evaluate("document.activeElement.dataset.openCase") == button.get_attribute("data-open-case")


def test_layers_are_shown_and_hidden(shown):
    page = opened(shown(**SMALL))
    for key in (str(number + 1) for number, there in enumerate(state(page).there) if there):
        before, picture = state(page).layers, pixels(page)
        page.keyboard.press(key)
        assert [a != b for a, b in zip(before, state(page).layers, strict=True)].count(True) == 1
        assert pixels(page) != picture, key
        page.keyboard.press(key)
        assert state(page).layers == before


def test_the_attacked_image_is_the_image_and_the_change(shown):
    """The numbers at the cross differ by what the attack added, and the pictures differ without any other layer."""
    page = opened(shown())
    before = state(page)
    assert before.image == "attacked"
    page.keyboard.press("2")
    page.keyboard.press("4")
    picture = pixels(page)
    page.click("[data-image=clean]")
    assert state(page).image == "clean"
    assert pixels(page) != picture
    assert page.locator("[data-image=clean]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("a")
    assert state(page).image == "attacked"
    assert state(page).intensity == before.intensity
    assert pixels(page) == picture


@pytest.mark.slow
def test_an_address_opens_a_scan(shown):
    page = shown()
    key = page.locator("[data-open-case]").last.get_attribute("data-open-case")
    name = page.locator("[data-open-case]").last.inner_text()
    page.evaluate("name => location.hash = `case=${encodeURIComponent(name)}`", name)
    page.wait_for_function("voxwardViewer.state().state === 'shown'", timeout=30_000)
    assert state(page).key == key
    page.keyboard.press("Escape")
    assert page.evaluate("location.hash") == ""


def test_each_view_says_where_the_patients_sides_are(shown):
    page = opened(shown())
    said = {}
    for view in ("all", "axial", "coronal", "sagittal", "render"):
        page.click(f"[data-view={view}]")
        said[view] = page.locator("#viewer-caption").inner_text()
    assert len(set(said.values())) == 5
    assert all("right (R) is on the left" in said[view] for view in ("all", "axial", "coronal"))
    assert all("right (R)" not in said[view] for view in ("sagittal", "render"))
    assert page.locator("[data-layer='4']").is_disabled()  # the change would hide the segmentations


def test_the_segmentations_blink_and_stop(shown):
    page = opened(shown(reduced_motion="no-preference", **SMALL))
    page.keyboard.press("b")
    assert state(page).blinking
    first, picture = state(page).layers, pixels(page)
    page.wait_for_function(
        "first => voxwardViewer.state().layers.join() !== first", arg=",".join(map(str, first)).lower()
    )
    for image in ("clean", "attacked"):  # the image changes together with its segmentation
        wanted = (
            "image => (one => one.image === image && one.layers[3] === (image === 'attacked'))(voxwardViewer.state())"
        )
        page.wait_for_function(wanted, arg=image)
    page.keyboard.press("b")
    assert not state(page).blinking
    assert "turns" not in page.locator("#viewer-status").inner_text()
    if state(page).layers == first:  # it came back in the meantime
        page.keyboard.press("3")
        page.keyboard.press("4")
    assert pixels(page) != picture


@pytest.mark.slow
def test_nothing_blinks_for_a_reader_who_wants_no_motion(shown):
    page = opened(shown(reduced_motion="reduce", **SMALL))
    picture = pixels(page)
    page.click("#viewer-blink")
    assert not state(page).blinking
    assert pixels(page) != picture


def test_a_chart_says_its_figures_and_can_be_kept(shown, tmp_path):
    page = shown()
    chart = page.locator("figure.chart[data-drawn=yes]").first
    chart.scroll_into_view_if_needed()
    reading, hint = chart.locator("[data-role=reading]"), chart.locator("[data-role=reading]").inner_text()
    plot = chart.locator(".u-over").bounding_box()
    page.mouse.move(plot["x"] + plot["width"] - 3, plot["y"] + 20)
    by_mouse = reading.inner_text()
    assert by_mouse != hint
    assert re.search(r"0\.\d", by_mouse)
    chart.locator("[data-role=plot]").focus()
    page.keyboard.press("Home")
    assert reading.inner_text() not in (hint, by_mouse)
    begins = {"csv": b"panel,line,x,y", "svg": b"<?xml", "png": b"\x89PNG"}
    for kind, start in begins.items():
        with page.expect_download() as waiting:
            chart.locator(f"[data-role={kind}]").click()
        waiting.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(start)
        assert waiting.value.suggested_filename.endswith(f".{kind}")


def test_a_keyboard_reaches_everything_and_is_seen_there(shown):
    page = shown()
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], button, select, summary, [tabindex=\"0\"]')]"
        ".filter(one => one.checkVisibility() && !one.disabled && !one.closest('dialog')).length"
    )
    assert wanted > 20
    page.evaluate("document.body.focus(); window.reached = new Set(); window.unseen = []")
    note = """() => {
        const one = document.activeElement, style = getComputedStyle(one);
        if (one === document.body) return;
        reached.add(one);
        const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
        if (!seen) unseen.push(one.outerHTML.slice(0, 90));
    }"""
    for _ in range(wanted):
        page.keyboard.press("Tab")
        page.evaluate(note)
    assert page.evaluate("unseen") == []
    assert page.evaluate("reached.size") >= wanted - 2


def test_all_sections_are_printed(shown):
    page = shown()
    headings = page.locator("main > section > h2").all_inner_texts()
    page.emulate_media(media="print")
    assert page.locator("main > section > h2").filter(visible=True).all_inner_texts() == headings
    assert page.locator("figure.chart .chart-paper svg").first.is_visible()
    assert not page.locator("#download-data").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 40


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


def test_a_failed_check_is_a_banner(shown):
    assert "noise" in " ".join(shown().locator(".banner").all_inner_texts()).lower()


def test_a_folder_without_a_finished_unit_has_a_page(written, page, violations):
    empty = written.root / "empty"
    (empty / "records").mkdir(parents=True)
    write_json(empty / "settings.json", json.loads((written.attack / "settings.json").read_text(encoding="utf-8")))
    with pytest.warns(UserWarning, match="no finished unit"):
        path = voxward.write_report([empty], out=written.root / "empty.html").path
    page.goto(path.as_uri())
    assert "no finished unit" in page.locator("main").inner_text()
    assert violations(page) == ""


def test_the_first_scan_is_there_at_once(shown):
    """On an idle machine in a fraction of this."""
    page = shown()
    page.wait_for_load_state("load")
    page.locator("[data-open-case]").first.scroll_into_view_if_needed()
    seconds = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") / 1000
    page.evaluate("window.began = performance.now()")
    opened(page)
    drawn = page.evaluate("performance.now() - began") / 1000
    print(f"the page is ready after {seconds:.2f} s, and a scan is drawn {drawn:.2f} s after the click")
    assert seconds < 10
    assert drawn < 30
