"""Two affines compared by where the corners of the volume lie."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

import voxward
from tests.data.volumes import make_affine
from voxward.core.case import Case, Dataset, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.spacing import shear_degrees
from voxward.data.check import check_dataset
from voxward.data.io import read_case, read_truth
from voxward.data.places import apart, label_fault

SHAPE = (512, 512, 4)
LABELS = LabelSet(("background", "a"), (0, 1))


def turned(radians: float) -> np.ndarray:
    c, s = np.cos(radians), np.sin(radians)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([0.7, 0.7, 5])
    affine[:3, 3] = (-120.5, -200.25, 310)
    return affine


def farthest(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """Brute force over all corners."""
    moved = []
    for corner in np.ndindex(2, 2, 2):
        index = np.append([-0.5 if end == 0 else n - 0.5 for end, n in zip(corner, shape, strict=True)], 1)
        moved.append(float(np.linalg.norm((a - b) @ index)))
    return max(moved)


def test_the_distance_is_that_of_the_farthest_corner() -> None:
    a, b = turned(0.0166), turned(0.0166 + 3e-5)
    found = apart(a, b, SHAPE)
    assert found.mm == pytest.approx(farthest(a, b, SHAPE))
    assert found.voxels == pytest.approx(found.mm / 0.7)
    assert str(found) == "the far corners are 0.015 mm (0.022 of a voxel) apart, by the direction (0.0017 degrees)"
    assert found.exceeds(0.01)
    assert not found.exceeds(0.05)


@pytest.mark.parametrize(
    ("change", "causes"),
    [
        (lambda a: a + np.eye(4)[:, [3]] * 0, ()),
        (lambda a: np.column_stack([a[:, :3], a[:, 3] + [3, 0, 0, 0]]), ("origin (3 mm)",)),
        (lambda a: a @ np.diag([1, 1, 2, 1]), ("spacing ((0.8, 1.3, 3.1) and (0.8, 1.3, 6.2) mm)",)),
    ],
)
def test_what_differs_is_named(change, causes: tuple[str, ...]) -> None:
    affine = make_affine("RAS", degrees=10)
    assert apart(affine, change(affine) if causes else affine, (10, 10, 10)).causes == causes


def test_a_flip_is_origin_and_direction() -> None:
    affine = make_affine("RAS")
    flipped = affine @ np.array([[-1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert [cause.split()[0] for cause in apart(affine, flipped, (10, 10, 10)).causes] == ["origin", "direction"]


def test_what_is_no_number_is_apart() -> None:
    broken = np.eye(4)
    broken[0, 0] = np.nan
    assert apart(np.eye(4), broken, (4, 4, 4)).exceeds(1e9)


def test_small_voxels_are_compared_in_voxels() -> None:
    a, b = np.diag([0.001, 0.001, 0.001, 1]), np.diag([0.001, 0.001, 0.001, 1])
    b[0, 3] = 0.0005  # half a voxel, and less than a micrometre
    label = Volume(np.zeros((4, 4, 4), np.uint8), b)
    assert "0.5 of a voxel" in (label_fault(Volume(np.zeros((1, 4, 4, 4)), a), label) or "")


@pytest.mark.parametrize("degrees", [0.0, 5.0, 20.0])
def test_the_shear_of_a_tilted_gantry(degrees: float) -> None:
    affine = np.diag([0.7, 0.7, 5.0, 1.0])
    affine[1, 2] = 5.0 * np.tan(np.radians(degrees))
    assert shear_degrees(make_affine("LPS", degrees=25) @ np.linalg.inv(np.diag([0.8, 1.3, 3.1, 1])) @ affine) == (
        pytest.approx(degrees, abs=1e-5)
    )


def save(path: Path, array: np.ndarray, affine: np.ndarray, qform: np.ndarray | None = None, codes=(1, 1)) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.set_qform(affine if qform is None else qform, codes[0])
    image.set_sform(affine, codes[1])
    nibabel.save(image, path)
    return path


def dataset(root: Path, *cases: tuple[np.ndarray, np.ndarray], tolerance: float = 0.05, **more) -> Dataset:
    label = np.zeros((6, 5, 4), np.uint8)
    label[2, 2, 2] = 1
    made = []
    for n, (image_affine, label_affine) in enumerate(cases):
        image = np.random.default_rng(n).permutation(120).astype(np.int16).reshape(6, 5, 4)  # no two cases are alike
        files = (save(root / "images" / f"c{n}.nii", image, image_affine, **more),)
        truth = save(root / "labels" / f"c{n}.nii", label, label_affine, **more)
        made.append(Case(f"c{n}", files, truth, affine_tolerance=tolerance))
    return Dataset("set", root, ("MRI",), LABELS, tuple(made))


def moved(voxels: float) -> np.ndarray:
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[0, 3] = 2 * voxels
    return affine


@pytest.mark.parametrize(
    ("voxels", "tolerance", "severity"),
    [(0.005, 0.05, None), (0.03, 0.05, "warning"), (0.2, 0.05, "error"), (0.2, 0.5, "warning"), (0.03, 0.02, "error")],
)
def test_a_small_difference_is_a_warning_up_to_the_tolerance(
    tmp_path: Path, voxels: float, tolerance: float, severity: str | None
) -> None:
    source = dataset(tmp_path, (moved(0), moved(voxels)), tolerance=tolerance)
    found = check_dataset(source).problems
    assert [problem.severity for problem in found] == ([] if severity is None else [severity])
    if found:
        assert "of a voxel) apart, by the origin" in found[0].message
        assert "[[" not in found[0].message
    case = source.cases[0]
    image = read_case(case)
    if severity == "error":
        with pytest.raises(UserError, match="the label lies elsewhere than its image: the far corners are"):
            read_truth(case, image)
    else:
        np.testing.assert_array_equal(read_truth(case, image).affine, image.affine)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_of_voxels(tolerance: float) -> None:
    with pytest.raises(UserError, match="affine_tolerance"):
        Case("a", (), affine_tolerance=tolerance)


def problems(source: Dataset) -> list[tuple[str, str]]:
    report = check_dataset(source)
    assert report.ok
    return [(problem.case, problem.kind) for problem in report.problems]


def test_check_says_which_of_qform_and_sform_is_used(tmp_path: Path) -> None:
    source = dataset(tmp_path, (moved(0), moved(0)), qform=moved(3))
    assert problems(source) == [("c0", "qform and sform")] * 2
    assert "the sform is used" in check_dataset(source).problems[0].message


def test_check_says_that_no_position_is_stated(tmp_path: Path) -> None:
    assert problems(dataset(tmp_path, (moved(0), moved(0)), codes=(0, 0))) == [("c0", "no position")] * 2


def test_check_says_that_a_grid_is_sheared(tmp_path: Path) -> None:
    affine = np.diag([0.7, 0.7, 5.0, 1.0])
    affine[1, 2] = 5.0 * np.tan(np.radians(12))
    source = dataset(tmp_path, (affine, affine), codes=(0, 1))
    assert problems(source) == [("c0", "sheared")] * 2
    assert "12 degrees" in check_dataset(source).problems[0].message


@pytest.mark.parametrize("factor", [1000.0, 30.0, 1 / 30, 1 / 1000])
def test_check_finds_the_voxels_of_another_size(tmp_path: Path, factor: float) -> None:
    odd = np.diag([factor, factor, factor, 1.0])
    source = dataset(tmp_path, *[(np.eye(4), np.eye(4))] * 4, (odd, odd))
    # The object of small voxels is also too small for the median voxel.
    assert problems(source) == [("c4", "voxel size")] + [("set", "small objects")] * (factor < 1)
    assert "median case has 1 x 1 x 1 mm" in check_dataset(source).problems[0].message


def test_check_finds_voxels_that_nothing_has_in_all_cases(tmp_path: Path) -> None:
    huge = np.diag([800.0, 800.0, 3000.0, 1.0])
    found = check_dataset(dataset(tmp_path, *[(huge, huge)] * 8)).problems
    assert [(problem.case, problem.kind) for problem in found] == [("set", "voxel size")]
    assert found[0].message.startswith("8 cases (c0, c1, c2, c3, c4, ...), the first: ")


def test_an_ordinary_spread_of_voxel_sizes_is_no_remark(tmp_path: Path) -> None:
    sizes = [(0.6, 0.6, 5.0), (5.0, 0.9, 0.9), (1.0, 1.0, 1.0), (0.9, 0.9, 0.7)]
    source = dataset(tmp_path, *[(np.diag([*size, 1.0]),) * 2 for size in sizes])
    assert problems(source) == []


def write_dataset(root: Path, voxels: float) -> Path:
    """Every label lies some voxels beside its image."""
    voxward.write_phantoms(root, cases=5, size=24)
    for path in (root / "labelsTr").iterdir():
        image = nibabel.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += voxels * affine[:3, 0]
        save(path, np.asarray(image.dataobj), affine)
    return root


def test_every_command_takes_the_tolerance(tmp_path: Path) -> None:
    root, tiny = write_dataset(tmp_path / "d", 0.2), ["network.options.filters=[4,8,8]", "training.epochs=1"]
    tiny += ["training.workers=0", "preparation.affine_tolerance=0.3"]
    allowed = voxward.Reading(affine_tolerance=0.3)
    assert not voxward.check(root).ok
    assert voxward.check(root, reading=allowed).ok
    with pytest.raises(UserError, match=r"lies elsewhere than its image: the far corners are .* by the origin"):
        voxward.prepare(root, out=tmp_path / "p1", recipe="dynunet")
    plan = voxward.prepare(root, out=tmp_path / "p2", recipe="dynunet", reading=allowed)
    assert plan.affine_tolerance == 0.3
    run = voxward.train(root, out=tmp_path / "run", recipe="dynunet", overrides=tiny)
    assert voxward.evaluate(run).foreground is not None  # as it was trained
    with pytest.raises(UserError, match=r"in different places: the far corners are"):
        voxward.evaluate(run, out=tmp_path / "e", reading=voxward.Reading(affine_tolerance=0.1))
