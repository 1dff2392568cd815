"""Scores of partly annotated cases: what lies where nobody has annotated counts nowhere."""

import itertools

import numpy as np
import pytest

from voxward.core.labels import IGNORED, LabelSet
from voxward.metrics.policies import POLICIES, Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import score_case
from voxward.metrics.surface import surface, surface_distances

PLAIN = LabelSet(("background", "a", "b"), (0, 1, 2), ignore=3)
REGIONS = PLAIN.with_regions({"ab": (1, 2), "b": (2,)})
SPACING = (1.0, 1.5, 2.0)


def blobs(seed):
    generator = np.random.default_rng(seed)
    found = np.zeros((14, 12, 10), np.uint8)
    for klass in (1, 2):
        i, j, k = (generator.integers(0, n - 6) for n in found.shape)
        found[i : i + 6, j : j + 6, k : k + 6] = klass
    return found


def figures(case):
    return {name: scores.figures() for name, scores in case.classes.items()}


@pytest.mark.parametrize(("labels", "policy"), list(itertools.product((PLAIN, REGIONS), POLICIES)))
def test_junk_where_nothing_is_annotated_changes_no_score(labels, policy):
    truth, found = blobs(0), blobs(1)
    generator = np.random.default_rng(2)
    truth[generator.random(truth.shape) < 0.3] = IGNORED
    junk = np.where(truth == IGNORED, generator.integers(0, 3, truth.shape), found).astype(np.uint8)
    first, second = (score_case("x", truth, p, SPACING, labels, Scoring(policy)) for p in (found, junk))
    assert figures(first) == figures(second)
    assert first.unannotated == pytest.approx((truth == IGNORED).mean())
    copied = score_case("x", truth, truth, SPACING, labels, Scoring(policy))
    assert {entry.dice for entry in copied.classes.values()} == {1.0}


@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
def test_counts_are_those_of_the_annotated_part(labels):
    truth, found = blobs(3), blobs(4)
    partial = truth.copy()
    partial[8:] = IGNORED
    ours = score_case("x", partial, found, SPACING, labels)
    cropped = score_case("x", truth[:8], found[:8], SPACING, labels.predicted)
    for name in labels.scored:
        for metric in ("dice", "iou", "sensitivity", "specificity"):
            assert ours.classes[name][metric] == cropped.classes[name][metric]
        assert ours.classes[name].truth_voxels == cropped.classes[name].truth_voxels


def test_without_unannotated_voxels_nothing_changes():
    truth, found = blobs(0), blobs(1)
    assert score_case("x", truth, found, SPACING, PLAIN) == score_case("x", truth, found, SPACING, PLAIN.predicted)


def test_where_a_mask_ends_at_unannotated_voxels_there_is_no_surface():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = True
    unknown = np.zeros_like(mask)
    unknown[5:] = True
    cut = surface(mask & ~unknown, unknown)
    assert (cut == (surface(mask) & ~unknown)).all()
    found = surface_distances(mask & ~unknown, mask & ~unknown, (1.0, 1.0, 1.0), unknown)
    assert found.hd95_mm == 0
    assert found.to_truth.size == cut.sum() < surface(mask & ~unknown).sum()


def test_distances_are_undefined_where_the_annotated_part_shows_no_surface():
    truth = np.full((6, 6, 6), IGNORED, np.uint8)
    truth[2:4, 2:4, 2:4] = 1
    found = np.ones_like(truth)
    scores = score_case("x", truth, found, SPACING, PLAIN).classes["a"]
    assert (scores.dice, scores["hd95_mm"], scores["nsd"]) == (1.0, None, None)


def test_a_case_without_annotation_defines_nothing():
    truth, found = np.full((4, 4, 4), IGNORED, np.uint8), blobs(0)[:4, :4, :4]
    case = score_case("x", truth, found, SPACING, PLAIN)
    assert case.unannotated == 1.0
    assert all(case.mean(metric) is None for metric in METRICS)


def test_an_undeclared_ignore_label_and_an_ignored_prediction_are_refused():
    truth, found = blobs(0), blobs(1)
    partial = truth.copy()
    partial[0, 0, 0] = IGNORED
    with pytest.raises(ValueError, match="truth must hold classes 0 to 2"):
        score_case("x", partial, found, SPACING, PLAIN.predicted)
    found[1, 1, 1] = IGNORED
    with pytest.raises(ValueError, match="prediction must hold classes 0 to 2"):
        score_case("x", partial, found, SPACING, PLAIN)
