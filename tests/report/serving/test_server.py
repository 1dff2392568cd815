"""A server on loopback, asked over real sockets: what it gives out, to whom, and what it refuses."""

from __future__ import annotations

import http.client
import os
import re
import socket
import tracemalloc
from contextlib import contextmanager

import pytest

import voxward
from voxward.core.errors import UserError
from voxward.report.serving.access import Access
from voxward.report.serving.files import Served, opened
from voxward.report.serving.server import CONNECTIONS, Serving

PAGE = b"<!doctype html><p>page"
TOKEN = "a-token-of-enough-letters"
KINDS = {
    "a.html": "text/html; charset=utf-8", "a.js": "text/javascript; charset=utf-8", "a.nii.gz": "application/gzip",
    "a.nii": "application/octet-stream", "a.json": "application/json", "a.svg": "image/svg+xml",
    "a.pdf": "application/pdf", "a.PNG": "image/png", "a.csv": "text/csv; charset=utf-8",
    "a.md": "text/markdown; charset=utf-8", "a.pt": "application/octet-stream", "a": "application/octet-stream",
}  # fmt: skip


def make_folder(tmp_path):
    """A folder with a page, beside a secret."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret-files").mkdir()
    (tmp_path / "secret-files" / "a.json").write_text("secret")
    root = tmp_path / "folder"
    (root / "report-files").mkdir(parents=True)
    (root / "volumes").mkdir()
    (root / "report.html").write_bytes(PAGE)
    (root / "report-files" / "a b.nii.gz").write_bytes(bytes(range(100)))
    (root / "volumes" / "c%2e.json").write_text("{}")
    (root / "other.html").write_text("other")
    (root / ".voxward").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    return root


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server of a folder that no test changes, which has links and other things that are no files of it."""
    folder = make_folder(tmp_path_factory.mktemp("shared"))
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "hidden.txt").symlink_to(folder / ".voxward")
    (folder / "round").symlink_to(folder / "round")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
    for name in KINDS:
        (folder / name).write_bytes(b"x")
    with voxward.serve(folder) as serving:
        yield serving


@contextmanager
def served(path, **options):
    with voxward.serve(path, **options) as serving:
        yield serving


def asked(serving, path, method="GET", **headers):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=5)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def told(serving, *lines):
    """What comes back for lines that no client would send, until the server hangs up."""
    with socket.create_connection(("127.0.0.1", serving.port), timeout=5) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def test_a_page_and_its_folder_are_all_that_a_page_gives_out(folder):
    with served(folder / "report.html") as serving:
        assert serving.url == f"http://127.0.0.1:{serving.port}/"
        for path in ("/", "/report.html", "/?x=1"):
            code, headers, body = asked(serving, path)
            assert (code, headers["Content-Type"], body) == (200, "text/html; charset=utf-8", PAGE)
        assert asked(serving, "/report-files/a%20b.nii.gz")[2] == bytes(range(100))
        for path in ("/other.html", "/volumes/c%252e.json", "/report-files", "/report-files/", "/secret-files/a.json"):
            assert asked(serving, path)[0] == 404


