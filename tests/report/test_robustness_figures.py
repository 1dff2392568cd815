"""Curves and panels are written, and show what the records and volumes hold."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.report.test_leaderboard import weaker
from tests.report.test_robustness import ENSEMBLES
from tests.robustness.books import book
from voxward.core.labels import LabelSet
from voxward.report.chart_figure import figure_svg
from voxward.report.robustness_figures import attack_panel_figure, curves_figure, iterations_figure, panel_figure
from voxward.report.slices import Picture


def test_curves_are_written(tmp_path: Path) -> None:
    records = [*book(), *weaker()]
    curves_figure(tmp_path / "new" / "curves.png", records, ENSEMBLES)
    iterations_figure(tmp_path / "iterations.png", records)
    iterations_figure(tmp_path / "first.png", records, 0.1)
    assert imread(tmp_path / "new" / "curves.png").shape[1] > 1000
    assert imread(tmp_path / "first.png").shape[0] > 300
    with pytest.raises(ValueError, match=r"eps must be one at which there are attacks, 25\.5/255, 51/255, got 0\.5"):
        iterations_figure(tmp_path / "iterations.png", records, 0.5)
    with pytest.raises(ValueError, match="at least one record"):
        curves_figure(tmp_path / "curves.png", [])


def test_panel_shows_the_signed_perturbation_on_the_fullest_slice(tmp_path: Path) -> None:
    labels = LabelSet(("background", "organ"), (0, 1))
    image = np.random.default_rng(0).normal(100, 1, (20, 24, 16)).astype(np.float32)
    truth = np.zeros(image.shape, np.uint8)
    truth[4:16, 4:20, 5] = 1
    truth[6, 6, 6] = 1
    adversarial = image.copy()
    # Brighter on the patient's right (left of the picture), darker on the left; only in the slice that is shown.
    adversarial[10:, :, 5] += 3
    adversarial[:10, :, 5] -= 3
    before, after = (
        Picture(array, truth, mask, (1.0, 1.0, 2.0), labels)
        for array, mask in ((image, truth), (adversarial, np.zeros_like(truth)))
    )
    panel_figure(tmp_path / "a.png", before, after, "eps 3")
    picture = np.asarray(imread(tmp_path / "a.png"))[..., :3]
    strip = picture[:, int(0.2 * picture.shape[1]) : int(0.4 * picture.shape[1])]
    red, blue = strip[..., 0] - strip[..., 2] > 0.2, strip[..., 2] - strip[..., 0] > 0.2
    assert red.sum() > 5000
    assert blue.sum() > 5000
    assert np.argwhere(red)[:, 1].mean() < np.argwhere(blue)[:, 1].mean()
    # Green outlines: the truth and the clean prediction, not the emptied one under attack.
    green = np.linalg.norm(picture - np.array([79, 224, 122]) / 255, axis=-1) < 0.2
    columns = np.argwhere(green[: int(0.85 * len(green))])[:, 1] / picture.shape[1]
    assert 0.38 < columns.min() < columns.max() < 0.82


def test_an_unchanged_or_empty_image_has_a_panel_without_a_warning() -> None:
    labels, nothing = LabelSet(("background", "organ"), (0, 1)), np.zeros((8, 9, 4), np.uint8)
    for image in (np.ones(nothing.shape), np.full(nothing.shape, np.nan)):
        same = Picture(image, nothing, nothing, (1.0, 1.0, 1.0), labels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = attack_panel_figure(same, same, "", "HU")
            assert b"change of the intensity (HU)" in figure_svg(figure)


def test_panel_refuses_other_shapes_and_no_truth(tmp_path: Path) -> None:
    labels, mask = LabelSet(("background", "organ"), (0, 1)), np.zeros((4, 4, 4), np.uint8)
    small = Picture(mask * 1.0, mask, mask, (1.0, 1.0, 1.0), labels)
    large = Picture(np.zeros((4, 4, 5)), None, np.zeros((4, 4, 5), np.uint8), (1.0, 1.0, 1.0), labels)
    with pytest.raises(ValueError, match=r"both images must have the shape \(4, 4, 4\), got \(4, 4, 5\)"):
        panel_figure(tmp_path / "a.png", small, large, "t")
    with pytest.raises(ValueError, match="needs the truth"):
        panel_figure(tmp_path / "a.png", large, large, "t")
