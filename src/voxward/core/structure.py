"""Turns nested frozen dataclasses into plain JSON or YAML data and back; one error lists all problems."""

from __future__ import annotations

import collections.abc
import functools
import reprlib
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

from voxward.core.errors import UserError
from voxward.core.registry import unknown_name

T = TypeVar("T")


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 4, 20, 20, 20
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_MOST = 300
_PLAIN = frozenset({str, int, float, bool, type(None)})
"""The types of values that are plain data as they are."""


def shown(value: Any) -> str:
    """Return plain data as a message shows them: whole if they are short, else their beginning.

    Args:
        value: The data; a few lines of YAML can stand for more text than fits into memory.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def to_data(value: Any) -> Any:
    """Return a value as plain data for JSON or YAML: dataclasses become dictionaries, and tuples become lists.

    Args:
        value: A dataclass, mapping, list, tuple or plain value, nested in any way.
    """
    if type(value) in _PLAIN:  # asked first: most of all values are such, and a folder of records holds millions
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_data(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [to_data(entry) for entry in value]
    return value


def from_data(cls: type[T], data: Any, source: str) -> T:
    """Build a dataclass from plain data.

    Args:
        cls: The dataclass. If it or a part of it has a method `problems()`, the sentences that it returns count, too.
        data: The plain data, as JSON or YAML holds it.
        source: The name of the file, for the message.

    Returns:
        An instance of the dataclass.

    Raises:
        UserError: A key is unknown or missing, a value has a wrong type, or a part has a problem. The message lists
            all problems, each with the path to it.
    """
    problems: list[str] = []
    value = _build(cls, data, "", problems)
    if problems:
        raise UserError(f"{source}: " + "; ".join(problems))
    return typing.cast(T, value)


def _build(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(kind, data, path, problems)
    if is_dataclass(kind):
        return _build_dataclass(typing.cast(type, kind), data, path, problems)
    if origin is tuple:
        return _build_tuple(kind, data, path, problems)
    if origin is collections.abc.Mapping:
        return _build_mapping(kind, data, path, problems)
    if origin is typing.Literal:
        legal = typing.get_args(kind)
        return _expect(data in legal, data, f"one of {', '.join(map(str, legal))}", path, problems)
    return _build_scalar(kind, data, path, problems)


def _build_scalar(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    if kind is Any:
        return data
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        fits = isinstance(data, float) or abs(data) <= sys.float_info.max
        return float(data) if fits else _expect(False, data, "a number that is not as large", path, problems)
    fits = isinstance(data, kind) and not (kind is int and isinstance(data, bool))
    return _expect(fits, data, f"a {kind.__name__}", path, problems)


def _expect(fits: bool, data: Any, legal: str, path: str, problems: list[str]) -> Any:
    if not fits:
        problems.append(f"{path or 'the file'} must be {legal}, got {shown(data)}")
    return data


def _build_union(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    options = typing.get_args(kind)
    if data is None and type(None) in options:
        return None
    failures: list[list[str]] = []
    for option in (option for option in options if option is not type(None)):
        attempt: list[str] = []
        value = _build(option, data, path, attempt)
        if not attempt:
            return value
        # A mapping is meant as the one that has entries: its own problems help, and not that it is no text.
        failures.insert(0 if is_dataclass(option) and isinstance(data, Mapping) else len(failures), attempt)
    problems.extend(failures[0])
    return None


def _build_tuple(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(data, list | tuple):
        return _expect(False, data, "a list", path, problems)
    kinds = typing.get_args(kind)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        if kinds[0] in _PLAIN and all(type(entry) is kinds[0] for entry in data):
            return tuple(data)
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        return _expect(False, data, f"a list of {len(kinds)}", path, problems)
    return tuple(
        _build(inner, entry, f"{path}[{n}]", problems) for n, (inner, entry) in enumerate(zip(kinds, data, strict=True))
    )


def _build_mapping(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(data, Mapping):
        return _expect(False, data, "a mapping", path, problems)
    of_key, of_value = typing.get_args(kind)
    places = {key: _join(path, key) for key in data}
    return {
        _build(of_key, key, places[key], problems): _build(of_value, value, places[key], problems)
        for key, value in data.items()
    }


def _build_dataclass(cls: type, data: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(data, Mapping):
        return _expect(False, data, "a mapping", path, problems)
    known, hints = _fields(cls)
    before = len(problems)
    problems.extend(
        unknown_name("key", _join(path, key), {_join(path, name): 1 for name in known})
        for key in data
        if key not in known
    )
    values = {name: _build(hints[name], data[name], _join(path, name), problems) for name in known if name in data}
    problems.extend(
        f"{_join(path, name)} is missing" for name, field in known.items() if name not in data and _required(field)
    )
    if len(problems) > before:
        return None
    try:
        value = cls(**values)
    except UserError as error:
        problems.append(f"{path or 'the file'}: {error}")
        return None
    problems.extend(_join(path, problem) for problem in _own_problems(value))
    return value


@functools.cache
def _fields(cls: type) -> tuple[Mapping[str, Field[Any]], Mapping[str, Any]]:
    """The fields of a dataclass by name, and their types: Python parses the types from text each time it is asked."""
    return {field.name: field for field in fields(cls)}, typing.get_type_hints(cls)


def _own_problems(value: Any) -> list[str]:
    return list(value.problems()) if hasattr(value, "problems") else []


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
