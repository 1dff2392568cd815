"""The Chromium of this machine, started without a window, and a record of what a page did in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

# WebGL is drawn by the processor, so that pixels are there without a graphics card; nothing but the page is loaded.
FLAGS = (
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def find() -> str | None:
    """The path of the first browser on the PATH, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def started(path: str) -> Iterator[Browser]:
    """A running browser without a window; root has no sandbox in it."""
    sandboxed = not (hasattr(os, "geteuid") and os.geteuid() == 0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), chromium_sandbox=sandboxed)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What went wrong in a page, and every address that it asked for."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        """Listen to a page from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("crash", lambda _: self.errors.append("the page crashed"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url} ({request.failure})"))
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text}")

    def outside(self, loopback: bool) -> list[str]:
        """The addresses that are not on this machine.

        Args:
            loopback: Whether the page may ask a server on this machine.
        """
        return [url for url in self.requests if not _is_inside(url, loopback)]

    def complaints(self, loopback: bool) -> str:
        """One line for each error and each request that left the machine; empty when all is well."""
        return "\n".join([*self.errors, *(f"request: {url[:200]}" for url in self.outside(loopback))])


def _is_inside(url: str, loopback: bool) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("file", "data", "blob") or (loopback and parts.hostname in LOOPBACK)
