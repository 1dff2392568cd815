"""One bad case among many: the others are done, the bad one is named, and no mean over fewer cases looks complete."""

import errno
import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

import voxward
from tests.end_to_end.build import changes
from tests.end_to_end.conftest import TINY
from voxward.cli import main
from voxward.core.choices import Reading
from voxward.core.errors import CasesFailed
from voxward.core.plan import load_plan
from voxward.data.formats import open_dataset
from voxward.data.io import read_image
from voxward.runs.folder import RunFolder
from voxward.systems.run import RunSystem

# A spoilt validation case is no longer the image that the run knows.
pytestmark = pytest.mark.filterwarnings("ignore:1 validation cases in .* have other images:UserWarning")

QUICK = {"threat.eps": [8 / 255], "attacks": ["fgsm-ce"], "controls": [], "budget.steps": 1}


def rewritten(path, change):
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


def with_nan(array):
    array = array.astype(np.float32)
    array[:2] = np.nan
    return array


FAULTS = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:300]), "truncated"),
    "no volume": (lambda path: path.write_bytes(b"not a volume"), "no volume|corrupt"),
    "missing": (lambda path: path.unlink(), "no file"),
    "NaN": (lambda path: rewritten(path, with_nan), "voxels hold NaN.*--nan zero"),
    "infinite": (lambda path: rewritten(path, lambda a: np.where(a > a.mean(), np.inf, a)), "voxels are infinite"),
    "channels": (lambda path: rewritten(path, lambda a: np.stack([a, a], -1)), "takes 1 channels"),
}


@pytest.fixture
def copied(phantoms, tmp_path):
    """The dataset, and the image and label of one validation case."""
    shutil.copytree(phantoms, tmp_path / "copy" / phantoms.name)
    return open_dataset(tmp_path / "copy" / phantoms.name)


@pytest.fixture
def validation(trained):
    return json.loads(RunFolder(trained).splits.read_text())["validation"]