def test_a_folder_gives_out_its_files_and_lists_none(folder):
    with served(folder) as serving:
        assert asked(serving, "/")[2] == PAGE
        # A percent sign in a name is escaped once, and decoded once.
        assert asked(serving, "/volumes/c%252e.json")[2] == b"{}"
        for path in ("/volumes", "/volumes/", "/report-files/", "/.", "/report.html/"):
            assert asked(serving, path)[0] == 404
        (folder / "report.html").unlink()
        code, _, body = asked(serving, "/")
        assert code == 404
        assert b"voxward report" in body


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/volumes/../../secret.txt", "/%2e%2e/secret.txt", "/%2E%2E%2Fsecret.txt",
        "/..%2fsecret.txt", "/volumes/..%2f..%2fsecret.txt", "/%252e%252e/secret.txt", "/%252e%252e%252fsecret.txt",
        "/..\\secret.txt", "/..%5csecret.txt", "/volumes%5c..%5c..%5csecret.txt", "/%c0%ae%c0%ae/secret.txt",
        "/report.html%00", "/report.html%00.json", "/%00", "//secret.txt", "//{tmp}/shared0/secret.txt",
        "/{tmp}/shared0/secret.txt",
        "/%2f{tmp}/shared0/secret.txt", "/./report.html", "/volumes/./c%252e.json", "/.voxward", "/%2evoxward",
        "/.git/config", "/volumes//c%252e.json", "/link.txt", "/linked/secret.txt", "/hidden.txt", "/c:/secret.txt",
        "/report.html%", "/report.html%2", "/report.html%zz", "/report.html::$DATA", "/report.html.", "/report.html%20",
        "/round", "/pipe", "/con", "/file:///etc/passwd", "/\u00ff",
    ],
)  # fmt: skip
def test_nothing_else_is_given_out(shared, path, tmp_path_factory):
    target = path.format(tmp=tmp_path_factory.getbasetemp())
    answer = told(shared, f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", "")
    assert status(answer) == 404
    assert b"secret" not in answer.split(b"\r\n\r\n", 1)[1]


def test_links_inside_the_folder_are_followed(folder):
    (folder / "same.json").symlink_to(folder / "volumes" / "c%2e.json")
    with served(folder) as serving:
        assert asked(serving, "/same.json")[2] == b"{}"
    with served(folder / "report.html") as serving:
        (folder / "report-files" / "other").symlink_to(folder / "other.html")
        assert asked(serving, "/report-files/other")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_only_get_and_head_are_answered(shared, method):
    code, headers, body = asked(shared, "/", method)
    assert code == 405
    assert headers["Allow"] == "GET, HEAD"
    assert PAGE not in body


def test_head_tells_what_get_sends(shared):
    (code, got, body), (head_code, head, nothing) = asked(shared, "/"), asked(shared, "/", "HEAD")
    assert (code, body) == (200, PAGE)
    assert (head_code, nothing) == (200, b"")
    assert {**dict(got), "Date": ""} == {**dict(head), "Date": ""}
    assert asked(shared, "/nothing", "HEAD")[::2] == (404, b"")


@pytest.mark.parametrize(
    ("line", "headers", "code"),
    [
        ("GET / HTTP/1.1", ["Host: evil.example"], 403),
        ("GET / HTTP/1.1", ["Host: localhost.evil.example"], 403),
        ("GET / HTTP/1.1", ["Host: 127.0.0.1.evil.example:80"], 403),
        ("GET / HTTP/1.1", ["Host: 192.168.0.1"], 403),
        ("GET / HTTP/1.1", [], 403),
        ("GET / HTTP/1.1", ["Host: "], 403),
        ("GET / HTTP/1.1", ["Host: localhost", "Host: evil.example"], 403),
        ("GET / HTTP/1.1", ["Host: localhost/x"], 403),
        ("GET / HTTP/1.1", ["Host: LOCALHOST:9000"], 200),  # as through an ssh tunnel
        ("GET / HTTP/1.1", ["Host: [::1]:80"], 200),
        ("GET / HTTP/1.0", ["Host: 127.0.0.1"], 200),
        ("GET http://localhost/ HTTP/1.1", ["Host: localhost"], 400),
        ("GET http://evil.example/ HTTP/1.1", ["Host: localhost"], 400),
        ("GET * HTTP/1.1", ["Host: localhost"], 400),
        ("GET / HTTP/1.1", ["Host: localhost", "Content-Length: 5"], 400),
        ("GET / HTTP/1.1", ["Host: localhost", "Transfer-Encoding: chunked"], 400),
        *(
            ("GET / HTTP/1.1", ["Host: localhost", *lines], 400)
            for lines in (
                ["Content-Length: 0", "Content-Length: 5"],
                ["Content-Length : 5"],
                ["Transfer-Encoding : chunked"],
                ["no header", "Transfer-Encoding: chunked"],
                ["Transfer-Encoding\0: chunked"],
                ["X: y\rContent-Length: 5"],
            )
        ),
        ("GET / HTTP/1.1", [" X: y", "Host: localhost"], 400),
        ("GET / HTTP/1.1", ["From x", "Host: localhost"], 400),
        ("GET / HTTP/9", ["Host: localhost"], 400),
        ("GET / HTTP/2.0", ["Host: localhost"], 505),
        ("GET /a b HTTP/1.1", ["Host: localhost"], 400),
        ("GET / HTTP/1.1", ["Host: localhost", *(f"X-{n}: y" for n in range(200))], 431),
        (f"GET /{'a' * 70000} HTTP/1.1", ["Host: localhost"], 414),
    ],
)
def test_requests_that_browsers_do_not_send_for_us(shared, line, headers, code):
    answer = told(shared, line, *headers, "Connection: close", "")
    assert status(answer) == code
    assert (PAGE in answer) == (code == 200)


def test_a_request_of_the_oldest_kind_gets_no_page(shared):
    assert PAGE not in told(shared, "GET /", "")


def test_every_answer_says_how_it_may_be_used(shared):
    for path in ("/", "/other.html", "/nothing", "/volumes/c%252e.json"):
        headers = asked(shared, path)[1]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Server"] == "voxward"
    policy = asked(shared, "/")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'unsafe-inline'" in policy  # volumes beside the page are scripts
    assert "http" not in policy
    assert "*" not in policy
    assert "sandbox" in asked(shared, "/volumes/c%252e.json")[1]["Content-Security-Policy"]


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_kinds(shared, name, kind):
    headers = asked(shared, f"/{name}")[1]
    assert headers["Content-Type"] == kind
    assert "Content-Encoding" not in headers


@pytest.mark.parametrize(
    ("asked_for", "first", "last"),
    [
        ("bytes=0-0", 0, 0), ("bytes=10-19", 10, 19), ("bytes=90-", 90, 99), ("bytes=90-500", 90, 99),
        ("bytes=-10", 90, 99), ("bytes=-500", 0, 99), ("BYTES=0-99", 0, 99), ("bytes=99-99", 99, 99),
    ],
)  # fmt: skip
def test_ranges(shared, asked_for, first, last):
    code, headers, body = asked(shared, "/report-files/a%20b.nii.gz", Range=asked_for)
    assert code == 206
    assert headers["Content-Range"] == f"bytes {first}-{last}/100"
    assert headers["Accept-Ranges"] == "bytes"
    assert body == bytes(range(first, last + 1))


@pytest.mark.parametrize(
    "asked_for",
    ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=20-10", "bytes=-", "bytes=a-b", "bytes=1", "bytes=--1",
     "bytes=0x1-2", "bytes=" + "9" * 5000 + "-", "bytes=\u0664-"],
)  # fmt: skip
def test_ranges_that_cannot_be_had(shared, asked_for):
    answer = told(
        shared, "GET /report-files/a%20b.nii.gz HTTP/1.1", "Host: localhost",
        f"Range: {asked_for.encode().decode('latin-1')}", "Connection: close", "",
    )  # fmt: skip
    assert status(answer) == 416
    assert b"Content-Range: bytes */100\r\n" in answer


