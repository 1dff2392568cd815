"""The rules of the house that can be read off the source. Each test fails with the list of the offenders."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "voxward"

FILE_LINES, FUNCTION_LINES, MEDIAN_LINES = 400, 60, 10
PARAMETERS, POSITIONAL_ARGUMENTS, POSITIONAL_OF_COMMANDS = 10, 7, 2
CHOICES = {"normalization": SOURCE / "data" / "normalization"}
"""A choice by name, and the only folder whose code may compare it with names."""


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}


@cache
def _all_nodes() -> list[tuple[Path, ast.AST]]:
    return [(path, node) for path, tree in _trees().items() for node in ast.walk(tree)]


def _place(path: Path, node: Any) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def _nodes(*kinds: type[ast.AST]) -> Iterator[tuple[Path, Any]]:
    return ((path, node) for path, node in _all_nodes() if isinstance(node, kinds))


def _functions() -> Iterator[tuple[Path, Any]]:
    return _nodes(ast.FunctionDef, ast.AsyncFunctionDef)


def _lines(function: Any) -> int:
    return int(function.end_lineno - function.lineno + 1)


def _body_lines(function: Any) -> int:
    """Lines between the docstring and the end."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return int(body[-1].end_lineno - body[0].lineno + 1) if body else 0


def _positional(function: Any) -> list[str]:
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]


def _parameters(function: Any) -> list[str]:
    names = [*_positional(function), *(argument.arg for argument in function.args.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _trees()}
    assert not ([f"{path.relative_to(ROOT)}: {n} lines" for path, n in lengths.items() if n > FILE_LINES])


def test_functions_fit_a_screen():
    assert not ([
        f"{_place(path, function)} {function.name}: {_lines(function)} lines"
        for path, function in _functions() if _lines(function) > FUNCTION_LINES
    ])  # fmt: skip


def test_most_functions_are_a_few_lines():
    lengths = [_body_lines(function) for _, function in _functions()]
    assert len(lengths) > 1000
    assert median(lengths) <= MEDIAN_LINES


def test_functions_take_few_parameters():
    """More belong into a frozen value."""
    assert not ([
        f"{_place(path, function)} {function.name}: {len(_parameters(function))} parameters"
        for path, function in _functions() if len(_parameters(function)) > PARAMETERS
    ])  # fmt: skip


def test_commands_are_keyword_only():
    """What a command acts on may be told by place; everything else is named."""
    assert not ([
        f"{_place(path, function)} {function.name}: {', '.join(_positional(function))}"
        for path, function in _functions()
        if path.parent.name == "commands" and function.name == path.stem
        and len(_positional(function)) > POSITIONAL_OF_COMMANDS
    ])  # fmt: skip


def test_nobody_calls_with_many_positional_arguments():
    assert not ([
        f"{_place(path, call)}: {len(call.args)} positional arguments"
        for path, call in _nodes(ast.Call) if len(call.args) > POSITIONAL_ARGUMENTS
    ])  # fmt: skip


def _compared(comparison: ast.Compare) -> set[str]:
    """The last names of what is compared by ==, != or in."""
    if not any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in comparison.ops):
        return set()
    sides = [comparison.left, *comparison.comparators]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    return names | {side.attr for side in sides if isinstance(side, ast.Attribute)}


def test_a_choice_is_asked_for_its_properties_not_for_its_name():
    assert not ([
        f"{_place(path, comparison)}: {ast.unparse(comparison)}"
        for path, comparison in _nodes(ast.Compare)
        for name, folder in CHOICES.items()
        if name in _compared(comparison) and not path.is_relative_to(folder)
    ])  # fmt: skip


def _modules(statement: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    return [f"{statement.module}.{alias.name}" for alias in statement.names]


def test_no_command_imports_a_command():
    assert not ([
        f"{_place(path, statement)}: {ast.unparse(statement)}"
        for path, statement in _nodes(ast.Import, ast.ImportFrom)
        if path.parent.name == "commands"
        and any(module.startswith("voxward.commands") for module in _modules(statement))
    ])  # fmt: skip


def test_files_are_called_by_what_they_hold():
    banned = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert not ([str(path) for top in (SOURCE, ROOT / "tests") for path in top.rglob("*.py") if path.name in banned])


def _raised(statement: ast.Raise) -> str:
    raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
    return raised.id if isinstance(raised, ast.Name) else ""


def test_errors_of_users_are_told_apart_from_bugs():
    """A ValueError of ours is a UserError; one of numpy's or torch's is a bug, and nothing turns it into another."""
    assert not (
        [_place(path, statement) for path, statement in _nodes(ast.Raise) if _raised(statement) == "ValueError"]
    )


def _without_zeros(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)


def _lower_bounds() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(
            line
            for extra in ("cluster", "corruptions", "dicom", "onnx", "ranger", "report", "search", "sitk", "test")
            for line in optional[extra]
        ),
    ]
    pairs = (re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,<[\w.]+)?", line) for line in asked)
    return {pair[1].lower(): _without_zeros(pair[2]) for pair in pairs if pair is not None}


def test_the_oldest_versions_that_are_tested_are_the_ones_that_are_admitted():
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").lower().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert {name: _without_zeros(version) for name, version in pins.items()} == _lower_bounds()
