"""Pages in a real Chromium: a test fails where its page complains or asks for anything outside this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser import chromium

_ABSENT = "needs Chromium: run tests/browser/install.sh"
_LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


# Playwright keeps an event loop running in this thread, in which other tests could not start theirs.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser that all tests of this folder share."""
    path = chromium.find()
    if path is None and os.environ.get("VOXWARD_BROWSER_REQUIRED") == "1":
        pytest.fail(_ABSENT, pytrace=False)
    if path is None:
        pytest.skip(_ABSENT)
    with chromium.started(path) as browser:
        yield browser


@pytest.fixture
def new_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Make an empty page; the arguments are those of Playwright's ``Browser.new_context``."""
    watch, contexts = chromium.Watch(), []

    def make(**options: object) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        context.set_default_timeout(10_000)
        contexts.append(context)
        context.on("page", watch.attach)
        return context.new_page()

    yield make
    for open_page in [page for context in contexts for page in context.pages]:
        open_page.evaluate("0")  # what the page has said until now arrives before the answer
    complaints = watch.complaints(loopback=request.node.get_closest_marker("loopback") is not None)
    for context in contexts:
        context.close()
    if complaints:
        pytest.fail(f"the page complained, or asked for what is not on this machine:\n{complaints}", pytrace=False)


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """An empty page of a desktop."""
    return new_page(viewport={"width": 1280, "height": 900})


@pytest.fixture(scope="session")
def violations() -> Callable[[Page], str]:
    """Say where axe finds that a page violates WCAG 2.2 at level A or AA; empty where it finds nothing."""
    return partial(_violations, Axe())


def _violations(axe: Axe, page: Page) -> str:
    results = axe.run(page, options={"runOnly": {"type": "tag", "values": _LEVELS}, "resultTypes": ["violations"]})
    return str(results.generate_report()) if results.violations_count else ""
