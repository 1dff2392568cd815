import math
from itertools import product

import numpy as np
import pytest

from voxward.metrics.lesions import LesionRule, score_lesions

ONE = (1.0, 1.0, 1.0)
EVERY = LesionRule(least_mm3=0.0)


def _mask(*boxes, shape=(24, 20, 18)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(low, high) for low, high in box)] = True
    return mask


def found(scores):
    return [lesion.found for lesion in scores.lesions]


BIG = ((2, 7), (2, 7), (2, 7))
FAR = ((16, 21), (12, 17), (10, 15))


def test_a_perfect_mask():
    mask = _mask(BIG, FAR)
    scores = score_lesions(mask, mask, ONE)
    assert [lesion.dice for lesion in scores.lesions] == [1.0, 1.0]
    assert (scores.dice, scores.hd95_mm, found(scores), scores.false_positives) == (1.0, 0.0, [True, True], 0)


def test_both_empty():
    scores = score_lesions(_mask(), _mask(), ONE)
    assert (scores.dice, scores.hd95_mm, scores.lesions, scores.false_positives) == (1.0, 0.0, (), 0)


def test_a_missed_lesion_and_a_false_one():
    missed = score_lesions(_mask(BIG, FAR), _mask(BIG), ONE)
    assert (missed.dice, missed.hd95_mm) == (0.5, 374 / 2)
    assert (found(missed), missed.false_positives) == ([True, False], 0)
    false = score_lesions(_mask(BIG), _mask(BIG, FAR), ONE)
    assert (false.dice, false.hd95_mm) == (0.5, 374 / 2)
    assert (found(false), false.false_positives) == ([True], 1)
    nothing = score_lesions(_mask(), _mask(BIG, FAR), ONE)
    assert (nothing.dice, nothing.hd95_mm, nothing.false_positives) == (0.0, 374.0, 2)


def test_lesions_count_alike_whatever_their_size():
    """Dice of the whole mask would be 250 / 251."""
    scores = score_lesions(_mask(BIG, ((20, 21), (18, 19), (15, 16))), _mask(BIG), ONE, EVERY)
    assert scores.dice == 0.5


def test_small_true_lesions_are_not_scored_and_neither_is_what_is_predicted_there():
    small = ((16, 21), (12, 17), (10, 12))  # 50 mm3: not more than 50
    for prediction in (_mask(BIG), _mask(BIG, small)):
        scores = score_lesions(_mask(BIG, small), prediction, ONE)
        assert (len(scores.lesions), scores.false_positives, scores.dice) == (1, 0, 1.0)
    larger = score_lesions(_mask(BIG, small), _mask(BIG), (1.0, 1.0, 1.1))
    assert (len(larger.lesions), larger.dice) == (2, 0.5)
    assert larger.lesions[1].volume_mm3 == pytest.approx(55)


def test_the_shift_of_a_lesion():
    """A cube of 5 moved by 1: Dice 4/5; HD95 by hand, the distance 1 of a moved face's voxels."""
    shifted = ((3, 8), (2, 7), (2, 7))
    scores = score_lesions(_mask(BIG), _mask(shifted), ONE)
    assert scores.dice == pytest.approx(0.8)
    assert scores.hd95_mm == 1.0
    assert score_lesions(_mask(BIG), _mask(shifted), (2.5, 1.0, 1.0)).hd95_mm == 2.5


def _touching(gap, shape=(20, 8, 8)):
    return _mask(((2, 4), (2, 6), (2, 6)), ((4 + gap, 6 + gap), (2, 6), (2, 6)), shape=shape)


@pytest.mark.parametrize(("gap", "lesions"), [(1, 1), (6, 1), (7, 2)])
def test_true_lesions_that_meet_when_grown_are_one(gap, lesions):
    """Three steps from each side close a gap of 6."""
    mask = _touching(gap)
    scores = score_lesions(mask, mask, ONE, EVERY)
    assert len(scores.lesions) == lesions
    assert (scores.dice, scores.false_positives) == (1.0, 0)


@pytest.mark.parametrize(("gap", "found"), [(2, True), (3, False)])
def test_a_prediction_belongs_to_the_lesion_it_touches_when_that_is_grown(gap, found):
    """It is not grown itself: three steps reach over a gap of 2."""
    scores = score_lesions(_mask(((2, 4), (2, 6), (2, 6))), _mask(((4 + gap, 6 + gap), (2, 6), (2, 6))), ONE, EVERY)
    assert scores.lesions[0].found is found
    assert scores.false_positives == (not found)
    assert scores.dice == 0.0
    assert (scores.hd95_mm < 10) is found


def test_a_prediction_that_spans_two_lesions_counts_for_both():
    truth = _mask(((2, 4), (2, 6), (2, 6)), ((14, 16), (2, 6), (2, 6)))
    scores = score_lesions(truth, _mask(((2, 16), (2, 6), (2, 6))), ONE, EVERY)
    assert [lesion.dice for lesion in scores.lesions] == pytest.approx([2 * 32 / (32 + 224)] * 2)
    assert scores.false_positives == 0


