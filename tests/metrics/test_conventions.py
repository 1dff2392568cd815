"""The conventions of the BraTS challenges by name, against numbers worked out by hand."""

import numpy as np
import pytest

from voxward.core.labels import LabelSet
from voxward.metrics.policies import Scoring
from voxward.metrics.score import score_case

BRATS = LabelSet(("background", "NCR", "ED", "ET"), (0, 1, 2, 4)).with_regions(
    {"ET": (4,), "TC": (1, 4), "WT": (1, 2, 4)}
)
SPACING = (1.0, 1.0, 1.0)


def _score(truth, prediction, policy, labels=BRATS):
    return score_case("x", truth, prediction, SPACING, labels, Scoring(policy)).classes


def _empty():
    return np.zeros((20, 20, 20), np.uint8)


def test_empty_regions_by_the_challenges_rule():
    truth, prediction = _empty(), _empty()
    truth[5:9, 5:9, 5:9] = 2
    prediction[5:9, 5:9, 5:9] = 2
    prediction[6, 6, 6] = 3
    scores = _score(truth, prediction, "brats")
    assert (scores["ET"].dice, scores["ET"]["hd95_mm"], scores["ET"]["sensitivity"]) == (0.0, 373.13, None)
    assert scores["ET"]["specificity"] == pytest.approx(1 - 1 / 8000)
    assert (scores["WT"].dice, scores["WT"]["hd95_mm"]) == (1.0, 0.0)
    both = _score(truth, truth, "brats")["ET"]
    assert (both.dice, both["hd95_mm"], both["sensitivity"]) == (1.0, 0.0, None)
    assert _score(truth, prediction, "one")["ET"]["hd95_mm"] == pytest.approx(20 * 3**0.5)


def test_regions_are_unions_of_classes():
    random = np.random.default_rng(0)
    truth, prediction = random.integers(0, 4, (2, 8, 7, 6), dtype=np.uint8)
    scores = _score(truth, prediction, "ignore")
    for name, classes in (("ET", [3]), ("TC", [1, 3]), ("WT", [1, 2, 3])):
        a, b = np.isin(truth, classes), np.isin(prediction, classes)
        assert scores[name].dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert scores[name].truth_voxels == a.sum()


def test_pooled_hd95_is_of_both_directions_together():
    """Truth: one voxel. Prediction: the same voxel and a line of 9 more: 1 distance of 0 one way, 0 to 9 the other."""
    truth, prediction = _empty(), _empty()
    truth[5, 5, 5] = 3
    prediction[5, 5, 5:15] = 3
    assert _score(truth, prediction, "brats")["ET"]["hd95_mm"] == pytest.approx(np.percentile(np.arange(10), 95))
    pooled = np.percentile([0, *np.arange(10)], 95)
    assert _score(truth, prediction, "brats-pooled")["ET"]["hd95_mm"] == pytest.approx(pooled)


def test_2023_counts_every_lesion_alike():
    """One lesion found exactly, one missed, one false: Dice (1 + 0 + 0) / 3, HD95 (0 + 374 + 374) / 3."""
    truth, prediction = _empty(), _empty()
    truth[1:5, 1:5, 1:5] = truth[14:18, 1:5, 1:5] = 2
    prediction[1:5, 1:5, 1:5] = prediction[1:5, 14:18, 14:18] = 2
    scores = _score(truth, prediction, "brats-2023")["WT"]
    assert (scores.dice, scores["hd95_mm"]) == (pytest.approx(1 / 3), pytest.approx(2 * 374 / 3))
    assert scores["sensitivity"] == pytest.approx(0.5)
    nothing = _score(truth, truth, "brats-2023")["ET"]
    assert (nothing.dice, nothing["hd95_mm"]) == (1.0, 0.0)
