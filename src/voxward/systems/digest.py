"""Short digests of plain data and of cases, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from voxward.core.case import Case

_LENGTH = 16


def digest(*parts: Any) -> str:
    """Return 16 hexadecimal digits that stand for plain JSON data: equal data give equal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def case_digest(case: Case) -> str:
    """Return a digest of the contents of a case's images, wherever they lie, and of how they are read.

    Raises:
        FileNotFoundError: There is no such file.
    """
    files = []
    for path in case.images:
        with path.open("rb") as stream:
            files.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digest(files, case.order, case.nan_as_zero, case.affine_tolerance)
