"""The browser of the tests can draw in three dimensions, and what a page does wrong is noticed."""

from __future__ import annotations

from tests.browser.chromium import Watch

_DRAW = """() => {
  const canvas = document.createElement('canvas'), gl = canvas.getContext('webgl2');
  gl.clearColor(0, 1, 0, 1);
  gl.clear(gl.COLOR_BUFFER_BIT);
  const pixel = new Uint8Array(4);
  gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  return [...pixel];
}"""


def test_webgl2_draws(page):
    assert page.evaluate(_DRAW) == [0, 255, 0, 255]


def test_console_errors_uncaught_errors_and_requests_are_noticed(browser):
    watch, page = Watch(), browser.new_page()
    watch.attach(page)
    page.set_content(
        "<script>console.error('first'); throw new Error('second')</script><img src='http://127.0.0.1:9/x'>"
    )
    page.close()
    said = watch.complaints(loopback=False)
    assert all(word in said for word in ("console: first", "uncaught: second", "request: http://127.0.0.1:9/x"))
    assert "request: " not in watch.complaints(loopback=True)


def test_a_violation_of_accessibility_is_found(page, violations):
    page.set_content("<html lang='en'><title>t</title><main><h1>h</h1><p style='color: #aaa'>pale</p></main>")
    assert "color-contrast" in violations(page)
    page.set_content("<html lang='en'><title>t</title><main><h1>h</h1><p style='color: #222'>dark</p></main>")
    assert violations(page) == ""
