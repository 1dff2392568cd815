"""From a trained run to files in the input's own geometry, and to metrics."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.end_to_end.build import composed
from voxward.cli import main
from voxward.commands.check import check
from voxward.commands.evaluate import evaluate
from voxward.commands.predict import collect_inputs, predict
from voxward.core.choices import Reading
from voxward.core.outputs import MARKER
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_image
from voxward.phantoms.write import write_phantoms


def test_predictions_have_the_geometry_of_their_input(phantoms, trained, tmp_path):
    case = open_dataset(phantoms).cases[0]
    (written,) = predict(trained, [case.images[0]], out=tmp_path)
    source, result = nib.load(case.images[0]), nib.load(written)
    assert result.shape == source.shape
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-6)
    assert nib.aff2axcodes(result.affine) == nib.aff2axcodes(source.affine)
    assert np.issubdtype(result.get_data_dtype(), np.integer)
    assert set(np.unique(np.asarray(result.dataobj))) <= {0, 1, 2, 3}


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_other_file_types_come_back_as_they_went_in(phantoms, trained, tmp_path, suffix):
    volume = read_image(open_dataset(phantoms).cases[0].images)
    write_image(tmp_path / "in" / f"a{suffix}", volume.array, volume.affine)
    (written,) = predict(trained, tmp_path / "in", out=tmp_path / "out")
    assert written.name == f"a{suffix}"
    result = read_label(written)
    assert result.shape == volume.shape
    np.testing.assert_allclose(result.affine, volume.affine, atol=1e-4)


def test_dataset_folders_are_collected(phantoms):
    assert len(collect_inputs([phantoms], ("MRI",))) == len(open_dataset(phantoms).cases)


@pytest.mark.parametrize(
    ("names", "channels", "cases"),
    [
        (("a_0000", "a_0001", "b_0000", "b_0001"), 2, {"a": 2, "b": 2}),
        (("a_0000", "b_0000"), 1, {"a": 1, "b": 1}),
        (("patient_0001", "patient_0002", "patient_0003"), 1, {f"patient_000{n}": 1 for n in (1, 2, 3)}),
        (("case_0001",), 1, {"case_0001": 1}),
        (("a_0001", "a_0002"), 2, {"a_0001": 1, "a_0002": 1}),  # without _0000 these are no channels
        (("._a", "a"), 1, {"a": 1}),
    ],
)
@pytest.mark.parametrize("as_files", [True, False])
def test_numbered_files_are_channels_only_when_they_count_up(tmp_path, names, channels, cases, as_files):
    paths = [tmp_path / f"{name}.nii.gz" for name in names]
    for path in paths:
        path.touch()
    inputs = [path for path in paths if not path.name.startswith(".")] if as_files else [tmp_path]
    assert {case.id: len(case.images) for case in collect_inputs(inputs, ("channel",) * channels)} == cases


def test_an_input_is_never_overwritten(phantoms, trained, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    shutil.copy(open_dataset(phantoms).cases[0].images[0], scan)
    before = scan.read_bytes()
    with pytest.raises(ValueError, match="overwrite their own input"):
        predict(trained, scan, out=tmp_path)
    assert scan.read_bytes() == before


def test_wrong_inputs_are_refused_before_anything_is_written(phantoms, trained, tmp_path):
    good = open_dataset(phantoms).cases[0].images[0]
    volume = read_image([good])
    two = tmp_path / "two.nii.gz"
    write_image(two, np.concatenate([volume.array] * 2), volume.affine)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="two: the model takes 1 channels"):
        predict(trained, [two, good], out=out, reading=Reading(fail_fast=True))
    (tmp_path / "typo.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"typo\.txt: unknown file type"):
        predict(trained, [good, tmp_path / "typo.txt"], out=out)
    with pytest.raises(ValueError, match="same file"):
        predict(trained, [good, good], out=out)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        predict(trained, [tmp_path / "nowhere"], out=out)
    assert not out.exists()


def test_an_interrupted_prediction_can_be_resumed(phantoms, trained, tmp_path):
    case = open_dataset(phantoms).cases[0]
    (written,) = predict(trained, case.images[0], out=tmp_path)
    before = written.stat().st_mtime_ns
    predict(trained, case.images[0], out=tmp_path, resume=True)
    assert written.stat().st_mtime_ns == before
    predict(trained, case.images[0], out=tmp_path)
    assert written.stat().st_mtime_ns > before


@pytest.mark.parametrize("change", ["checkpoint", "setting", "input", "edited"])
def test_a_resumed_prediction_mixes_no_two_systems(phantoms, trained, tmp_path, change):
    """What another checkpoint, other settings or another input has made is made again, and said."""
    source = tmp_path / "x.nii.gz"
    shutil.copy(open_dataset(phantoms).cases[0].images[0], source)
    last = {"checkpoint": ["checkpoint=last"], "setting": ["overlap=0.25"]}.get(change, [])
    shutil.copytree(trained, tmp_path / "run")
    weights = tmp_path / "run/checkpoints/last.safetensors"
    save_file({name: torch.zeros_like(value) for name, value in load_file(weights).items()}, weights)
    (written,) = predict(tmp_path / "run", source, out=tmp_path / "out")
    before = written.stat().st_mtime_ns
    if change == "input":
        shutil.copy(open_dataset(phantoms).cases[1].images[0], source)
    if change == "edited":
        written.write_bytes(b"mine")
        with pytest.raises(ValueError, match="not a file that voxward wrote"):
            predict(tmp_path / "run", source, out=tmp_path / "out", resume=True)
        return
    with pytest.warns(UserWarning, match="1 predictions .* were not made by this system"):
        predict(tmp_path / "run", source, out=tmp_path / "out", resume=True, overrides=last)
    assert written.stat().st_mtime_ns > before
    (honest,) = predict(tmp_path / "run", source, out=tmp_path / "honest", overrides=last)
    assert np.array_equal(read_label(written).array, read_label(honest).array)
    after = written.stat().st_mtime_ns
    source.touch()  # the same content
    predict(tmp_path / "run", source, out=tmp_path / "out", resume=True, overrides=last)
    assert written.stat().st_mtime_ns == after


def test_evaluate_scores_the_validation_cases_only(trained, tmp_path):
    split = json.loads((trained / "splits.json").read_text())
    result = evaluate(trained, out=tmp_path)
    assert {case.id for case in result.cases} == set(split["validation"])
    predictions = {p.name for p in (tmp_path / "predictions").iterdir()} - {MARKER}
    assert predictions == {f"{id}.nii.gz" for id in split["validation"]}
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["foreground"]["mean"] == pytest.approx(result.foreground.mean)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 3 * len(split["validation"])


def _copied(phantoms, root, **changes):
    shutil.copytree(phantoms, root)
    description = json.loads((root / "dataset.json").read_text()) | changes
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_evaluate_on_another_dataset_scores_all_of_it(trained, tmp_path):
    other = tmp_path / "other"
    write_phantoms(other, 3, seed=77, size=24)
    with pytest.warns(UserWarning, match="have the ids of cases"):
        result = evaluate(trained, other, out=tmp_path / "out")
    assert len(result.cases) == len(open_dataset(other).cases)


def test_a_moved_dataset_is_still_the_runs_own(phantoms, trained, tmp_path):
    """Training cases must not be scored because the folder has another path."""
    moved = _copied(phantoms, tmp_path / "moved")
    split = json.loads((trained / "splits.json").read_text())
    assert {case.id for case in evaluate(trained, moved, out=tmp_path / "out").cases} == set(split["validation"])


def test_scores_that_would_flatter_or_mislead_are_refused(phantoms, trained, tmp_path):
    split = json.loads((trained / "splits.json").read_text())
    listed = json.loads((phantoms / "dataset.json").read_text())["training"]
    kept = [entry for entry in listed if not any(id in entry["image"] for id in split["validation"])]
    with pytest.raises(ValueError, match=r"no unseen case .*flatters"):
        evaluate(
            trained, _copied(phantoms, tmp_path / "part", training=kept, numTraining=len(kept)), out=tmp_path / "out"
        )
    swapped = {"0": "background", "1": "organ b", "2": "organ a", "3": "lesion"}
    with pytest.raises(ValueError, match="the model predicts"):
        evaluate(trained, _copied(phantoms, tmp_path / "swapped", labels=swapped), out=tmp_path / "out")


class TestCommandLine:
    def test_check_passes_and_fails(self, phantoms, tmp_path, capsys):
        assert main(["check", str(phantoms)]) == 0
        assert "no problems" in capsys.readouterr().out
        damaged = tmp_path / "damaged"
        shutil.copytree(phantoms, damaged)
        next((damaged / "labelsTr").glob("*.nii.gz")).unlink()
        before = {p: p.stat().st_mtime_ns for p in damaged.rglob("*")}
        assert main(["check", str(damaged)]) == 1
        assert "1 error," in capsys.readouterr().out
        assert {p: p.stat().st_mtime_ns for p in damaged.rglob("*")} == before
        assert not check(damaged).ok

    def test_predict_and_evaluate(self, phantoms, trained, tmp_path, capsys):
        image = str(open_dataset(phantoms).cases[0].images[0])
        assert main(["predict", str(trained), image, "--out", str(tmp_path / "p")]) == 0
        assert main(["evaluate", str(trained), "--out", str(tmp_path / "e"), "--policy", "one"]) == 0
        printed = capsys.readouterr().out
        assert "1 prediction" in printed
        assert "mean" in printed
        assert "organ a" in printed

    def test_plan_and_prepare(self, phantoms, tmp_path, capsys):
        assert main(["plan", str(phantoms), "--out", str(tmp_path), "--recipe", "dynunet"]) == 0
        plan = tmp_path / "plan.json"
        assert json.loads(capsys.readouterr().out) == json.loads(plan.read_text())
        assert main(["prepare", str(phantoms), "--plan", str(plan), "--out", str(tmp_path / "cases")]) == 0
        assert len([p for p in (tmp_path / "cases").iterdir() if p.is_dir()]) == 8

    def test_errors_are_one_sentence_and_exit_2(self, phantoms, tmp_path, capsys):
        assert main(["train", str(phantoms), "--out", str(tmp_path / "run"), "--recipe", "rogg"]) == 2
        assert "Did you mean 'rog'?" in capsys.readouterr().err
        assert main(["evaluate", str(tmp_path)]) == 2
        assert "not a trained run" in capsys.readouterr().err

    def test_help_lists_every_command(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("check", "plan", "prepare", "train", "predict", "evaluate", "demo"))


@pytest.mark.slow
def test_the_demo_on_the_command_line(tmp_path, capsys, drawn_figures):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--minutes", "0.05", "--cases", "6"]) == 0
    pictures = list(out.glob("overlay-*.png"))
    assert len(pictures) == 1
    assert pictures[0].stat().st_size > 20_000
    assert "mean" in capsys.readouterr().out
    assert main(["demo", "--out", str(out), "--minutes", "0.05", "--cases", "6"]) == 0  # goes on where it stopped


def test_a_cascade_of_two_runs(trained, phantoms, tmp_path):
    """With a margin wider than the volume the fine model sees all of it, whatever the coarse one finds."""
    volume = open_dataset(phantoms).cases[0].images[0]
    (alone,) = predict(trained, volume, out=tmp_path / "alone")
    system = composed(tmp_path, "cascade", [trained, trained], margin=100.0, fraction=0.0)
    (both,) = predict(system, volume, out=tmp_path / "both")
    assert both.name == alone.name
    np.testing.assert_array_equal(read_label(both).array, read_label(alone).array)
    with pytest.raises(ValueError, match="margin must be"):
        predict(system, volume, out=tmp_path / "none", overrides=["margin=-1.0"])
    assert not (tmp_path / "none").exists()


def test_a_dataset_with_a_stray_volume_is_not_taken_for_a_folder_of_volumes(trained, phantoms, tmp_path):
    """One case of eight would be segmented, and nobody told."""
    copy = tmp_path / "data"
    shutil.copytree(phantoms, copy)
    shutil.copy(open_dataset(copy).cases[0].images[0], copy / "stray.nii.gz")
    with pytest.raises(ValueError, match=r"is a dataset, and holds volumes of its own, e\.g\. stray"):
        predict(trained, copy, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
