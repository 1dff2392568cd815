"""What every metric promises: one entry in HAND for each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voxward.core.labels import LabelSet
from voxward.metrics.policies import POLICIES, Scoring
from voxward.metrics.registry import METRICS, PRIMARY
from voxward.metrics.score import ClassMetrics, score_case

SHAPE, SPACING = (4, 1, 1), (2.0, 1.0, 1.0)
DIAGONAL = math.sqrt(8**2 + 1 + 1)
EMPTY = np.zeros(SHAPE, bool)

# Voxels 0 and 1 are true, 1 and 2 are predicted, in a row of 4 that lie 2 mm apart. All are surface: two of them have
# a partner at 0 mm and two at 2 mm, of each mask one. Percentile 95 of (0, 2) is 1.9.
TRUTH, PREDICTION = (np.array(mask, bool).reshape(SHAPE) for mask in ([1, 1, 0, 0], [0, 1, 1, 0]))
HAND = {"dice": 1 / 2, "iou": 1 / 3, "sensitivity": 1 / 2, "specificity": 1 / 2, "hd95_mm": 1.9, "nsd": 1 / 2}

# Per policy what a metric is where both masks are empty, where only the truth is, and where only the prediction is.
# The lesion of 2 voxels is too small to count in brats-2023.
NEITHER = {
    "ignore": dict.fromkeys(METRICS),
    **{
        name: {"dice": 1.0, "iou": 1.0, "sensitivity": None, "specificity": 1.0, "hd95_mm": 0.0, "nsd": 1.0}
        for name in ("one", "brats", "brats-pooled", "brats-2023")
    },
}
PENALTY = {"ignore": None, "one": DIAGONAL, "brats": 373.13, "brats-pooled": 373.13, "brats-2023": 374.0}


def score(truth: np.ndarray, prediction: np.ndarray, scoring: Scoring) -> ClassMetrics:
    maps = truth.astype(np.uint8), prediction.astype(np.uint8)
    return score_case("a", *maps, SPACING, LabelSet(("background", "organ"), (0, 1)), scoring).classes["organ"]


def test_every_metric_is_here() -> None:
    assert list(HAND) == list(METRICS)
    assert PRIMARY in METRICS
    assert list(NEITHER) == list(PENALTY) == list(POLICIES)


@pytest.mark.parametrize("name", list(METRICS))
def test_two_voxels_by_hand(name: str) -> None:
    assert score(TRUTH, PREDICTION, Scoring("ignore", 1.0))[name] == pytest.approx(HAND[name], abs=1e-12)


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("name", list(METRICS))
def test_a_perfect_prediction_has_the_best_value(name: str, policy: str) -> None:
    best = 1.0 if METRICS[name].larger_is_better else 0.0
    found = score(TRUTH, TRUTH, Scoring(policy))[name]
    assert found == best
    other = score(TRUTH, PREDICTION, Scoring("ignore", 1.0))[name]
    assert other is not None
    assert (other < found) is METRICS[name].larger_is_better


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("name", list(METRICS))
def test_empty_masks_count_what_the_policy_says(name: str, policy: str) -> None:
    scoring = Scoring(policy)
    assert score(EMPTY, EMPTY, scoring)[name] == NEITHER[policy][name]
    invented = {**dict.fromkeys(METRICS, 0.0), "sensitivity": None, "specificity": 1 / 2, "hd95_mm": PENALTY[policy]}
    assert score(EMPTY, PREDICTION, scoring)[name] == invented[name]
    missed = {**dict.fromkeys(METRICS, 0.0), "specificity": 1.0, "hd95_mm": PENALTY[policy]}
    if policy == "brats-2023":
        missed |= {"dice": 1.0, "hd95_mm": 0.0}
    assert score(TRUTH, EMPTY, scoring)[name] == missed[name]


@pytest.mark.parametrize("name", list(METRICS))
def test_a_heading_is_text_without_braces(name: str) -> None:
    for short in (False, True):
        title = METRICS[name].title(Scoring("ignore", 1.5), short)
        assert title
        assert not {*"{}"} & {*title}
    assert METRICS["nsd"].title(Scoring("ignore", 1.5)) == "NSD 1.5 mm"


def test_unknown_policies_and_negative_tolerances_are_refused() -> None:
    with pytest.raises(ValueError, match=r"policy for empty masks 'brat'\. Did you mean 'brats'"):
        Scoring("brat")
    with pytest.raises(ValueError, match=r"nsd_tolerance_mm must be at least 0, got nan"):
        Scoring("one", math.nan)
