"""What a folder of results holds: every file by what it says, without what is documented to differ between two runs.

These differ: seconds, moments, calls that worked on a folder, files of TensorBoard, and the ids inside of an SVG.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxward.core.leftovers import PREFIX
from voxward.core.outputs import MARKER

# Checksums cover seconds; sittings are the calls that worked on a folder, of which any may have been to resume.
_DIFFER = {"seconds", "seconds_per_case", "checksum", "crc32", "sittings", "resume"}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z|\+00:00)?")
# Tables and pages say seconds with one decimal, and nothing else.
_SECONDS = re.compile(r"(?<![\d.])\d+\.\d(?!\d)")
_EMBEDDED = re.compile(r'(<script type="application/json" id="data">)(.*?)(</script>)', re.DOTALL)
# When the calls were that made an attack folder, and how many units each did.
_CALLS = re.compile(r"<dt>When[^<]*</dt>\s*<dd>[^<]*</dd>")
_SVG_ID = re.compile(r"[#\"]?[a-z]?[0-9a-f]{10}\b")


def contents(root: Path) -> dict[str, str]:
    """Return a digest of every file below a folder, by its path; of unfinished files none.

    Args:
        root: The folder, which need not exist; or a single file.

    Raises:
        Exception: A file cannot be read, so that it was only half written.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    shown = [path for path in files if path.exists() and not any(part.startswith(PREFIX) for part in path.parts)]
    return {_name(path, root): _digest(path) for path in shown}


def differences(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return the paths that one of two folders lacks, or whose files say something else."""
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def unfinished(root: Path) -> list[Path]:
    """Return the files and folders below a folder that are being written, or were when their process was killed."""
    return sorted(path for path in root.rglob(".*") if path.name.startswith((PREFIX, ".clock-", ".tmp")))


def disowned(root: Path) -> list[str]:
    """Return the files below a folder that voxward wrote and no longer knows as its own, so that it would not go on."""
    found = []
    for marker in root.rglob(MARKER):
        own: dict[str, set[str]] = {}
        for line in marker.read_text(encoding="utf-8").splitlines():
            if not line or line.startswith("#"):
                continue
            digest, name = line.split(" ", 1)[0], json.loads(line[line.index('"') :])
            own.setdefault(name, set()).add(digest)
        for name, digests in own.items():
            path = marker.parent / name
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() not in digests:
                found.append(str(path.relative_to(root)))
    return sorted(found)


def _name(path: Path, root: Path) -> str:
    name = str(path.relative_to(root))
    return re.sub(r"events\.out\.tfevents\..*", "events", name)


def _digest(path: Path) -> str:
    if "tfevents" in path.name:
        return ""
    for end, said in _READERS.items():
        if path.name.endswith(end):
            return said(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> str:
    return json.dumps(_timeless(json.loads(path.read_text(encoding="utf-8"))), sort_keys=True)


def _csv(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return repr([_timeless(row) for row in csv.DictReader(file)])


def _state(path: Path) -> str:
    return hashlib.sha256(repr(_timeless(torch.load(path, map_location="cpu", weights_only=True))).encode()).hexdigest()


def _arrays(path: Path) -> str:
    with np.load(path, allow_pickle=False) as arrays:
        return repr([(name, arrays[name].shape, arrays[name].tobytes()) for name in sorted(arrays)])


def _marker(path: Path) -> str:
    """What it lists, whatever the order and the digests: pages, which hold a moment, have another one each time."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return repr(sorted({line.split(" ", 1)[-1] for line in lines if line and not line.startswith("#")}))


def _text(path: Path) -> str:
    return _MOMENT.sub("MOMENT", path.read_text(encoding="utf-8"))


def _table(path: Path) -> str:
    return _SECONDS.sub("SECONDS", _text(path))


def _page(path: Path) -> str:
    """A page, and the figures inside it to the last digit."""
    page = _text(path)
    (found,) = _EMBEDDED.findall(page)
    return _SECONDS.sub("SECONDS", _CALLS.sub("CALLS", _EMBEDDED.sub("", page))) + repr(_timeless(json.loads(found[1])))


def _svg(path: Path) -> str:
    return _SVG_ID.sub("ID", _text(path))


def _timeless(value: Any) -> Any:
    """A value without seconds, and with the bytes of its tensors."""
    if isinstance(value, dict):
        if "columns" in value and "rows" in value:  # a table inside a page
            value = {"rows": [dict(zip(value["columns"], row, strict=True)) for row in value["rows"]]}
        return {name: _timeless(entry) for name, entry in value.items() if name not in _DIFFER}
    if isinstance(value, list | tuple):
        return [_timeless(entry) for entry in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    return value


_READERS: dict[str, Callable[[Path], str]] = {
    ".json": _json, ".csv": _csv, "state.pt": _state, ".npz": _arrays, MARKER: _marker, ".html": _page,
    ".md": _table, ".svg": _svg, ".yaml": _text,
}  # fmt: skip
