"""Post-processing on class maps, judged by flood fill and by hand."""

from __future__ import annotations

import json
import weakref
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from voxward.core.files import write_json
from voxward.core.labels import LabelSet
from voxward.core.plan import load_json
from voxward.core.recipe import PostProcessing, load_recipe
from voxward.core.structure import from_data, to_data
from voxward.runs.components import drop_small_parts, fill_holes, fuse_small_components, keep_largest_component
from voxward.runs.postprocess import Pair, PostProcess, _scores, choose_postprocess

UNIT = (1.0, 1.0, 1.0)
LABELS = LabelSet(("background", "organ", "lesion"), (0, 1, 2))
STEPS = [step for step in product((-1, 0, 1), repeat=3) if any(step)]


def random_map(seed: int, share: float = 0.12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 4, (8, 9, 7)) * (rng.random((8, 9, 7)) < share * 3)).astype(np.uint8)


def touching(voxel: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(a + b for a, b in zip(voxel, step, strict=True)) for step in STEPS]


def flood(label: np.ndarray, klass: int) -> list[set[tuple[int, ...]]]:
    """Components of a class, voxels touching by face, edge or corner."""
    left = {tuple(int(n) for n in voxel) for voxel in np.argwhere(label == klass)}
    found = []
    while left:
        edge, component = [left.pop()], set()
        while edge:
            voxel = edge.pop()
            component.add(voxel)
            near = [other for other in touching(voxel) if other in left]
            left.difference_update(near)
            edge += near
        found.append(component)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_only_the_largest_component_of_the_classes_stays(seed: int) -> None:
    label = random_map(seed)
    before = label.copy()
    result = keep_largest_component(label, (1, 3))
    assert np.array_equal(label, before)
    assert result.dtype == label.dtype
    assert np.array_equal(result == 2, label == 2)
    for klass in (1, 3):
        kept = flood(result, klass)
        assert len(kept) == 1
        assert kept[0] in flood(label, klass)
        assert len(kept[0]) == max(map(len, flood(label, klass)))
    assert not result[(result != label)].any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [UNIT, (0.5, 2.0, 3.0)])
def test_small_components_become_what_touches_them_most(seed: int, spacing: tuple[float, float, float]) -> None:
    label, minimum = random_map(seed), 4.0 * float(np.prod(spacing))
    expected = label.copy()
    for component in flood(label, 2):
        if len(component) < 4:
            ring = {voxel for own in component for voxel in touching(own)} - component
            inside = [v for v in ring if all(0 <= n < size for n, size in zip(v, label.shape, strict=True))]
            votes = Counter(int(label[voxel]) for voxel in inside)
            winner = min(votes, key=lambda klass: (-votes[klass], klass))
            for voxel in component:
                expected[voxel] = winner
    result = fuse_small_components(label, 2, minimum, spacing)
    assert (expected != label).any()
    assert np.array_equal(result, expected)


def test_a_component_of_exactly_the_minimum_stays_and_so_does_one_without_surroundings() -> None:
    label = np.zeros((5, 5, 5), np.uint8)
    label[1:3, 1:3, 1:3] = 1
    assert np.array_equal(fuse_small_components(label, 1, 8.0, UNIT), label)
    assert not fuse_small_components(label, 1, 8.1, UNIT).any()
    full = np.ones((2, 2, 2), np.uint8)
    assert np.array_equal(fuse_small_components(full, 1, 100.0, UNIT), full)


def test_a_2d_image_and_absent_classes() -> None:
    label = np.zeros((6, 6, 1), np.int16)
    label[0, 0], label[3:5, 3:5] = 1, 1
    assert keep_largest_component(label, (1, 2))[0, 0, 0] == 0
    assert fuse_small_components(label, 1, 2.0, UNIT).sum() == 4
    assert np.array_equal(keep_largest_component(label, ()), label)
    assert np.array_equal(fuse_small_components(label, 5, 2.0, UNIT), label)


