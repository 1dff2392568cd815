"""What was called is written as it can be called again."""

from __future__ import annotations

import ast
import shlex
from dataclasses import dataclass
from pathlib import Path

from voxward.core.choices import Output, Reading
from voxward.core.invocation import invocation, typed


def attack(systems, dataset, *, out=None, reading=Reading(), overrides=(), progress=None):
    """A command."""
    return invocation(attack, locals())


class Opened:
    name = "mine"

    def __repr__(self):
        return "<a system at 0x7f>"


def test_a_typed_command_has_its_quotes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["voxward", "attack", "my run", "--set", "threat.eps=[4/255, 8/255]"]
    with typed(words):
        found = attack("my run", "data")
    assert shlex.split(found.text) == words
    assert (found.python, found.folder) == (False, str(tmp_path))
    assert attack("my run", "data").python  # afterwards nothing is typed


def test_a_call_has_the_arguments_that_were_given():
    assert attack("run", Path("data"), overrides=["cases=3"], progress=print).text == (
        "voxward.attack(systems='run', dataset='data', overrides=['cases=3'])"
    )
    found = attack([Opened(), "run"], "data", out=Output("out", progress=print), reading=Reading(nan="zero"))
    assert found.text == (
        "# mine: an object of type Opened, called 'mine', made in Python before this call\n"
        "voxward.attack(systems=[mine, 'run'], dataset='data', out=voxward.Output(folder='out'), "
        "reading=voxward.Reading(nan='zero'))"
    )
    assert found.python
    assert found.arguments["systems"] == ["<mine>", "run"]


@dataclass(frozen=True, eq=False)
class Dumped:
    """An open system that is a dataclass, with much inside."""

    name: str
    weights: object


def test_what_an_open_system_holds_is_not_written_out_and_the_call_is_code():
    one, two = Dumped("my tool", object()), Dumped("my tool", object())
    text = attack([one, two, one, print], "data").text
    assert "weights" not in text
    assert "systems=[my_tool, my_tool_2, my_tool, print]" in text
    assert text.count("# ") == 3
    ast.parse(text)
