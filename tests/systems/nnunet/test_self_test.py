"""`voxward check --system`: what a fold predicts here against the masks that lie in its folder."""

from __future__ import annotations

import shutil

import pytest

import voxward
from tests.conftest import DATA
from tests.systems.nnunet.build import FIXTURES, HIPPOCAMPUS, results
from tests.systems.nnunet.raw import raw, silent, validated
from voxward.cli import main
from voxward.core.choices import Reading
from voxward.core.errors import UserError
from voxward.phantoms.write import write_phantoms
from voxward.systems.self_test import stored_of

IDS = ("a", "b", "c", "d")


@pytest.fixture
def model(tmp_path):
    """Two folds that held out two cases each."""
    folder = results(tmp_path / "Dataset999_Tiny" / "trainer", folds=(0, 1), mirrors=(0, 2))
    validated(folder, 0, IDS[:2], (0, 1))
    validated(folder, 1, IDS[2:], (2, 3))
    return folder


@pytest.fixture
def data(tmp_path):
    return raw(tmp_path / "raw", IDS)


def counted(found):
    return [(each.part, each.case, each.unlike, each.voxels) for each in found.cases]


def test_each_fold_is_compared_alone_and_mirrored_whatever_is_deployed(model, data):
    found = voxward.check_system(model, data, overrides=["tta=none"], device="cpu")
    voxels = 11 * 16 * 13
    assert counted(found) == [("fold_0", "a", 0, voxels), ("fold_0", "b", 0, voxels),
                              ("fold_1", "c", 0, voxels), ("fold_1", "d", 0, voxels)]  # fmt: skip
    assert (found.ok, found.unlike, found.voxels, found.without_image) == (True, 0, 4 * voxels, ())


def test_voxels_that_differ_are_counted_and_are_no_parity(tmp_path, data, capsys):
    folder = results(tmp_path / "r")
    validated(folder, 0, IDS[:3], (0, 1, 2), wrong=5)
    assert main(["check", str(data), "--system", str(folder), "--cases", "2", "--device", "cpu"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert f"fold_0 a 5 of {11 * 16 * 13} voxels unlike fold_0 b 5 of" in out
    assert f"total: 10 of {2 * 11 * 16 * 13} voxels unlike in 2 cases: no parity. 2 cases differ, by 0.2185 %" in out


def test_equal_masks_are_said_to_be_equal(model, data, capsys):
    assert main(["check", "--system", str(model), "--dataset", str(data), "--cases", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "voxels unlike in 2 cases: equal to the stored masks" in out
    assert " b " not in out


def test_masks_without_an_image_are_named(model, tmp_path, capsys):
    some = raw(tmp_path / "some", IDS[:1])
    assert main(["check", str(some), "--system", str(model), "--device", "cpu"]) == 0
    assert "3 masks have no image in the dataset: fold_0 b, fold_1 c, fold_1 d" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"has no image of any case that .* has masks of: a, b"):
        voxward.check_system(model, raw(tmp_path / "others", ["x"]), device="cpu")


def test_another_image_of_the_same_id_is_no_parity(model, tmp_path):
    other = raw(tmp_path / "other", IDS, shape=(11, 16, 12))
    found = voxward.check_system(model, other, cases=1, device="cpu")
    assert not found.ok
    assert not found.cases
    assert "fold_0 a: its image has shape (11, 16, 12)" in found.failed[0]
    assert "it is another image" in found.failed[0]
    with pytest.raises(UserError, match="another image"):
        voxward.check_system(model, other, cases=1, device="cpu", reading=Reading(fail_fast=True))


def test_a_case_that_cannot_be_compared_is_no_parity(model, data, capsys):
    (model / "fold_0/validation/a.nii.gz").write_bytes(b"no volume")
    assert main(["check", str(data), "--system", str(model), "--cases", "1", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "not compared: fold_0 a: " in out
    assert "no parity, because cases could not be compared" in out


@pytest.mark.parametrize("how", ["no masks", "zip", "names only"])
def test_a_model_without_masks_of_its_tool_says_so(model, data, tmp_path, how):
    path = model
    if how == "zip":
        path = shutil.make_archive(str(tmp_path / "model"), "zip", model.parent.parent, model.parent.name)
    for fold in (0, 1) if how != "zip" else ():
        for mask in (model / f"fold_{fold}/validation").glob("*.nii.gz"):
            mask.unlink()
        if how == "no masks":
            shutil.rmtree(model / f"fold_{fold}/validation")
    with pytest.raises(UserError, match="no masks of the tool that made it"):
        voxward.check_system(path, data, device="cpu")


def test_a_kind_of_system_without_masks_says_so(model):
    with pytest.raises(UserError, match="Dataset999_Tiny-3d_fullres comes with no masks"):
        stored_of(silent(model))


def test_what_belongs_to_a_model_is_refused_without_one(data, capsys):
    for words in (["--cases", "0"], ["--set", "folds=[0]"], ["--device", "cpu"]):
        assert main(["check", str(data), *words]) == 2
        assert "give one with --system" in " ".join(capsys.readouterr().err.split())
    assert main(["check"]) == 2
    assert main(["check", str(data), "--dataset", str(data)]) == 2
    assert main(["check", str(data), "--system", "nowhere"]) == 2


def test_a_dataset_is_checked_by_its_name_as_well(tmp_path, capsys):
    write_phantoms(tmp_path / "p", cases=2, size=16)
    assert main(["check", str(tmp_path / "p")]) == main(["check", "--dataset", str(tmp_path / "p")]) == 0
    assert capsys.readouterr().out.count("2 cases read: no problems") == 2


@pytest.mark.parametrize("count", [0, -1])
def test_at_least_one_case_is_compared(model, data, count):
    with pytest.raises(UserError, match="cases must be at least 1"):
        voxward.check_system(model, data, cases=count, device="cpu")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"there is no folder {FIXTURES}")
def test_masks_of_nnunet_itself_are_equal():
    found = voxward.check_system(HIPPOCAMPUS, DATA / "Task04_Hippocampus", cases=2, device="cpu")
    assert [each.part for each in found.cases] == ["fold_0"] * 2 + ["fold_1"] * 2
    assert found.ok, counted(found)
