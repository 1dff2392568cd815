"""Which cases are scored: those that no run was trained on, whatever they and their dataset are called."""

import json
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.end_to_end.build import composed
from tests.end_to_end.conftest import TINY
from tests.systems.arriving import chosen_as_they_come
from voxward.cli import main
from voxward.commands.attack import attack
from voxward.commands.evaluate import evaluate
from voxward.commands.plan import plan
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.core.choices import Cases, Fold, Reuse
from voxward.data.formats import open_dataset
from voxward.phantoms.write import write_phantoms
from voxward.systems.open import open_system
from voxward.systems.unseen import scope_for


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def split(trained):
    return json.loads((trained / "splits.json").read_text())


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another site's dataset, with the name and the ids of the run's."""
    root = tmp_path_factory.mktemp("other") / "data"
    write_phantoms(root, 8, seed=99, size=24)
    return root


def copied(phantoms, root, keep=None, **changes):
    """A copy of the dataset, with some of its cases, that calls itself otherwise."""
    shutil.copytree(phantoms, root)
    description = json.loads((root / "dataset.json").read_text())
    if keep is not None:
        listed = [entry for entry in description["training"] if Path(entry["image"]).name.split(".")[0] in keep]
        changes |= {"training": listed, "numTraining": len(listed)}
    (root / "dataset.json").write_text(json.dumps(description | changes))
    return root


def plain(phantoms, root, names, suffix=".nii.gz", kind=None):
    """Cases in a plain folder, under other ids and file types. names: the new id of each case."""
    for source, target in (("imagesTr", "images"), ("labelsTr", "labels")):
        (root / target).mkdir(parents=True, exist_ok=True)
        for id, name in names.items():
            volume = nib.load(phantoms / source / f"{id}.nii.gz")
            array = np.asanyarray(volume.dataobj)
            array = array.astype(kind) if kind and target == "images" else array
            nib.save(nib.Nifti1Image(array, volume.affine), root / target / f"{name}{suffix}")
    shutil.copy(phantoms / "dataset.json", root / "d.json")
    labels = json.loads((root / "d.json").read_text())["labels"]
    (root / "d.json").unlink()
    (root / "labels.json").write_text(json.dumps({name: int(value) for value, name in labels.items()}))
    return root


def ids(result):
    return {case.id for case in result.cases}


@pytest.mark.parametrize("how", ["renamed", "link", "dot", "called otherwise"])
def test_the_runs_own_dataset_is_known_by_any_name(phantoms, run, split, tmp_path, monkeypatch, how):
    root = copied(phantoms, tmp_path / "siteA_2026", **({"name": "Else"} if how == "called otherwise" else {}))
    if how == "link":
        root.rename(tmp_path / "real")
        root.symlink_to(tmp_path / "real")
    if how == "dot":
        monkeypatch.chdir(root)
        root = Path(".")
    result = evaluate(run, root)
    assert ids(result) == set(split["validation"])
    assert (run / "metrics.json").is_file()  # its own figures
    assert not list(run.glob("on-*"))


def test_training_inside_the_folder_of_the_dataset(phantoms, tmp_path, monkeypatch):
    """What `.` is called is nobody's name; the run still knows its cases when it is given the folder's full path."""
    root = plain(phantoms, tmp_path / "site", {f"phantom_{n:03d}": f"p{n}" for n in range(4)})
    monkeypatch.chdir(root)
    run = train(".", out=tmp_path / "run", recipe="dynunet", overrides=TINY, fold=Fold(seed=1))
    monkeypatch.chdir(tmp_path)
    assert ids(evaluate(run, root)) == set(json.loads((run / "splits.json").read_text())["validation"])


def test_another_site_with_the_same_name_and_ids_is_scored_whole(run, other):
    own = evaluate(run)
    kept = {name: (run / name).read_bytes() for name in ("metrics.json", "metrics.csv")}
    predictions = {path: path.read_bytes() for path in (run / "predictions").glob("*.nii.gz")}
    name = open_dataset(other).name
    with pytest.warns(UserWarning, match=f"6 cases of {other} have the ids of cases .* other images"):
        result = evaluate(run, other)
    assert len(result.cases) == 8
    assert ids(result) > ids(own)
    assert kept == {name: (run / name).read_bytes() for name in kept}
    assert predictions == {path: path.read_bytes() for path in predictions}
    assert (run / f"on-{name}" / "metrics.json").is_file()


def test_a_third_site_of_that_name_gets_a_folder_of_its_own(run, other, tmp_path):
    name = open_dataset(other).name
    write_phantoms(tmp_path / "third", 3, seed=5, size=24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluate(run, other)
        before = (run / f"on-{name}" / "metrics.json").read_bytes()
        evaluate(run, tmp_path / "third")
        evaluate(run, tmp_path / "third")
    assert (run / f"on-{name}" / "metrics.json").read_bytes() == before
    assert len(list(run.glob(f"on-{name}-*"))) == 1


@pytest.mark.parametrize(("suffix", "kind"), [(".nii", np.float32), (".nii.gz", np.float64)])
def test_cases_under_other_ids_and_in_other_files_are_left_out(phantoms, run, split, tmp_path, suffix, kind):
    names = {f"phantom_{n:03d}": f"sub-{n:02d}" for n in range(8)}
    root = plain(phantoms, tmp_path / "again", names, suffix, kind)
    with pytest.warns(UserWarning, match="6 cases of .* are left out"):
        result = evaluate(run, root)
    assert ids(result) == {names[id] for id in split["validation"]}
    assert "left out, because they were seen in training: 6 cases" in (run / "on-again/metrics.md").read_text()
    stored = json.loads((run / "on-again/metrics.json").read_text())["origin"]
    assert set(stored["left_out"]) == {names[id] for id in (*split["fit"], *split["selection"])}


def test_a_partial_overlap_scores_what_is_unseen(phantoms, run, split, other, tmp_path):
    root = plain(phantoms, tmp_path / "mixed", {split["fit"][0]: "old"})
    plain(other, root, {"phantom_003": "new", "phantom_004": "newer"})
    with pytest.warns(UserWarning, match=r"1 case of .* is left out.* \(old\)"):
        assert ids(evaluate(run, root)) == {"new", "newer"}


def test_a_subset_of_the_own_dataset(phantoms, run, split, tmp_path):
    evaluate(run)
    before = (run / "metrics.json").read_bytes()
    part = copied(phantoms, tmp_path / "part", keep=[split["validation"][0], *split["fit"]])
    with pytest.warns(UserWarning, match="left out"):
        assert ids(evaluate(run, part)) == {split["validation"][0]}
    assert (run / "metrics.json").read_bytes() == before


def test_seen_cases_are_scored_on_request_and_the_table_says_so(phantoms, run, split, tmp_path, capsys):
    part = copied(phantoms, tmp_path / "part", keep=split["fit"])
    with pytest.raises(ValueError, match=rf"{split['fit'][0]}.*--include-seen"):
        evaluate(run, part)
    result = evaluate(run, Cases(part, include_seen=True))
    assert ids(result) == set(split["fit"])
    assert set(result.origin.seen) == set(split["fit"])
    assert main(["evaluate", str(run), str(part), "--include-seen", "--out", str(tmp_path / "o")]) == 0
    count = len(split["fit"])
    assert f"{count} of {count} cases were seen in training" in " ".join(capsys.readouterr().out.split())
    assert f"{count} of {count} cases were seen in training" in (tmp_path / "o/metrics.md").read_text()


def test_seen_cases_of_the_own_dataset_go_to_a_folder_of_their_own(run, split):
    evaluate(run)
    before = (run / "metrics.json").read_bytes()
    result = evaluate(run, Cases(include_seen=True))
    assert len(result.cases) == 8
    assert set(result.origin.seen) == {*split["fit"], *split["selection"]}
    assert (run / "metrics.json").read_bytes() == before


def test_an_attack_leaves_seen_cases_out_and_reads_no_more_than_it_needs(phantoms, run, split, tmp_path, monkeypatch):
    names = {id: f"sub-{n:02d}" for n, id in enumerate([*split["fit"], *split["validation"], *split["selection"]])}
    root, read = plain(phantoms, tmp_path / "again", names), []
    from voxward.data import identity

    original = identity.read_image
    monkeypatch.setattr(identity, "read_image", lambda paths: read.append(paths) or original(paths))
    settings = ["cases=1", "attacks=[fgsm-dice]", "controls=[]"]
    with pytest.warns(UserWarning, match="left out"):
        found = attack(run, root, out=tmp_path / "a", protocol="quick", overrides=settings)
    assert {record.case for record in found.records} == {names[split["validation"][0]]}
    assert len(read) == len(split["fit"]) + 1
    assert "left out, because they were seen in training" in (tmp_path / "a/robustness.md").read_text()
    assert json.loads((tmp_path / "a/sanity.json").read_text())["left_out"]
    assert "because the system was trained on" in (tmp_path / "a/report.html").read_text(encoding="utf-8")
    assert found.report is not None


def test_an_old_run_reads_its_training_cases_again(phantoms, run, split, tmp_path):
    (run / "cases.json").unlink()
    names = {id: f"sub-{n:02d}" for n, id in enumerate([*split["fit"], *split["validation"]])}
    root = plain(phantoms, tmp_path / "again", names)
    with pytest.warns(UserWarning, match=r"made by version 0\.2|5 cases of .* left out"):
        assert ids(evaluate(run, root)) == {names[id] for id in split["validation"]}


def test_an_old_run_without_its_dataset_goes_by_ids(phantoms, run, split, tmp_path):
    (run / "cases.json").unlink()
    settings = json.loads((run / "run.json").read_text())
    del settings["checksum"]  # as whoever edits a file does
    (run / "run.json").write_text(json.dumps(settings | {"dataset": str(tmp_path / "gone")}))
    with pytest.warns(UserWarning, match="known by their ids"):
        assert ids(evaluate(run, copied(phantoms, tmp_path / "renamed", name="X"))) == set(split["validation"])


def test_a_validation_case_that_has_changed_is_named(phantoms, run, split, other, tmp_path):
    root = copied(phantoms, tmp_path / "changed")
    id = split["validation"][0]
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(other / part / f"{id}.nii.gz", root / part)
    with pytest.warns(UserWarning, match=f"1 validation cases in .* have other images .*{id}"):
        assert ids(evaluate(run, root)) == set(split["validation"])


def test_an_image_in_two_parts_of_the_split_is_told_and_not_scored(phantoms, split, tmp_path):
    root = copied(phantoms, tmp_path / "twice")
    twin, fit = split["validation"][0], split["fit"][0]
    shutil.copy(root / "imagesTr" / f"{fit}.nii.gz", root / "imagesTr" / f"{twin}.nii.gz")
    with pytest.warns(UserWarning, match=f"1 validation cases show the same image as a fit case: {twin} = {fit}"):
        run = train(root, out=tmp_path / "run", recipe="dynunet", overrides=TINY, fold=Fold(seed=1))
    with pytest.warns(UserWarning, match=rf"1 case of .* left out.* \({twin}\)"):
        assert ids(evaluate(run)) == set(split["validation"]) - {twin}


def test_an_ensemble_knows_what_every_member_was_trained_on(phantoms, run, split, other, tmp_path):
    """The second member was trained on the validation cases of the first."""
    swapped = tmp_path / "second"
    shutil.copytree(run, swapped)
    found = json.loads((swapped / "cases.json").read_text())
    for case in found["cases"]:
        case["use"] = "fit" if case["id"] == split["validation"][0] else case["use"]
    del found["checksum"]
    (swapped / "cases.json").write_text(json.dumps(found))
    system = composed(tmp_path, "ensemble", [run, swapped])
    with pytest.warns(UserWarning, match="left out"):
        result = evaluate(system, phantoms, out=tmp_path / "out")
    assert ids(result) == set(split["validation"][1:])


def test_weights_remember_what_the_run_before_was_trained_on(phantoms, run, split, tmp_path):
    """Cases that an earlier run was trained on are seen, also where the new run's own split lacks them."""
    after = train(phantoms, out=tmp_path / "after", overrides=TINY, recipe="dynunet", reuse=Reuse(start=run))
    known = json.loads((after / "cases.json").read_text())["cases"]
    assert {case["id"]: case["use"] for case in known} == {
        **dict.fromkeys(split["fit"], "fit"),
        **dict.fromkeys(split["selection"], "selection"),
        **dict.fromkeys(split["validation"], "validation"),
    }


