"""The expressions of a bundle that are no code: numbers, texts and lists, and arithmetic with them.

An expression is parsed into a syntax tree, and only the kinds of node below are computed. Nothing is ever evaluated by
Python itself, so that an expression cannot call, import or look up anything.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from voxward.core.errors import UserError

_REFERENCE = re.compile(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)")
_MODULES = ("torch", "np", "numpy")
_KINDS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", "half", "float", "long")
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {"len": len, "int": int, "float": float}
# Names that MONAI has for texts.
_KEYS: Mapping[str, str] = {"IMAGE": "image", "LABEL": "label", "PRED": "pred", "LOSS": "loss", "METADATA": "metadata"}
_KEYS_OF = ("monai.utils.CommonKeys", "monai.utils.enums.CommonKeys", "CommonKeys")
# Longer texts, lists and numbers are no settings of a network; they could fill the memory.
_LONGEST = 10_000
_LARGEST = 10**15


class NotPlainError(Exception):
    """An expression is more than data; the message says what in it."""


def compute(text: str, look_up: Callable[[str], Any]) -> Any:
    """Compute an expression.

    Args:
        text: The expression, without the `$` before it.
        look_up: Returns the value of an item that the expression refers to.

    Returns:
        A number, text, boolean, None, or a list of such and of what `look_up` returns. A number type, such as
        `torch.float32`, is its name.

    Raises:
        NotPlainError: The expression holds something else, such as a call or a lambda.
    """
    if len(text) > _LONGEST:
        raise NotPlainError(f"it is longer than {_LONGEST} characters")
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        name = f"reference_{len(names)}_"
        names[name] = found.group(1)
        return f" {name} "

    try:
        tree = ast.parse(_REFERENCE.sub(named, text).strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise NotPlainError("it cannot be parsed") from error
    try:
        return _value(tree.body, lambda name: look_up(names[name]) if name in names else _refuse(f"the name {name!r}"))
    except NotPlainError as error:
        said = re.sub(r"reference_\d+_", lambda found: "@" + names[found.group()], str(error))
        raise NotPlainError(said) from None
    except UserError:  # of an item that is referred to
        raise
    except RecursionError as error:
        raise NotPlainError("it is nested too deeply") from error
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise NotPlainError(f"it cannot be computed: {error}") from error


def _value(node: ast.expr, look_up: Callable[[str], Any]) -> Any:
    if isinstance(node, ast.Constant):
        return _constant(node)
    if isinstance(node, ast.Name):
        return look_up(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each, look_up) for each in node.elts]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand, look_up))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _bounded(_BINARY[type(node.op)], _value(node.left, look_up), _value(node.right, look_up))
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, look_up) else node.orelse, look_up)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
        return _compared(_COMPARED[type(node.ops[0])], *(_value(n, look_up) for n in (node.left, *node.comparators)))
    if isinstance(node, ast.Call):
        return _call(node, look_up)
    if isinstance(node, ast.Attribute):
        return _named(node)
    return _refuse(_what(node))


def _constant(node: ast.Constant) -> Any:
    if isinstance(node.value, int | float | str | bool | None):
        return node.value
    return _refuse(f"the constant {node.value!r}")


def _bounded(apply: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Refuses a product that would fill the memory before it is computed."""
    sizes = [len(side) for side in (left, right) if isinstance(side, list | str)]
    if apply is operator.mod and isinstance(left, str):
        _refuse("a formatted text")
    if apply is operator.mul and sizes:
        times = right if isinstance(left, list | str) else left
        if not isinstance(times, int) or sizes[0] * abs(times) > _LONGEST:
            _refuse("a product that is too long")
    found = apply(left, right)
    if isinstance(found, list | str) and len(found) > _LONGEST:
        _refuse("a list that is too long")
    if isinstance(found, int) and abs(found) > _LARGEST:
        _refuse("a number that is too large")
    return found


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """Compares single values; a list may hold references, which are not what they refer to."""
    if isinstance(left, list | Mapping) or isinstance(right, list | Mapping):
        _refuse("a comparison of lists")
    return compare(left, right)


def _call(node: ast.Call, look_up: Callable[[str], Any]) -> Any:
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == "to" and isinstance(function.value, ast.Name):
        return look_up(function.value.id)  # where a network computes is the user's choice
    if isinstance(function, ast.Name) and function.id in _FUNCTIONS and len(node.args) == 1 and not node.keywords:
        return _FUNCTIONS[function.id](_value(node.args[0], look_up))
    return _refuse(_what(node))


def _named(node: ast.Attribute) -> str:
    owner = ast.unparse(node.value)
    if owner in _MODULES and node.attr in _KINDS:
        return node.attr
    if owner in _KEYS_OF and node.attr in _KEYS:
        return _KEYS[node.attr]
    _refuse(_what(node))


def _what(node: ast.expr) -> str:
    kinds = {"Call": "a call", "Lambda": "a lambda", "Attribute": "an attribute", "Subscript": "an index"}
    return f"{kinds.get(type(node).__name__, type(node).__name__)}, {ast.unparse(node)[:80]!r}"


def _refuse(what: str) -> NoReturn:
    raise NotPlainError(f"it holds {what}")