@pytest.mark.parametrize("fault", FAULTS)
def test_predict_goes_on(copied, trained, tmp_path, capsys, fault):
    spoil, reason = FAULTS[fault]
    images = [case.images[0] for case in copied.cases[:3]]
    spoil(images[1])
    given = images if fault != "missing" else [images[0].parent.parent]  # a missing file that a dataset declares
    with pytest.raises(CasesFailed, match=f"(?i){reason}") as caught:
        voxward.predict(trained, given, out=tmp_path / "out")
    (failure,) = caught.value.failures
    assert failure.case == copied.cases[1].id
    written = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert written == {path.name for path in caught.value.result}
    assert images[1].name not in written
    assert images[0].name in written
    assert images[2].name in written
    assert main(["predict", str(trained), *map(str, given), "--out", str(tmp_path / "line"), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert f"{failure.case}: " in said
    assert images[1].name in said
    words = ["predict", str(trained), *map(str, given), "--out", str(tmp_path / "fast"), "--fail-fast"]
    assert main(words) == 2


def test_nothing_left_is_an_error(copied, trained, tmp_path):
    image = copied.cases[0].images[0]
    image.write_bytes(b"")
    assert main(["predict", str(trained), str(image), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2


def test_a_full_disk_and_a_bug_end_the_work(copied, trained, tmp_path, monkeypatch):
    images = [case.images[0] for case in copied.cases[:3]]

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("voxward.systems.predict.write_label", full)
    with pytest.raises(OSError, match="No space left"):
        voxward.predict(trained, images, out=tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(RunSystem, "segment", lambda *_, **__: {}["bug"])
    with pytest.raises(KeyError):
        voxward.predict(trained, images, out=tmp_path / "out")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_too_little_memory_for_one_case(copied, trained, tmp_path, monkeypatch, error):
    images, whole = [case.images[0] for case in copied.cases[:3]], RunSystem.segment
    calls = iter(range(3))

    def segment(*arguments, **options):
        if next(calls) == 1:
            raise error
        return whole(*arguments, **options)

    monkeypatch.setattr(RunSystem, "segment", segment)
    with pytest.raises(CasesFailed) as caught:
        voxward.predict(trained, images, out=tmp_path / "out")
    assert [failure.case for failure in caught.value.failures] == [copied.cases[1].id]
    assert images[1].name in str(caught.value)  # the reason names no file, so the message does
    assert len(caught.value.result) == 2


@pytest.mark.parametrize("part", ["image", "label"])
def test_evaluate_goes_on_and_the_table_says_so(copied, trained, validation, tmp_path, capsys, part):
    case, out = copied.case(validation[0]), tmp_path / "out"
    if part == "image":
        case.images[0].write_bytes(b"")
    else:
        rewritten(case.label, lambda array: array[:-2])
    with pytest.raises(CasesFailed) as caught:
        voxward.evaluate(trained, copied.root, out=out)
    result = caught.value.result
    assert [found.id for found in result.cases] == validation[1:]
    assert [failure.case for failure in result.failed] == [case.id]
    alone = voxward.evaluate(trained, out=tmp_path / "all")
    assert next(found for found in alone.cases if found.id == validation[1]) == result.cases[0]
    said = f"1 of {len(validation)} cases failed, and no figure is over them: {case.id}"
    assert said in (out / "metrics.md").read_text()
    kept = json.loads((out / "metrics.json").read_text())
    assert [entry["id"] for entry in kept["failed"]] == [case.id]
    rows = [line for line in (out / "metrics.csv").read_text().splitlines() if line.startswith(case.id)]
    assert rows
    assert all(set(row.split(",", 2)[2]) == {","} for row in rows)
    words = ["evaluate", str(trained), str(copied.root), "--out", str(out), "--device", "cpu"]
    assert main(words) == 1
    assert said.split(",")[0] in capsys.readouterr().out


def test_prepare_goes_on(copied, tmp_path):
    bad = copied.cases[2]
    bad.images[0].write_bytes(b"")
    with pytest.raises(CasesFailed, match=bad.id) as caught:
        voxward.prepare(copied.root, out=tmp_path / "out", recipe="dynunet", overrides=TINY)
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert names == {case.id for case in copied.cases} - {bad.id}
    assert load_plan(tmp_path / "out" / "plan.json") == caught.value.result
    words = ["prepare", str(copied.root), "--out", str(tmp_path / "line"), "--recipe", "dynunet"]
    assert main(words) == 1
    assert main([*words[:2], "--out", str(tmp_path / "fast"), "--recipe", "dynunet", "--fail-fast"]) == 2


def test_training_names_every_bad_case(copied, tmp_path):
    for case in copied.cases[:3]:
        case.images[0].write_bytes(b"")
    with pytest.raises(CasesFailed) as caught:
        voxward.train(copied.root, out=tmp_path / "run", recipe="dynunet", overrides=TINY)
    training = {case.id for case in copied.cases[:3]}
    assert {failure.case for failure in caught.value.failures} <= training
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_check_stops_where_it_is_asked_to(copied):
    copied.cases[1].images[0].write_bytes(b"")
    copied.cases[4].label.write_bytes(b"")
    assert {problem.case for problem in voxward.check(copied.root).errors} == {copied.cases[1].id, copied.cases[4].id}
    with pytest.raises(ValueError, match="unreadable"):
        voxward.check(copied.root, workers=1, reading=Reading(fail_fast=True))


def test_attack_goes_on_and_no_requirement_is_met(copied, trained, validation, tmp_path):
    bad = copied.case(validation[0])
    bad.images[0].write_bytes(b"")
    overrides = changes(**QUICK, require=["clean_dice >= 0"])
    with pytest.raises(CasesFailed) as caught:
        voxward.attack(trained, copied.root, out=tmp_path / "out", overrides=overrides)
    report = caught.value.result
    assert {record.case for record in report.records} == set(validation[1:])
    assert [failure.case for failure in report.failed] == [bad.id]
    assert f"1 of {len(validation)} cases failed" in (tmp_path / "out" / "robustness.md").read_text()
    (verdict,) = report.verdicts
    assert (verdict.met, verdict.failed) == (False, 1)
    with pytest.raises(ValueError, match=bad.id):
        voxward.attack(
            trained, copied.root, out=tmp_path / "fast", overrides=overrides, reading=Reading(fail_fast=True)
        )


def test_a_case_that_fails_in_one_unit_is_in_no_figure(trained, phantoms, validation, tmp_path, monkeypatch):
    """It fails under the attack only, when its clean records are there already."""
    from voxward.robustness.trials.attack import AttackTrial

    whole = AttackTrial.run

    def run(self, unit, stand, progress):
        if unit.case == validation[0]:
            raise MemoryError
        return whole(self, unit, stand, progress)

    monkeypatch.setattr(AttackTrial, "run", run)
    with pytest.raises(CasesFailed) as caught:
        voxward.attack(trained, phantoms, out=tmp_path / "out", overrides=changes(**QUICK))
    assert {record.case for record in caught.value.result.records} == set(validation[1:])


def test_nan_is_read_as_zero_where_the_user_says_so(copied, trained, validation, tmp_path):
    case = copied.case(validation[0])
    rewritten(case.images[0], with_nan)
    plain = tmp_path / "plain.nii.gz"
    shutil.copy(case.images[0], plain)
    rewritten(plain, lambda array: np.nan_to_num(array, nan=0.0))
    zero = Reading(nan="zero")
    (found,) = voxward.predict(trained, case.images, out=tmp_path / "a", reading=zero)
    (wanted,) = voxward.predict(trained, plain, out=tmp_path / "b")
    np.testing.assert_array_equal(read_image([found]).array, read_image([wanted]).array)
    result = voxward.evaluate(trained, copied.root, out=tmp_path / "c", reading=zero)
    assert [scored.id for scored in result.cases] == validation
    assert voxward.check(copied.root, reading=zero).ok
    assert not voxward.check(copied.root).ok
    report = voxward.attack(trained, copied.root, out=tmp_path / "d", overrides=changes(**QUICK), reading=zero)
    assert {record.case for record in report.records} == set(validation)


def test_a_run_that_was_trained_with_nan_as_zero_remembers_it(copied, tmp_path):
    for case in copied.cases:
        rewritten(case.images[0], with_nan)
    words = [str(copied.root), "--recipe", "dynunet", *(word for change in TINY for word in ("--set", change))]
    assert main(["train", *words, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    run = voxward.train(copied.root, out=tmp_path / "run", recipe="dynunet", overrides=(*TINY, "preparation.nan=zero"))
    assert load_plan(RunFolder(run).plan).nan == "zero"
    with pytest.warns(UserWarning, match="NaN voxels are read as 0, as .*run was trained to"):
        assert voxward.evaluate(run).cases
    image = copied.cases[0].images[0]
    with pytest.raises(CasesFailed, match="--nan zero"):
        voxward.predict(run, image, out=tmp_path / "out", reading=Reading(nan="refuse"))
    hardened = voxward.harden(run, out=tmp_path / "hard", overrides=("training.epochs=1",))
    assert load_plan(RunFolder(hardened).plan).nan == "zero"


def test_a_link_to_a_file_that_is_gone_is_a_case_that_failed(copied, trained, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(copied.cases[0].images[0], folder / "a.nii.gz")
    (folder / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    with pytest.raises(CasesFailed, match=r"b: .*b\.nii\.gz") as caught:
        voxward.predict(trained, folder, out=tmp_path / "out")
    assert [path.name for path in caught.value.result] == ["a.nii.gz"]