@pytest.mark.slow
def test_a_chain_of_runs_on_sites_with_the_same_ids_forgets_none(phantoms, run, split, other, tmp_path):
    write_phantoms(tmp_path / "third", 3, seed=55, size=24)
    start = run
    for n, site in enumerate((other, tmp_path / "third")):
        start = train(site, out=tmp_path / f"after{n}", overrides=TINY, recipe="dynunet", reuse=Reuse(start=start))
    for site, count in ((phantoms, 6), (other, 6)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = evaluate(start, site)
        assert len(found.origin.left_out) == count
        assert any(f"{count} cases of {site} are left out" in str(one.message) for one in caught)


def test_a_copy_without_a_training_case_gives_the_run_s_own_figures(phantoms, run, split, tmp_path):
    part = copied(phantoms, tmp_path / "part", keep=[*split["fit"][1:], *split["selection"], *split["validation"]])
    with pytest.warns(UserWarning, match="left out"):
        assert ids(evaluate(run, part)) == set(split["validation"])
    assert (run / "metrics.json").is_file()


def test_swapped_arguments_are_named(phantoms, run):
    with pytest.raises(ValueError, match="the system comes first, then the dataset"):
        evaluate(phantoms, run)


@pytest.mark.parametrize("split", ["validations", ""])
def test_an_unknown_split_is_refused(run, split):
    with pytest.raises(ValueError, match="split must be one of validation, test, all"):
        evaluate(run, Cases(split=split))


def test_results_do_not_go_into_a_dataset(phantoms, run, tmp_path):
    root = copied(phantoms, tmp_path / "site")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for out in (root, root / "labelsTr", root / "imagesTr", root / "labelsTs"):
        out.mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="the folder of a dataset"):
            predict(run, root, out=out)
    with pytest.raises(ValueError, match="the dataset's own folder"):
        plan(root, out=root, recipe="dynunet")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


