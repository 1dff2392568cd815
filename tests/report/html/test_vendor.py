"""The libraries of the page are the files that their checksums are of, and each has its licence beside it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import voxward.report.html

VENDOR = Path(voxward.report.html.__file__).parent / "vendor"


def test_checksums_hold():
    sums = dict(reversed(line.split("  ")) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    files = {path.name: path for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_each_library_has_its_licence_and_its_origin():
    readme = (VENDOR / "README.md").read_text()
    for path in VENDOR.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in readme
    for name in re.findall(r"`(LICENSE-[^`]+)`", readme):
        assert "WITHOUT WARRANTY" in (text := (VENDOR / name).read_text().upper()) or "NO EVENT SHALL" in text
