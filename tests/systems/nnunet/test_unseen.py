"""Which cases of a dataset an nnU-Net is scored on and attacked on."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest

import voxward
from tests.systems.arriving import chosen_as_they_come
from tests.systems.nnunet.build import dataset, results
from tests.systems.nnunet.raw import raw, silent, validated
from tests.systems.nnunet.test_heldout import RECORD
from voxward.core.choices import Cases
from voxward.core.errors import UserError
from voxward.data.formats import open_dataset
from voxward.systems.open import open_system
from voxward.systems.unseen import scope_for, training_is_known

IDS = ("a", "b", "c", "d", "e")


@pytest.fixture
def model(tmp_path):
    """Fold 0 held out a and b, fold 1 c and d, fold 2 b and c; e is not named."""
    folder = results(tmp_path / "Dataset999_Tiny" / "trainer", folds=(0, 1, 2), mirrors=())
    for fold, held, seeds in ((0, "ab", (0, 1)), (1, "cd", (2, 3)), (2, "bc", (1, 2))):
        validated(folder, fold, tuple(held), seeds)
    return folder


@pytest.fixture
def data(tmp_path):
    return raw(tmp_path / "raw", IDS)


def scope(model, data, folds, **choices):
    opened = open_system(model, [f"folds={folds}"], "cpu")
    return scope_for([opened], open_dataset(data), Cases(data, **choices), count=choices.pop("count", None))


@pytest.mark.parametrize(("folds", "unseen"), [([0], "ab"), ([1], "cd"), ([0, 2], "b"), ([1, 2], "c")])
def test_in_its_own_dataset_only_what_every_fold_held_out_is_unseen(model, data, folds, unseen):
    found = scope(model, data, folds)
    assert found.ids == tuple(unseen)
    assert found.left_out == tuple(id for id in IDS if id not in unseen)
    assert len(found.notes) == 1
    assert "trained on their images" in found.notes[0]


def test_of_the_cases_that_are_asked_for_only_the_unseen_ones_are_taken_in_their_order(model, data):
    found = scope(model, data, [0], ids=["e", "b", "a"])
    assert (found.ids, found.left_out) == (("b", "a"), ("e",))
    assert scope(model, data, [0, 2], ids=["a", "b"]).ids == ("b",)
    with pytest.raises(UserError, match="there is no unseen case"):
        scope(model, data, [0], ids=["e"])
    with pytest.raises(UserError, match="has no labelled case f, g"):
        scope(model, data, [0], ids=["g", "a", "f"])


def test_few_images_need_be_there_to_choose_cases(model, data):
    opened, source = [open_system(model, ["folds=[0]"], "cpu")], open_dataset(data)
    for asked, count, needed in ((Cases(data), 1, ["a"]), (Cases(data, ids=["b", "a"]), 1, ["a", "b"])):
        found, came = chosen_as_they_come(opened, source, asked, count)
        assert (found, came) == (scope_for(opened, source, asked, count), needed)
    assert chosen_as_they_come(opened, source, Cases(data, include_seen=True), 2)[1] == ["a", "b"]


def test_a_dataset_without_unseen_cases_is_refused_with_the_way_out(model, data):
    with pytest.raises(UserError, match=r"--set folds=\[0\] or folds=\[1\]\), give another dataset"):
        scope(model, data, [0, 1])
    seen = scope(model, data, [0, 1], include_seen=True)
    assert (seen.ids, seen.seen) == (IDS, IDS)


def test_a_hardened_fold_is_known_by_its_own_list(model, data):
    shutil.rmtree(model / "fold_0/validation")
    record = {**RECORD, "trained": ["c", "d"], "selection": ["e"], "unseen": ["a"]}
    (model / "fold_0/hardening.json").write_text(json.dumps(record))
    assert scope(model, data, [0]).ids == ("a",)


def test_fold_all_held_out_nothing(tmp_path, data):
    """nnU-Net validates fold_all on the cases that it was trained on."""
    folder = results(tmp_path / "r", folds=("all",))
    validated(folder, "all", ("a", "b"), (0, 1))
    with pytest.raises(UserError, match="held out none of them: give another dataset"):
        scope(folder, data, ["all"])


@pytest.mark.parametrize("how", ["zip", "no masks", "no summary"])
def test_names_of_a_summary_or_of_masks_are_enough(model, data, tmp_path, how):
    path = model
    if how == "zip":
        path = shutil.make_archive(str(tmp_path / "model"), "zip", model.parent.parent, model.parent.name)
    for file in model.glob("fold_*/validation/*"):
        if how == {".json": "no summary", ".gz": "no masks"}[file.suffix]:
            file.unlink()
    assert scope(path, data, [0]).ids == ("a", "b")


def test_another_dataset_is_scored_whole_with_a_warning(model, tmp_path):
    found = scope(model, raw(tmp_path / "other", ["x", "y"]), [0])
    assert (found.ids, found.left_out) == (("x", "y"), ())
    assert "has none of the 4 cases" in found.notes[0]
    assert "figures are too good" in found.notes[0]


def test_ids_of_other_images_are_another_dataset(model, tmp_path):
    found = scope(model, raw(tmp_path / "other", IDS, shape=(9, 16, 13)), [0, 1])
    assert found.ids == IDS
    assert "other images under the ids a, b, c, d" in found.notes[0]


def test_axes_in_another_order_are_the_same_image(model, tmp_path):
    assert scope(model, raw(tmp_path / "turned", IDS, shape=(16, 13, 11)), [0]).ids == ("a", "b")


def test_a_folder_that_says_nothing_is_warned_of(data, tmp_path):
    found = scope(results(tmp_path / "r"), data, [0])
    assert found.ids == IDS
    assert found.notes == (
        f"nothing is known about which images Dataset999_Tiny-3d_fullres was trained on: if there are cases of {data} "
        "among them, figures are too good. Give only cases that it has not seen",
    )


def test_a_kind_of_system_that_says_nothing_is_warned_of(model, data):
    dataset, quiet = open_dataset(data), silent(model)
    found = scope_for([quiet], dataset)
    assert not training_is_known(quiet, dataset)
    assert training_is_known(open_system(model, ["folds=[0]"], "cpu"), dataset)
    assert found.ids == IDS
    assert found.notes[0].startswith("nothing is known about which images Dataset999_Tiny-3d_fullres was trained on")


def test_a_system_beside_another_one_is_scored_on_what_both_held_out(model, data, tmp_path):
    models = [open_system(model, [f"folds=[{fold}]"], "cpu") for fold in (0, 2)]
    assert scope_for(models, open_dataset(data)).ids == ("b",)
    assert scope_for([*models, silent(model)], open_dataset(data)).ids == ("b",)


def test_the_test_set_of_its_dataset_is_unseen(model, data):
    for kind in ("images", "labels"):
        (data / f"{kind}Ts").mkdir()
        for path in (data / f"{kind}Tr").glob("e*"):
            path.rename(data / f"{kind}Ts" / path.name)
    described = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**described, "numTraining": 4}))
    assert scope(model, data, [0], split="test").ids == ("e",)
    assert scope(model, data, [0, 1], split="test").ids == ("e",)
    assert scope(model, data, [0], split="all").ids == ("a", "b", "e")


@pytest.mark.parametrize(("labels", "said"), [
    ({"background": 0, "a": 2, "b": 1}, "a is 1 in the model, and 2 there; b is 2 in the model, and 1 there"),
    ({"background": 0, "a": 1, "b": 2, "c": 3}, "the model has no value 3"),
])  # fmt: skip
def test_labels_that_mean_something_else_are_refused(model, tmp_path, labels, said):
    with pytest.raises(UserError, match=said):
        scope(model, raw(tmp_path / "other", ["x"], dataset(labels=labels)), [0])


def test_labels_with_other_names_or_fewer_are_told(model, tmp_path):
    found = scope(model, raw(tmp_path / "other", ["x"], dataset(labels={"background": 0, "liver": 1})), [0])
    assert "call the same values otherwise, which are scored as the same: 1 is a and liver" in found.notes[0]
    assert "1 classes of Dataset999_Tiny-3d_fullres are not in" in found.notes[1]


def test_capitals_and_underscores_make_no_other_name(tmp_path, data):
    folder = results(tmp_path / "r", data=dataset(labels={"background": 0, "Left_A": 1, "b": 2}))
    (data / "dataset.json").write_text(json.dumps({**dataset(labels={"background": 0, "left a": 1, "B": 2})}))
    assert len(scope(folder, data, [0]).notes) == 1


def test_evaluate_scores_unseen_cases(model, data, tmp_path):
    with pytest.warns(UserWarning, match="3 cases of .* are left out, because Dataset999_Tiny-3d_fullres was trained"):
        found = voxward.evaluate(model, data, out=tmp_path / "out", overrides=["folds=[0]"])
    assert [case.id for case in found.cases] == ["a", "b"]
    assert found.origin.left_out == ("c", "d", "e")


@pytest.mark.slow
def test_attack_perturbs_unseen_cases(model, data, tmp_path):
    changes = ["folds=[1]", "cases=1", "attacks=[fgsm-ce]", "threat.eps=[8/255]", "controls=[]"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = voxward.attack(model, data, out=tmp_path / "out", protocol="quick", overrides=changes)
    assert {record.case for record in found.records} == {"c"}
    assert any("left out, because Dataset999_Tiny-3d_fullres was trained" in str(each.message) for each in told)
