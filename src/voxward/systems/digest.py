"""A short digest of plain data, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_LENGTH = 16


def digest(*parts: Any) -> str:
    """Return 16 hexadecimal digits that stand for plain JSON data: equal data give equal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
