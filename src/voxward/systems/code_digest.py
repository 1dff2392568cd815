"""What stands for a Python function in a fingerprint: its code, and the values that it holds."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from voxward.systems.digest import digest

# Objects in objects are followed so far: from a function over a system of voxward to its network.
_DEPTH = 16
_PLAIN = (bool, int, float, complex, str, bytes, Path, Enum, np.generic)


def code_digest(function: Callable[..., Any]) -> str:
    """Return a digest of a function's code, of the file that it was defined in, and of the values that it holds.

    It holds its default arguments, the arguments of a `functools.partial`, the attributes of an object that is called,
    the variables of an outer function that it uses, and the global variables of its module that it names: numbers,
    texts, arrays, networks with their weights, functions and objects of its own module, dataclasses, and containers of
    these. What it reads from files when it is called, and other modules, are not in the digest.

    Args:
        function: The function, or any other object that can be called.
    """
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    return digest(_described(function, (), getattr(inner, "__module__", None)))


def _described(value: Any, outer: tuple[int, ...], home: str | None) -> Any:
    """Return plain data that stands for a value.

    Args:
        value: The value.
        outer: The ids of the objects that it lies in, outermost first.
        home: The module whose functions and classes are looked into.
    """
    if value is None or isinstance(value, _PLAIN):
        return [type(value).__name__, repr(value)]
    if id(value) in outer or len(outer) > _DEPTH:
        return None
    inside = (*outer, id(value))
    if isinstance(value, Tensor | np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return sorted((repr(key), digest(_described(one, inside, home))) for key, one in value.items())
    if isinstance(value, set | frozenset):
        return sorted(digest(_described(one, inside, home)) for one in value)
    if isinstance(value, list | tuple):
        return [_described(one, inside, home) for one in value]
    return _code_of(value, inside, home)


def _code_of(value: Any, outer: tuple[int, ...], home: str | None) -> Any:
    """Plain data that stands for a function, a class, or an object with attributes."""
    parts: tuple[Any, ...]
    if isinstance(value, FunctionType | type):
        if value.__module__ != home:
            return _name(value)
        inside = _methods(value, outer, home) if isinstance(value, type) else _function(value, outer, home)
        return [_name(value), _content(value), *inside]
    if isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        parts = (value.__func__, value.__self__)
    elif isinstance(value, nn.Module):
        parts = (value.state_dict(), [(name, _name(type(one)), _own(one)) for name, one in value.named_modules()])
    elif is_dataclass(value):
        parts = ({one.name: getattr(value, one.name) for one in fields(value) if not one.name.startswith("_")},)
    elif hasattr(value, "__wrapped__"):  # such as a function with a cache
        parts = (value.__wrapped__,)
    else:
        parts = (_own(value),) if type(value).__module__ == home else ()
    return [_described(one, outer, home) for one in (type(value), *parts)]


def _name(code: Any) -> str:
    return f"{code.__module__}.{code.__qualname__}"


def _content(code: Any) -> str:
    """The digest of the file that a function or class was defined in; empty where there is none, as in a notebook."""
    try:
        return hashlib.sha256(Path(inspect.getfile(code)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


def _own(value: Any) -> dict[str, Any]:
    """The attributes of an object, but those that begin with an underscore, which may be caches."""
    found = {name: one for name, one in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    found.pop("training", None)
    return found


def _function(function: FunctionType, outer: tuple[int, ...], home: str | None) -> list[Any]:
    named = {name for code in _codes(function.__code__) for name in code.co_names}
    held = {name: one for name, one in function.__globals__.items() if name in named and not inspect.ismodule(one)}
    defaults = (function.__defaults__, function.__kwdefaults__)
    return [_bytes(function.__code__), _described((*defaults, _cells(function), held), outer, home)]


def _cells(function: FunctionType) -> dict[str, Any]:
    """The variables of outer functions that a function uses; those without a value yet are left out."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _methods(kind: type, outer: tuple[int, ...], home: str | None) -> list[Any]:
    own = {name: getattr(one, "__func__", one) for name, one in vars(kind).items()}
    return [[name, *_function(one, outer, home)] for name, one in sorted(own.items()) if isinstance(one, FunctionType)]


def _array(array: Tensor | np.ndarray) -> list[str]:
    found = [type(array).__name__, str(array.dtype)]
    try:
        values = array.detach().cpu().float().numpy() if isinstance(array, Tensor) else array
    except (RuntimeError, TypeError, ValueError):  # sparse, quantised, or without values yet
        return found
    known = values.dtype.kind in "biufc"
    return [
        *found,
        str(values.shape),
        hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() if known else "",
    ]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _bytes(code: CodeType) -> list[Any]:
    """Byte code with its constants, of inner functions too."""
    constants = [_bytes(one) if isinstance(one, CodeType) else _described(one, (), None) for one in code.co_consts]
    return [code.co_code.hex(), repr(code.co_names), constants]
