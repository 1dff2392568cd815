"""A black box that a `system.yaml` names: its module is imported only where the user says so."""

from __future__ import annotations

import numpy as np
import pytest

import voxward
from tests.systems.test_blackbox import LABELS, indices, scan
from voxward.core.errors import UserError
from voxward.core.yaml import dump_yaml
from voxward.systems.open import compose_system, open_system

MODULE = """
from pathlib import Path
import numpy as np
Path(__file__).with_name("canary").touch()

def segment(volume):
    return np.where(volume.array[0] > 100, 5, np.where(volume.array[0] > 0, 2, 0))

class Tool:
    def __call__(self, volume):
        return segment(volume)

tool = Tool()
number = 3
"""


@pytest.fixture
def module(write_module):
    return write_module(MODULE)


def described(folder, function, **entries):
    data = {"format": 1, "kind": "blackbox", "function": function, "channels": ["CT"], "labels": LABELS, **entries}
    path = folder / "tool.yaml"
    path.write_text(dump_yaml(data))
    return path


@pytest.mark.parametrize("attribute", ["segment", "tool"])
def test_a_function_beside_the_file(tmp_path, module, attribute):
    system = open_system(described(tmp_path, f"{module}:{attribute}"), ["keeps_zero=true"], trust=True)
    assert (system.name, system.channels, system.labels.values) == ("tool", ("CT",), (0, 2, 5))
    np.testing.assert_array_equal(system.segment(scan()).label, indices(scan().array[0]))
    assert system.ranges(scan())[0].keeps_zero


def test_nothing_runs_without_trust(tmp_path, module):
    path = described(tmp_path, f"{module}:segment")
    with pytest.raises(UserError, match=rf"{module}:segment is a Python function.*--trust"):
        open_system(path)
    outer = tmp_path / "both.yaml"
    outer.write_text(dump_yaml({"kind": "cascade", "coarse": "tool.yaml", "fine": "tool.yaml", "localise_only": True}))
    with pytest.raises(UserError, match="--trust"):
        voxward.predict(outer, [tmp_path], out=tmp_path / "out")
    with pytest.raises(UserError, match="unknown key 'trust'"):
        open_system(described(tmp_path, f"{module}:segment", trust=True))
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("MODULE:nothing", "there is no 'nothing'"),
        ("MODULE:number", "must be a function"),
        ("MODULE:Tool", "must be a function"),
        ("no_such_module_x:segment", "no_such_module_x cannot be imported from"),
        ("MODULE.py", "is named module:function"),
        ("../MODULE:segment", "is named module:function"),
    ],
)
def test_what_is_no_function_is_refused(tmp_path, module, function, message):
    with pytest.raises(UserError, match=message):
        open_system(described(tmp_path, function.replace("MODULE", module)), trust=True)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"labels": {"organ": 1}}, "background"),
        ({"labels": {"background": 0}}, "at least one foreground class"),
        ({"channels": []}, "at least one channel"),
        ({"intensities": [[0, 1], [0, 1]]}, r"one \[low, high\] for each channel \(CT\), got 2"),
        ({"intensities": [[3, 1]]}, "low < high"),
        ({"margin": 3}, "unknown key 'margin'"),
    ],
)
def test_entries_that_cannot_be_are_refused(tmp_path, module, entries, message):
    with pytest.raises(UserError, match=message):
        open_system(described(tmp_path, f"{module}:segment", **entries), trust=True)


def test_regions_are_declared_as_in_nnunet(tmp_path, module):
    labels = {"background": 0, "whole": [2, 5], "lesion": [5]}
    system = open_system(described(tmp_path, f"{module}:segment", labels=labels), trust=True)
    assert system.labels.scored == ("lesion", "whole")


def test_compose_says_that_it_is_written_by_hand(tmp_path):
    with pytest.raises(UserError, match="by hand"):
        compose_system("blackbox", [tmp_path], tmp_path / "x.yaml")
