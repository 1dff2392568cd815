"""A run that hides behind a function is measured as the run itself, as far as masks tell."""

from __future__ import annotations

import json
import sys

import nibabel
import numpy as np
import pytest

import voxward
from tests.end_to_end.build import composed
from voxward.cli import main
from voxward.core.yaml import dump_yaml

# These systems do not say what they were trained on.
pytestmark = pytest.mark.filterwarnings("ignore:nothing is known about which images")

MODULE = """
import voxward
run = voxward.open_system({run!r}, ["precision=fp32"])

def segment(volume):
    return run.labels.to_values(run.segment(volume).label)
"""


@pytest.fixture(scope="module")
def hidden(trained, tmp_path_factory):
    """The same weights twice: as a run, and behind a function."""
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "hides_a_run.py").write_text(MODULE.format(run=str(trained)))
    labels = {"background": 0, "organ a": 1, "organ b": 2, "lesion": 3}
    data = {"kind": "blackbox", "function": "hides_a_run:segment", "channels": ["MRI"], "labels": labels}
    path = folder / "box.yaml"
    path.write_text(dump_yaml({**data, "keeps_zero": True}))
    before = list(sys.path)
    yield path, composed(folder, "run", [trained], precision="fp32", name="real")
    sys.path[:] = before
    sys.modules.pop("hides_a_run", None)


def test_its_files_and_its_dice_are_those_of_the_run(hidden, phantoms, tmp_path):
    box, real = hidden
    scores = {}
    for path in hidden:
        out = tmp_path / path.stem
        assert main(["evaluate", str(path), str(phantoms), "--include-seen", "--out", str(out), "--trust"]) == 0
        scores[path] = json.loads((out / "metrics.json").read_text())["cases"]
    assert scores[box] == scores[real]
    assert main(["predict", str(box), str(phantoms), "--out", str(tmp_path / "p"), "--trust"]) == 0
    for file in (tmp_path / "run" / "predictions").glob("*.nii.gz"):
        one, other = nibabel.load(file), nibabel.load(tmp_path / "p" / file.name)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        np.testing.assert_array_equal(one.affine, other.affine)
    first = str(phantoms / "imagesTr" / "phantom_000.nii.gz")
    assert main(["predict", str(box), first, "--out", str(tmp_path / "q"), "--trust", "--save-probabilities"]) == 2
    pair = voxward.Trusted(box), real
    voxward.merge(*pair, out=tmp_path / "m", inputs=[first], owned_by_first=(1,), owned_by_second=(2, 3))
    one, other = (nibabel.load(tmp_path / place / "phantom_000.nii.gz") for place in ("m", "p"))
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


@pytest.mark.slow
def test_it_is_attacked_beside_the_run(hidden, phantoms, tmp_path, capsys):
    box, real = hidden
    few = [
        "--eps",
        "16/255",
        "--cases",
        "1",
        "--set",
        "budget.queries=15",
        "--set",
        "controls=[clip,noise]",
        "--dataset",
        str(phantoms),
    ]
    line = [str(real), str(box), *few, "--trust"]
    assert main(["attack", *line, "--out", str(tmp_path / "no")]) == 2
    assert "box is a black box" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    main(["attack", *line, "--protocol", "blackbox", "--out", str(tmp_path / "both")])
    read = [json.loads(path.read_text()) for path in sorted((tmp_path / "both" / "records").rglob("*.json"))]
    records = [one for entry in read for one in entry["records"]]
    found = {(one["model"], one["attack"]): one for one in records}
    for attack in ("clean", "clip", "noise"):
        assert found["box", attack]["deployed"] == found["real", attack]["deployed"]
    assert found["box", "square"]["forwards"] <= 18
    assert found["box", "square"]["adversarial"] == found["box", "square"]["deployed"]
    board = (tmp_path / "both" / "leaderboard.md").read_text()
    assert "answers with masks: box; with scores: real." in board


def test_a_function_in_three_lines(phantoms, tmp_path):
    def segment(volume):
        return volume.array[0] > np.percentile(volume.array, 80)

    system = voxward.blackbox_system(segment, labels=["background", "organ a"], channels=["MRI"])
    changes = ["cases=1", "budget.queries=5", "threat.eps=[8/255]", "controls=[]"]
    with pytest.raises(ValueError, match="not those of segment: the model has no value 2, 3"):
        voxward.attack(system, phantoms, protocol="blackbox", out=tmp_path / "x", overrides=changes)

    def whole(volume):
        return segment(volume) * np.uint8(1)

    labels = ["background", "organ a", "organ b", "lesion"]
    system = voxward.blackbox_system(whole, labels=labels, channels=["MRI"])
    found = voxward.attack(system, phantoms, protocol="blackbox", out=tmp_path / "y", overrides=changes)
    assert {record.model for record in found.records} == {"whole"}
