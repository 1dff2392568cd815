import inspect
import subprocess
import sys

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
    on_the_line = {action.dest for action in sub._actions} - {"help"}
    in_python = set(inspect.signature(getattr(voxward, command)).parameters) - {"progress"}
    assert on_the_line == in_python


def test_importing_voxward_is_quick():
    """No torch, no MONAI until something is used."""
    code = "import voxward, sys; print('torch' in sys.modules, 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
    ]
