"""Scores against brute force over all pairs of voxels, and against MONAI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from voxward.core.labels import IGNORED, LabelSet, Region
from voxward.metrics.policies import POLICIES, Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import CaseMetrics, ClassMetrics, dice_scores, score_case
from voxward.metrics.surface import surface, surface_distances

ORGAN = LabelSet(("background", "organ"), (0, 1))
TWO = LabelSet(("background", "organ", "lesion"), (0, 1, 2))
SPACINGS = ((1.0, 1.0, 1.0), (0.7, 1.3, 4.0))


def blobs(seed: int, shape: tuple[int, ...] = (9, 8, 7), share: float = 0.35) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


def brute_surface(mask: np.ndarray) -> np.ndarray:
    """Coordinates of voxels with a face neighbour outside; beyond the border is outside."""
    outside = np.pad(~mask, 1, constant_values=True)
    steps = [np.eye(mask.ndim, dtype=int)[a] * s for a in range(mask.ndim) for s in (-1, 1)]
    return np.array([v for v in np.argwhere(mask) if any(outside[tuple(v + 1 + step)] for step in steps)])


def brute_distances(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> list[np.ndarray]:
    a, b = brute_surface(truth) * np.asarray(spacing), brute_surface(prediction) * np.asarray(spacing)
    table = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return [table.min(0), table.min(1)]


def brute_scores(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], tolerance: float) -> list[float]:
    """In the order of METRICS."""
    t, p = {tuple(v) for v in np.argwhere(truth)}, {tuple(v) for v in np.argwhere(prediction)}
    others = truth.size - len(t)
    distances = brute_distances(truth, prediction, spacing)
    pooled = np.concatenate(distances)
    return [
        2 * len(t & p) / (len(t) + len(p)),
        len(t & p) / len(t | p),
        len(t & p) / len(t),
        (others - len(p - t)) / others,
        max(float(np.percentile(d, 95)) for d in distances),
        float((pooled <= tolerance).mean()),
    ]


def score(truth: np.ndarray, prediction: np.ndarray, policy: str = "ignore", tolerance: float = 2.0) -> ClassMetrics:
    maps = truth.astype(np.uint8), prediction.astype(np.uint8)
    return score_case("a", *maps, (1.0, 2.0, 3.0), ORGAN, Scoring(policy, tolerance)).classes["organ"]


def metrics(*values: float | None, truth: int = 0, predicted: int = 0) -> ClassMetrics:
    return ClassMetrics(dict(zip(METRICS, values, strict=True)), truth, predicted)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_metric_is_what_brute_force_gives(seed: int, spacing: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = (rng.integers(0, 3, (9, 8, 7), dtype=np.uint8) * blobs(s) for s in (seed, seed + 50))
    case = score_case("a", truth, prediction, spacing, TWO, Scoring("ignore", 1.0))
    for klass, name in ((1, "organ"), (2, "lesion")):
        found = [case.classes[name][metric] for metric in METRICS]
        assert found == pytest.approx(brute_scores(truth == klass, prediction == klass, spacing, 1.0), abs=1e-12)


def test_a_mask_in_one_slice_of_a_volume_is_all_surface() -> None:
    truth, prediction = (np.zeros((12, 12, 12), bool) for _ in range(2))
    truth[1:9, 1:9, 3], prediction[1:11, 1:11, 3] = True, True
    expected = brute_scores(truth, prediction, (1, 2, 3), 2.0)
    assert [score(truth, prediction)[metric] for metric in METRICS] == pytest.approx(expected)


def test_a_2d_image_has_the_surface_of_its_outline() -> None:
    truth, prediction = blobs(1, (14, 15), 0.8), blobs(2, (14, 15), 0.8)
    expected = brute_scores(truth, prediction, (1, 2), 1.0)
    found = score(truth[..., None], prediction[..., None], tolerance=1.0)
    assert [found[metric] for metric in METRICS] == pytest.approx(expected)


def test_the_inside_and_only_the_inside_of_a_mask_is_no_surface() -> None:
    cube = np.ones((5, 5, 5), bool)
    inside = np.zeros_like(cube)
    inside[1:-1, 1:-1, 1:-1] = True
    assert np.array_equal(surface(cube), ~inside)


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([~mask, mask])[None]).float()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_monai_agrees(seed: int, spacing: tuple[float, float, float]) -> None:
    # MONAI agrees with brute force at the volume's border as well (these masks touch it): it crops with a margin of
    # background, and its erosion treats the outside as background. It differs in empty masks (nan, inf).
    from monai.metrics import (
        compute_confusion_matrix_metric,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_surface_dice,
        get_confusion_matrix,
    )

    truth, prediction = blobs(seed, share=0.6), blobs(seed + 9, share=0.5)
    case = score_case("a", truth.astype(np.uint8), prediction.astype(np.uint8), spacing, ORGAN, Scoring("one", 1.0))
    y, p = one_hot(truth), one_hot(prediction)
    matrix = get_confusion_matrix(p, y, include_background=False)
    expected = [
        compute_dice(p, y, include_background=False),
        compute_iou(p, y, include_background=False),
        compute_confusion_matrix_metric("sensitivity", matrix),
        compute_confusion_matrix_metric("specificity", matrix),
        compute_hausdorff_distance(p, y, percentile=95, spacing=spacing),
        compute_surface_dice(p, y, [1.0], spacing=spacing),
    ]
    found = [case.classes["organ"][metric] for metric in METRICS]
    assert found == pytest.approx([float(value) for value in expected], abs=1e-6)


EMPTY, SOME = np.zeros((3, 4, 5), bool), blobs(0, (3, 4, 5))
DIAGONAL = math.sqrt((3 * 1.0) ** 2 + (4 * 2.0) ** 2 + (5 * 3.0) ** 2)


@pytest.mark.parametrize(("policy", "scores", "hd95"), [("ignore", None, None), ("one", 1.0, 0.0), ("brats", 1.0, 0.0)])
def test_a_class_that_is_in_neither(policy: str, scores: float | None, hd95: float | None) -> None:
    assert score(EMPTY, EMPTY, policy) == metrics(scores, scores, None, scores, hd95, scores)


@pytest.mark.parametrize(("policy", "hd95"), [("ignore", None), ("one", DIAGONAL), ("brats", 373.13)])
def test_a_class_that_is_in_only_one(policy: str, hd95: float | None) -> None:
    voxels = int(SOME.sum())
    missed, invented = score(SOME, EMPTY, policy), score(EMPTY, SOME, policy)
    assert missed == metrics(0.0, 0.0, 0.0, 1.0, hd95, 0.0, truth=voxels)
    assert invented == metrics(0.0, 0.0, None, (60 - voxels) / 60, hd95, 0.0, predicted=voxels)


def test_the_case_mean_leaves_out_undefined_classes() -> None:
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[:2] = 1
    case = score_case("a", truth, truth.copy(), (1.0, 1.0, 1.0), TWO)
    assert (case.mean("dice"), case.mean("hd95_mm")) == (1.0, 0.0)
    nothing = score_case("a", truth * 0, truth * 0, (1.0, 1.0, 1.0), TWO)
    assert nothing.mean("dice") is None
    assert isinstance(nothing, CaseMetrics)
    with pytest.raises(ValueError, match=r"unknown metric 'dise'\. Did you mean 'dice'"):
        nothing.mean("dise")


def test_a_large_volume_counts_every_voxel_once() -> None:
    # More voxels than are counted at once.
    truth, prediction = (np.asfortranarray(blobs(s, (200, 180, 130), 0.001).astype(np.uint8)) for s in (1, 2))
    prediction = np.ascontiguousarray(prediction)
    case = score_case("a", truth, prediction, (1.0, 1.0, 1.0), ORGAN).classes["organ"]
    both = int((truth & prediction).sum())
    assert (case.truth_voxels, case.predicted_voxels) == (int(truth.sum()), int(prediction.sum()))
    assert case["iou"] == both / (int(truth.sum()) + int(prediction.sum()) - both)


@pytest.mark.parametrize(
    ("truth", "prediction", "spacing", "tolerance", "message"),
    [
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), (1.0, 1.0, 1.0), 1.0, "one shape"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), (1.0, 1.0, 1.0), 1.0, "three axes"),
        (np.zeros((2, 2, 2), int), np.full((2, 2, 2), 2), (1.0, 1.0, 1.0), 1.0, "prediction must hold classes 0 to 1"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2), int), (1.0, 1.0, 1.0), 1.0, "truth must hold integer"),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), (1.0, 0.0, 1.0), 1.0, "spacing must be positive"),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), (1.0, 1.0, 1.0), -1.0, "nsd_tolerance_mm"),
    ],
)
def test_wrong_input_is_refused(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float], tolerance: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_case("a", truth, prediction, spacing, ORGAN, Scoring("ignore", tolerance))


def test_unknown_policies_and_empty_masks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"policy for empty masks 'brat'\. Did you mean 'brats'"):
        POLICIES["brat"]
    with pytest.raises(ValueError, match="not empty"):
        surface_distances(EMPTY, SOME, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("policy", ["ignore", "one", "brats-2023"])
def test_the_dice_alone_is_that_of_all_scores(policy: str) -> None:
    """Classes, regions that overlap, absent classes, and voxels that nobody has annotated."""
    regions = (Region("inner", (1,)), Region("outer", (1, 2)))
    for labels in (TWO, replace(TWO, regions=regions), replace(TWO, ignore=9)):
        for seed in range(4):
            rng = np.random.default_rng(seed)
            truth, found = (rng.integers(0, 3 - seed % 3, (6, 5, 4)).astype(np.uint8) for _ in range(2))
            if labels.ignore is not None:
                truth[rng.random(truth.shape) < 0.3] = IGNORED
            whole = score_case("a", truth, found, (1.0, 2.0, 3.0), labels, Scoring(policy))
            alone = dice_scores(truth, found, (1.0, 2.0, 3.0), labels, Scoring(policy))
            assert alone == tuple(one.dice for one in whole.classes.values())