@pytest.mark.parametrize("asked_for", ["bytes=0-1,5-6", "lines=0-1", "nonsense"])
def test_other_ranges_are_answered_by_the_whole_file(shared, asked_for):
    assert asked(shared, "/report-files/a%20b.nii.gz", Range=asked_for)[::2] == (200, bytes(range(100)))


def test_a_part_of_an_empty_file(folder):
    (folder / "empty.csv").touch()
    with served(folder) as serving:
        assert asked(serving, "/empty.csv")[::2] == (200, b"")
        assert asked(serving, "/empty.csv", Range="bytes=0-")[0] == 416


def test_a_part_is_of_the_file_that_the_reader_knows(folder):
    path, file = "/report-files/a%20b.nii.gz", folder / "report-files" / "a b.nii.gz"
    with served(folder) as serving:
        tag = asked(serving, path)[1]["ETag"]
        assert asked(serving, path, Range="bytes=0-1", If_Range=tag)[0] == 206
        assert asked(serving, path, If_None_Match=f'"other", {tag}')[::2] == (304, b"")
        assert asked(serving, path, "HEAD", Range="bytes=0-1")[0] == 200
        file.write_bytes(bytes(50))
        os.utime(file, ns=(1, 1))
        assert asked(serving, path, Range="bytes=0-1", If_Range=tag)[::2] == (200, bytes(50))
        assert asked(serving, path, Range="bytes=0-1", If_Range="Mon, 30 Nov 2026 00:00:00 GMT")[0] == 200
        assert asked(serving, path, If_None_Match=tag)[0] == 200


