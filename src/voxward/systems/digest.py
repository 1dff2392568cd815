"""Short digests of plain data and of cases, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import nn

from voxward.core.case import Case

_LENGTH = 16


def digest(*parts: Any) -> str:
    """Return 16 hexadecimal digits that stand for plain JSON data: equal data give equal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def weights_digest(networks: Iterable[nn.Module]) -> str:
    """Return the SHA-256 of the names and values of all parameters and buffers of some networks.

    Args:
        networks: The networks, in an order that matters.
    """
    found = hashlib.sha256()
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return found.hexdigest()


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
