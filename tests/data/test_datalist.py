"""The lists of a dataset.json: folds, validation and test lists, counts, ids, and files that mean one case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from voxward.core.case import Dataset
from voxward.data.check import check_dataset
from voxward.data.formats import declared, open_dataset
from voxward.data.formats.datalist import distinct_ids
from voxward.data.io import write_image, write_label
from voxward.data.splits import declared_folds, load_split

ENDING = ".nii.gz"


def entry(name: str, folder: str = "Tr", **more: Any) -> dict[str, Any]:
    return {"image": f"./images{folder}/{name}{ENDING}", "label": f"./labels{folder}/{name}{ENDING}", **more}


def describe(root: Path, training: list[Any], **lists: Any) -> Path:
    root.mkdir(exist_ok=True, parents=True)
    description = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}, "training": training, **lists}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def image(path: Path) -> Path:
    # Every image is another one: `check` names two cases of equal content.
    array = np.random.default_rng(crc32(path.name.encode())).integers(0, 99, (1, 3, 4, 5))
    write_image(path, array.astype(np.int16), np.eye(4))
    return path


def label(path: Path) -> Path:
    write_label(path, np.arange(60).reshape(3, 4, 5) % 2, np.eye(4))
    return path


def numbered(root: Path) -> Path:
    return describe(root, [entry(f"c{n}", fold=n % 3) for n in range(6)])


def opened(root: Path) -> tuple[Dataset, list[str]]:
    dataset, refused = declared(root)
    assert not refused
    return dataset, [remark.message for remark in dataset.remarks]


def test_a_fold_validates_on_its_own_entries(tmp_path: Path) -> None:
    dataset, remarks = opened(numbered(tmp_path))
    assert [load_split(dataset, k).validation for k in range(3)] == [("c0", "c3"), ("c1", "c4"), ("c2", "c5")]
    assert load_split(dataset, 1).train == ("c0", "c2", "c3", "c5")
    assert load_split(dataset, 1, seed=7) == load_split(dataset, 1, seed=8)
    assert not remarks
    with pytest.raises(ValueError, match=r"dataset\.json declares the folds 0, 1, 2, and has no fold 3"):
        load_split(dataset, 3)


def test_folds_may_begin_with_one_and_leave_cases_out(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry("a", fold=1), entry("b", fold="2"), entry("c")])
    dataset, (remark,) = opened(root)
    assert load_split(dataset, 1).validation == ("a",)
    assert load_split(dataset, 2).train == ("a", "c")
    assert 'no "fold"' in remark
    assert "c.nii.gz" in remark
    with pytest.raises(ValueError, match="the folds 1, 2"):
        load_split(dataset, 0)


@pytest.mark.parametrize("fold", [-1, 0.5, True, "first", [0]])
def test_a_fold_that_is_no_number_is_refused(tmp_path: Path, fold: Any) -> None:
    with pytest.raises(ValueError, match=r'dataset\.json: "fold" must be a whole number'):
        open_dataset(describe(tmp_path, [entry("a", fold=fold)]))


def test_a_fold_without_training_cases_is_refused(tmp_path: Path) -> None:
    dataset, _ = opened(describe(tmp_path, [entry("a", fold=0), entry("b", fold=0)]))
    with pytest.raises(ValueError, match="fold 0 has no training case"):
        load_split(dataset)


def test_a_validation_list_is_the_only_fold(tmp_path: Path) -> None:
    dataset, remarks = opened(describe(tmp_path, [entry("a"), entry("b")], validation=[entry("v")]))
    split = load_split(dataset)
    assert (split.train, split.validation) == (("a", "b"), ("v",))
    assert not remarks
    with pytest.raises(ValueError, match="no fold 1"):
        load_split(dataset, 1)


def test_a_case_of_both_lists_validates(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry("a"), entry("b")], validation=[entry("b")])
    dataset, (remark,) = opened(root)
    assert load_split(dataset).train == ("a",)
    assert "they validate" in remark


def test_a_validation_list_without_labels_is_for_predictions(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry(n) for n in "abc"], validation=["imagesVal/v.nii.gz"])
    dataset, (remark,) = opened(root)
    assert [case.id for case in dataset.unlabelled] == ["v"]
    assert not dataset.folds
    assert "name no label" in remark


def test_folds_overrule_a_validation_list_aloud(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry(n, fold=k) for k, n in enumerate("ab")], validation=[entry("v", fold=0)])
    dataset, (remark,) = opened(root)
    assert '"validation"' in remark
    assert "ignored" in remark
    assert [case.id for case in dataset.unused] == ["v"]
    assert "v" not in {*load_split(dataset).train, *load_split(dataset).validation, *load_split(dataset, "all").train}
    with pytest.warns(UserWarning, match="ignored"):
        open_dataset(root)


def test_a_splits_file_overrules_the_folds_aloud(tmp_path: Path) -> None:
    numbered(tmp_path)
    (tmp_path / "splits.json").write_text(json.dumps([{"train": ["c0"], "val": ["c5"]}]))
    dataset, (remark,) = opened(tmp_path)
    assert load_split(dataset).validation == ("c5",)
    assert "declares other folds" in remark
    same = [{"train": split.train, "val": split.validation} for _, split in dataset.folds]
    (tmp_path / "splits.json").write_text(json.dumps(same))
    assert not opened(tmp_path)[1]


def test_the_number_of_folds_that_a_dataset_declares(tmp_path: Path) -> None:
    assert declared_folds(opened(numbered(tmp_path))[0]) == 3
    (tmp_path / "splits.json").write_text(json.dumps([{"train": ["c0"], "val": ["c5"]}]))
    assert declared_folds(opened(tmp_path)[0]) == 1
    (tmp_path / "splits.json").unlink()
    assert declared_folds(opened(describe(tmp_path, [entry("a")]))[0]) is None


def test_all_cases_may_train(tmp_path: Path) -> None:
    dataset, _ = opened(describe(tmp_path, [entry("b"), entry("a")], validation=[entry("v")], test=[entry("t", "Ts")]))
    assert load_split(dataset, "all").train == ("a", "b", "v")
    assert load_split(dataset, "all").validation == ()


def test_labelled_test_entries_are_a_test_set(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry("a")], test=[entry("t", "Ts"), "imagesTs/u.nii.gz"], testing=[entry("w", "Ts")])
    dataset, remarks = opened(root)
    assert [case.id for case in dataset.test] == ["t", "w"]
    assert dataset.test[0].label == tmp_path / "labelsTs/t.nii.gz"
    assert [case.id for case in dataset.unlabelled] == ["u"]
    assert [case.id for case in dataset.cases] == ["a"]
    assert not remarks


def test_labels_beside_the_images_of_a_test_list_are_found(tmp_path: Path) -> None:
    label(tmp_path / "labelsTs/t.nii.gz")
    dataset, _ = opened(describe(tmp_path, [entry("a")], test=["imagesTs/t.nii.gz", "imagesTs/u.nii.gz"]))
    assert [(case.id, case.label) for case in dataset.test] == [("t", tmp_path / "labelsTs/t.nii.gz")]
    assert [case.id for case in dataset.unlabelled] == ["u"]


def test_a_training_image_does_not_test(tmp_path: Path) -> None:
    dataset, (remark,) = opened(describe(tmp_path, [entry("a"), entry("b")], testing=["imagesTr/a.nii.gz"]))
    assert not dataset.test
    assert not dataset.unlabelled
    assert "imagesTr/a.nii.gz" in remark
    assert "do not test" in remark


@pytest.mark.parametrize(
    ("counts", "warned"), [((2, 1), 0), (("2", "1"), 0), ((99, 1), 1), ((2, 5), 1), ((None, 1), 0)]
)
def test_counts_that_are_not_the_lists_are_named(tmp_path: Path, counts: tuple[Any, Any], warned: int) -> None:
    root = describe(tmp_path, [entry("a"), entry("b")], test=["t.nii"], numTraining=counts[0], numTest=counts[1])
    remarks = opened(root)[1]
    assert len(remarks) == warned
    if counts[0] == 99:
        assert '"numTraining" is 99' in remarks[0]
        assert "2 training cases" in remarks[0]


def test_other_lists_of_cases_are_named_as_ignored(tmp_path: Path) -> None:
    remarks = opened(describe(tmp_path, [entry("a", dose="a_dose.nrrd")], holdout=[entry("h")], tags=["x", "y"]))[1]
    assert len(remarks) == 2
    assert any('"holdout" (1 case) is ignored' in remark for remark in remarks)
    assert any('"dose"' in remark for remark in remarks)


def test_a_second_image_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='image2 beside "image"'):
        open_dataset(describe(tmp_path, [entry("a", image2="pet.nii.gz")]))


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (["x/a.nii.gz", "x/b.nii.gz"], ["a", "b"]),
        (["A/image.nii.gz", "B/image.nii.gz", "C/scan.nii"], ["A_image", "B_image", "scan"]),
        (["s/p1/t1.nii", "s/p2/t1.nii"], ["p1_t1", "p2_t1"]),
        (["s/p1/t1.nii", "s/p2/t1.nii", "r/p1/t1.nii"], ["s_p1_t1", "s_p2_t1", "r_p1_t1"]),
        (["./p/t1.nii", "t1.nii"], ["p_t1", "t1"]),
        (["/data/p/t1.nii", "/data/q/t1.nii.gz"], ["p_t1", "q_t1"]),
        (["p/t1.nii", "p/t1.nii"], ["p_t1", "p_t1"]),
    ],
)
def test_ids_come_from_the_folders_where_names_repeat(images: list[str], ids: list[str]) -> None:
    assert distinct_ids(images) == ids
    assert distinct_ids(images[::-1]) == ids[::-1]


def test_the_list_of_nnunet_v1_names_cases_not_files(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry("a"), entry("b")], test=["./imagesTs/t.nii.gz"], modality={"0": "T1", "1": "T2"})
    for stem in ("Tr/a_0000", "Tr/a_0001", "Tr/b_0001", "Ts/t_0000", "Ts/t_0001"):
        image(root / f"images{stem}.nii.gz")
    dataset, _ = opened(root)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[1].images == tuple(root / f"imagesTr/b_000{n}.nii.gz" for n in (0, 1))
    assert dataset.unlabelled[0].images == tuple(root / f"imagesTs/t_000{n}.nii.gz" for n in (0, 1))
    assert ("b", "missing image") in {(problem.case, problem.kind) for problem in check_dataset(dataset).problems}


def nnunet(root: Path, **more: Any) -> Path:
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ENDING, **more}
    for name in ("a", "b"):
        image(root / f"imagesTr/{name}_0000{ENDING}")
        label(root / f"labelsTr/{name}{ENDING}")
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_labels_of_nnunets_test_images_are_a_test_set(tmp_path: Path) -> None:
    nnunet(tmp_path, numTraining=2, numTest=2)
    for name in "tu":
        image(tmp_path / f"imagesTs/{name}_0000{ENDING}")
    label(tmp_path / f"labelsTs/t{ENDING}")
    dataset, remarks = opened(tmp_path)
    assert [case.id for case in dataset.test] == ["t"]
    assert [(case.id, case.label) for case in dataset.unlabelled] == [("u", None)]
    assert not remarks
    assert check_dataset(dataset).problems == ()
    label(tmp_path / f"labelsTs/w{ENDING}")
    assert [problem.kind for problem in check_dataset(dataset).problems] == ["orphan label"]


def test_the_test_set_is_checked_like_the_others(tmp_path: Path) -> None:
    nnunet(tmp_path)
    image(tmp_path / f"imagesTs/t_0000{ENDING}")
    write_label(tmp_path / f"labelsTs/t{ENDING}", np.full((3, 4, 5), 7), np.eye(4))
    dataset, _ = opened(tmp_path)
    assert [(problem.case, problem.kind) for problem in check_dataset(dataset).problems] == [("t", "label values")]


@pytest.mark.parametrize("name", ["imagesTr/a_0000.nii", "imagesTr/a_0000.nrrd", "labelsTr/a.nii"])
def test_two_files_that_mean_one_case_are_refused(tmp_path: Path, name: str) -> None:
    nnunet(tmp_path)
    (label if "label" in name else image)(tmp_path / name)
    other = Path(name).stem + ENDING
    with pytest.raises(ValueError, match="mean one case") as error:
        open_dataset(tmp_path)
    assert Path(name).name in str(error.value)
    assert other in str(error.value)
    dataset, refused = declared(tmp_path)
    assert [case.id for case in dataset.cases] == ["b"]
    report = check_dataset(dataset, refused=refused)
    assert [(problem.case, problem.kind) for problem in report.problems] == [("a", "shadow")]


def test_files_that_shadow_each_other_are_refused_in_every_layout(tmp_path: Path) -> None:
    plain, brats, listed = (tmp_path / name for name in ("plain", "brats", "listed"))
    for name in ("images/a.nii.gz", "images/a.nrrd"):
        image(plain / name)
    label(plain / "labels/a.nii.gz")
    for sequence in ("t1", "t1ce", "t2", "flair"):
        image(brats / f"c/c_{sequence}.nii.gz")
    image(brats / "c/c_t2.nii")
    label(brats / "c/c_seg.nii.gz")
    describe(listed, [entry("a")])
    for name in ("imagesTr/a.nii.gz", "imagesTr/a.nii"):
        image(listed / name)
    label(listed / "labelsTr/a.nii.gz")
    for root in (plain, brats, listed):
        with pytest.raises(ValueError, match="mean one case"):
            open_dataset(root)


def test_an_image_and_its_label_may_share_a_folder(tmp_path: Path) -> None:
    image(tmp_path / "d/a.nii.gz")
    label(tmp_path / "d/a.nrrd")
    dataset = open_dataset(describe(tmp_path, [{"image": "d/a.nii.gz", "label": "d/a.nrrd"}]))
    assert [case.id for case in dataset.cases] == ["a"]


def test_ids_that_are_one_file_elsewhere_are_named(tmp_path: Path) -> None:
    remarks = opened(describe(tmp_path, [entry("Case"), entry("case")]))[1]
    assert "Case and case" in remarks[0]
    two = ["e\u0301", "\u00e9"]
    with pytest.raises(ValueError, match="declares cases twice"):
        open_dataset(describe(tmp_path, [entry(name) for name in two]))


@pytest.mark.parametrize("listed", [[1], [{"image": 5, "label": "l.nii"}], [{"image": ["a.nii", None]}], [[[["a"]]]]])
def test_odd_entries_are_refused_with_the_file(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json"):
        open_dataset(describe(tmp_path, listed))


@pytest.mark.parametrize(
    "labels", [{"background": 0, "a": [1], "b": 1.5}, {"background": 0, "a": True}, {"background": 0, "a": [[1]]},
               {"background": 0, "a": None}, {"background": 0, "a": {"b": 1}}, {"background": 0, "a": []}],
)  # fmt: skip
def test_odd_labels_are_refused_with_the_file(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json.*'[ab]'"):
        open_dataset(describe(tmp_path, [entry("a")], labels=labels))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"training": []}'.encode("utf-16"), "UTF-8"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"numTraining": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"training": [], "training": []}', "'training' is there twice"),
        (b"", "not JSON"),
    ],
)
def test_odd_json_is_refused_with_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"dataset\.json.*{message}"):
        open_dataset(tmp_path)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    root = describe(tmp_path, [entry("a")])
    (root / "dataset.json").write_text((root / "dataset.json").read_text(), encoding="utf-8-sig")
    assert [case.id for case in open_dataset(root).cases] == ["a"]


def test_a_folder_of_datasets_names_them(tmp_path: Path) -> None:
    describe(tmp_path / "Task01", [entry("a")])
    with pytest.raises(ValueError, match="Its folders Task01 may be datasets"):
        open_dataset(tmp_path)


def test_files_without_nnunets_channel_number_are_told_what_to_do(tmp_path: Path) -> None:
    nnunet(tmp_path)
    image(tmp_path / f"imagesTr/c{ENDING}")
    (problem,) = check_dataset(opened(tmp_path)[0]).problems
    assert (problem.kind, problem.case) == ("orphan image", "c")
    assert "CASE_0000.nii.gz" in problem.message


def test_a_shadow_is_no_channel_of_the_other_cases(tmp_path: Path) -> None:
    for name in ("images/a.nii.gz", "images/a.nii", "images/b.nii.gz"):
        image(tmp_path / name)
    for name in ("a", "b"):
        label(tmp_path / f"labels/{name}.nii.gz")
    dataset, refused = declared(tmp_path)
    report = check_dataset(dataset, refused=refused)
    assert [(problem.case, problem.kind) for problem in report.problems] == [("a", "shadow")]
