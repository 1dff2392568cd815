import itertools

import numpy as np
import pytest

from voxward.commands.merge import merge
from voxward.data.io import read_label, write_label

# Table 1 of Henry et al.: rows model B, columns model A, in the order 0, 1, 2, 4.
TABLE = [[0, 1, 0, 4], [0, 1, 2, 4], [2, 1, 2, 4], [0, 1, 2, 4]]
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture
def folders(tmp_path):
    pairs = np.array(list(itertools.product((0, 1, 2, 4), repeat=2)), np.uint8).reshape(4, 4, 2)
    for n, name in enumerate(("b", "a")):
        for case in ("x", "y"):
            write_label(tmp_path / name / f"{case}.nii.gz", pairs[..., n][..., None], AFFINE)
    return tmp_path


def test_the_paper_s_table_on_files(folders):
    written = merge(folders / "a", folders / "b", out=folders / "out")
    assert [path.name for path in written] == ["x.nii.gz", "y.nii.gz"]
    merged = read_label(written[0])
    assert merged.array[..., 0].tolist() == TABLE
    assert np.allclose(merged.affine, AFFINE)


def test_other_owners(folders):
    merged = read_label(
        merge(folders / "a", folders / "b", out=folders / "out", owned_by_first=[1, 2, 4], owned_by_second=[])[0]
    )
    assert (merged.array == read_label(folders / "a" / "x.nii.gz").array).all()


def test_what_does_not_match_is_refused_before_anything_is_written(folders):
    (folders / "b" / "y.nii.gz").rename(folders / "b" / "z.nii.gz")
    with pytest.raises(ValueError, match="the same cases; only one has y, z"):
        merge(folders / "a", folders / "b", out=folders / "out")
    with pytest.raises(ValueError, match="both first and second own"):
        merge(folders / "a", folders / "a", out=folders / "out", owned_by_first=[1, 2, 4], owned_by_second=[2])
    with pytest.raises(ValueError, match="one of the two folders"):
        merge(folders / "a", folders / "a", out=folders / "a")
    assert not (folders / "out").exists()


def test_two_segmentations_of_a_case_are_refused(folders):
    write_label(folders / "b" / "x.nii", np.zeros((4, 4, 1), np.uint8), AFFINE)
    with pytest.raises(ValueError, match=r"b holds two segmentations of a case, e\.g\. x\.nii"):
        merge(folders / "a", folders / "b", out=folders / "out")
    assert not (folders / "out").exists()


def test_values_that_nobody_owns_are_named_with_their_case(folders):
    with pytest.raises(ValueError, match="x: first must hold the classes"):
        merge(folders / "a", folders / "b", out=folders / "out", owned_by_first=[1], owned_by_second=[2])
