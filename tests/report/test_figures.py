"""Pictures: written whole, the right slice, the right way round, the right proportions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from voxward.core.labels import LabelSet
from voxward.core.types import Float3
from voxward.report.figures import overlay_figure, training_curve
from voxward.report.slices import Picture

LABELS = LabelSet(("background", "organ", "lesion"), (0, 1, 2))
ONE = (1.0, 1.0, 1.0)
GREEN, BLUE, RED = (79, 224, 122), (47, 140, 255), (255, 59, 48)


def picture(path: Path) -> np.ndarray:
    """Rows, columns, RGB in 0 to 255."""
    return np.asarray(imread(path))[..., :3] * 255


def places(image: np.ndarray, colour: tuple[int, int, int], tolerance: float = 60) -> np.ndarray:
    """(row, column) of the pixels of about that colour, above the legend."""
    near = np.linalg.norm(image - np.asarray(colour), axis=-1) < tolerance
    near[int(0.9 * len(near)) :] = False
    return np.argwhere(near)


def case(image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray, spacing: Float3 = ONE) -> Picture:
    return Picture(image, truth, prediction, spacing, LABELS)


def volume(shape: tuple[int, int, int] = (20, 24, 16)) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 1, shape).astype(np.float32)


def test_a_row_per_view_and_a_column_per_panel(tmp_path: Path) -> None:
    truth = np.zeros((20, 24, 16), np.uint8)
    truth[4:14, 6:18, 3:11] = 1
    overlay_figure(case(volume(), truth, np.roll(truth, 2, 0), (1.0, 1.0, 2.0)), tmp_path / "new" / "a.png", "case")
    image = picture(tmp_path / "new" / "a.png")
    assert image.shape[0] > 500
    assert image.shape[1] > 1000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    # Outlines in the truth and prediction columns only, the disagreement's colours in the last.
    width = image.shape[1]
    assert places(image, GREEN)[:, 1].min() > width * 0.24
    assert places(image, GREEN)[:, 1].max() < width * 0.76
    assert places(image, BLUE)[:, 1].min() > width * 0.74


def test_the_patients_right_front_and_head_are_left_and_up(tmp_path: Path) -> None:
    # A 2D axial image: truth at high i (right) and high j (front), a false part at low i and low j.
    truth, prediction = np.zeros((2, 30, 30, 1), np.uint8)
    truth[22:27, 22:27], prediction[3:8, 3:8] = 1, 1
    overlay_figure(case(volume((30, 30, 1)), truth, prediction), tmp_path / "a.png", "axial")
    image = picture(tmp_path / "a.png")
    missed, invented = places(image, BLUE).mean(0), places(image, RED).mean(0)
    assert (missed < invented).all()
    # The last column of four.
    assert min(missed[1], invented[1]) > 0.75 * image.shape[1]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 3.0, 1.0), (2.0, 1.0, 1.0)])
def test_millimetres_are_square(spacing: tuple[float, float, float], tmp_path: Path) -> None:
    truth = np.zeros((40, 40, 1), np.uint8)
    truth[5:35, 10:30] = 1
    overlay_figure(case(volume((40, 40, 1)), truth, truth * 0, spacing), tmp_path / "a.png", "proportions")
    missed = places(picture(tmp_path / "a.png"), BLUE)
    height, width = np.ptp(missed, axis=0) + 1
    assert height / width == pytest.approx(20 * spacing[1] / (30 * spacing[0]), rel=0.04)


def test_a_small_target_is_enlarged(tmp_path: Path) -> None:
    truth = np.zeros((200, 200, 1), np.uint8)
    truth[100:105, 100:105] = 1
    overlay_figure(case(volume((200, 200, 1)), truth, truth * 0), tmp_path / "a.png", "small")
    # At a panel of 300 pixels its 5 voxels would be 8 pixels wide; the enlargement is 5-fold.
    width = np.ptp(places(picture(tmp_path / "a.png"), BLUE)[:, 1]) + 1
    assert 30 < width < 50


def test_no_truth_nothing_found_and_wrong_shapes(tmp_path: Path) -> None:
    nothing = np.zeros((20, 24, 16), np.uint8)
    overlay_figure(case(volume(), None, nothing), tmp_path / "a.png", "nothing")
    assert not len(places(picture(tmp_path / "a.png"), GREEN))
    with pytest.raises(ValueError, match="truth must have the image's shape"):
        overlay_figure(case(volume(), nothing[1:], nothing), tmp_path / "b.png", "")
    with pytest.raises(ValueError, match="three axes"):
        overlay_figure(case(volume()[0], None, nothing[0]), tmp_path / "b.png", "")
    assert not (tmp_path / "b.png").exists()


def row(step: float, **changed: float) -> dict[str, float]:
    usual = {"training_loss": 1.0, "validation_loss": 1.2, "validation_dice": 0.5, "learning_rate": 1e-3}
    return {"step": step, **usual, **changed}


def test_training_curve(tmp_path: Path) -> None:
    rows = [row(0.0), row(10.0, validation_dice=float("nan")), row(20.0, learning_rate=0.0)]
    training_curve(rows, tmp_path / "curve.png")
    blue, orange = (places(picture(tmp_path / "curve.png"), colour, 30) for colour in ((0, 114, 178), (213, 94, 0)))
    assert len(blue) > 100
    assert len(orange) > 100
    training_curve([], tmp_path / "empty.png")
    assert picture(tmp_path / "empty.png").size
    with pytest.raises(ValueError, match="missing: learning_rate"):
        training_curve([{key: value for key, value in row(0.0).items() if key != "learning_rate"}], tmp_path / "b.png")