def test_apply_does_what_its_kind_says() -> None:
    label = random_map(7)
    organ, lesion = PostProcess(("organ", "organ")), PostProcess(("lesion", "lesion", "none"), (3.0, 5.0, 0.0))
    assert np.array_equal(organ.apply(label, UNIT), keep_largest_component(label, (1, 2)))
    one_then_two = fuse_small_components(fuse_small_components(label, 1, 3.0, UNIT), 2, 5.0, UNIT)
    assert np.array_equal(lesion.apply(label, UNIT), one_then_two)
    assert np.array_equal(PostProcess().apply(label, UNIT), label)
    mixed = PostProcess(("lesion", "none", "organ"), (3.0, 0.0, 0.0))
    organ_first = fuse_small_components(keep_largest_component(label, (3,)), 1, 3.0, UNIT)
    assert np.array_equal(mixed.apply(label, UNIT), organ_first)


@pytest.mark.parametrize("fraction", [0.02, 0.1, 1.0])
def test_share_drops_each_class_small_parts_but_never_its_largest(fraction: float) -> None:
    label = random_map(7)
    expected = label.copy()
    for klass in (1, 3):
        parts = flood(label, klass)
        largest, total = max(map(len, parts)), sum(map(len, parts))
        first = next(part for part in sorted(parts, key=min) if len(part) == largest)
        for part in parts:
            if len(part) < fraction * total and part is not first:
                for voxel in part:
                    expected[voxel] = 0
    share = PostProcess(("share", "none", "share"), (), fraction)
    assert np.array_equal(share.apply(label, UNIT), expected)


