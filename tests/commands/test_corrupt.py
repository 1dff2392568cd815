"""The contact sheet of corruptions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import image as images

import voxward
from voxward.core.errors import UserError
from voxward.data.io import write_image, write_label


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One MR scan, oblique and of different voxel lengths, as voxward reads a folder."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "labels"):
        (root / name).mkdir()
    affine = np.array([[0.0, 1.9, 0.6, 3.0], [-1.0, 0.0, 0.0, 2.0], [0.0, -0.6, 2.9, 1.0], [0.0, 0.0, 0.0, 1.0]])
    array = np.random.default_rng(0).integers(20, 200, (1, 20, 16, 6)).astype(np.uint8)
    write_image(root / "images" / "x.nii.gz", array, affine)
    label = np.zeros((20, 16, 6), np.uint8)
    label[6:12, 5:9, 2:5] = 1
    write_label(root / "labels" / "x.nii.gz", label, affine)
    return root


def test_one_picture_holds_the_corruptions_that_were_asked_for(dataset, tmp_path):
    target = tmp_path / "sheet.png"
    found = voxward.corrupt(dataset, out=target, names=["affine", "motion"], severities=[1, 3])
    assert (found.path, found.case, found.corruptions) == (target, "x", ("affine", "motion"))
    wide = images.imread(target).shape
    voxward.corrupt(dataset, out=target, names=["affine"], severities=[3])
    small = images.imread(target).shape
    assert wide[0] > 1.8 * small[0]
    assert wide[1] > 1.3 * small[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "sheet.txt"}, "must end with .png, .pdf, .svg"),
        ({"names": ["blur"]}, "unknown corruption of the set rood-mri 'blur'"),
        ({"severities": [6]}, "from 1 to 5, got 6"),
        ({"set": "mri"}, "unknown corruption set 'mri'"),
        ({"case": "y"}, "y"),
        ({"channel": "T2"}, "unknown channel 'T2'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(dataset, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        voxward.corrupt(dataset, **{"out": tmp_path / "sheet.png", **options})
    assert not list(tmp_path.iterdir())


def test_a_picture_of_someone_else_is_not_replaced(dataset, tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"sheet\.png"):
        voxward.corrupt(dataset, out=tmp_path / "sheet.png", names=["smoothing"])
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"
