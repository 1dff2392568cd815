"""Shapes that the source says are checked at run time in every test.

jaxtyping's import hook checks every call of every function of a module, at a third of the tests' time. Here it checks
those functions alone whose signature says a shape, and of each the first calls in each test: an attack calls the same
functions a thousand times.
"""

from __future__ import annotations

import re
from functools import partial, wraps
from pathlib import Path
from types import FunctionType
from typing import Any

import jaxtyping

_SOURCE = Path(__file__).parents[1] / "src"
_KINDS = r"(?:Bool|Float|Float64|Integer|Real|Shaped)\["
CALLS = 4
_jaxtyped = jaxtyping.jaxtyped
_calls: dict[FunctionType, int] = {}


def begin_test() -> None:
    """Check the first calls again."""
    _calls.clear()


def check() -> None:
    """Have all modules checked that are imported from here on."""
    texts = {path: path.read_text(encoding="utf-8") for path in _SOURCE.rglob("*.py")}
    named = {name for text in texts.values() for name in re.findall(rf"^(\w+) = {_KINDS}", text, re.MULTILINE)}
    shape = re.compile(rf"\b(?:{'|'.join(sorted(named))})\b|\b{_KINDS}")
    jaxtyping.jaxtyped = partial(_where_said, shape)
    modules = [".".join(path.relative_to(_SOURCE).with_suffix("").parts) for path in texts if shape.search(texts[path])]
    jaxtyping.install_import_hook(modules, "beartype.beartype")


def _where_said(shape: re.Pattern[str], function: Any = None, *, typechecker: Any) -> Any:
    """Decorate a function, a method of any kind, or a dataclass, as `jaxtyping.jaxtyped` does."""
    if function is None:
        return partial(_where_said, shape, typechecker=typechecker)
    plain = getattr(function, "fget", None) or getattr(function, "__func__", function)
    if not shape.search(" ".join(map(str, plain.__annotations__.values()))):
        return function
    checked = _jaxtyped(function, typechecker=typechecker)
    return _first_calls(checked, function) if isinstance(function, FunctionType) else checked


def _first_calls(checked: Any, plain: FunctionType) -> Any:
    @wraps(plain)
    def call(*args: Any, **options: Any) -> Any:
        count = _calls[plain] = _calls.get(plain, 0) + 1
        return checked(*args, **options) if count <= CALLS else plain(*args, **options)

    return call
