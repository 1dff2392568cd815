"""What is answered to one connection.

The base is `http.server.BaseHTTPRequestHandler` of the standard library, for its reading of requests and writing of
headers: what is served here is a few files of one user, which no web framework would earn its place for. None of
`SimpleHTTPRequestHandler` is used, because it lists folders and follows links out of them.
"""

from __future__ import annotations

import io
import os
import socket
import time
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO
from urllib.parse import quote

from voxward.report.serving.access import Access, in_query
from voxward.report.serving.files import Served, kind_of, opened
from voxward.report.serving.ranges import Part, Unsatisfiable, part_of

PATIENCE = 20.0
"""Seconds in which a request must have arrived whole, and in which a reader must take a piece of a file."""

_PAGE_POLICY = "; ".join((
    "default-src 'none'",
    # The page holds its scripts, with the viewer's workers and WebAssembly; volumes beside it are scripts, too, which a
    # page that was opened from disk can load.
    "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
    "worker-src blob:",
    "style-src 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src data:",
    "connect-src 'self' data: blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_HTML = "text/html"


class _Patient(io.RawIOBase):
    """What arrives at a connection, until a deadline: bytes that come one by one do not hold a thread for ever."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self.connection, self.until = connection, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection.

    Attributes:
        served: The files.
        access: Who may ask.
        patience: Seconds in which a request must have arrived.
    """

    served: Served
    access: Access
    patience = PATIENCE
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Read from the connection until a deadline."""
        super().setup()
        self.rfile.close()
        self._source = _Patient(self.connection)
        self.rfile = io.BufferedReader(self._source)

    def handle_one_request(self) -> None:
        """Read one request and answer it; the name is the base's."""
        self._source.until = time.monotonic() + self.patience
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if len(self.raw_requestline) > 65536:
                self.requestline, self.request_version, self.command = "", "", ""
                self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
            elif not self.raw_requestline:
                self.close_connection = True
            elif self.parse_request():
                self.connection.settimeout(self.patience)
                self._answer()
        except (TimeoutError, ConnectionError):
            self.close_connection = True

    def _answer(self) -> None:
        """Answer a request, once it is clear that it may be asked."""
        target, _, query = self.path.partition("?")
        cookie = f"voxward-{self.connection.getsockname()[1]}"
        if not _is_plain(self.headers):
            self._refuse(HTTPStatus.BAD_REQUEST, "A line is no header.")
        elif _has_body(self.headers):
            self._refuse(HTTPStatus.BAD_REQUEST, "A request must not have a body.")
        elif self.command not in ("GET", "HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.", Allow="GET, HEAD")
        elif not target.startswith("/") or self.request_version == "HTTP/0.9":
            self._refuse(HTTPStatus.BAD_REQUEST, "A request must ask for a path of this server.")
        elif not self.access.knows(self.headers.get_all("Host", [])):
            self._refuse(HTTPStatus.FORBIDDEN, "This server is not called by that name.")
        elif not self.access.admits(self.headers, query, cookie):
            self._refuse(
                HTTPStatus.UNAUTHORIZED,
                "Open the whole address that voxward serve printed, which ends with ?token=...",
                **{"WWW-Authenticate": "Bearer"},
            )
        else:
            self._send(target, {"Set-Cookie": self._cookie(cookie)} if in_query(query) else {})

    def _cookie(self, name: str) -> str:
        return f"{name}={self.access.token or ''}; Path=/; HttpOnly; SameSite=Strict"

    def _send(self, target: str, headers: dict[str, str]) -> None:
        path = self.served.find(target)
        try:
            file = None if path is None else opened(path)
        except OSError:
            file = None
        if path is None or file is None:
            self._refuse(HTTPStatus.NOT_FOUND, _missing(target))
            return
        with file:
            if headers and self.access.token is not None and kind_of(path).startswith(_HTML):
                self._forget_token(target, headers)
            else:
                self._send_file(file, {"Content-Type": kind_of(path), "Accept-Ranges": "bytes", **headers})

    def _forget_token(self, target: str, headers: dict[str, str]) -> None:
        """Send the browser on to the page without the token, so that it is not left in the line of the address.

        A page does that, rather than a redirection: with a redirection a link on another site would arrive without the
        cookie that was just set.
        """
        place = quote(target, safe="/%")
        go_on = f'<meta http-equiv="refresh" content="0; url={place}"><link rel="icon" href="data:,">'
        body = f'<!doctype html><html lang="en"><meta charset="utf-8">{go_on}<title>voxward</title></html>'
        self._begin(HTTPStatus.OK, {"Content-Type": f"{_HTML}; charset=utf-8", **headers}, len(body))
        self._write(body.encode())

    def _send_file(self, file: BinaryIO, headers: dict[str, str]) -> None:
        about = os.fstat(file.fileno())
        size, tag = about.st_size, f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
        headers["ETag"] = tag
        if _matches(self.headers.get("If-None-Match"), tag):
            self._begin(HTTPStatus.NOT_MODIFIED, headers, None)
            return
        # A date of If-Range is too coarse to say that nothing has changed: the whole file is right, too.
        asked = self.headers.get("Range") if self.headers.get("If-Range", tag).strip() == tag else None
        try:
            part = part_of(asked if self.command == "GET" else None, size)
        except Unsatisfiable:
            self._refuse(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "No such part of the file.",
                **{"Content-Range": f"bytes */{size}"},
            )  # fmt: skip
            return
        if part is None:
            part = Part(0, size)
            self._begin(HTTPStatus.OK, headers, size)
        else:
            headers["Content-Range"] = part.content_range(size)
            self._begin(HTTPStatus.PARTIAL_CONTENT, headers, part.length)
        self._copy(file, part)

    def _copy(self, file: BinaryIO, part: Part) -> None:
        """Send a part of a file, which the operating system copies piece by piece."""
        if self.command == "HEAD" or part.length == 0:
            return
        sent = self.connection.sendfile(file, part.first, part.length)
        if sent < part.length:  # the file has become shorter, and the reader waits for more
            self.close_connection = True

    def _begin(self, status: HTTPStatus, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        page = headers.get("Content-Type", "").startswith(_HTML)
        every = {**_ALWAYS, "Content-Security-Policy": _PAGE_POLICY if page else _FILE_POLICY, **headers}
        if length is not None:
            every["Content-Length"] = str(length)
        if self.close_connection:
            every["Connection"] = "close"
        for name, value in every.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, text: str = "", **headers: str) -> None:
        """Answer that something is not to be had; nothing of what was asked is repeated."""
        if status not in (HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            self.close_connection = True  # whatever else has arrived is not read as a request
        body = f"{status.value} {status.phrase}. {text}".rstrip().encode() + b"\n"
        self._begin(status, {"Content-Type": "text/plain; charset=utf-8", **headers}, len(body))
        self._write(body)

    def _write(self, body: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that cannot be read; the name and the parameters are the base's."""
        self.request_version = self.protocol_version  # without one there would be no headers
        self._refuse(HTTPStatus(code))

    def version_string(self) -> str:
        """Return the header Server, which names no version."""
        return "voxward"

    def log_message(self, format: str, *values: object) -> None:
        """Write no log: a request may hold the token."""


def _is_plain(headers: Message) -> bool:
    """Return whether every line was read as a header: what follows another line would be passed over in silence."""
    return not (headers.defects or headers.get_payload() or headers.get_unixfrom())


def _has_body(headers: Message) -> bool:
    """Return whether a body is announced, which would be read as the next request."""
    lengths = headers.get_all("Content-Length", [])
    return "Transfer-Encoding" in headers or any(length.strip() != "0" for length in lengths)


def _matches(header: str | None, tag: str) -> bool:
    tags = [each.strip().removeprefix("W/") for each in (header or "").split(",")]
    return tag in tags or tags == ["*"]


def _missing(target: str) -> str:
    if target == "/":
        return "This folder has no report.html: voxward report FOLDER --out FOLDER/report.html writes it."
    return "There is no such file."


def handler_for(served: Served, access: Access, patience: float = PATIENCE) -> type[Handler]:
    """Return the class that answers for these files."""
    return type("Handler", (Handler,), {"served": served, "access": access, "patience": patience})