def test_share_is_settled_with_the_recipes_fraction() -> None:
    truth = np.zeros((12, 8, 8), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    prediction = truth.copy()
    prediction[9:11, 5:7, 5:7] = 1  # 8 of 72 voxels
    wanted = PostProcessing("share", fraction=0.12)
    one = LabelSet(("background", "organ"), (0, 1))
    assert choose_postprocess([(truth, prediction, UNIT)], wanted, (0.0,), one) == PostProcess(("share",), (0.0,), 0.12)
    less = PostProcessing("share", fraction=0.1)
    assert choose_postprocess([(truth, prediction, UNIT)], less, (0.0,), one).kinds == ("none",)


def ways_out(label: np.ndarray, klass: int) -> set[tuple[int, ...]]:
    """All voxels that are reached from beyond the rim by steps from face to face that do not enter the class.

    Along an axis of one voxel there are no such steps.
    """
    steps = [
        tuple(sign * (n == axis) for n in range(3))
        for axis in range(3) for sign in (1, -1) if label.shape[axis] > 1
    ]  # fmt: skip
    rim = {
        voxel for voxel in np.ndindex(label.shape)
        if any(voxel[n] in (0, label.shape[n] - 1) for n in range(3) if label.shape[n] > 1)
    }  # fmt: skip
    edge = [voxel for voxel in rim if label[voxel] != klass]
    reached = set(edge)
    while edge:
        voxel = edge.pop()
        for step in steps:
            near = tuple(a + b for a, b in zip(voxel, step, strict=True))
            free = all(0 <= n < size for n, size in zip(near, label.shape, strict=True)) and label[near] != klass
            if free and near not in reached:
                reached.add(near)
                edge.append(near)
    return reached


@pytest.mark.parametrize("shape", [(8, 9, 7), (24, 22, 1), (1, 22, 24)])
@pytest.mark.parametrize("seed", range(3))
def test_a_hole_is_what_no_way_leads_out_of(seed: int, shape: tuple[int, int, int]) -> None:
    """Random maps, dense enough to enclose something; class 3 is not asked for."""
    rng = np.random.default_rng(seed)
    label = rng.choice(4, shape, p=(0.3, 0.5, 0.15, 0.05)).astype(np.uint8)
    expected = label.copy()
    for klass in (1, 2):
        outside = ways_out(label, klass)
        for voxel in np.ndindex(shape):
            if label[voxel] == 0 and voxel not in outside:
                expected[voxel] = klass
    before = label.copy()
    assert (expected != label).any()
    assert np.array_equal(fill_holes(label, (1, 2)), expected)
    assert np.array_equal(label, before)


def test_a_cyst_stays_in_its_organ_and_a_slice_alone_encloses_nothing_in_space() -> None:
    label = np.zeros((9, 9, 9), np.uint8)
    label[1:8, 1:8, 1:8] = 1
    label[3:6, 3:6, 3:6] = 0
    label[4, 4, 4] = 2
    filled = PostProcess(("none", "none"), filled=(True, False)).apply(label, UNIT)
    assert (filled[1:8, 1:8, 1:8] == 1).sum() == 7**3 - 1
    assert filled[4, 4, 4] == 2
    ring = np.zeros((9, 9, 9), np.uint8)
    ring[2:7, 2:7, 4] = 1
    ring[3:6, 3:6, 4] = 0
    assert np.array_equal(fill_holes(ring, (1,)), ring)
    assert fill_holes(ring[:, :, 4:5], (1,)).sum() == 25


def test_filling_is_chosen_class_by_class_where_it_helps() -> None:
    truth = np.zeros((20, 10, 10), np.uint8)
    truth[1:8, 1:8, 1:8], truth[11:18, 1:8, 1:8] = 1, 2
    truth[14, 4, 4] = 0  # class 2 truly has a hole
    prediction = truth.copy()
    prediction[4, 4, 4] = 0
    prediction[9, 9, 9] = 1  # and a false speck of class 1
    wanted = PostProcessing("organ", fill_holes=True)
    chosen = choose_postprocess([(truth, prediction, UNIT)], wanted, (0.0, 0.0), LABELS)
    assert chosen == PostProcess(("organ", "none"), (0.0, 0.0), 0.2, (True, False))
    assert np.array_equal(chosen.apply(prediction, UNIT), truth)
    alone = choose_postprocess([(truth, prediction, UNIT)], PostProcessing("none", fill_holes=True), (0.0, 0.0), LABELS)
    assert (alone.kinds, alone.filled) == (("none", "none"), (True, False))
    assert not choose_postprocess([(truth, prediction, UNIT)], PostProcessing("organ"), (0.0, 0.0), LABELS).filled


def test_components_come_before_holes() -> None:
    """A speck of class 1 in the hole of class 2 is dropped first, and the hole then filled whole."""
    label = np.zeros((20, 9, 9), np.uint8)
    label[1:8, 1:8, 1:8], label[10:20] = 2, 1
    label[3:6, 3:6, 3:6] = 0
    label[4, 4, 4] = 1
    filled = PostProcess(("organ", "none"), (), 0.2, (False, True)).apply(label, UNIT)
    assert (filled[1:8, 1:8, 1:8] == 2).all()
    recipes = [load_recipe(f"resdsn-c2f-{name}") for name in ("coarse", "fine", "hardened")]
    assert all(recipe.postprocessing.fill_holes for recipe in recipes)
    assert not load_recipe("rog").postprocessing.fill_holes


def test_json_round_trip(tmp_path: Path) -> None:
    settled = PostProcess(("organ", "none", "lesion"), (3.5, 0.0, 12.0))
    for n, value in enumerate((settled, PostProcess())):
        write_json(tmp_path / f"{n}.json", to_data(value))
        assert load_json(PostProcess, tmp_path / f"{n}.json") == value
    data = json.loads((tmp_path / "0.json").read_text())
    with pytest.raises(ValueError, match=r"kind of post-processing 'organs'\. .* Known: lesion, none, organ, share"):
        from_data(PostProcess, {**data, "kinds": ["organs"]}, "a.json")
    with pytest.raises(ValueError, match="minimum_mm3 needs a value for each of the kinds"):
        from_data(PostProcess, {**data, "minimum_mm3": [3.5]}, "a.json")


def specked(truth: np.ndarray, klass: int) -> np.ndarray:
    prediction = truth.copy()
    prediction[-2:, -2:, -2:] = klass
    return prediction


def organ_and_lesion() -> np.ndarray:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[1:6, 1:6, 1:6], truth[2:4, 2:4, 2:4] = 1, 2
    return truth


def kinds(*pairs: Pair, kind: str = "organ", minimum: tuple[float, ...] = (0.0, 0.0)) -> tuple[str, ...]:
    return choose_postprocess(iter(pairs), PostProcessing(kind), minimum, LABELS).kinds


def test_a_class_is_kept_only_where_it_helps() -> None:
    truth = organ_and_lesion()
    twofold = truth.copy()
    twofold[8:10, 8:10, 8:10] = 2
    # Class 1 has a false speck; class 2 truly has two parts, which `organ` would break.
    chosen = choose_postprocess([(twofold, specked(twofold, 1), UNIT)], PostProcessing("organ"), (0.0, 0.0), LABELS)
    assert chosen == PostProcess(("organ", "none"), (0.0, 0.0))
    assert kinds((truth, specked(truth, 2), UNIT)) == ("none", "organ")
    assert kinds((truth, truth, UNIT)) == ("none", "none")
    # What helps in one case and harms more in another is left.
    assert kinds((truth, specked(truth, 2), UNIT), (twofold, twofold, UNIT)) == ("none", "none")


def test_the_lesion_threshold_is_in_mm3() -> None:
    pair = (organ_and_lesion(), specked(organ_and_lesion(), 2))
    thin, thick = (1.0, 1.0, 0.5), (1.0, 1.0, 2.0)  # the speck's 8 voxels are 4 and 16 mm3, as the lesion's
    assert kinds((*pair, thick), kind="lesion", minimum=(5.0, 5.0)) == ("none", "none")
    far = (np.zeros_like(pair[0]), specked(np.zeros_like(pair[0]), 2), thin)
    assert kinds(far, kind="lesion", minimum=(5.0, 5.0)) == ("none", "lesion")


def test_a_gain_that_costs_other_classes_more_is_refused() -> None:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[:, :, :6] = 1
    truth[4:7, 4:7, 8:11] = 2
    hollow = truth.copy()
    hollow[5, 5, 9] = 0
    prediction = truth.copy()
    prediction[5, 5, 9] = 1
    # Where the hole is really of class 2, fusing the speck of class 1 helps both; where it is background, it adds a
    # false voxel to the small class 2, which loses more than the large class 1 gains.
    assert kinds((truth, prediction, UNIT), kind="lesion", minimum=(5.0, 0.0)) == ("lesion", "none")
    assert kinds((hollow, prediction, UNIT), kind="lesion", minimum=(5.0, 0.0)) == ("none", "none")


def test_a_gain_of_a_class_that_costs_the_regions_is_refused() -> None:
    """The middle is called core: dropped, it is background. Core gains 8 / 258, but so much the middle region loses,
    and the outer one loses, too.
    """
    classes = LabelSet(("background", "core", "middle", "rim"), (0, 1, 2, 3))
    nested = classes.with_regions({"inner": (1,), "both": (1, 2), "all": (1, 2, 3)})
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[1:6, 1:6, 1:6], truth[8:10, 8:10, 8:10], truth[1:4, 8:11, 1:4] = 1, 2, 3
    prediction = np.where(truth == 2, 1, truth).astype(np.uint8)
    for labels, kind in ((classes, "organ"), (nested, "none")):
        chosen = choose_postprocess([(truth, prediction, UNIT)], PostProcessing("organ"), (0.0,) * 3, labels)
        assert chosen.kinds == (kind, "none", "none")


def test_an_organ_and_its_tumour_in_one_recipe() -> None:
    """A false piece of liver, a false speck of tumour, and two true tumours that `organ` would reduce to one."""
    labels = LabelSet(("background", "liver", "tumour"), (0, 1, 2))
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[1:14, 1:14, 1:14], truth[2:5, 2:5, 2:5], truth[9:12, 9:12, 9:12] = 1, 2, 2
    prediction = truth.copy()
    prediction[16:19, 16:19, 16:19], prediction[3, 11, 3] = 1, 2
    wanted = PostProcessing("organ", {"tumour": "lesion"})
    chosen = choose_postprocess([(truth, prediction, UNIT)], wanted, (1.0, 10.0), labels)
    assert chosen == PostProcess(("organ", "lesion"), (1.0, 10.0))
    assert np.array_equal(chosen.apply(prediction, UNIT), truth)
    with pytest.raises(ValueError, match=r"postprocessing.classes: unknown class 'tumor'\. Did you mean 'tumour'\?"):
        choose_postprocess([(truth, truth, UNIT)], PostProcessing("organ", {"tumor": "lesion"}), (0.0, 0.0), labels)


def without_islands(label: np.ndarray, share: float) -> np.ndarray:
    """By flood fill: parts of the foreground below a share of the largest go, but for each class's own largest."""
    result, parts, left = label.copy(), [], set(zip(*np.nonzero(label), strict=True))
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            part.add(voxel := edge.pop())
            found = left.intersection(touching(voxel))
            left -= found
            edge += found
        parts.append(sorted(part))
    parts.sort()
    most = max(map(len, parts))
    own = {k: max(parts, key=lambda part: sum(label[v] == k for v in part)) for k in (1, 2, 3)}
    for part in parts:
        if len(part) < share * most and part not in own.values():
            for voxel in part:
                result[voxel] = 0
    return result


def scattered(sizes: tuple[int, ...]) -> np.ndarray:
    label = np.zeros((max(sizes), 2 * len(sizes), 1), np.uint8)
    for n, size in enumerate(sizes):
        label[:size, 2 * n] = 1
    return label


def test_a_share_of_the_largest_part_does_not_depend_on_how_many_parts_there_are() -> None:
    """Ten parts of 10 voxels beside one of 12: none has a fifth of all, and all have most of the largest."""
    label = scattered((12, *(10,) * 10, 2))
    assert drop_small_parts(label, 0.2, (1,)).sum() == 12
    kept = drop_small_parts(label, 0.2, (1,), "largest")
    assert kept.sum() == 112
    assert not kept[:, -2].any()
    for of, left in (("mask", 12), ("largest", 112)):
        settled = PostProcess(("share",), fraction_of=of)
        assert settled.apply(label, UNIT).sum() == left
        assert from_data(PostProcess, to_data(settled), "a.json") == settled


def test_islands_are_those_of_all_classes_together_and_dropped_only_if_that_helps() -> None:
    """A tumour of two classes, and far from it a speck: false in one dataset, a true second tumour in the other."""
    labels = LabelSet(("background", "rim", "core"), (0, 1, 2)).with_regions({"core": (2,), "all": (1, 2)})
    tumour = np.zeros((20, 12, 12), np.uint8)
    tumour[1:9, 1:9, 1:9], tumour[3:6, 3:6, 3:6] = 1, 2
    tumour[1, 1, 9], tumour[9, 9, 9] = 2, 1  # parts of a class that touch the rest are no islands
    speck = tumour.copy()
    speck[15:18, 4:6, 4:6] = 1
    wanted = PostProcessing("none", islands=0.1)
    chosen = choose_postprocess([(tumour, speck, UNIT)], wanted, (0.0, 0.0), labels)
    assert (chosen.islands, chosen.idle) == (0.1, False)
    np.testing.assert_array_equal(chosen.apply(speck, UNIT), tumour)
    for truth, prediction in ((speck, speck), (tumour, tumour)):
        assert choose_postprocess([(truth, prediction, UNIT)], wanted, (0.0, 0.0), labels).idle
    empty = np.zeros_like(tumour)
    np.testing.assert_array_equal(chosen.apply(empty, UNIT), empty)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_whole_volumes(seed: int) -> None:
    """The gains are counted on the changed voxels only; here all of it is counted again."""
    truth, prediction = random_map(seed), random_map(seed + 10, 0.04)
    wanted = PostProcess(("organ", "lesion", "none"), (3.0, 4.0, 2.0), islands=0.5)
    alone = [PostProcess(tuple(k if m == n else "none" for m, k in enumerate(wanted.kinds)), wanted.minimum_mm3)
             for n in range(3)]  # fmt: skip
    maps = [prediction, *(one.apply(prediction, UNIT) for one in alone), without_islands(prediction, 0.5)]
    expected = [
        [2 * np.sum((truth == k) & (m == k)) / (np.sum(truth == k) + np.sum(m == k)) for k in (1, 2, 3)] for m in maps
    ]
    assert (maps[1] != prediction).any()
    assert (maps[2] != prediction).any()
    assert (maps[4] != prediction).any()
    labels = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3))
    np.testing.assert_allclose(_scores(wanted, labels, (truth, prediction, UNIT)), np.tile(expected, (1, 2)))
    nested = labels.with_regions({"c": (3,), "bc": (2, 3), "abc": (1, 2, 3)})
    regions = [
        [2 * np.sum((truth >= k) & (m >= k)) / (np.sum(truth >= k) + np.sum(m >= k)) for k in (3, 2, 1)] for m in maps
    ]
    np.testing.assert_allclose(_scores(wanted, nested, (truth, prediction, UNIT)), np.hstack([expected, regions]))


