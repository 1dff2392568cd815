import ast
import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import voxward
from voxward.cli import COMMANDS, parser
from voxward.core import choices, job, strategy
from voxward.metrics.policies import Scoring


@pytest.mark.parametrize("name", [name for name in voxward.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(voxward, name))
    assert name in dir(voxward)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="create_network"):
        voxward.create_netwrk  # noqa: B018


CLUSTER = ("address", "resources", "attempts")
# What a group of choices holds that a command has no use for, and refuses.
UNUSED = {
    **{command: set(CLUSTER) for command in ("harden", "train")},
    "search": {"start", "devices", "nodes"},
    "suite": {"devices", "nodes"},
    "cv": {"fold", "devices", "nodes", "exclude", "nsd_tolerance_mm", "nsd"},
    # Single cases are named by a suite, or a script.
    "attack": {"ids"},
    "evaluate": {"devices", "nodes", "ids", *CLUSTER},
    "check": {"channels"},
    "export": {"trust"},
    "to-dicom": {"report"},
    "prepare": {"channels"},
}
# Short forms of `--set`, and a list that is printed instead of an attack.
SHORT = {
    "attack": {"eps", "attacks", "cases", "listed", "reference_system"},
    # `voxward.check_system`, and a name for the dataset.
    "check": {"system", "cases", "overrides", "device", "labelled"},
    # `voxward.evaluate_segmentations`, and a name for the dataset where there is no system before it.
    "evaluate": {"segmentations", "labelled"},
    **{command: {"nan", "affine_tolerance"} for command in ("cv", "plan", "search", "train")},
}
ALIASES = {"benchmark"}
# `voxward.report` is the package of everything that is shown.
FUNCTIONS = {"report": "write_report", "from-dicom": "from_dicom", "to-dicom": "to_dicom", "from-masks": "from_masks"}


GROUPS = {choices.__name__, job.__name__, strategy.__name__, Scoring.__module__}


def _parameters(function):
    """The names of a function's parameters, and of the fields of those that are a group of choices."""
    for name, kind in get_type_hints(function).items():
        groups = [k for k in (kind, *get_args(kind)) if getattr(k, "__module__", "") in GROUPS]
        names = [name for group in groups for name in _names(group)]
        # The folder of an Output, and the system that is trusted, is the parameter itself.
        yield from [name if n in ("folder", "system") else n for n in names] or [name]


def _names(group):
    """The fields of a group of choices; the cluster of a `Compute` is a group itself."""
    return [name for each in fields(group) for name in (CLUSTER if each.name == "cluster" else (each.name,))]


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - ALIASES))
def test_a_command_and_its_function_take_the_same_arguments(command):
    sub = next(action for action in parser()._actions if action.dest == "command").choices[command]
    on_the_line = {action.dest for action in sub._actions} - {"help", "debug"}
    in_python = (
        {*_parameters(getattr(voxward, FUNCTIONS.get(command, command)))}
        - {"progress", "return"}
        - UNUSED.get(command, set())
    )
    # Adversarial training is a part of the recipe, which `--defence` switches on.
    assert on_the_line - {"defence"} - SHORT.get(command, set()) == in_python


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_have_few_parameters_and_these_are_named(command):
    parameters = list(inspect.signature(getattr(voxward, FUNCTIONS.get(command, command))).parameters.values())
    assert len(parameters) <= 10
    assert all(parameter.kind is not parameter.POSITIONAL_OR_KEYWORD for parameter in parameters[2:])


def test_importing_voxward_is_quick():
    """No torch, no MONAI until something is used; choices that come from a registry are read when they are needed."""
    code = "import voxward.cli as c, sys; c.parser(); print('torch' in sys.modules, 'monai' in sys.modules)"
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