def test_predicted_lesions_hang_together_over_corners():
    prediction = _mask(((1, 2), (1, 2), (1, 2)), ((2, 3), (2, 3), (2, 3)), ((4, 5), (4, 5), (4, 5)))
    assert score_lesions(_mask(), prediction, ONE).false_positives == 2


def _components(mask):
    """Lists of voxels that hang together over 26 neighbours, by flooding."""
    left, found = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        edge = [left.pop()]
        component = set(edge)
        while edge:
            voxel = edge.pop()
            near = {tuple(np.add(voxel, step)) for step in product((-1, 0, 1), repeat=3)} & left
            left -= near
            component |= near
            edge += near
        found.append(component)
    return found


def _grow(voxels, shape, steps):
    near = [step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) <= 2]
    for _ in range(steps):
        reached = {tuple(np.add(voxel, step)) for voxel in voxels for step in near}
        voxels = {place for place in reached if all(0 <= n < size for n, size in zip(place, shape, strict=True))}
    return voxels


def _edge(voxels):
    faces = [step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
    return [voxel for voxel in voxels if any(tuple(np.add(voxel, step)) not in voxels for step in faces)]


def _hd95(first, second, spacing):
    def directed(one, other):
        distances = [min(math.dist(np.multiply(a, spacing), np.multiply(b, spacing)) for b in other) for a in one]
        return np.percentile(distances, 95)

    first, second = _edge(first), _edge(second)
    return max(directed(first, second), directed(second, first))


def _slowly(truth, prediction, spacing, rule):
    """(Dice, HD95, false lesions) with sets of voxels, from the challenge's definition."""
    shape, voxels = truth.shape, {tuple(place) for place in np.argwhere(truth)}
    grown = np.zeros(shape, bool)
    for place in _grow(voxels, shape, rule.dilation):
        grown[place] = True
    predicted, dices, distances, matched = _components(prediction), [], [], set()
    for whole in _components(grown):
        lesion = whole & voxels
        reach = _grow(lesion, shape, rule.dilation)
        touched = {n for n, component in enumerate(predicted) if component & reach}
        matched |= touched
        if len(lesion) * math.prod(spacing) <= rule.least_mm3:
            continue
        union = set().union(*(predicted[n] for n in touched))
        dices.append(2 * len(lesion & union) / (len(lesion) + len(union)))
        distances.append(_hd95(lesion, union, spacing) if union else rule.penalty_mm)
    false = len(predicted) - len(matched)
    count = len(dices) + false
    if not count:
        return 1.0, 0.0, false
    return sum(dices) / count, (sum(distances) + rule.penalty_mm * false) / count, false


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_sets_of_voxels(seed):
    rng = np.random.default_rng(seed)
    rule = LesionRule(dilation=seed % 3, least_mm3=float(rng.integers(0, 8)))
    spacing = tuple(rng.uniform(0.5, 2.0, 3).tolist())
    truth, prediction = (rng.random((9, 7, 8)) < density for density in (0.03, 0.05))
    for mask in (truth, prediction):
        mask[1:3, 2:4, 2:4] |= rng.random((2, 2, 2)) < 0.8
    scores = score_lesions(truth, prediction, spacing, rule)
    expected = _slowly(truth, prediction, spacing, rule)
    assert (scores.dice, scores.hd95_mm, scores.false_positives) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["dilation", "least_mm3", "penalty_mm"])
def test_negative_rules_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0"):
        LesionRule(**{name: -1 if name == "dilation" else -1.0})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_2d_image_has_only_its_outline(axis):
    """A square with a hole of one pixel: the hole's rim lies 2 from the outline."""
    plane = np.zeros((11, 11), bool)
    plane[2:9, 2:9] = True
    holed = plane.copy()
    holed[5, 5] = False
    flat = score_lesions(*(np.expand_dims(mask, axis) for mask in (plane, holed)), ONE, EVERY)
    # 24 outline pixels at 0, and 4 of the rim at distance 2: the 95th percentile of 28 lies in the latter.
    assert flat.hd95_mm == 2.0


def test_wrong_masks_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        score_lesions(_mask(), _mask(shape=(1, 2, 3)), ONE)
    with pytest.raises(ValueError, match=r"one shape of three axes, got \(3, 3\)"):
        score_lesions(np.zeros((3, 3), bool), np.zeros((3, 3), bool), ONE)
    with pytest.raises(ValueError, match="must be boolean, got uint8"):
        score_lesions(_mask().astype(np.uint8), _mask(), ONE)
    with pytest.raises(ValueError, match="spacing must be positive"):
        score_lesions(_mask(), _mask(), (1.0, 0.0, 1.0))
