"""How a command was called, so that its results can say how they are made again."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import Field, dataclass, field, fields, is_dataclass
from itertools import count
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Nothing that a call computes depends on them.
_SILENT = ("progress",)
_WORDS: ContextVar[tuple[str, ...]] = ContextVar("voxward_words", default=())


@dataclass(frozen=True)
class Invocation:
    """A command line, or a call from Python.

    Attributes:
        text: The command line with quotes where a shell needs them, or the call as Python code, in which a variable
            stands for an object such as an open system, and a comment above says what it is.
        python: Whether it is a call from Python.
        folder: The folder that relative paths in it start from.
        function: The name of the function of voxward that was called.
        arguments: Its arguments that are not their defaults, as plain data: paths are texts, and frozen values are
            mappings of what they hold. An object that no plain data stand for is the text `<NAME>`.
    """

    text: str
    python: bool = False
    folder: str = ""
    function: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


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
    parameters = inspect.signature(function).parameters
    named = {key: value for key, value in arguments.items() if key in parameters and key not in _SILENT}
    given = {key: value for key, value in named.items() if value != parameters[key].default}
    known = {key: _plain(value) for key, value in given.items()}
    if words:
        return Invocation(shlex.join(words), False, folder, function.__name__, known)
    return Invocation(_call(function.__name__, given), True, folder, function.__name__, known)


def _call(function: str, given: Mapping[str, object]) -> str:
    """The call as Python code; a comment above it says what each variable is that stands for an object."""
    objects: dict[str, object] = {}
    listed = ", ".join(f"{key}={_shown(value, objects)}" for key, value in given.items())
    lines = [f"# {name}: {_kind(value)}, made in Python before this call" for name, value in objects.items()]
    return "\n".join([*lines, f"voxward.{function}({listed})"])


def _kind(value: object) -> str:
    """What an object is, in words."""
    name = _own_name(value)
    return f"an object of type {type(value).__name__}" + (f", called {name!r}" if name else "")


def _own_name(value: object) -> str:
    """The name of a system, function or class; empty for an object without one."""
    found = (getattr(value, key, None) for key in ("name", "__name__"))
    return next((name for name in found if isinstance(name, str)), "")


def _variable(value: object, objects: dict[str, object]) -> str:
    """The variable that stands for an object, which is kept with the others."""
    for name, known in objects.items():
        if known is value:
            return name
    own = re.sub(r"\W+", "_", _own_name(value)).strip("_")
    stem = own if own.isidentifier() and not iskeyword(own) else type(value).__name__.lower()
    name = next(name for n in count(1) if (name := stem if n == 1 else f"{stem}_{n}") not in objects)
    objects[name] = value
    return name


def _is_frozen(value: object) -> TypeGuard[DataclassInstance]:
    """Whether a value is what it holds; an open system, which is compared by what it is, is not."""
    return is_dataclass(value) and not isinstance(value, type) and type(value).__eq__ is not object.__eq__


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if _is_frozen(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value) if each.name not in _SILENT}
    return f"<{getattr(value, 'name', type(value).__name__)}>"


def _shown(value: object, objects: dict[str, object]) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(each, objects) for each in value)}]"
    if _is_frozen(value):
        given = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in _SILENT}
        told = [f"{each.name}={_shown(given[each.name], objects)}" for each in fields(value) if _is_given(each, given)]
        return f"voxward.{type(value).__name__}({', '.join(told)})"
    plain = value is None or isinstance(value, bool | int | float | str | dict)
    return repr(value) if plain else _variable(value, objects)


def _is_given(one: Field[Any], values: Mapping[str, object]) -> bool:
    return one.name in values and values[one.name] != one.default
