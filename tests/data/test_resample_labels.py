"""Objects that resampling would lose, and the counts of what is left. Oracles: objects placed by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.data.resample import resample_labels
from voxward.data.resample_labels import ClassCount, labelled_box, resample_counted


def thin():
    """A vessel of 2 x 2 voxels along an axis, a lesion of one voxel in an organ, and the organ; four times too fine."""
    label = np.zeros((32, 32, 32), np.uint8)
    label[8:24, 8:24, 8:24] = 1
    label[13, 13, 14] = 2
    label[4:6, 26:28, 3:29] = 3
    return label


def resampled(label, shape, method="objects"):
    found, counts = resample_counted(torch.from_numpy(label), shape, 4, method)
    return found.numpy(), {count.index: count for count in counts}


def test_thin_objects_survive_where_plain_resampling_loses_them():
    plain, lost = resampled(thin(), (8, 8, 8), "linear")
    found, counts = resampled(thin(), (8, 8, 8))
    assert (lost[2].after, lost[2].left, lost[3].after, lost[3].left) == (0, 0, 0, 0)
    assert np.argwhere(found == 2).tolist() == [[3, 3, 3]]
    # The vessel lies in one row of voxels; of those at its ends, 3 and 29, it fills less than half of the others.
    assert np.argwhere(found == 3).tolist() == [[1, 6, k] for k in range(1, 7)]
    assert (counts[3].objects, counts[3].left, counts[2].left) == (1, 1, 1)
    organ = plain == 1
    assert np.count_nonzero(organ & (found != 1)) == 1  # the voxel of the lesion


@pytest.mark.parametrize("shape", [(20, 21, 19), (11, 10, 9), (24, 24, 24)])
def test_organs_are_resampled_as_before(shape):
    label = np.zeros((16, 16, 16), np.uint8)
    grid = np.indices(label.shape)
    label[((grid - 7.4) ** 2).sum(0) < 30] = 1
    label[((grid - 7.4) ** 2).sum(0) < 8] = 2
    plain = resample_labels(torch.from_numpy(label), shape, 4).numpy()
    found, counts = resampled(label, shape)
    assert np.array_equal(found, plain)
    for k in (1, 2):
        assert counts[k] == ClassCount(k, int((label == k).sum()), int((plain == k).sum()), 1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_every_object_keeps_a_voxel_where_it_lies(seed):
    rng = np.random.default_rng(seed)
    label = np.zeros((30, 27, 24), np.uint8)
    for corner in rng.integers(0, 8, (12, 3)) * 3:
        label[tuple(corner)] = rng.integers(1, 4)
    found, counts = resampled(label, (11, 10, 24))
    for k, count in counts.items():
        components, number = ndimage.label(label == k, np.ones((3, 3, 3)))
        assert (count.objects, count.left) == (number, number)
        for n in range(1, number + 1):
            centre = (np.argwhere(components == n) + 0.5) * np.divide(found.shape, label.shape)
            assert any(found[tuple(place)] == k for place in np.floor(centre).astype(int))


def test_without_resampling_nothing_changes_and_only_voxels_are_counted():
    found, counts = resampled(thin(), (32, 32, 32))
    assert np.array_equal(found, thin())
    assert counts[3] == ClassCount(3, 104, 104)
    assert sorted(counts) == [1, 2, 3]


def test_a_two_dimensional_image_stays_one_voxel_deep():
    label = np.zeros((9, 9, 1), np.uint8)
    label[2, 2] = 1
    found, counts = resampled(label, (3, 3, 1))
    assert np.argwhere(found).tolist() == [[0, 0, 0]]
    assert counts[1] == ClassCount(1, 1, 1, 1, 1)


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="unknown label resampling 'lin'"):
        resample_counted(torch.zeros(2, 2, 2, dtype=torch.uint8), (3, 3, 3), 2, "lin")


def test_a_box_grows_to_the_labelled_voxels_and_no_further():
    label = np.zeros((9, 8, 7), np.uint8)
    label[3:5, 3:5, 3:5] = 5
    inner = ((2, 2, 2), (6, 6, 6))
    assert labelled_box(label, (5,), *inner) == (*inner, 0)
    label[8, 1, 3], label[0, 0, 0] = 5, 9
    assert labelled_box(label, (5,), *inner) == ((2, 1, 2), (9, 6, 6), 1)
