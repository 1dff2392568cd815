"""voxward serve: show a report in a browser, with the volumes that lie beside the page."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from voxward.core.errors import UserError
from voxward.report.serving.access import LOOPBACK, Access
from voxward.report.serving.files import Served
from voxward.report.serving.server import Serving


def serve(
    path: Path | str,
    *,
    port: int = 0,
    host: str = LOOPBACK,
    token: str | None = None,
    open_browser: bool = False,
) -> Serving:
    """Serve a report to the browser of this machine, with the volumes that lie beside the page.

    A report opens from disk, too; this is for one that lies on another machine, and for a folder of results. By default
    only programs of this machine reach the server. Files whose names begin with a dot, links that lead outside and
    lists of files are never given out, and nothing is changed.

    Args:
        path: A report (`.html`), of which the page and its folder `NAME-files` are given out; or a folder, of which
            every file is, and `report.html` as its page.
        port: The port; 0 takes any free one.
        host: The address to listen on. Any but this machine's own needs a token.
        token: What everybody who opens the page must know: at least 16 letters, digits and `._~-`; or `auto`, which
            draws one. The address that is returned holds it.
        open_browser: Open the page in the default browser.

    Returns:
        The server, which runs in threads of its own until it is closed or the program ends. `url` is its address,
        `wait()` waits for Ctrl-C.

    Raises:
        UserError: The path is no report and no folder that holds one, the port is taken, or other machines could ask
            without a token.

    Example:
        >>> with voxward.serve("run/attack") as serving:  # doctest: +SKIP
        ...     print(serving.url)
        ...     serving.wait()
    """
    served, access = Served.of(path), Access.of(host, token)
    if not served.has_page:
        raise UserError(
            f"{path} has no {served.page}, so that there is no page to open. `voxward report {path} --out "
            f"{Path(path) / served.page}` writes one; a page of another name is given itself: voxward serve my.html"
        )
    serving = Serving(served, access, port)
    if open_browser:
        webbrowser.open(serving.url)
    return serving
