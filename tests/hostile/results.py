"""Readers of results: the folders that a report is written from, and the requests that a served page answers."""

from __future__ import annotations

import functools
import re
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.hostile.documents import table_changed
from tests.hostile.mutations import bytes_changed, json_changed
from tests.hostile.reader import Content, Files, Reader
from voxward.commands.report import write_report
from voxward.report.serving.access import Access
from voxward.report.serving.files import Served
from voxward.report.serving.handler import handler_for
from voxward.report.sources import read_sources


def _all(folder: Path) -> Files:
    found: dict[str, Content] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@functools.cache
def folders() -> tuple[Files, ...]:
    """Return the folder of an attack, and that of a run with its scores."""
    from tests.report.folders import LOG, attack_folder, metrics_data, run_folder, write_json
    from tests.robustness.books import book

    described = {
        "format": 1, "protocol": {"name": "mine", "threat": {"eps": [0.1, 0.2]}, "require": ["robust_dice@0.1 >= 0.3"]},
        "command": "voxward attack run data", "ensembles": {"both": ["x", "y"]},
    }  # fmt: skip
    labels = {"names": ["background", "liver", "tumour"], "values": [0, 1, 2]}
    cases = {
        "format": 1, "cases": {c: {"images": [f"/data/{c}.nii.gz"], "label": f"/data/{c}-label.nii.gz"} for c in "ab"},
        "systems": {"m": {"labels": labels, "channels": ["CT"]}}, "dataset": "/data",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        attack = attack_folder(Path(place, "attack"), book())
        write_json(attack / "protocol.json", described)
        write_json(attack / "cases.json", cases)
        write_json(attack / "sanity.json", {"format": 1, "failed": [], "seen": ["a"], "left_out": []})
        run = run_folder(Path(place, "run"), LOG)
        write_json(run / "metrics.json", metrics_data({"a": 0.5, "b": None}))
        return (_all(attack), _all(run))


def folder_changed(random: Random, files: Files) -> Files:
    """Return a folder of results of which one file was changed, or is missing."""
    name = random.choice([name for name in files if not name.endswith(".yaml")])
    content = files[name]
    assert isinstance(content, bytes)
    if random.randrange(20) == 0:
        return {other: held for other, held in files.items() if other != name}
    if name.endswith(".csv"):
        return {**files, name: table_changed(random, {name: content})[name]}
    return {**files, name: json_changed(random, content)}


def use_folder(folder: Path) -> str:
    """Read a folder of results, and write the page of some; what is wrong is a sentence, and no error at all."""
    found = read_sources([folder])
    assert all(problem.endswith((".", "!", "?")) for problem in found.problems)
    if folder.stat().st_mtime_ns % 64:
        return "with problems" if found.problems else "sound"
    page = write_report(folder, out=folder / "page.html")
    assert page.path.is_file()
    return "with a page"


_TARGETS = (
    "/", "/report.html", "/../secret", "/%2e%2e/secret", "/..%2fsecret", "//secret", "/a%00", "/%", "/.voxward",
    "/link", "/folder/",
    "/report.html?token=x", "*", "http://127.0.0.1/report.html", "/report.html#x", "/é", "/" + "a" * 70000, "",
    "/folder/a.json",
)  # fmt: skip
_HEADERS = (
    "Host: 127.0.0.1", "Host: localhost", "Host: evil.example", "Host: a\r\nHost: b", "Host:", "Range: bytes=0-",
    "Range: bytes=5-2",
    "Range: bytes=-5", "Range: bytes=0-0,2-3", "Range: bytes=" + "9" * 400 + "-", "Range: lines=1-2",
    "If-None-Match: *",
    "If-Range: x", "Content-Length: 5", "Content-Length: -1", "Content-Length: 0", "Transfer-Encoding: chunked",
    "Cookie: voxward=x",
    "Authorization: Bearer x", "Connection: keep-alive", "Connection: close", "Expect: 100-continue", " folded: x",
    ":", "x" * 70000,
    "A: é", "A: \x00", "Upgrade: h2c", *(f"A{n}: b" for n in range(3)),
)  # fmt: skip
_SECRET = b"what nobody is to see"


@functools.cache
def requests() -> tuple[Files, ...]:
    """Return requests that are answered with a file, or with a reason."""
    lines = (
        "GET / HTTP/1.1",
        "HEAD /report.html HTTP/1.1",
        "GET /folder/a.json HTTP/1.0",
        "POST / HTTP/1.1",
        "GET /report.html",
    )
    return tuple({"request": f"{line}\r\nHost: 127.0.0.1\r\nRange: bytes=0-3\r\n\r\n".encode()} for line in lines)


def request_changed(random: Random, files: Files) -> Files:
    """Return a request of another path, with other headers, or of other bytes; or several at once."""
    content = files["request"]
    assert isinstance(content, bytes)
    if random.randrange(3) == 0:
        return {"request": bytes_changed(random, content)}
    found = ""
    for _ in range(random.choice((1, 1, 1, 2))):
        method = random.choice(("GET", "GET", "HEAD", "POST", "get", "", "DELETE", "G" * 70000))
        version = random.choice(
            ("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "", "HTTP/1.x", "HTTP/1.1.1")
        )
        headers = random.choices(_HEADERS, k=random.choice((0, 1, 2, 3, 120)))
        if random.randrange(3):
            headers.insert(0, "Host: 127.0.0.1")
        end = random.choice(("\r\n", "\r\n", "\n", "\r"))
        found += end.join((f"{method} {random.choice(_TARGETS)} {version}", *headers, "", ""))
    return {"request": found.encode()}


@functools.cache
def _served() -> tuple[Served, socket.socket]:
    """What is given out, and a socket that takes connections."""
    root = Path(tempfile.mkdtemp(prefix="voxward-hostile-"))
    (root / "secret").write_bytes(_SECRET)
    (root / "given" / "folder").mkdir(parents=True)
    (root / "given" / "report.html").write_bytes(b"<!doctype html><p>page")
    (root / "given" / "folder" / "a.json").write_bytes(b"{}")
    (root / "given" / ".voxward").write_bytes(_SECRET)
    (root / "given" / "link").symlink_to(root / "secret")
    return Served.of(root / "given"), socket.create_server(("127.0.0.1", 0))


def use_request(folder: Path) -> str:
    """Have a request answered as the server does; the answer is HTTP, and holds nothing that is not given out."""
    served, server = _served()
    client = socket.create_connection(server.getsockname(), timeout=10)
    connection, address = server.accept()
    with client, connection:
        request = (folder / "request").read_bytes()
        try:
            client.sendall(request[:200_000])
            client.shutdown(socket.SHUT_WR)
            handler_for(served, Access(), patience=5.0)(connection, address, None)  # type: ignore[arg-type]
            connection.shutdown(socket.SHUT_RDWR)
        except ConnectionError:
            return "cut off"
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert _SECRET not in answer
    if answer.startswith(b"HTTP/1."):
        return answer[9:12].decode()
    assert answer == b"" or re.match(rb"\d{3} [A-Z]", answer), answer[:40]  # HTTP/0.9 has no headers
    return "no headers"


RESULTS: Sequence[Reader] = (
    Reader("results", folders, folder_changed, use_folder, "settings.json"),
    Reader("request", requests, request_changed, use_request, "request"),
)
