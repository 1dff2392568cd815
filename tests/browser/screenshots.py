"""Pictures of a report's page for the README: `python -m tests.browser.screenshots PAGE.html docs/images`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser import chromium

MOST_BYTES = 300_000
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1200, "height": 900}}


def main() -> None:
    """Take a picture of the page on a desktop, on a phone, in print, and of its viewer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="a page that voxward report wrote, with at least one scan to open")
    parser.add_argument("out", type=Path, help="the folder of the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = chromium.find()
    if path is None:
        parser.error("there is no Chromium: run tests/browser/install.sh")
    with chromium.started(path) as browser:
        for name, take in (("desktop", _desktop), ("phone", _phone), ("viewer", _viewer), ("print", _print)):
            target = given.out / f"report-{name}.png"
            take(browser, given.page.resolve().as_uri(), target)
            size = target.stat().st_size
            print(f"{target}: {size / 1000:.0f} kB{' (too large)' if size > MOST_BYTES else ''}")


@contextmanager
def _page(browser: Browser, address: str, **options: object) -> Iterator[Page]:
    context = browser.new_context(reduced_motion="reduce", **options)
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()


def _desktop(browser: Browser, address: str, target: Path) -> None:
    with _page(browser, address, **DESKTOP) as page:
        page.screenshot(path=target)


def _phone(browser: Browser, address: str, target: Path) -> None:
    with _page(browser, address, **PHONE, color_scheme="dark") as page:
        page.screenshot(path=target)


def _viewer(browser: Browser, address: str, target: Path) -> None:
    with _page(browser, address, **DESKTOP) as page:
        page.locator("[data-open-case]").first.click()
        page.wait_for_function("voxwardViewer.state().state === 'shown'", timeout=60_000)
        page.locator("#viewer").screenshot(path=target)


def _print(browser: Browser, address: str, target: Path) -> None:
    """A sheet of A4 at 96 pixels per inch, without its margins, from the first chart on."""
    with _page(browser, address, viewport={"width": 718, "height": 1015}) as page:
        page.emulate_media(media="print")
        page.locator("#curves").evaluate("section => section.scrollIntoView()")
        page.screenshot(path=target)


if __name__ == "__main__":
    main()
