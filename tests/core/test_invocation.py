"""What was called is written as it can be called again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch

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
        "voxward.attack(systems=[<mine>, 'run'], dataset='data', out=voxward.Output(folder='out'), "
        "reading=voxward.Reading(nan='zero'))"
    )
    assert found.python


def test_an_object_of_the_script_is_named_and_not_written_out():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3))

    @dataclass(frozen=True, eq=False)
    class System:
        name: str
        network: torch.nn.Module

    assert attack([System("mine", network), network], {"a": 1}).text == (
        "voxward.attack(systems=[<mine>, <Sequential>], dataset={'a': 1})"
    )
