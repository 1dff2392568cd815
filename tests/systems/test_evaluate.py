"""Files in, figures out: an evaluation of a folder is what scoring its arrays gives."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxward.core.case import Case, Dataset
from voxward.core.errors import CasesFailed, UserError
from voxward.core.labels import LabelSet
from voxward.metrics.policies import Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import score_case
from voxward.systems.evaluate import Evaluation, evaluate_folder, evaluate_pairs, summarise_cases

# File values that are not the class indices.
LABELS = LabelSet(("background", "organ", "lesion"), (0, 4, 2))
AFFINE = np.array([[0.0, -2.0, 0.0, 10.0], [1.5, 0.0, 0.0, -5.0], [0.0, 0.0, 3.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
SPACING = (1.5, 2.0, 3.0)


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction as class indices."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (8, 7, 6)).astype(np.uint8)
    if seed == 1:
        truth[truth == 2] = 0
    wrong = rng.random(truth.shape) < 0.3
    return truth, np.where(wrong, rng.integers(0, 2 if seed == 1 else 3, truth.shape), truth).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(3):
        for name, array in zip(("truth", "prediction"), maps(seed), strict=True):
            write(tmp_path / name / f"case_{seed}.nii.gz", LABELS.to_values(array))
    return tmp_path


def dataset(folder: Path) -> Dataset:
    cases = tuple(Case(f"case_{n}", (folder / "x.nii.gz",), folder / "truth" / f"case_{n}.nii.gz") for n in range(3))
    return Dataset("toy", folder, ("CT",), LABELS, cases, (Case("test_0", (folder / "x.nii.gz",)),))


def pair(folder: Path, n: int = 0) -> tuple[str, Path, Path]:
    return f"case_{n}", folder / "truth" / f"case_{n}.nii.gz", folder / "prediction" / f"case_{n}.nii.gz"


def test_pairs_may_lie_as_far_apart_as_is_said(folder: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 0.3  # 0.2 of the smallest voxel edge
    id, truth, prediction = pair(folder)
    write(prediction, LABELS.to_values(maps(0)[1]), moved)
    with pytest.raises(CasesFailed, match=r"lie in different places: .* \(0\.2 of a voxel\)"):
        evaluate_pairs([(id, truth, prediction)], LABELS)
    assert evaluate_pairs([(id, truth, prediction)], LABELS, affine_tolerance=0.25).cases[0].id == id


def test_a_folder_scores_as_its_arrays_do(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate_folder(
        dataset(folder), folder / "prediction", None, Scoring("one", 1.5), 2, lambda done, of: seen.append((done, of))
    )
    scored = [score_case(f"case_{n}", *maps(n), SPACING, LABELS, Scoring("one", 1.5)) for n in range(3)]
    assert result == summarise_cases(scored, Scoring("one", 1.5))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    # File value 4 is the class of index 1.
    assert result.cases[0].classes["organ"].truth_voxels == int((maps(0)[0] == 1).sum())


def test_summaries_follow_from_the_cases(folder: Path) -> None:
    result = evaluate_folder(dataset(folder), folder / "prediction")
    organ = [case.classes["organ"].dice for case in result.cases]
    lesion = [case.classes["lesion"].dice for case in result.cases]
    # Case 1 has no lesion, neither true nor predicted.
    assert [value is None for value in lesion] == [False, True, False]
    summary = result.classes["lesion"]["dice"]
    assert summary is not None
    assert (summary.n, summary.left_out) == (2, 1)
    per_case = [np.mean([v for v in values if v is not None]) for values in zip(organ, lesion, strict=True)]
    assert result.foreground is not None
    assert result.foreground.mean == pytest.approx(np.mean(per_case))
    assert result.foreground.std == pytest.approx(np.std(per_case, ddof=1))


def test_the_data_hold_everything(folder: Path) -> None:
    result = evaluate_pairs([pair(folder, n) for n in (2, 1)], LABELS)
    data = json.loads(json.dumps(result.to_data(), allow_nan=False))
    assert result.foreground is not None
    assert data["foreground"] == asdict(result.foreground)
    assert (data["policy"], data["nsd_tolerance_mm"]) == ("ignore", 2.0)
    assert [case["id"] for case in data["cases"]] == ["case_2", "case_1"]
    lesion = result.cases[0].classes["lesion"]
    assert data["cases"][0]["classes"]["lesion"] == lesion.figures()
    assert list(lesion.figures()) == [*METRICS, "truth_voxels", "predicted_voxels"]
    assert data["classes"]["organ"]["hd95_mm"]["mean"] == pytest.approx(
        np.mean([case.classes["organ"]["hd95_mm"] for case in result.cases])
    )


@pytest.mark.parametrize("shift", ["shape", "origin", "turned", "rounding"])
def test_a_prediction_must_lie_where_its_truth_lies(shift: str, folder: Path) -> None:
    array = LABELS.to_values(maps(1)[1])
    moved = {"shape": AFFINE, "origin": AFFINE.copy(), "turned": AFFINE.copy(), "rounding": AFFINE + 1e-5}[shift]
    if shift == "origin":
        moved[0, 3] += 0.5
    if shift == "turned":
        moved[:3, 0] *= -1
    write(pair(folder, 1)[2], array[:-1] if shift == "shape" else array, moved)
    if shift == "rounding":
        assert isinstance(evaluate_pairs([pair(folder, 1)], LABELS), Evaluation)
    else:
        with pytest.raises(ValueError, match=r"case_1: .*(shape \(7, 7, 6\)|different places)"):
            evaluate_pairs([pair(folder, n) for n in range(3)], LABELS)


def test_wrong_values_name_the_case(folder: Path) -> None:
    write(pair(folder, 2)[2], np.full((8, 7, 6), 9, np.uint8))
    with pytest.raises(ValueError, match=r"case_2: .*\[9\] are not declared"):
        evaluate_pairs([pair(folder, n) for n in range(3)], LABELS)


def test_missing_and_ambiguous_predictions(folder: Path) -> None:
    pair(folder, 1)[2].unlink()
    assert len(evaluate_folder(dataset(folder), folder / "prediction", ["case_0", "case_2"]).cases) == 2
    with pytest.raises(CasesFailed, match=r"1 of 3 cases failed:\n.*prediction/case_1\.nii\.gz is missing") as caught:
        evaluate_folder(dataset(folder), folder / "prediction")
    assert [case.id for case in caught.value.result.cases] == ["case_0", "case_2"]
    assert [failure.case for failure in caught.value.result.failed] == ["case_1"]
    with pytest.raises(FileNotFoundError, match="must be a folder"):
        evaluate_folder(dataset(folder), folder / "nowhere")
    write(folder / "prediction" / "case_0.nii", np.zeros((8, 7, 6), np.uint8))
    with pytest.raises(ValueError, match="several predictions"):
        evaluate_folder(dataset(folder), folder / "prediction", ["case_0"])


def test_wrong_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="policy for empty masks 'two'"):
        evaluate_pairs([pair(folder)], LABELS, Scoring("two"))
    with pytest.raises(ValueError, match="no case"):
        evaluate_pairs([], LABELS)
    with pytest.raises(ValueError, match="nsd_tolerance_mm must be at least 0"):
        evaluate_pairs([pair(folder)], LABELS, Scoring("ignore", -1.0))
    with pytest.raises(ValueError, match="case ids must differ"):
        evaluate_pairs([pair(folder), pair(folder)], LABELS)
    with pytest.raises(ValueError, match="no label"):
        evaluate_folder(dataset(folder), folder / "prediction", ["test_0"])
    with pytest.raises(ValueError, match="has no case 'case_9'"):
        evaluate_folder(dataset(folder), folder / "prediction", ["case_9"])


@pytest.mark.data
def test_a_real_label_against_itself(data_root: Path) -> None:
    labels = LabelSet(("background", "anterior", "posterior"), (0, 1, 2))
    truth = sorted((data_root / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz"))[0]
    result = evaluate_pairs([("self", truth, truth)], labels, workers=1)
    for scores in result.cases[0].classes.values():
        assert [scores[metric] for metric in METRICS] == [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]


EXTRA = {"hd95_mm": 2.0, "nsd": 0.9, "iou": 0.4, "sensitivity": 0.5, "specificity": 0.99}


def _stored(*dice: float | None) -> dict[str, Any]:
    cases = [
        {"id": f"c{n}", "classes": {"liver": {"dice": value, **EXTRA, "truth_voxels": 3, "predicted_voxels": 4}}}
        for n, value in enumerate(dice)
    ]
    return {"policy": "ignore", "nsd_tolerance_mm": 2.0, "nsd": "voxels", "cases": cases}


def test_an_evaluation_is_read_back_from_its_data() -> None:
    data = _stored(0.25, 0.75, None) | {"failed": [{"id": "x", "reason": "no header"}], "foreground": "ignored"}
    found = Evaluation.from_data(data, "metrics.json")
    assert found.foreground is not None
    assert (found.foreground.mean, found.foreground.n, found.foreground.left_out) == (0.5, 2, 1)
    assert [(failure.case, failure.reason) for failure in found.failed] == [("x", "no header")]
    assert Evaluation.from_data(found.to_data(), "again") == found


def test_data_of_an_older_version_are_read() -> None:
    """Version 0.1 wrote no definition of the surface Dice, and knew fewer metrics."""
    data = _stored(0.25)
    del data["nsd"], data["cases"][0]["classes"]["liver"]["nsd"]
    found = Evaluation.from_data(data, "metrics.json")
    assert found.scoring.nsd == "voxels"
    assert found.means["nsd"] is None


@pytest.mark.parametrize(
    "data",
    [
        3,
        {},
        _stored(),
        _stored(0.5) | {"policy": "magic"},
        _stored(0.5) | {"cases": [{"id": "a"}]},
        {"cases": [{"id": "a", "classes": {"x": {}}}, {"id": "b", "classes": {"y": {}}}]},
    ],
    ids=["a number", "nothing", "no case", "an unknown policy", "no classes", "other classes"],
)
def test_what_is_no_evaluation_is_refused(data: Any) -> None:
    with pytest.raises(UserError):
        Evaluation.from_data(data, "metrics.json")
