import inspect
import subprocess
import sys
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

import voxward
from voxward.cli import COMMANDS, parser
from voxward.core import choices


@pytest.mark.parametrize("name", [name for name in voxward.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(voxward, name))
    assert name in dir(voxward)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="create_network"):
        voxward.create_netwrk  # noqa: B018


# What a group of choices holds that a command has no use for, and refuses.
UNUSED = {"search": {"start", "devices"}}


def _parameters(function):
    """The names of a function's parameters, and of the fields of those that are a group of choices."""
    for name, kind in get_type_hints(function).items():
        groups = [k for k in (kind, *get_args(kind)) if getattr(k, "__module__", "") == choices.__name__]
        names = [field.name for group in groups for field in fields(group)]
        # The folder of an Output is the parameter itself.
        yield from [name if n == "folder" else n for n in names] or [name]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_and_its_function_take_the_same_arguments(command):
    sub = next(action for action in parser()._actions if action.dest == "command").choices[command]
    on_the_line = {action.dest for action in sub._actions} - {"help"}
    in_python = {*_parameters(getattr(voxward, command))} - {"progress", "return"} - UNUSED.get(command, set())
    # Adversarial training is a part of the recipe, which `--defence` switches on.
    assert on_the_line - {"defence"} == in_python


@pytest.mark.parametrize("command", ["check", "plan", "prepare", "train", "harden", "search", "suspects"])
def test_commands_have_few_parameters_and_these_are_named(command):
    parameters = list(inspect.signature(getattr(voxward, command)).parameters.values())
    assert len(parameters) <= 10
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[1:])


def test_importing_voxward_is_quick():
    """No torch, no MONAI until something is used; choices that come from a registry are read when they are needed."""
    code = "import voxward.cli as c, sys; c.parser(); print('torch' in sys.modules, 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
    ]
