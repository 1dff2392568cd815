"""Everyday mishaps among the files that are to be segmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxward.data.io import write_image
from voxward.systems.inputs import warn_of_channels
from voxward.systems.predict import collect_inputs

MRI = ("T1", "T2")


def made(root: Path, *names: str) -> Path:
    for name in names:
        write_image(root / name, np.zeros((1, 2, 3, 4), np.int16), np.eye(4))
    return root


def names(root: Path, channels: int = 1) -> dict[str, list[str]]:
    return {case.id: [path.name for path in case.images] for case in collect_inputs([root], MRI[:channels])}


@pytest.mark.parametrize(
    "pair", [("x_0000.nii.gz", "x_0000.nii"), ("x.nii", "x.nrrd"), ("x_0000.nii.gz", "x_0000.nrrd")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_two_files_that_mean_one_case_are_refused(tmp_path: Path, pair: tuple[str, str], channels: int) -> None:
    made(tmp_path, *pair)
    with pytest.raises(ValueError, match="mean one case") as error:
        collect_inputs([tmp_path], MRI[:channels])
    assert all(name in str(error.value) for name in pair)
    with pytest.raises(ValueError, match="mean one case"):
        collect_inputs([tmp_path / name for name in pair], MRI[:channels])


def test_other_programs_notes_are_no_inputs(tmp_path: Path) -> None:
    made(tmp_path, "a_0000.nii.gz", "._a_0000.nii.gz", ".hidden.nii")
    (tmp_path / "upper_0000.NII.GZ").write_bytes((tmp_path / "a_0000.nii.gz").read_bytes())
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("x")
    assert names(tmp_path) == {"a": ["a_0000.nii.gz"], "upper": ["upper_0000.NII.GZ"]}


def test_the_same_name_in_two_folders_is_refused_with_both(tmp_path: Path) -> None:
    made(tmp_path, "p/scan.nii.gz", "q/scan.nii")
    with pytest.raises(ValueError, match=r"same file: scan .*p/scan\.nii\.gz and .*q/scan\.nii"):
        collect_inputs([tmp_path / "p", tmp_path / "q"], MRI[:1])
    with pytest.raises(ValueError, match="named twice"):
        collect_inputs([tmp_path / "p/scan.nii.gz", tmp_path / "p/../p/scan.nii.gz"], MRI[:1])


def test_links_to_one_file_are_two_inputs(tmp_path: Path) -> None:
    made(tmp_path, "scan.nii")
    (tmp_path / "again.nii").symlink_to(tmp_path / "scan.nii")
    assert set(names(tmp_path)) == {"scan", "again"}


def test_names_that_differ_in_capital_letters_are_told(tmp_path: Path) -> None:
    made(tmp_path, "p/Scan.nii", "q/scan.nii")
    with pytest.warns(UserWarning, match="Scan and scan differ in capital letters only"):
        assert len(collect_inputs([tmp_path / "p", tmp_path / "q"], MRI[:1])) == 2


def test_volumes_in_inner_folders_are_told(tmp_path: Path) -> None:
    made(tmp_path, "a.nii", "p/b.nii", "p/c.nii", ".cache/d.nii")
    with pytest.warns(UserWarning, match=r"its folders p \(2\) are not read"):
        assert set(names(tmp_path)) == {"a"}


def test_pictures_beside_volumes_are_told(tmp_path: Path) -> None:
    made(tmp_path, "a.nii", "b.nii")
    for name in ("a.png", "A_2.TIF", ".note.png"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(
        UserWarning, match=r"2 PNG or TIFF files \(A_2\.TIF, a\.png\) beside volumes such as a\.nii are not"
    ):
        assert set(names(tmp_path)) == {"a", "b"}


def test_files_of_more_channels_than_wanted_are_told(tmp_path: Path) -> None:
    two = [tmp_path / f"{name}_000{n}.nii" for name in "ab" for n in (0, 1)]
    with pytest.warns(UserWarning, match="like 2 cases of 2 channels"):
        warn_of_channels([*two, tmp_path / "c_0000.nii"], 1)
    warn_of_channels(two, 2)
    warn_of_channels([tmp_path / f"case_{n:04d}.nii" for n in range(9)], 1)
    warn_of_channels([tmp_path / f"{name}_0000.nii" for name in "abc"], 1)
