"""No dataset and no command destroys what it did not make: whole commands on hostile folders."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import voxward
from tests.end_to_end.build import changes, composed
from tests.end_to_end.conftest import TINY
from tests.memory import assert_refused_in_little_memory
from voxward.cli import main
from voxward.core.choices import Change, Fold, Reuse
from voxward.core.errors import UserError
from voxward.core.outputs import MARKER
from voxward.data.check import check_dataset
from voxward.data.formats import declared, open_dataset
from voxward.runs.folder import RunFolder

FILES = [f"phantom_{n:03d}.nii.gz" for n in range(8)]
LABELS = {"background": 0, "organ a": 1, "organ b": 2, "lesion": 3}
BAD_IDS = ["../../victim", "ABSOLUTE", ".", "..", "", "a/b", "a\\b", "..\\victim", "a\nb", "nul"]


@pytest.fixture
def here(phantoms, trained, tmp_path, monkeypatch):
    shutil.copytree(phantoms, tmp_path / "d")
    shutil.copytree(trained, tmp_path / "run", copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nnunet(root: Path, last_id: str) -> None:
    """The phantoms as an nnU-Net folder whose last case has another id."""
    ids = [*(f"c{n}" for n in range(7)), last_id]
    entries = {
        id: {"images": [f"imagesTr/{name}"], "label": f"labelsTr/{name}"} for id, name in zip(ids, FILES, strict=True)
    }
    (root / "dataset.json").write_text(json.dumps({
        "name": "x", "channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".nii.gz", "dataset": entries,
    }))  # fmt: skip


# Every command is given each of them; what a name is refused for has tests of its own.
@pytest.mark.parametrize("id", [*BAD_IDS[:3], *(pytest.param(id, marks=pytest.mark.slow) for id in BAD_IDS[3:])])
def test_a_case_id_that_is_a_path_is_refused_and_the_others_are_prepared(here, id):
    id = str(here / "victim") if id == "ABSOLUTE" else id
    nnunet(here / "d", id)
    (here / "victim").mkdir()
    (here / "victim" / "thesis.txt").write_text("years of work")
    (here / "out" / "prepared").mkdir(parents=True)
    (here / "out" / "prepared" / "notes.txt").write_text("mine")
    before = contents(here / "victim") | contents(here / "run")
    with pytest.raises(ValueError, match="is no plain file name") as caught:
        open_dataset(here / "d")
    assert repr(id) in str(caught.value)
    assert FILES[7] in str(caught.value)
    with pytest.raises(ValueError, match="is no plain file name"):
        voxward.prepare(here / "d", out=here / "out" / "prepared", recipe="dynunet")
    prepared = {path.name for path in (here / "out" / "prepared").iterdir()}
    assert prepared == {"notes.txt", "plan.json", *(f"c{n}" for n in range(7))}
    for work in (
        lambda: voxward.train(here / "d", out=here / "out" / "t", recipe="dynunet", overrides=TINY),
        lambda: voxward.predict(here / "run", here / "d", out=here / "out" / "p"),
        lambda: voxward.evaluate(here / "run", here / "d", out=here / "out" / "e"),
        lambda: voxward.attack(
            here / "run", here / "d", out=here / "out" / "a", overrides=changes(attacks=("fgsm-ce",))
        ),
        lambda: voxward.search(here / "d", out=here / "out" / "s"),
        lambda: voxward.cv(here / "d", out=here / "out" / "c", recipe="dynunet", overrides=TINY),
    ):
        with pytest.raises(ValueError, match="is no plain file name"):
            work()
    assert {path.name for path in (here / "out").iterdir()} == {"prepared"}
    assert contents(here / "victim") | contents(here / "run") == before
    report = voxward.check(here / "d")
    assert [(p.case, p.severity, p.kind) for p in report.problems] == [(repr(id), "error", "name")]
    assert report.cases == 7
    assert main(["check", str(here / "d")]) == 1


@pytest.mark.parametrize("name", ["..nii.gz", ".nii.gz", "...nii.gz"])
def test_a_volume_without_a_name_replaces_nothing(here, name):
    description = json.loads((here / "d" / "dataset.json").read_text())
    shutil.move(here / "d" / "imagesTr" / FILES[7], here / "d" / "imagesTr" / name)
    description["training"][7]["image"] = f"imagesTr/{name}"
    (here / "d" / "dataset.json").write_text(json.dumps(description))
    (here / "prepared").mkdir()
    (here / "prepared" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no plain file name: it"):
        voxward.prepare(here / "d", out=here / "prepared", recipe="dynunet")
    assert (here / "prepared" / "notes.txt").read_text() == "mine"
    assert len(list((here / "prepared").glob("phantom_*/case.json"))) == 7
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        voxward.predict(here / "run", [here / "d" / "imagesTr" / name], out=here / "out")
    assert not (here / "out").exists()


@pytest.mark.parametrize("name", ["x/../../victim", "..", "", "a\nb", "/abs"])
@pytest.mark.parametrize("layout", ["msd", "nnunet"])
def test_a_dataset_name_that_is_a_path_is_refused(here, name, layout):
    if layout == "nnunet":
        nnunet(here / "d", "c7")
    description = json.loads((here / "d" / "dataset.json").read_text())
    (here / "d" / "dataset.json").write_text(json.dumps(description | {"name": name}))
    before = contents(here / "run")
    for work in (lambda: open_dataset(here / "d"), lambda: voxward.evaluate(here / "run", here / "d")):
        with pytest.raises(ValueError, match=r'"name" .* is no plain file name'):
            work()
    assert contents(here / "run") == before
    opened, refused = declared(here / "d")
    assert opened.name == "d"
    problems = check_dataset(opened, refused=refused).problems
    assert [(problem.case, problem.kind) for problem in problems] == [("d", "name")]


def test_a_brats_case_with_a_control_character_is_refused(tmp_path):
    for name in ("BraTS_1", "BraTS_2\n"):
        (tmp_path / name).mkdir()
        for ending in ("_t1", "_t1ce", "_t2", "_flair", "_seg"):
            (tmp_path / name / f"{name}{ending}.nii.gz").touch()
    with pytest.raises(ValueError, match=r"case id 'BraTS_2\\n' .* holds a control character"):
        open_dataset(tmp_path)
    opened, refused = declared(tmp_path)
    assert [case.id for case in opened.cases] == ["BraTS_1"]
    assert [entry.case.id for entry in refused] == ["BraTS_2\n"]


def test_a_folder_may_be_called_as_it_likes(here):
    """A name that the dataset did not choose is none that a file cannot have."""
    (here / "d").rename(here / ".hidden data")
    description = json.loads((here / ".hidden data" / "dataset.json").read_text())
    del description["name"]
    (here / ".hidden data" / "dataset.json").write_text(json.dumps(description))
    assert open_dataset(here / ".hidden data").name == ".hidden data"


def test_predictions_replace_only_predictions(here):
    """Labels, images, and masks that somebody corrected stay."""
    before = contents(here / "d")
    with pytest.raises(ValueError, match="is the folder of a dataset"):
        voxward.predict(here / "run", here / "d" / "imagesTr", out=here / "d" / "labelsTr")
    with pytest.raises(ValueError, match="is the folder of a dataset"):
        voxward.predict(here / "run", here / "d" / "imagesTr", out=here / "d" / "labelsTr", resume=True)
    with pytest.raises(ValueError, match=r"dataset\.json is a file, and must be a folder"):
        voxward.predict(here / "run", here / "d" / "imagesTr", out=here / "d" / "dataset.json")
    with pytest.raises(ValueError, match="would overwrite their own input"):
        voxward.predict(here / "run", here / "d" / "imagesTr", out=here / "d" / "imagesTr", overwrite=True)
    assert contents(here / "d") == before
    one = here / "d" / "imagesTr" / FILES[0]
    (written,) = voxward.predict(here / "run", one, out=here / "out")
    first = written.read_bytes()
    voxward.predict(here / "run", one, out=here / "out")
    assert written.read_bytes() == first
    shutil.copy(here / "d" / "labelsTr" / FILES[0], written)  # corrected by hand
    with pytest.raises(ValueError, match="edited since"):
        voxward.predict(here / "run", here / "d" / "imagesTr", out=here / "out")
    assert [path.name for path in sorted((here / "out").iterdir())] == [MARKER, FILES[0], "provenance.json"]
    command = ["predict", str(here / "run"), str(one), "--out", str(here / "out")]
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 0
    assert written.read_bytes() == first


def test_merging_replaces_only_merged_masks(here):
    for name in ("a", "b"):
        shutil.copytree(here / "d" / "labelsTr", here / name)
    before = contents(here / "d")
    owned = {"owned_by_first": (1,), "owned_by_second": (2, 3)}
    for folder in ("imagesTr", "labelsTr"):
        with pytest.raises(ValueError, match="not a file that voxward wrote as a merged segmentation"):
            voxward.merge(here / "a", here / "b", out=here / "d" / folder, **owned)
    assert contents(here / "d") == before
    for _ in range(2):
        voxward.merge(here / "a", here / "b", out=here / "merged", **owned)
    voxward.merge(here / "a", here / "b", out=here / "d" / "imagesTr", overwrite=True, **owned)
    assert contents(here / "d") != before


def test_preparing_replaces_only_prepared_cases(here):
    mine = here / "prepared" / "phantom_003"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    plan = here / "run" / "plan.json"
    with pytest.raises(ValueError, match="phantom_003: named like a case, but not a prepared case"):
        voxward.prepare(here / "d", out=here / "prepared", plan=plan)
    assert [path.name for path in (here / "prepared").iterdir()] == ["phantom_003"]
    assert (mine / "thesis.txt").read_text() == "years of work"
    voxward.prepare(here / "d", out=here / "prepared", plan=plan, overwrite=True)
    assert not (mine / "thesis.txt").exists()
    (mine / "notes.txt").write_text("mine")  # among the files of a case
    (here / "d" / "imagesTr" / FILES[3]).touch()
    with pytest.raises(ValueError, match="phantom_003: named like a case"):
        voxward.prepare(here / "d", out=here / "prepared", plan=plan)
    assert (mine / "notes.txt").read_text() == "mine"


def test_a_prepared_case_that_is_a_link_is_replaced_and_not_what_it_leads_to(here):
    voxward.prepare(here / "d", out=here / "prepared", plan=here / "run" / "plan.json")
    (here / "prepared" / "phantom_003").rename(here / "elsewhere")
    (here / "prepared" / "phantom_003").symlink_to(here / "elsewhere")
    before = contents(here / "elsewhere")
    (here / "d" / "imagesTr" / FILES[3]).touch()
    voxward.prepare(here / "d", out=here / "prepared", plan=here / "run" / "plan.json")
    assert not (here / "prepared" / "phantom_003").is_symlink()
    assert contents(here / "elsewhere") == before


@pytest.mark.parametrize("name", ["plan.json", "recipe.yaml", "splits.json", "logs/training.csv"])
def test_suspects_replace_only_suspects(here, name):
    before = contents(here / "run")
    with pytest.raises(ValueError, match="not a file that voxward wrote as a list of suspects"):
        voxward.suspects(here / "run", out=here / "run" / name)
    assert contents(here / "run") == before
    for _ in range(2):
        voxward.suspects(here / "run")
    reviewed = here / "run" / "suspects.csv"
    reviewed.write_text("case,loss,limit\nphantom_001,1.0,0.9\n")
    with pytest.raises(ValueError, match="edited since"):
        voxward.suspects(here / "run")
    voxward.suspects(here / "run", overwrite=True)


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "metrics.md", "predictions/phantom_005.nii.gz"])
def test_evaluating_replaces_only_its_own(here, name):
    mine = here / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(ValueError, match="not a file that voxward wrote as"):
        voxward.evaluate(here / "run", here / "d", out=here / "out")
    assert contents(here / "out") == {mine: b"mine"}
    for _ in range(2):
        voxward.evaluate(here / "run", here / "d", out=here / "out", overwrite=True)
    voxward.evaluate(here / "run", here / "d", out=here / "out")


@pytest.mark.parametrize("name", ["robustness.md", "curves.png", "panel-run.png", "sanity.json"])
def test_attacking_replaces_only_its_own(here, name):
    (here / "out").mkdir()
    (here / "out" / name).write_text("mine")
    small = {"attacks": ("fgsm-ce",), "controls": (), "eps": (8 / 255,), "cases": 1}
    with pytest.raises(ValueError, match="not a file that voxward wrote as part of a robustness report"):
        voxward.attack(here / "run", here / "d", out=here / "out", overrides=changes(**small))
    assert [path.name for path in (here / "out").iterdir()] == [name]
    assert (here / "out" / name).read_text() == "mine"
    if name == "robustness.md":
        voxward.attack(
            here / "run", here / "d", out=voxward.Output(here / "out", overwrite=True), overrides=changes(**small)
        )
        voxward.attack(here / "run", here / "d", out=here / "out", overrides=changes(**small))  # these are its own


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_plan_of_a_run_is_not_replaced(here, overwrite):
    """Its weights would no longer fit it."""
    before = contents(here / "run")
    with pytest.raises(ValueError, match="holds a run"):
        voxward.plan(here / "d", recipe="rog", out=here / "run", overwrite=overwrite)
    assert contents(here / "run") == before


def test_an_edited_plan_is_not_replaced(here):
    """Neither by the next plan nor by a training into the same folder; a training that is given it follows it."""
    voxward.plan(here / "d", recipe="dynunet", out=here / "new")
    plan = here / "new" / "plan.json"
    edited = plan.read_text().replace('"batch_size": 2', '"batch_size": 1')
    plan.write_text(edited)
    with pytest.raises(ValueError, match=r"plan\.json: not a file that voxward wrote as a plan"):
        voxward.plan(here / "d", recipe="dynunet", out=here / "new")
    with pytest.raises(ValueError, match=r"plan\.json: not a file that voxward wrote as a plan"):
        voxward.train(here / "d", out=here / "new", recipe="dynunet", overrides=TINY)
    assert plan.read_text() == edited
    voxward.train(
        here / "d", out=here / "new", recipe="dynunet", overrides=[*TINY, "training.epochs=1"], reuse=Reuse(plan=plan)
    )
    assert plan.read_text() == edited


@pytest.mark.parametrize("layout", ["brats", "msd"])
def test_preparing_never_replaces_the_dataset_itself(tmp_path, layout):
    """Not even where it is told to overwrite: a case or folder of files may have the name that a prepared one gets."""
    if layout == "brats":
        voxward.write_phantoms(tmp_path / "d", cases=3, kind="brain", size=24)
        recipe, match = "brats-a", r"Phantom_000.*holds files of the dataset"
    else:
        voxward.write_phantoms(tmp_path / "d", cases=3, size=24)
        description = json.loads((tmp_path / "d" / "dataset.json").read_text())
        shutil.move(tmp_path / "d" / "imagesTr" / FILES[1], tmp_path / "d" / "imagesTr" / "labelsTr.nii.gz")
        description["training"][1]["image"] = "imagesTr/labelsTr.nii.gz"
        (tmp_path / "d" / "dataset.json").write_text(json.dumps(description))
        recipe, match = "dynunet", "labelsTr: holds files of the dataset"
    before = contents(tmp_path / "d")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=match):
            voxward.prepare(tmp_path / "d", out=tmp_path / "d", recipe=recipe, overwrite=overwrite)
    assert contents(tmp_path / "d") == before


@pytest.mark.parametrize("name", [".DS_Store", "._image.b2nd"])
def test_what_systems_leave_in_a_prepared_case_is_in_nobody_s_way(here, name):
    (here / "run" / "prepared" / "phantom_003" / name).write_text("")
    (here / "d" / "imagesTr" / FILES[3]).touch()
    voxward.prepare(here / "d", out=here / "run" / "prepared", plan=here / "run" / "plan.json")
    assert not (here / "run" / "prepared" / "phantom_003" / name).exists()


def test_a_current_case_with_a_note_in_it_is_left_as_it_is(here):
    voxward.prepare(here / "d", out=here / "run" / "prepared", plan=here / "run" / "plan.json")
    note = here / "run" / "prepared" / "phantom_003" / "notes.txt"
    note.write_text("mine")
    voxward.prepare(here / "d", out=here / "run" / "prepared", plan=here / "run" / "plan.json")
    assert note.read_text() == "mine"


def test_the_state_of_another_run_is_not_taken_over(here):
    """It would silently go on with the other run's weights and length."""
    state = RunFolder(here / "new").state
    state.parent.mkdir(parents=True)
    shutil.copy(RunFolder(here / "run").state, state)
    with pytest.raises(ValueError, match=r"holds state\.pt of another run"):
        voxward.train(here / "d", out=here / "new", recipe="dynunet", overrides=TINY, fold=Fold(seed=5))


