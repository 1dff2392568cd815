"""A model on files whose channels lie in another order than it was trained on: one name, one channel, everywhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import voxward
from tests.end_to_end.conftest import TINY
from voxward.core.choices import Change, Reading
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_image, write_label

BRATS = ("t1", "t1ce", "t2", "flair")
DECATHLON = ("FLAIR", "T1w", "t1gd", "T2w")
IN_BRATS = (3, 0, 1, 2)  # where the Decathlon's channels stand in a BraTS folder
MOVED = r"t1, t1ce, t2, flair are put into the model's order flair, t1, t1ce, t2"


def as_decathlon(source: Path, root: Path, order=IN_BRATS, names=DECATHLON) -> Path:
    """The cases of a BraTS folder as one file each, with channels of these numbers and names."""
    entries = []
    for case in open_dataset(source).cases:
        image, label = read_image(case.images), read_label(case.label)
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        write_image(root / f"imagesTr/{case.id}.nii.gz", image.array[list(order)], image.affine)
        write_label(root / f"labelsTr/{case.id}.nii.gz", label.array, label.affine)
        entries.append({"image": f"imagesTr/{case.id}.nii.gz", "label": f"labelsTr/{case.id}.nii.gz"})
    description = {
        "name": root.name, "modality": dict(enumerate(names)), "training": entries,
        "labels": {"0": "background", "1": "NCR", "2": "ED", "4": "ET"},
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(description))
    return root


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    root = tmp_path_factory.mktemp("brain") / "brats"
    voxward.write_phantoms(root, 4, size=16, kind="brain")
    return root


@pytest.fixture(scope="module")
def decathlon(brats):
    return as_decathlon(brats, brats.parent / "decathlon")


@pytest.fixture(scope="module")
def run(decathlon):
    overrides = (*TINY, "training.epochs=1", "network.options.filters=[4,8]", "preparation.planner=fixed",
                 "preparation.patch_size=[16,16,16]")  # fmt: skip
    return voxward.train(decathlon, out=decathlon.parent / "run", recipe="dynunet", overrides=overrides)


@pytest.fixture(scope="module")
def expected(run, decathlon, tmp_path_factory):
    """The predictions of the data that the model was trained on, in its own order: without a word."""
    return masks(voxward.predict(run, decathlon, out=tmp_path_factory.mktemp("own")))


def masks(files):
    return {path.name.split(".")[0]: read_label(path).array for path in files}


def same(found, expected):
    assert found.keys() == expected.keys()
    for id, mask in expected.items():
        np.testing.assert_array_equal(found[id], mask)
    assert len(np.unique(np.stack(list(expected.values())))) > 1


def test_the_order_matters(run, decathlon, expected, tmp_path):
    """So that equal predictions below mean something."""
    wrong = as_decathlon(decathlon.parent / "brats", tmp_path / "wrong", order=(0, 1, 2, 3))
    found = masks(voxward.predict(run, wrong, out=tmp_path / "out"))
    assert any((found[id] != mask).any() for id, mask in expected.items())


@pytest.mark.parametrize("inputs", ["", "imagesTr"])
def test_predict_puts_channels_into_the_models_order(run, brats, expected, tmp_path, inputs):
    same(masks(voxward.predict(run, brats.parent / "decathlon" / inputs, out=tmp_path / "own")), expected)
    other = as_decathlon(brats, tmp_path / "other", (2, 1, 3, 0), ("T2", "T1-CE", "T2-FLAIR", "T1n"))
    with pytest.warns(UserWarning, match="T2, T1-CE, T2-FLAIR, T1n are put into the model's order T2-FLAIR, T1n"):
        same(masks(voxward.predict(run, other / inputs, out=tmp_path / "out")), expected)


def test_files_per_channel_are_put_into_order(run, brats, expected, tmp_path):
    with pytest.warns(UserWarning, match=MOVED):
        same(masks(voxward.predict(run, brats, out=tmp_path)), expected)


def test_only_the_channels_of_the_model_are_taken_of_more(run, brats, expected, tmp_path):
    more = as_decathlon(brats, tmp_path / "more", (2, 3, 0, 0, 1), ("T2", "FLAIR", "ADC", "T1", "T1ce"))
    with pytest.warns(UserWarning, match="the model takes FLAIR, T1, T1ce, T2, by their names"):
        same(masks(voxward.predict(run, more, out=tmp_path / "out")), expected)


def test_bare_files_are_assumed_to_be_in_order_and_said_once(run, brats, expected, tmp_path):
    bare = as_decathlon(brats, tmp_path / "bare") / "imagesTr"
    (bare.parent / "dataset.json").unlink()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        same(masks(voxward.predict(run, bare, out=tmp_path / "out")), expected)
    assert [str(entry.message) for entry in told] == [
        f"{bare} does not name its channels: they are taken to be FLAIR, T1w, t1gd, T2w, in this order; say what the "
        "files hold with --channels (Python: Reading), for example --channels FLAIR,T1w,t1gd,T2w"
    ]
    moved = as_decathlon(brats, tmp_path / "moved", (0, 1, 2, 3)) / "imagesTr"
    with pytest.warns(UserWarning, match="put into the model's order"):
        found = voxward.predict(run, moved, out=tmp_path / "out_moved", reading=Reading(channels=BRATS))
    same(masks(found), expected)


def test_other_channels_are_refused_before_anything_is_written(run, brats, tmp_path):
    other = as_decathlon(brats, tmp_path / "other", names=("FLAIR", "T1w", "ADC", "T2w"))
    with pytest.raises(ValueError, match=r"has the channels FLAIR, T1w, ADC, T2w, but the model takes .*no t1gd"):
        voxward.predict(run, other, out=tmp_path / "out")
    with pytest.raises(ValueError, match="there is no t1gd"):
        voxward.evaluate(run, other, out=tmp_path / "out")
    with pytest.raises(ValueError, match="there is no t1gd"):
        voxward.attack(run, other, out=tmp_path / "out", protocol="quick")
    assert not (tmp_path / "out").exists()


def test_the_scores_are_those_of_the_models_own_order(run, decathlon, tmp_path):
    own = voxward.evaluate(run, out=tmp_path / "own")
    moved = as_decathlon(decathlon.parent / "brats", tmp_path / "moved", (0, 1, 2, 3), BRATS)
    with pytest.warns(UserWarning, match=MOVED):
        found = voxward.evaluate(run, moved, out=tmp_path / "out")
    scores = {case.id: case for case in found.cases}
    assert [scores[case.id] for case in own.cases] == list(own.cases)


def test_an_attack_finds_the_same_in_another_order(run, brats, decathlon, tmp_path):
    overrides = ["attacks=[fgsm-ce]", "controls=[]", "cases=1", "threat.eps=[4/255]"]
    own = voxward.attack(run, decathlon, out=tmp_path / "own", protocol="quick", overrides=overrides)
    moved = as_decathlon(brats, tmp_path / "decathlon", (0, 1, 2, 3), BRATS)
    with pytest.warns(UserWarning, match=MOVED):
        found = voxward.attack(run, moved, out=tmp_path / "moved", protocol="quick", overrides=overrides)
    assert [record.clean for record in found.records] == [record.clean for record in own.records]
    assert [record.adversarial for record in found.records] == [record.adversarial for record in own.records]


def test_a_run_goes_on_with_files_in_another_order(run, brats, tmp_path):
    """The images that a hardened run learns from are those of the run that it begins with."""
    moved = as_decathlon(brats, tmp_path / "decathlon", (0, 1, 2, 3), BRATS)
    with pytest.warns(UserWarning, match=MOVED):
        hardened = voxward.harden(run, out=tmp_path / "hardened", method="pgd", change=Change(dataset=moved),
                                  overrides=["training.epochs=1", "defence.steps=1"])  # fmt: skip
    for folder in (run / "prepared").iterdir():
        if folder.is_dir():
            name = f"prepared/{folder.name}"
            one, other = (stored(root / name) for root in (run, hardened))
            np.testing.assert_array_equal(one, other)


def stored(folder: Path):
    import blosc2

    return blosc2.open(str(folder / "image.b2nd"))[:]