def test_a_large_file_is_not_read_into_memory(folder):
    with (folder / "large.nii").open("wb") as file:
        file.truncate(50_000_000)
        file.seek(25_000_000)
        file.write(b"middle")
    with served(folder) as serving:
        tracemalloc.start()
        try:
            code, headers, body = asked(serving, "/large.nii", Range="bytes=24999999-25000006")
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
        assert (code, body) == (206, b"\0middle\0")
        assert headers["Content-Range"] == "bytes 24999999-25000006/50000000"
        assert len(asked(serving, "/large.nii")[2]) == 50_000_000


def test_one_connection_serves_many_requests(folder):
    with served(folder) as serving:
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=5)
        connection.connect()
        first = connection.sock
        for path, code in (("/", 200), ("/nothing", 404), ("/", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == code
            answer.read()
            assert connection.sock is first
        connection.close()


def test_a_slow_request_does_not_hold_a_thread(folder):
    with (
        Serving(Served.of(folder), Access(), patience=0.2) as serving,
        socket.create_connection(("127.0.0.1", serving.port), timeout=5) as connection,
    ):
        assert connection.recv(1) == b""  # nothing was sent
    with (
        Serving(Served.of(folder), Access(), patience=0.2) as serving,
        socket.create_connection(("127.0.0.1", serving.port), timeout=5) as connection,
    ):
        with pytest.raises(OSError):  # noqa: PT011
            for _ in range(1000):  # one byte after the other
                connection.sendall(b"X")
                connection.settimeout(0.01)
                try:
                    if connection.recv(1) == b"":
                        raise ConnectionResetError
                except TimeoutError:
                    pass
        assert asked(serving, "/")[0] == 200


def test_so_many_connections_and_no_more(folder, monkeypatch):
    monkeypatch.setattr("voxward.report.serving.server.CONNECTIONS", 2)
    with served(folder) as serving:
        held = [socket.create_connection(("127.0.0.1", serving.port), timeout=5) for _ in range(2)]
        for connection in held:  # until each has been given its thread
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert asked(serving, "/")[0] == 503
        for connection in held:
            connection.close()
        assert any(asked(serving, "/")[0] == 200 for _ in range(100))


def test_a_reader_that_hangs_up_harms_nobody(folder, capfd):
    with (folder / "large.nii").open("wb") as file:
        file.truncate(50_000_000)
    with served(folder) as serving:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=5) as connection:
            connection.sendall(b"GET /large.nii HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(10)
        assert asked(serving, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_the_token(folder):
    with served(folder, token=TOKEN) as serving:
        assert serving.url == f"http://127.0.0.1:{serving.port}/?token={TOKEN}"
        for path in ("/", "/nothing", "/?token=", "/?token=wrong", f"/?token={TOKEN}x", f"/?Token={TOKEN}"):
            code, headers, body = asked(serving, path)
            assert (code, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert PAGE not in body
            assert "Set-Cookie" not in headers
        code, headers, body = asked(serving, f"/?token={TOKEN}")
        assert code == 200
        # The page itself comes without the token in its address.
        assert re.search(rb'http-equiv="refresh" content="0; url=/"', body)
        assert headers["Set-Cookie"].split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict"]
        cookie = headers["Set-Cookie"].split(";")[0]
        assert asked(serving, "/", Cookie=f"other; a=b=c; {cookie}")[2] == PAGE
        assert asked(serving, "/", Cookie=cookie + "x")[0] == 401
        assert asked(serving, "/", Authorization=f"Bearer {TOKEN}")[2] == PAGE
        assert asked(serving, "/", Authorization=f"Basic {TOKEN}")[0] == 401
        assert asked(serving, f"/volumes/c%252e.json?token={TOKEN}")[2] == b"{}"
        assert asked(serving, f"/nothing?token={TOKEN}")[0] == 404


def test_tokens_that_are_drawn_differ(folder):
    with served(folder, token="auto") as one, served(folder, token="auto") as other:
        tokens = [serving.url.partition("=")[2] for serving in (one, other)]
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "needs a token"),
        ({"host": "::"}, "needs a token"),
        ({"host": "localhost.example"}, "needs a token"),
        ({"token": "short"}, "at least 16"),
        ({"token": "with blanks and more"}, "at least 16"),
        ({"token": ""}, "at least 16"),
        ({"host": ""}, "host must be"),
        ({"host": "a/b", "token": TOKEN}, "host must be"),
        ({"host": "no.such.host.invalid", "token": TOKEN}, "no such address"),
        ({"port": 70000}, "port must be"),
        ({"port": -1}, "port must be"),
    ],
)
def test_what_is_refused(folder, options, message):
    with pytest.raises(UserError, match=message) as error:
        voxward.serve(folder, **options)
    assert not options.get("token") or options["token"] not in str(error.value)


def test_other_names_of_a_server_that_listens_everywhere():
    everywhere, one = Access.of("0.0.0.0", TOKEN), Access.of("scanner.example", TOKEN)
    assert everywhere.knows(["192.168.0.7:80"])
    assert everywhere.knows([socket.gethostname()])
    assert not everywhere.knows(["evil.example"])
    assert one.knows(["Scanner.example:8000"])
    assert not one.knows(["192.168.0.7"])


def test_paths_that_are_no_report(folder, tmp_path):
    for path, message in [
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "secret.txt", "neither a report"),
        (folder / ".voxward", "neither a report"),
    ]:
        with pytest.raises(UserError, match=message):
            voxward.serve(path)
    with pytest.raises(UserError, match=r"volumes has no report\.html.*`voxward report .*volumes --out "):
        voxward.serve(folder / "volumes")


