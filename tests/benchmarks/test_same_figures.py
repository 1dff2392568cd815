"""Two folders of results are compared item by item, whatever format their records have."""

import json
import math

import numpy as np
import pytest
import torch
from benchmarks.same_figures import compare, difference, main
from safetensors.torch import save_file

from tests.robustness.books import record
from voxward.core.document import with_format
from voxward.data.io import write_image


def results(root, weight=1.0, voxel=3, dice=0.5, seconds=2.0, **others):
    """One file of each kind; `others` are fields of the record."""
    (root / "run").mkdir(parents=True)
    (root / "attack" / "records").mkdir(parents=True)
    save_file({"w": torch.tensor([weight, math.nan]), "n": torch.tensor(3)}, root / "run" / "best.safetensors")
    write_image(root / "case.nii.gz", np.full((2, 3, 4), voxel, np.int16), np.eye(4))
    entry = record("x", "a", (dice, None), seconds=seconds, **others).to_data()
    (root / "attack" / "records" / "unit.json").write_text(json.dumps([entry]))
    return root


def in_todays_format(root):
    path = root / "attack" / "records" / "unit.json"
    path.write_text(json.dumps(with_format({"records": json.loads(path.read_text())})))


def test_equal_results_of_two_versions(tmp_path, capsys):
    """Time and version may differ, and version 0.1 wrote records as a list."""
    old = results(tmp_path / "old")
    new = results(tmp_path / "new", seconds=9.0, version="1", torch="3", system="abc")
    in_todays_format(new)
    assert main([str(old), str(new)]) == 0
    weights, volumes, records = capsys.readouterr().out.splitlines()
    assert weights == "weights: 2 of 2 tensors equal, largest difference 0"
    assert volumes == "volumes: 2 of 2 arrays equal, largest difference 0"
    assert records.startswith("records: ")
    assert records.endswith(" fields equal, largest difference 0")


@pytest.mark.parametrize(
    ("place", "changed", "largest"),
    [
        (0, {"weight": 1.25}, 0.25),
        (1, {"voxel": 5}, 2.0),
        (2, {"dice": 0.625}, 0.125),
        (2, {"device": "cuda"}, math.inf),
    ],
)
def test_what_differs_is_counted_and_named(tmp_path, capsys, place, changed, largest):
    old, new = results(tmp_path / "old"), results(tmp_path / "new", **changed)
    found = compare(old, new)
    assert [comparison.total - comparison.equal for comparison in found] == [int(n == place) for n in range(3)]
    assert found[place].largest == largest
    assert main([str(old), str(new)]) == 1
    assert found[place].differing[0] in capsys.readouterr().out


def test_what_only_one_folder_has_differs(tmp_path):
    old, new = results(tmp_path / "old"), results(tmp_path / "new")
    (new / "case.nii.gz").unlink()
    _, volumes, _ = compare(old, new)
    assert (volumes.equal, volumes.total, volumes.largest) == (0, 2, math.inf)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (np.float32([1, math.nan]), np.float32([1, math.nan]), 0.0),
        (np.float32([1, math.nan]), np.float32([1, 2]), math.inf),
        (np.float32([math.inf]), np.float32([math.inf]), 0.0),
        (np.float32([1]), np.float64([1]), math.inf),
        (np.uint8([1]), np.uint8([3]), 2.0),
        (np.zeros(2), np.zeros(3), math.inf),
        ([0.1, None], [0.1, None], 0.0),
        ([0.1, None], [0.1, 0.0], math.inf),
        ({"steps": 5}, {"steps": 7}, 2.0),
        (True, 1, math.inf),
        ("a", "b", math.inf),
    ],
)
def test_difference(one, other, expected):
    assert difference(one, other) == difference(other, one) == expected


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither"):
        compare(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        compare(tmp_path / "none", tmp_path)
