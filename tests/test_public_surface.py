import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import voxward
from voxward.cli import COMMANDS, parser


@pytest.mark.parametrize("name", [name for name in voxward.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(voxward, name))
    assert name in dir(voxward)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="create_network"):
        voxward.create_netwrk  # noqa: B018


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_and_its_function_take_the_same_arguments(command):
    sub = next(action for action in parser()._actions if action.dest == "command").choices[command]
    on_the_line = {action.dest for action in sub._actions} - {"help", "debug"}
    in_python = set(inspect.signature(getattr(voxward, command)).parameters) - {"progress"}
    assert on_the_line == in_python


def test_importing_voxward_is_quick():
    """No torch, no MONAI until something is used."""
    code = "import voxward, sys; print('torch' in sys.modules, 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
    ]


def _stub() -> tuple[dict[str, str], set[str]]:
    """What the typed surface says: the module of each name that it imports, and the names that it declares."""
    body = ast.parse(Path(voxward.__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    imports = [
        (statement, name) for statement in body if isinstance(statement, ast.ImportFrom) for name in statement.names
    ]
    assert all(name.asname == name.name for _, name in imports)  # a checker takes only `x as x` for public
    homes = {name.name: str(statement.module) for statement, name in imports}
    return homes, {s.target.id for s in body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}


def test_editors_see_the_same_surface():
    homes, declared = _stub()
    assert homes == voxward._HOMES | dict.fromkeys(voxward._ROOMS, "voxward")
    assert sorted([*homes, *declared - {"__all__"}]) == sorted(voxward.__all__)


def test_the_typed_surface_is_packaged():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("voxward = ["))
    assert {"__init__.pyi", "py.typed", "recipes/*.yaml", "protocols/*.yaml"} <= set(
        ast.literal_eval(line.split(" = ")[1])
    )
