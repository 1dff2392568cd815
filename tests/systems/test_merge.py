import numpy as np
import pytest

from voxward.systems.merge import BRATS_2020, MergeRule, merge

VALUES = (0, 1, 2, 4)
# Table 1 as printed: a row per value of model B, a column per value of model A.
TABLE = {0: (0, 1, 0, 4), 1: (0, 1, 2, 4), 2: (2, 1, 2, 4), 4: (0, 1, 2, 4)}


@pytest.mark.parametrize("b", VALUES)
@pytest.mark.parametrize("a", VALUES)
def test_the_paper_s_table(a, b):
    a_map, b_map = np.full((1, 1, 1), a, np.uint8), np.full((1, 1, 1), b, np.uint8)
    assert merge(a_map, b_map).item() == TABLE[b][VALUES.index(a)]


def test_a_whole_map_is_merged_voxel_by_voxel():
    rng = np.random.default_rng(0)
    a, b = (rng.choice(VALUES, (4, 5, 6)).astype(np.uint8) for _ in range(2))
    kept = a.copy(), b.copy()
    merged = merge(a, b)
    for place in np.ndindex(a.shape):
        assert merged[place] == TABLE[b[place]][VALUES.index(a[place])]
    assert merged.dtype == np.uint8
    assert all(map(np.array_equal, (a, b), kept))


def test_core_and_enhancing_tumour_of_the_first_are_left_untouched():
    """What keeps pipeline A's scores of ET and TC."""
    rng = np.random.default_rng(1)
    a, b = (rng.choice(VALUES, (8, 8, 8)).astype(np.uint8) for _ in range(2))
    merged = merge(a, b)
    for value in (1, 4):
        assert np.array_equal(merged == value, a == value)


def test_another_set_of_classes():
    """The second owns two of four: it may turn one into the other, but never into the first's."""
    rule = MergeRule(first=(7,), second=(3, 5))
    a = np.array([0, 0, 0, 3, 3, 3, 5, 7, 7])
    b = np.array([0, 3, 7, 0, 5, 7, 3, 0, 5])
    assert merge(a, b, rule).tolist() == [0, 3, 0, 0, 5, 3, 3, 7, 7]


def test_the_type_is_the_first_one_s():
    a, b = np.array([0, 2], np.int16), np.array([2, 0], np.float64)
    assert merge(a, b).dtype == np.int16


def test_all_owned_by_one_is_that_one():
    rng = np.random.default_rng(2)
    a, b = (rng.integers(0, 4, (3, 4, 5)) for _ in range(2))
    assert np.array_equal(merge(a, b, MergeRule((1, 2, 3), ())), np.where((a == 0) & (b == 0), 0, a))
    assert np.array_equal(merge(a, b, MergeRule((), (1, 2, 3))), b)


def test_wrong_maps_are_refused():
    a = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 2, 2\) and \(2, 2, 1\)"):
        merge(a, a[..., :1])
    with pytest.raises(ValueError, match=r"second must hold the classes \[0, 1, 2, 4\], got \[3\]"):
        merge(a, a + np.uint8(3))


@pytest.mark.parametrize(
    ("first", "second", "message"), [((1, 2), (2,), r"both first and second own \[2\]"), ((0, 1), (2,), "background")]
)
def test_wrong_rules_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        MergeRule(first, second)
    assert BRATS_2020.classes == VALUES