def test_a_port_that_is_taken(folder):
    with served(folder) as serving, pytest.raises(UserError, match="choose another --port"):
        voxward.serve(folder, port=serving.port)


def test_the_end_frees_the_port(folder):
    with served(folder) as serving:
        assert asked(serving, "/")[0] == 200
    serving.close()  # a second time does no harm
    with served(folder, port=serving.port) as again:
        assert asked(again, "/")[0] == 200


def test_what_is_no_file_is_neither_found_nor_opened(folder):
    found = Served.of(folder)
    (folder / "link").symlink_to(folder / "report.html")
    names = ["volumes"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        names.append("pipe")
    for name in names:
        assert found.find(f"/{name}") is None
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
            opened(folder / name)
    assert found.find("/link") == folder.resolve() / "report.html"
    if hasattr(os, "O_NOFOLLOW"):
        with pytest.raises(OSError):  # noqa: PT011
            opened(folder / "link")


def test_a_lack_of_threads_passes(folder, monkeypatch):
    with served(folder) as serving:
        with monkeypatch.context() as short:
            short.setattr("socketserver.threading.Thread.start", _no_thread)
            for _ in range(CONNECTIONS):
                with pytest.raises((http.client.HTTPException, ConnectionError)):
                    asked(serving, "/")
        assert asked(serving, "/")[0] == 200


def _no_thread(thread):
    raise RuntimeError("can't start new thread")
