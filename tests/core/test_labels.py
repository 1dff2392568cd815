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


@pytest.mark.parametrize(
    ("names", "values", "problem"),
    [
        (("background", "a"), (0,), "one value per name"),
        (("background",), (0,), "at least one foreground"),
        (("background", "a"), (0, 0), "differ"),
        (("a", "background"), (1, 0), "first label"),
    ],
)
def test_wrong_label_sets_are_refused(names, values, problem):
    with pytest.raises(ValueError, match=problem):
        LabelSet(names, values)