def test_many_classes() -> None:
    labels = LabelSet(("background", *(f"part {n}" for n in range(1, 61))), tuple(range(61)))
    truth = np.zeros((8, 8, 60), np.uint8)
    truth[1:5, 1:5] = np.arange(1, 61)
    prediction = truth.copy()
    prediction[7, 7, ::4] = prediction[1, 1, ::4]
    chosen = choose_postprocess([(truth, prediction, UNIT)], PostProcessing(), (0.0,) * 60, labels)
    # A speck of one class touches no other component of its own class.
    assert chosen.kinds == ("organ", "none", "none", "none") * 15
    assert np.array_equal(chosen.apply(prediction, UNIT), truth)


def test_one_case_is_held_at_a_time_and_none_is_asked_for_in_vain() -> None:
    truth, made = organ_and_lesion(), []

    def pair() -> Pair:
        assert all(ref() is None for ref in made)
        prediction = specked(truth, 2)
        made.append(weakref.ref(prediction))
        return truth.copy(), prediction, UNIT

    nothing = PostProcessing("none", {"lesion": "none"})
    assert choose_postprocess((pair() for _ in range(3)), nothing, (0.0, 0.0), LABELS) == PostProcess()
    assert not made
    chosen = choose_postprocess((pair() for _ in range(3)), PostProcessing(), (0.0, 0.0), LABELS)
    assert (len(made), chosen.kinds) == (3, ("none", "organ"))


def test_one_foreground_class_is_enough_and_wrong_input_is_refused() -> None:
    single, organ = LabelSet(("background", "organ"), (0, 1)), PostProcessing("organ")
    truth = (organ_and_lesion() > 0).astype(np.uint8)
    assert choose_postprocess([(truth, specked(truth, 1), UNIT)], organ, (0.0,), single).kinds == ("organ",)
    with pytest.raises(ValueError, match="at least one"):
        choose_postprocess([], organ, (0.0,), single)
    with pytest.raises(ValueError, match="minimum_mm3 needs 1 value"):
        choose_postprocess([(truth, truth, UNIT)], PostProcessing("lesion"), (), single)
    with pytest.raises(ValueError, match="one shape"):
        choose_postprocess([(truth, truth[:5], UNIT)], organ, (0.0,), single)
    with pytest.raises(ValueError, match="integer class map"):
        keep_largest_component(truth.astype(float), (1,))
