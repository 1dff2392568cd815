from itertools import product

import numpy as np
import pytest
import torch

from voxward.core.regions import RegionMaps

BRATS_2020 = RegionMaps.nested(("ET", "TC", "WT"), (4, 1, 2))
BRATS_2023 = RegionMaps.nested(("ET", "TC", "WT"), (3, 1, 2))

ALL = list(product((False, True), repeat=3))  # (ET, TC, WT)
# Every combination of masks -> label, enhancing tumour 4, core 1, oedema 2; the innermost region decides.
TABLE = {
    (False, False, False): 0, (False, False, True): 2, (False, True, False): 1, (False, True, True): 1,
    (True, False, False): 4, (True, False, True): 4, (True, True, False): 4, (True, True, True): 4,
}  # fmt: skip


@pytest.fixture(params=["array", "tensor"])
def kind(request):
    return torch.as_tensor if request.param == "tensor" else np.asarray


@pytest.mark.parametrize("regions", [BRATS_2020, BRATS_2023])
def test_every_combination_of_masks(regions, kind):
    masks = np.array(ALL).T.reshape(3, 2, 2, 2)
    labels = regions.to_labels(kind(masks))
    expected = [TABLE[combination] for combination in ALL]
    if regions is BRATS_2023:
        expected = [3 if label == 4 else label for label in expected]
    assert np.asarray(labels).ravel().tolist() == expected
    assert str(labels.dtype).endswith("uint8")
    assert isinstance(labels, type(kind(masks)))


@pytest.mark.parametrize(("regions", "values"), [(BRATS_2020, (0, 1, 2, 4)), (BRATS_2023, (0, 1, 2, 3))])
def test_every_label_has_its_masks(regions, values, kind):
    masks = regions.to_masks(kind(np.array(values).reshape(1, 2, 2)))
    assert masks.shape == (3, 1, 2, 2)
    by_name = dict(zip(regions.names, np.asarray(masks).reshape(3, 4).tolist(), strict=True))
    assert by_name == {
        "ET": [False, False, False, True],
        "TC": [False, True, False, True],
        "WT": [False, True, True, True],
    }


@pytest.mark.parametrize("regions", [BRATS_2020, BRATS_2023])
def test_labels_to_masks_and_back(regions, kind):
    rng = np.random.default_rng(0)
    labels = kind(rng.choice((0, *regions.labels), (2, 3, 4, 5)).astype(np.uint8))
    masks = regions.to_masks(labels)
    assert masks.shape == (2, 3, 3, 4, 5)
    assert (regions.to_labels(masks) == labels).all()


def test_a_batch_is_its_cases():
    labels = torch.randint(0, 4, (3, 4, 5, 6))
    masks = BRATS_2023.to_masks(labels)
    assert all(torch.equal(masks[n], BRATS_2023.to_masks(labels[n])) for n in range(3))


def test_masks_are_nested():
    masks = BRATS_2023.to_masks(torch.randint(0, 4, (4, 5, 6)))
    assert bool((masks[0] <= masks[1]).all() and (masks[1] <= masks[2]).all())


def test_any_depth_of_nesting():
    two = RegionMaps.nested(("tumour", "organ"), (2, 1))
    labels = np.array([0, 1, 2, 1]).reshape(1, 1, 4)
    assert two.to_masks(labels).reshape(2, 4).tolist() == [[False, False, True, False], [False, True, True, True]]
    assert np.array_equal(two.to_labels(two.to_masks(labels)), labels)


def test_wrong_maps_are_refused(kind):
    with pytest.raises(ValueError, match=r"labels must hold \[0, 1, 2, 4\], got \[3, 7\] as well"):
        BRATS_2020.to_masks(kind(np.array([0, 3, 7]).reshape(1, 1, 3)))
    with pytest.raises(ValueError, match="three spatial axes"):
        BRATS_2020.to_masks(kind(np.zeros((2, 2), int)))
    with pytest.raises(ValueError, match=r"masks must be \(..., 3, d, h, w\), got shape \(2, 1, 1, 1\)"):
        BRATS_2020.to_labels(kind(np.zeros((2, 1, 1, 1), bool)))
    with pytest.raises(ValueError, match="must be boolean"):
        BRATS_2020.to_labels(kind(np.zeros((3, 1, 1, 1), np.float32)))


@pytest.mark.parametrize(("names", "labels"), [(("A",), (1, 2)), (("A", "B"), (1, 1)), (("A",), (0,)), ((), ())])
def test_wrong_regions_are_refused(names, labels):
    with pytest.raises(ValueError, match="labels must"):
        RegionMaps.nested(names, labels)