class TestHeldOutCases:
    @pytest.fixture
    def site(self, phantoms, other, tmp_path):
        """The run's dataset with two labelled test cases."""
        root = copied(phantoms, tmp_path / "site")
        description = json.loads((root / "dataset.json").read_text())
        (root / "imagesTs").mkdir(exist_ok=True)
        entries = []
        for n, id in enumerate(("phantom_001", "phantom_002")):
            shutil.copy(other / f"imagesTr/{id}.nii.gz", root / f"imagesTs/held{n}.nii.gz")
            shutil.copy(other / f"labelsTr/{id}.nii.gz", root / f"imagesTs/label{n}.nii.gz")
            entries.append({"image": f"imagesTs/held{n}.nii.gz", "label": f"imagesTs/label{n}.nii.gz"})
        (root / "dataset.json").write_text(json.dumps(description | {"test": entries, "numTest": 2}))
        return root

    def test_the_test_set_has_a_folder_of_its_own(self, site, run, split):
        evaluate(run, site)
        before = (run / "metrics.json").read_bytes()
        assert ids(evaluate(run, Cases(site, split="test"))) == {"held0", "held1"}
        assert (run / "metrics.json").read_bytes() == before
        stored = json.loads((run / "test/metrics.json").read_text())["origin"]
        assert (stored["split"], stored["root"]) == ("test", str(site))

    def test_all_is_everything_unseen(self, site, run, split):
        with pytest.warns(UserWarning, match="6 cases of .* left out"):
            found = evaluate(run, Cases(site, split="all"))
        assert ids(found) == {"held0", "held1", *split["validation"]}
        assert (run / "all/metrics.json").is_file()

    def test_a_test_case_that_was_trained_on_is_left_out(self, site, run, split):
        shutil.copy(site / "imagesTr" / f"{split['fit'][0]}.nii.gz", site / "imagesTs/held0.nii.gz")
        with pytest.warns(UserWarning, match=r"1 case of .* left out.* \(held0\)"):
            assert ids(evaluate(run, Cases(site, split="test"))) == {"held1"}

    @pytest.mark.slow
    def test_attacks_take_the_same_choice(self, site, run, tmp_path):
        settings = ["attacks=[fgsm-dice]", "controls=[]"]
        found = attack(run, Cases(site, split="test"), out=tmp_path / "a", protocol="quick", overrides=settings)
        assert {record.case for record in found.records} == {"held0", "held1"}

    def test_without_one_it_is_refused(self, phantoms, run):
        with pytest.raises(ValueError, match="no test cases with labels"):
            evaluate(run, Cases(phantoms, split="test"))