@pytest.mark.parametrize("gone", ["state.pt", "state.pt best", "state.pt last best"])
def test_a_trained_run_without_its_state_is_not_begun_again(here, gone):
    run = RunFolder(here / "run")
    for name in gone.split():
        (run.state if name == "state.pt" else run.weights(name)).unlink()
    before = contents(here / "run")
    with pytest.raises(ValueError, match=r"without which it cannot go on.*nothing was changed"):
        voxward.train(here / "d", out=here / "run", resume=True)
    run.recipe.rename(here / "recipe.yaml")
    with pytest.raises(ValueError, match="of another run: choose another --out"):
        voxward.train(here / "d", out=here / "run", recipe="dynunet", overrides=TINY)
    shutil.move(here / "recipe.yaml", run.recipe)
    assert contents(here / "run") == before


def test_a_finished_run_that_is_resumed_keeps_its_weights(here):
    run = RunFolder(here / "run")
    before = {path: path.read_bytes() for path in (run.weights("best"), run.weights("last"), run.log, run.state)}
    voxward.train(here / "d", out=here / "run", resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_a_training_that_was_killed_before_its_first_validation_can_begin(here):
    """There is a state from the start, so that a run without one is never one that has not begun."""

    def stop(name, done, total, /, **figures):
        if name == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        voxward.train(here / "d", out=here / "new", recipe="dynunet", overrides=TINY, progress=stop, fold=Fold(seed=1))
    assert torch.load(RunFolder(here / "new").state, weights_only=True)["state"]["step"] == 0
    voxward.train(here / "d", out=here / "new", resume=True)
    assert RunFolder(here / "new").weights("best").read_bytes() == RunFolder(here / "run").weights("best").read_bytes()


@pytest.mark.parametrize("change", ["touched", "removed case"])
def test_hardening_leaves_the_first_run_alone(here, change):
    if change == "touched":
        (here / "d" / "imagesTr" / FILES[2]).touch()
    else:
        shutil.rmtree(next((here / "run" / "prepared").glob("phantom_*")))
    before = contents(here / "run")
    small = ["training.epochs=1", "training.workers=0", "defence.steps=1"]
    hardened = voxward.harden(
        here / "run", out=here / "h", method="pgd", overrides=small, change=Change(dataset=here / "d")
    )
    assert contents(here / "run") == before
    assert (hardened / "prepared").is_dir()


def test_hardening_on_other_images_is_refused(here):
    shutil.rmtree(here / "d")
    voxward.write_phantoms(here / "d", cases=8, size=24, seed=99)
    before = contents(here / "run")
    with pytest.raises(UserError, match=r"holds other images than .* was trained on: train there with --start"):
        voxward.harden(here / "run", out=here / "h", method="pgd", change=Change(dataset=here / "d"))
    assert contents(here / "run") == before
    assert not (here / "h").exists()


def test_hardening_shares_what_is_prepared(here):
    """Of the dataset itself nothing is prepared twice."""
    voxward.prepare(here / "d", out=here / "run" / "prepared", plan=here / "run" / "plan.json")
    before = contents(here / "run")
    small = ["training.epochs=1", "training.workers=0", "defence.steps=1"]
    hardened = voxward.harden(
        here / "run", out=here / "h", method="pgd", overrides=small, change=Change(dataset=here / "d")
    )
    assert contents(here / "run") == before
    assert not (hardened / "prepared").exists()


def with_bad_logits(run: Path, value: float, weights: str) -> None:
    """Give the run's network a weight that makes some of its logits NaN or infinite."""
    path = RunFolder(run).weights("best")
    tensors = load_file(path)
    for name in [name for name in tensors if weights in name][-1:]:
        tensors[name].view(-1)[0] = value
    save_file(tensors, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_are_an_error_that_names_the_case(here, value):
    """A single class of them would silently be background, or everything."""
    with_bad_logits(here / "run", value, "bias")
    image = here / "d" / "imagesTr" / FILES[5]
    for work in (
        lambda out: voxward.predict(here / "run", image, out=out),
        lambda out: voxward.predict(composed(here, "ensemble", [here / "run"] * 2), image, out=out),
        lambda out: voxward.predict(composed(here, "cascade", [here / "run"] * 2), image, out=out),
        lambda out: voxward.predict(here / "run", image, out=out, overrides=changes(tta="mirrors")),
    ):
        with pytest.raises(ValueError, match="phantom_005: the model returns NaN or infinite logits"):
            work(here / "out")
    with pytest.raises(ValueError, match=r"phantom_00[0-9]: the model returns NaN or infinite logits"):
        voxward.evaluate(here / "run", here / "d", out=here / "out")
    assert main(["predict", str(here / "run"), str(image), "--out", str(here / "out")]) == 2
    assert not list(here.glob("out/**/*.nii.gz"))


def test_votes_do_not_hide_logits_that_are_no_numbers(here):
    recipe = RunFolder(here / "run").recipe
    text = re.sub(r"^checksum: .*\n", "", recipe.read_text(), flags=re.MULTILINE)  # as whoever edits a file does
    text = text.replace("combine: mean", "combine: vote")
    recipe.write_text(text.replace("weights: gaussian", "weights: constant"))
    image = here / "d" / "imagesTr" / FILES[5]
    voxward.predict(here / "run", image, out=here / "sound")
    with_bad_logits(here / "run", float("nan"), "bias")
    with pytest.raises(ValueError, match="phantom_005: the model returns NaN or infinite logits"):
        voxward.predict(here / "run", image, out=here / "out")


def a_nifti_file(shape: tuple[int, ...] = (4, 4, 4)) -> bytearray:
    """A small file whose header claims a shape."""
    header = bytearray(nibabel.Nifti1Image(np.zeros((4, 4, 4), "i2"), np.eye(4)).to_bytes())
    header[40:56] = np.array([3, *shape, 1, 1, 1, 1], "<i2").tobytes()
    return header


@pytest.mark.slow
def test_a_nifti_file_that_claims_too_much_costs_no_memory(tmp_path):
    """In its shape, in the length that a packed file notes, or in a header extension, which nibabel reads."""
    files = {}
    for n, shape in enumerate([(1500, 1500, 1500), (32767, 32767, 32767), (4, 4, 5)]):
        header = bytes(a_nifti_file(shape))
        files[tmp_path / f"shape-{n}.nii"] = files[tmp_path / f"shape-{n}.nii.gz"] = "the header claims"
        (tmp_path / f"shape-{n}.nii").write_bytes(header)
        (tmp_path / f"shape-{n}.nii.gz").write_bytes(gzip.compress(header))
    noted = gzip.compress(bytes(a_nifti_file((1000, 1000, 500)))) + gzip.compress(os.urandom(2 << 20))
    (tmp_path / "noted.nii.gz").write_bytes(noted[:-4] + b"\xff" * 4)
    files[tmp_path / "noted.nii.gz"] = "noted.nii.gz is truncated"
    zeros = gzip.compress(bytes(1 << 28), 1)
    claims = [(1 << 30, 1 << 25), (7, 1 << 20), (-16, 1 << 20), (1 << 30, 1 << 30), (1 << 25, 400)]
    for n, (length, start) in enumerate(claims):
        header = a_nifti_file()
        header[108:112] = np.array([start], "<f4").tobytes()
        content = bytes(header[:348]) + b"\x01\0\0\0" + np.array([length, 6], "<i4").tobytes()
        files[tmp_path / f"extension-{n}.nii"] = files[tmp_path / f"extension-{n}.nii.gz"] = "extension"
        (tmp_path / f"extension-{n}.nii").write_bytes(content + bytes(1 << 10))
        (tmp_path / f"extension-{n}.nii.gz").write_bytes(gzip.compress(content) + zeros)
    assert_refused_in_little_memory(files)


def test_a_nifti_file_that_claims_too_much_is_a_problem(here):
    (here / "d" / "imagesTr" / FILES[0]).write_bytes(gzip.compress(bytes(a_nifti_file((1500, 1500, 1500)))))
    (problem,) = voxward.check(here / "d").problems
    assert (problem.case, problem.kind) == ("phantom_000", "unreadable image")
    assert "the header claims 6750000352 bytes" in problem.message


def test_header_extensions_are_read_over(tmp_path):
    image = nibabel.Nifti1Image(np.arange(64, dtype="i2").reshape(4, 4, 4), np.eye(4))
    for content in (b"a comment", b"another " * 40):
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", content))
    for kind, name in (
        (nibabel.Nifti1Image, "x.nii"),
        (nibabel.Nifti1Image, "x.nii.gz"),
        (nibabel.Nifti2Image, "y.nii"),
    ):
        nibabel.save(kind.from_image(image), tmp_path / name)
        np.testing.assert_array_equal(voxward.read_image([tmp_path / name]).array[0], np.arange(64).reshape(4, 4, 4))


def test_a_packed_file_in_two_parts_is_whole(tmp_path):
    """The length noted at its end is that of the second part alone."""
    content = nibabel.Nifti1Image(np.arange(4096, dtype="i2").reshape(16, 16, 16), np.eye(4)).to_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    array = voxward.read_image([tmp_path / "x.nii.gz"]).array
    np.testing.assert_array_equal(array[0], np.arange(4096).reshape(16, 16, 16))
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:-2]))
    with pytest.raises(ValueError, match=f"claims {len(content)} bytes, and the file holds at most {len(content) - 2}"):
        voxward.read_image([tmp_path / "x.nii.gz"])
