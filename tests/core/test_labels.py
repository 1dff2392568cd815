import tracemalloc

import numpy as np
import pytest

from voxward.core.labels import LabelSet

BRATS = LabelSet(("background", "necrosis", "edema", "enhancing"), (0, 1, 2, 4))


def test_values_and_indices_are_inverse():
    values = np.random.default_rng(0).choice(BRATS.values, size=(3, 4, 5))
    index = BRATS.to_index(values)
    assert index.dtype == np.uint8
    assert set(np.unique(index)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(BRATS.to_values(index), values)
    assert BRATS.to_values(index).dtype == np.uint8


def test_unsorted_values_keep_their_class():
    labels = LabelSet(("background", "a", "b"), (0, 9, 5))
    np.testing.assert_array_equal(labels.to_index(np.array([5, 9, 0])), [2, 1, 0])


def test_undeclared_values_are_named():
    with pytest.raises(ValueError, match=r"\[3\].*legal: \[0, 1, 2, 4\]"):
        BRATS.to_index(np.array([0, 3, 1]))
    scattered = np.zeros((9, 2, 2), np.int16)
    scattered[:7, 0, 0] = (-1, 3, 5, 6, 7, 8, 300)
    with pytest.raises(ValueError, match=r"\[-1, 3, 5, 6, 7, 8, 300\] are not declared"):
        BRATS.to_index(scattered)
    with pytest.raises(ValueError, match=r"22, 23\] and 976 more are not declared"):
        BRATS.to_index(np.arange(1000).reshape(10, 10, 10))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("shape", [(3,), (4, 5), (5, 4, 3), (0, 4, 3)])
def test_any_shape_type_and_memory_order(shape, dtype):
    values = np.random.default_rng(0).choice(BRATS.values, size=shape).astype(dtype)
    for array in (values, np.asfortranarray(values)):
        index = BRATS.to_index(array)
        assert index.flags.c_contiguous
        assert index.shape == shape
        np.testing.assert_array_equal(BRATS.to_values(index), values)


def test_a_volume_takes_little_more_memory_than_its_indices():
    values = np.random.default_rng(0).choice(BRATS.values, size=(100, 100, 100)).astype(np.uint8)
    tracemalloc.start()
    BRATS.to_index(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * values.nbytes


@pytest.mark.parametrize(
    ("names", "values", "problem"),
    [
        (("background", "a"), (0,), "one value per name"),
        (("background",), (0,), "at least one foreground"),
        (("background", "a"), (0, 0), "values must differ"),
        (("background", "a", "a"), (0, 1, 2), "names must differ"),
        (("a", "background"), (1, 0), "first label"),
    ],
)
def test_wrong_label_sets_are_refused(names, values, problem):
    with pytest.raises(ValueError, match=problem):
        LabelSet(names, values)
