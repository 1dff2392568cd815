"""How a command was called, so that its results can say how they are made again."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

# Nothing that a call computes depends on them.
_SILENT = ("progress",)
_WORDS: ContextVar[tuple[str, ...]] = ContextVar("voxward_words", default=())


@dataclass(frozen=True)
class Invocation:
    """A command line, or a call from Python.

    Attributes:
        text: The command line with quotes where a shell needs them, or the call.
        python: Whether it is a call from Python.
        folder: The folder that relative paths in it start from.
    """

    text: str
    python: bool = False
    folder: str = ""


@contextmanager
def typed(words: Sequence[str]) -> Iterator[None]:
    """Say, inside the block, which command line was typed.

    Args:
        words: The words, the program's name first.
    """
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)


def typed_words() -> tuple[str, ...]:
    """Return the command line that was typed, the program's name first; empty in a call from Python."""
    return _WORDS.get()


def invocation(function: Callable[..., object], arguments: Mapping[str, object]) -> Invocation:
    """Return the command line that was typed, or the call from Python where there is none.

    Args:
        function: What is called: a function that users find in `voxward` under its name.
        arguments: Its arguments by name. Those that have their default, and `progress`, are left out.
    """
    words, folder = _WORDS.get(), os.getcwd()
    if words:
        return Invocation(shlex.join(words), folder=folder)
    parameters = inspect.signature(function).parameters
    given = {key: value for key, value in arguments.items() if key in parameters and key not in _SILENT}
    listed = ", ".join(f"{key}={_shown(v)}" for key, v in given.items() if v != parameters[key].default)
    return Invocation(f"voxward.{function.__name__}({listed})", True, folder)


def _shown(value: object) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if is_dataclass(value) and not isinstance(value, type):
        given = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in _SILENT}
        told = [f"{each.name}={_shown(given[each.name])}" for each in fields(value) if _is_given(each, given)]
        return f"voxward.{type(value).__name__}({', '.join(told)})"
    text = repr(value)
    # An object that no text stands for, such as an open system.
    return f"<{getattr(value, 'name', type(value).__name__)}>" if text.startswith("<") else text


def _is_given(one: Field[Any], values: Mapping[str, object]) -> bool:
    return one.name in values and values[one.name] != one.default
