"""Commands take folders of DICOM files as they are, and find what they find in a converted dataset."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import voxward
from tests.data.dicom.test_from_dicom import SHAPE, organs, scan
from tests.data.dicom.write import Scan, contours, multi_frame, save, segmentation
from voxward.core.errors import CasesFailed, Failure
from voxward.data.dicom.door import Converted, is_dicom_folder
from voxward.data.io import read_image, read_label
from voxward.report.attack import AttackReport, write_reports
from voxward.robustness.record import Record
from voxward.robustness.store import RecordStore
from voxward.systems.blackbox import blackbox_system

SQUARE = ["attacks=[square]", "threat.eps=[0.1]", "budget.queries=3", "controls=[clean]"]


def organ_system(labels=("background", "spleen", "liver")):
    """Masks by intensity: the second class above 0 HU, the first above 1000."""
    values = labels if isinstance(labels, dict) else dict(zip(labels, range(len(labels)), strict=True))
    first, second = list(values.values())[1:3]

    def by_intensity(volume):
        return np.where(volume.array[0] > 1000, first, np.where(volume.array[0] > 0, second, 0))

    return blackbox_system(by_intensity, values, ("CT",))


def labelled(root: Path, masks=None, **changes) -> Scan:
    one = scan(**changes)
    one.write(root / "ct")
    save(segmentation(one, organs() if masks is None else masks), root / "seg.dcm")
    return one


@pytest.fixture(autouse=True)
def _few_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No figures, which take longer than all else; and a function's training is never known."""
    monkeypatch.setattr(
        "voxward.commands.attack.write_reports",
        lambda outputs, worker, records: AttackReport(tuple(records), (), None, outputs.folder),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nothing is known about which images")
        yield


def attacked(data: Path, out: Path, system=None) -> list[Record]:
    output = voxward.Output(out, report=False)
    voxward.attack(organ_system() if system is None else system, data, out=output, overrides=SQUARE)
    return sorted((replace(one, seconds=0.0) for one in RecordStore(out).read_all()), key=str)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases with ground truth, which nobody changes."""
    root = tmp_path_factory.mktemp("dicom") / "scans"
    for n in range(2):
        labelled(root / f"case{n}", seed=n)
    return root


def test_a_prediction_is_that_of_the_volume_and_goes_back_to_dicom(tmp_path: Path) -> None:
    one = scan("oblique")
    one.write(tmp_path / "scan")
    both = {"liver": organs()["liver"], "tumour": organs()["liver"]}  # no ground truth of a class per voxel
    save(segmentation(one, both), tmp_path / "scan" / "seg.dcm")
    other = scan(seed=1)
    save(multi_frame(other), tmp_path / "multi" / "whole.dcm")
    system, out = organ_system(), tmp_path / "out"
    written = voxward.predict(system, [tmp_path / "scan", tmp_path / "multi"], out=out)
    assert [path.name for path in written] == ["scan.nii.gz", "multi.nii.gz"]
    for name in ("scan", "multi"):
        voxward.from_dicom(tmp_path / name, out=tmp_path / f"{name}-volumes", classes=["liver"])
        (volume,) = (tmp_path / f"{name}-volumes").glob("images*/*.nii.gz")
        voxward.predict(system, volume, out=tmp_path / f"{name}-masks")
        (mask,) = (tmp_path / f"{name}-masks").glob("*.nii.gz")
        ours, theirs = read_label(out / f"{name}.nii.gz"), read_label(mask)
        np.testing.assert_array_equal(ours.array, theirs.array)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
    voxward.to_dicom(out, dataset=out / "from-dicom", out=tmp_path / "segs")
    (tmp_path / "scan" / "seg.dcm").write_bytes((tmp_path / "segs" / "scan.dcm").read_bytes())
    voxward.from_dicom(tmp_path / "scan", out=tmp_path / "again", classes=["spleen", "liver"])
    label = read_label(tmp_path / "again" / "labelsTr" / "scan.nii.gz").array
    np.testing.assert_array_equal(label, read_label(out / "scan.nii.gz").array)


def test_an_attack_is_that_of_the_converted_dataset_in_the_order_of_the_system(tmp_path: Path, cases: Path) -> None:
    voxward.from_dicom(cases, out=tmp_path / "dataset", classes=["spleen", "liver"])
    found = attacked(cases, tmp_path / "direct")
    assert found == attacked(tmp_path / "dataset", tmp_path / "converted") != []
    # The alphabet has the liver first; the system has not.
    kept = tmp_path / "direct" / "from-dicom"
    assert json.loads((kept / "dataset.json").read_text())["labels"] == {"background": 0, "spleen": 1, "liver": 2}
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    assert attacked(cases, tmp_path / "direct") == found
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before


def test_values_of_the_system_are_written_and_scored(tmp_path: Path, cases: Path) -> None:
    system = organ_system({"background": 0, "spleen": 4, "liver": 2})
    voxward.evaluate(system, cases, out=tmp_path / "out")
    label = read_label(tmp_path / "out" / "from-dicom" / "labelsTr" / "case0.nii.gz").array
    np.testing.assert_array_equal(label, 4 * organs()["spleen"] + 2 * organs()["liver"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("background", "spleen", "hepar"), r"describes 'liver', which by_intensity has no class for.*--classes"),
        (
            ("background", "Spleen", "liver"),
            r"'spleen' may be 'Spleen'.*naming in this order what is 'Spleen', 'liver'",
        ),
        (("background", "a", "b"), "and not 'a', 'b', which it has"),
    ],
)
def test_names_that_are_not_the_systems_are_refused(tmp_path: Path, cases: Path, names, message: str) -> None:
    with pytest.raises(CasesFailed, match=message):
        voxward.attack(organ_system(names), cases, out=tmp_path / "out", overrides=SQUARE)
    assert not (tmp_path / "out").exists()


def test_systems_that_number_classes_in_two_ways_have_no_common_dataset(tmp_path: Path, cases: Path) -> None:
    systems = [organ_system(), organ_system(("background", "liver", "spleen"))]
    with pytest.raises(ValueError, match=r"1 = spleen, 2 = liver, and .* 1 = liver, 2 = spleen"):
        voxward.attack(systems, cases, out=tmp_path / "out", overrides=SQUARE)


def test_what_is_no_class_and_what_no_case_describes_is_said(tmp_path: Path) -> None:
    body = np.ones(SHAPE, bool)
    labelled(tmp_path / "scans" / "a", {**organs(), "body": body})
    with pytest.warns(UserWarning, match="'body' count as background"):
        voxward.evaluate(organ_system(), tmp_path / "scans", out=tmp_path / "out")
    labelled(tmp_path / "some" / "a")
    scan(seed=1).write(tmp_path / "some" / "bare")
    with pytest.warns(UserWarning, match=r"no RTSTRUCT in .*bare: of the 2 cases these are not measured"):
        voxward.evaluate(organ_system(), tmp_path / "some", out=tmp_path / "third")
    labelled(tmp_path / "more" / "a", {"liver": organs()["liver"]})
    with pytest.warns(UserWarning, match="no case describes 'spleen'"):
        voxward.evaluate(organ_system(), tmp_path / "more", out=tmp_path / "second")


def test_a_bad_case_costs_no_other_and_ground_truth_is_asked_for(tmp_path: Path) -> None:
    labelled(tmp_path / "scans" / "good")
    labelled(tmp_path / "scans" / "bad", seed=1)
    sorted((tmp_path / "scans" / "bad" / "ct").iterdir())[4].unlink()
    with pytest.raises(CasesFailed, match="1 slices seem to be missing") as caught:
        voxward.predict(organ_system(), tmp_path / "scans", out=tmp_path / "out")
    assert [path.name for path in caught.value.result] == ["good.nii.gz"]
    assert caught.value.total == 2
    with pytest.raises(CasesFailed, match="1 of 2 cases failed") as caught:
        voxward.evaluate(organ_system(), tmp_path / "scans", out=tmp_path / "scores")
    assert [one.case for one in caught.value.result.failed] == ["bad"]
    stored = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert [(one["id"], "seem to be missing" in one["reason"]) for one in stored["failed"]] == [("bad", True)]
    assert "bad" in (tmp_path / "scores" / "metrics.md").read_text()
    with pytest.raises(CasesFailed, match="1 of 2 cases failed:\n  bad: ") as caught:
        attacked(tmp_path / "scans", tmp_path / "attacked")
    assert {one.case for one in caught.value.result.records} == {"good"}
    scan().write(tmp_path / "bare" / "a")
    with pytest.raises(ValueError, match=r"no segmentation \(SEG\) and no RTSTRUCT in .*a: ground truth is needed"):
        voxward.evaluate(organ_system(), tmp_path / "bare", out=tmp_path / "none")
    with pytest.raises(ValueError, match=r"no RTSTRUCT in .*a: ground truth is needed"):
        voxward.attack(organ_system(), tmp_path / "bare", out=tmp_path / "none", estimate=True)
    both = {"liver": organs()["liver"], "spleen": organs()["liver"]}
    labelled(tmp_path / "overlap" / "a", both)
    with pytest.raises(CasesFailed, match=r"share \d+ voxels.*It is `voxward from-dicom` that has this option"):
        voxward.evaluate(organ_system(), tmp_path / "overlap", out=tmp_path / "none")


def test_check_names_folders_of_dicom_files_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxward.cli import main

    for place in ("scans", "temporary"):
        (tmp_path / place).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    labelled(tmp_path / "scans" / "good")
    labelled(tmp_path / "scans" / "empty", {"liver": organs()["liver"], "spleen": np.zeros(SHAPE, bool)}, seed=1)
    scan(seed=2).write(tmp_path / "scans" / "bad")[4].unlink()
    asked = list[Path]()
    monkeypatch.setattr("voxward.commands.check.is_dicom_folder", lambda place: asked.append(place) or True)
    report = voxward.check(tmp_path / "scans")
    assert asked == [tmp_path / "scans"]  # once, and not what is made of it
    (error,) = report.errors
    assert (error.case, report.cases) == ("bad", 3)
    assert "1 slices seem to be missing" in error.message
    assert not any("voxward-" in problem.message for problem in report.problems)
    assert main(["check", str(tmp_path / "scans")]) == 1
    assert "bad" in capsys.readouterr().out
    assert not list((tmp_path / "temporary").iterdir())
    scan().write(tmp_path / "one")
    assert [problem.kind for problem in voxward.check(tmp_path / "one").errors] == ["no cases"]


def test_volumes_are_used_again_and_changed_files_are_noticed(tmp_path: Path) -> None:
    one, out, system = labelled(tmp_path / "scans" / "a"), tmp_path / "out", organ_system()
    volume = out / "from-dicom" / "imagesTs" / "a_0000.nii.gz"
    voxward.predict(system, tmp_path / "scans" / "a", out=out)
    first = volume.stat().st_mtime_ns
    (tmp_path / "scans").rename(tmp_path / "moved")
    labelled(tmp_path / "moved" / "b", seed=1)
    voxward.predict(system, tmp_path / "moved", out=out, resume=True)  # another folder, the same files, and one more
    assert volume.stat().st_mtime_ns == first
    book = json.loads((out / "from-dicom" / "dicom.json").read_text())["cases"]
    assert [Path(entry["folder"]).parent.name for entry in book.values()] == ["scans", "moved"]
    voxward.predict(system, tmp_path / "moved" / "b", out=out, resume=True)
    assert volume.is_file()
    for path in (tmp_path / "moved" / "a" / "ct").iterdir():
        path.unlink()
    replace(one, values=one.values[::-1].copy()).write(tmp_path / "moved" / "a" / "ct")
    with pytest.warns(UserWarning, match=r"were made of other files than .*a holds now: they are made again"):
        voxward.predict(system, tmp_path / "moved", out=out)
    np.testing.assert_array_equal(read_image([volume]).array[0], one.values[::-1].astype(int) - 1024)
    hidden = out / "from-dicom" / ".mine"
    hidden.write_text("mine")
    labelled(tmp_path / "moved" / "c", seed=2)
    with pytest.raises(ValueError, match=r"\.mine is not a file that voxward wrote"):
        voxward.predict(system, tmp_path / "moved", out=out)
    hidden.unlink()
    with pytest.raises(ValueError, match=r"were made with other classes, and 1 case of them .*: choose another --out"):
        voxward.predict(organ_system(("background", "spleen", "hepar")), tmp_path / "moved" / "b", out=out)
    volume.write_bytes(volume.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"the volume of case a in .* was edited or removed"):
        voxward.predict(system, tmp_path / "moved", out=out)


def test_an_attack_refuses_changed_files_and_folders_of_others(tmp_path: Path) -> None:
    one = labelled(tmp_path / "scans" / "a")
    first = attacked(tmp_path / "scans", tmp_path / "out")
    labelled(tmp_path / "scans" / "b", seed=1)  # one more case
    again = attacked(tmp_path / "scans", tmp_path / "out")
    assert [one.case for one in again].count("b") == len(first)
    assert [one for one in again if one.case == "a"] == first
    save(segmentation(one, organs()), tmp_path / "scans" / "a" / "seg.dcm")  # it has other identifiers
    with pytest.raises(ValueError, match=r"made of other files than .*a holds now: choose another --out"):
        attacked(tmp_path / "scans", tmp_path / "out")
    with pytest.raises(ValueError, match=r"were made with other classes: choose another --out"):  # records are of them
        voxward.predict(organ_system(("background", "spleen", "hepar")), tmp_path / "scans", out=tmp_path / "out")
    (tmp_path / "other" / "from-dicom").mkdir(parents=True)
    (tmp_path / "other" / "from-dicom" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        attacked(tmp_path / "scans", tmp_path / "other")
    book = tmp_path / "other" / "from-dicom" / "dicom.json"
    (tmp_path / "other" / "from-dicom" / "mine.txt").unlink()
    for held in ("[]", "{}", '{"format": 1, "cases": {}}', '{"format": 1, "cases": {"a": 1}, "how": {"channels": []}}'):
        book.write_text(held)
        with pytest.raises(ValueError, match="holds something else"):
            attacked(tmp_path / "scans", tmp_path / "other")
    with pytest.raises(ValueError, match="lies among the DICOM files"):
        voxward.predict(organ_system(), tmp_path / "scans", out=tmp_path / "scans" / "out")


def test_links_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    scan().write(tmp_path / "secret")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(CasesFailed, match="--follow-links"):
        voxward.predict(organ_system(), tmp_path / "scans", out=tmp_path / "out")
    reading = voxward.Reading(follow_links=True)
    assert voxward.predict(organ_system(), tmp_path / "scans", out=tmp_path / "out", reading=reading)


def test_a_prediction_is_reproduced_from_its_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    scan().write(tmp_path / "scan")
    (tmp_path / "levels_of_door.py").write_text("def levels(volume):\n    return volume.array[0] > 0\n")
    (tmp_path / "levels.yaml").write_text(
        "format: 1\nkind: blackbox\nfunction: levels_of_door:levels\nlabels: {background: 0, organ: 1}\n"
        "channels: [CT]\n"
    )
    system = voxward.Trusted(tmp_path / "levels.yaml")
    voxward.predict(system, tmp_path / "scan", out=tmp_path / "out")
    assert voxward.reproduce(tmp_path / "out", out=tmp_path / "again").same
    del sys.modules["levels_of_door"]


def test_what_is_a_folder_of_dicom_files(tmp_path: Path) -> None:
    scan().write(tmp_path / "scans" / "a" / "ct")
    assert is_dicom_folder(tmp_path / "scans")
    assert not is_dicom_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="is a DICOM file: give the folder"):
        is_dicom_folder(next((tmp_path / "scans" / "a" / "ct").iterdir()))
    voxward.from_dicom(tmp_path / "scans", out=tmp_path / "volumes")
    assert not is_dicom_folder(tmp_path / "volumes" / "imagesTs")
    (tmp_path / "scans" / "a" / "ct" / "look.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"volumes, such as look\.png, and DICOM files"):
        is_dicom_folder(tmp_path / "scans" / "a" / "ct")
    (tmp_path / "scans" / "overview.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scans holds volumes, such as overview\.png, and DICOM files, such as a:"):
        voxward.predict(organ_system(), tmp_path / "scans", out=tmp_path / "out")


def test_where_identifiable_volumes_are_kept_is_named_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxward.cli import main

    labelled(tmp_path / "scans" / "a")
    system = organ_system()
    with pytest.raises(ValueError, match=r"out must be given: .*scans holds DICOM files"):
        voxward.predict(system, tmp_path / "scans")
    monkeypatch.setattr("voxward.commands.predict.open_system", lambda *given: system)
    assert main(["predict", "system", str(tmp_path / "scans"), "--out", str(tmp_path / "out")]) == 0
    assert f"identifiable and stay there: {tmp_path / 'out' / 'from-dicom'}" in capsys.readouterr().out


def test_an_attack_fixes_the_volumes_also_where_a_new_case_fails(tmp_path: Path) -> None:
    labelled(tmp_path / "scans" / "a")
    voxward.evaluate(organ_system(), tmp_path / "scans", out=tmp_path / "out")
    book = tmp_path / "out" / "from-dicom" / "dicom.json"
    assert json.loads(book.read_text())["fixed"] is False
    labelled(tmp_path / "scans" / "b", seed=1)
    sorted((tmp_path / "scans" / "b" / "ct").iterdir())[4].unlink()
    with pytest.raises(CasesFailed, match="1 of 2 cases failed"):
        attacked(tmp_path / "scans", tmp_path / "out")
    assert json.loads(book.read_text())["fixed"] is True


def test_check_reports_overlaps_and_names_that_are_spelt_in_two_ways(tmp_path: Path) -> None:
    labelled(tmp_path / "scans" / "a", {**organs(), "BODY": np.ones(SHAPE, bool)})
    labelled(tmp_path / "scans" / "b", {"Liver": organs()["liver"], "spleen": organs()["spleen"]}, seed=1)
    report = voxward.check(tmp_path / "scans")
    (error,) = report.errors
    assert (error.case, report.cases) == ("b", 2)
    assert "'Liver' cannot both be classes" in error.message
    assert "from-dicom --classes" in error.message
    told = [one.message for one in report.warnings if one.case == "a" and one.kind == "DICOM"]
    assert len(told) == 2
    assert f"holds 'liver' over 'BODY' ({organs()['liver'].sum()} voxels)" in told[0]


def test_only_the_cases_that_are_asked_for_are_converted(tmp_path: Path, cases: Path) -> None:
    voxward.evaluate(organ_system(), voxward.Cases(cases, ids=["case1"]), out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "from-dicom" / "labelsTr").iterdir()] == ["case1.nii.gz"]


def test_an_attack_converts_so_many_cases_as_it_takes(tmp_path: Path, cases: Path) -> None:
    """A bad one before them is named, and the next one takes its place; what comes after them is not looked at."""
    for name, source in (("b", "case0"), ("c", "case1"), ("d", "case0")):
        shutil.copytree(cases / source, tmp_path / "scans" / name)
    labelled(tmp_path / "scans" / "a", seed=2)
    sorted((tmp_path / "scans" / "a" / "ct").iterdir())[4].unlink()
    scan(seed=3).write(tmp_path / "scans" / "aa")  # has no ground truth
    save(segmentation(scan(seed=4), organs()), tmp_path / "scans" / "e" / "seg.dcm")  # has no image
    kept, changes = tmp_path / "out" / "from-dicom", [*SQUARE, "cases=1"]
    for ids, expected in (((), ["b"]), (("d", "b"), ["b", "d"])):
        asked = voxward.Cases(tmp_path / "scans", ids=ids)
        failing = pytest.raises(CasesFailed, match="1 of 2 cases failed") if not ids else nullcontext()
        with failing as caught, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            voxward.attack(organ_system(), asked, out=voxward.Output(kept.parent, report=False), overrides=changes)
        if caught is not None:
            assert [one.case for one in caught.value.failures] == ["a"]
            assert any("of the 3 cases these are not measured" in str(one.message) for one in told)
        assert sorted(path.name for path in (kept / "labelsTr").iterdir()) == [f"{id}.nii.gz" for id in expected]
        changes = [*SQUARE, "cases=2"]
    assert {one.case for one in RecordStore(kept.parent).read_all()} == {"b", "d"}


def test_a_case_that_is_asked_for_and_cannot_be_converted_costs_no_other(tmp_path: Path, cases: Path) -> None:
    shutil.copytree(cases, tmp_path / "scans")
    sorted((tmp_path / "scans" / "case0" / "ct").iterdir())[4].unlink()
    asked = voxward.Cases(tmp_path / "scans", ids=["case0", "case1"])
    with pytest.raises(CasesFailed, match="1 of 2 cases failed"):
        voxward.evaluate(organ_system(), asked, out=tmp_path / "out")
    with pytest.raises(CasesFailed, match="1 of 2 cases failed"):
        voxward.attack(organ_system(), asked, out=voxward.Output(tmp_path / "second", report=False), overrides=SQUARE)
    with pytest.raises(CasesFailed, match="seem to be missing"):
        voxward.attack(organ_system(), replace(asked, ids=["case0"]), out=tmp_path / "third", overrides=SQUARE)


def test_no_other_cases_are_taken_where_all_that_were_asked_for_failed(tmp_path: Path) -> None:
    """No ids would mean all cases, also those that were converted to recognise what a system was trained on."""
    failures = (Failure("a", "a slice is missing"),)
    made = Converted(tmp_path, {"v": tmp_path / "v"}, {}, failures, kept=True, places=(tmp_path,))
    assert made.asked(voxward.Cases(tmp_path, ids=["a", "v"])).ids == ("v",)
    assert made.asked(voxward.Cases(tmp_path)).ids == ()
    with pytest.raises(CasesFailed, match="a slice is missing"):
        made.asked(voxward.Cases(tmp_path, ids=["a"]))


def test_the_images_of_a_prediction_serve_an_evaluation_and_those_of_an_evaluation_a_prediction(
    tmp_path: Path, cases: Path
) -> None:
    shutil.copytree(cases / "case0", tmp_path / "scans" / "case0")
    one = labelled(tmp_path / "scans" / "case1", seed=1)
    kept, system = tmp_path / "out" / "from-dicom", organ_system()
    voxward.predict(system, tmp_path / "scans", out=tmp_path / "out")
    before = {path.name: path.stat().st_ino for path in kept.glob("images*/*")}
    # The ground truth cannot be read: what is predicted of the case keeps its volume.
    save(segmentation(one, dict.fromkeys(("liver", "spleen"), organs()["liver"])), tmp_path / "scans/case1/seg.dcm")
    with pytest.raises(CasesFailed, match="1 of 2 cases failed"):
        voxward.evaluate(system, tmp_path / "scans", out=tmp_path / "out")
    assert {path.name: path.stat().st_ino for path in kept.glob("images*/*")} == before
    np.testing.assert_array_equal(
        read_label(kept / "labelsTr/case0.nii.gz").array, organs()["spleen"] + 2 * organs()["liver"]
    )
    assert [path.parent.name for path in sorted(kept.glob("images*/*"))] == ["imagesTr", "imagesTs"]
    voxward.predict(system, tmp_path / "scans", out=tmp_path / "out", overwrite=True)
    assert {path.name: path.stat().st_ino for path in kept.glob("images*/*")} == before
    assert (kept / "labelsTr/case0.nii.gz").is_file()


def test_contours_are_ground_truth_of_an_evaluation_and_of_a_check(tmp_path: Path) -> None:
    one = scan()
    one.write(tmp_path / "scans" / "a" / "ct")
    # The edges of a box in pixels, half a pixel outside of the centres of its voxels.
    boxes = {"spleen": (12, 18, 5, 9, range(4, 8)), "liver": (2, 9, 3, 12, range(1, 5))}
    drawn = {
        name: [(n, np.array([(i, k), (j, k), (j, m), (i, m)]) - 0.5) for n in slices]
        for name, (i, j, k, m, slices) in boxes.items()
    }
    save(contours(one, drawn), tmp_path / "scans" / "a" / "rt.dcm")
    assert voxward.check(tmp_path / "scans").errors == ()
    truth = organs()["spleen"] + 2 * organs()["liver"]
    exact = blackbox_system(lambda volume: truth, {"background": 0, "spleen": 1, "liver": 2}, ("CT",))
    result = voxward.evaluate(exact, tmp_path / "scans", out=tmp_path / "out")
    assert result.foreground.mean == 1.0
    np.testing.assert_array_equal(read_label(tmp_path / "out/from-dicom/labelsTr/a.nii.gz").array, truth)
    assert voxward.check(tmp_path / "out" / "from-dicom").cases == 1


def test_a_file_that_comes_during_a_conversion_is_not_lost(tmp_path: Path) -> None:
    labelled(tmp_path / "scans" / "a")
    voxward.predict(organ_system(), tmp_path / "scans", out=tmp_path / "out")
    labelled(tmp_path / "scans" / "b", seed=1)
    mine = tmp_path / "out" / "from-dicom" / "mine.txt"
    with pytest.raises(ValueError, match=r"mine\.txt is not a file that voxward wrote"):
        voxward.predict(
            organ_system(), tmp_path / "scans", out=tmp_path / "out", progress=lambda *a, **b: mine.write_text("mine")
        )
    assert mine.read_text() == "mine"


def test_a_case_that_cannot_be_converted_keeps_requirements_unmet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxward.commands.attack.write_reports", write_reports)
    labelled(tmp_path / "scans" / "good")
    labelled(tmp_path / "scans" / "bad", seed=1)
    sorted((tmp_path / "scans" / "bad" / "ct").iterdir())[4].unlink()
    out, met = voxward.Output(tmp_path / "out", report=False), "require=[clean_dice >= 0.0]"
    with pytest.raises(CasesFailed, match="1 of 2 cases failed") as caught:
        voxward.attack(organ_system(), tmp_path / "scans", out=out, overrides=[*SQUARE, met])
    assert [one["id"] for one in json.loads((tmp_path / "out" / "sanity.json").read_text())["failed"]] == ["bad"]
    (verdict,) = caught.value.result.verdicts
    assert (verdict.met, verdict.failed) == (False, 1)
