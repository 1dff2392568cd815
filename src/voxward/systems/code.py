"""What stands for the code of a Python function in a fingerprint."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

from voxward.systems.digest import digest


def code_digest(function: Callable[..., Any]) -> str:
    """Return a digest of a function's name and of the file that it was defined in, or of its byte code without a file.

    What the function reads when it is called, such as weights or other modules, is not in it.

    Args:
        function: The function, or any other object that can be called.
    """
    if isinstance(function, partial):
        return digest(
            "partial", code_digest(function.func), repr(function.args), repr(sorted(function.keywords.items()))
        )
    plain = inspect.unwrap(getattr(function, "__func__", function))
    known = plain if hasattr(plain, "__code__") else type(plain)
    name = f"{known.__module__}.{known.__qualname__}"
    try:
        return digest(name, hashlib.sha256(Path(inspect.getfile(known)).read_bytes()).hexdigest())
    except (OSError, TypeError):
        code = getattr(known, "__code__", None)
        return digest(name, None if code is None else _bytes(code))


def _bytes(code: CodeType) -> list[str]:
    """Byte code with its constants, of inner functions too."""
    inner = [_bytes(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return [code.co_code.hex(), repr(code.co_names), repr(inner)]