class TestResuming:
    """A run goes on with its own images only."""

    def test_other_images_of_the_same_ids_are_refused(self, run, other):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match=r"holds other images than .*phantom_000.*6 of 6 training cases"):
            train(other, out=run, resume=True)
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    def test_one_replaced_image_is_refused(self, phantoms, run, split, other, tmp_path):
        root, id = copied(phantoms, tmp_path / "site"), split["fit"][1]
        for part in ("imagesTr", "labelsTr"):
            shutil.copy(other / part / f"{id}.nii.gz", root / part)
        with pytest.raises(ValueError, match=f"{id} .1 of 6"):
            train(root, out=run, resume=True)

    def test_a_moved_copy_is_the_same(self, phantoms, run, tmp_path):
        train(copied(phantoms, tmp_path / "site"), out=run, resume=True)

    def test_another_voxel_size_is_another_image(self, phantoms, run, split, tmp_path):
        root, id = copied(phantoms, tmp_path / "site"), split["fit"][0]
        for part in ("imagesTr", "labelsTr"):
            volume = nib.load(root / part / f"{id}.nii.gz")
            affine = volume.affine @ np.diag([1, 1, 1.5, 1])
            nib.save(nib.Nifti1Image(np.asanyarray(volume.dataobj), affine), root / part / f"{id}.nii.gz")
        with pytest.raises(ValueError, match=f"{id} .1 of 6"):
            train(root, out=run, resume=True)


def test_few_images_need_be_there_to_choose_cases(trained, phantoms, other, split, tmp_path):
    """Of the run's own dataset, wherever it lies, the validation cases; of another site's, those that are taken."""
    moved, systems = open_dataset(copied(phantoms, tmp_path / "moved")), [open_system(trained, device="cpu")]
    for source, asked in (
        (moved, Cases()),
        (moved, Cases(ids=split["fit"][:1] + split["validation"])),
        (moved, Cases(split="all")),
    ):
        for count in (1, None):
            found, came = chosen_as_they_come(systems, source, asked, count)
            assert found == scope_for(systems, source, asked, count)
            if asked.split == "validation":
                assert {*came} == {*found.ids}
    found, came = chosen_as_they_come(systems, open_dataset(other), Cases(), 1)
    assert found == scope_for(systems, open_dataset(other), Cases(), 1)
    assert {*came} == {*split["validation"], *found.ids}
