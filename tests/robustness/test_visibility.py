"""How far a volume was changed: against plain formulas, against the whole volume at once, and in odd shapes."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from voxward.robustness import visibility as module
from voxward.robustness.visibility import Visibility, visibility

BOUNDS = ((0.0, 100.0), (-50.0, 150.0))


def volumes(shape=(9, 12, 10), channels=2, seed=0):
    random = np.random.default_rng(seed)
    clean = random.uniform(-20, 130, (channels, *shape)).astype(np.float32)
    return clean, clean + random.normal(0, 7, clean.shape).astype(np.float32)


def test_rms_and_psnr_against_plain_formulas():
    """Every voxel of the first channel changes by 10 of 100, every voxel of the second by 10 of 200."""
    clean = volumes()[0]
    changed = clean + np.where(np.indices(clean.shape).sum(0) % 2, 10, -10).astype(np.float32)
    share = math.sqrt((0.1**2 + 0.05**2) / 2)
    of_range, native = (visibility(clean, changed, BOUNDS, in_range) for in_range in (True, False))
    assert of_range.rms == pytest.approx(share, rel=1e-6)
    assert native.rms == pytest.approx(10.0, rel=1e-6)
    assert of_range.psnr_db == pytest.approx(-20 * math.log10(share), rel=1e-6)
    assert native.psnr_db == of_range.psnr_db  # the peak is the range in either unit
    assert native.ssim == of_range.ssim


def test_ssim_is_that_of_the_clipped_volumes():
    metrics = pytest.importorskip("skimage.metrics")
    clean, changed = volumes()
    shares = [
        np.clip((array.astype(np.float64)[n] - low) / (high - low), 0, 1)
        for n, (low, high) in enumerate(BOUNDS) for array in (clean, changed)
    ]  # fmt: skip
    expected = [metrics.structural_similarity(*shares[2 * n : 2 * n + 2], data_range=1.0) for n in range(2)]
    assert visibility(clean, changed, BOUNDS, True).ssim == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("at_once", [1, 4 * 120, 10**9])
def test_parts_give_what_the_whole_gives(monkeypatch, at_once):
    pytest.importorskip("skimage")
    clean, changed = volumes((23, 12, 10))
    whole = visibility(clean, changed, BOUNDS, True)
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    found = visibility(clean, changed, BOUNDS, True)
    assert found.ssim == pytest.approx(whole.ssim, abs=1e-9)
    assert (found.rms, found.psnr_db) == (whole.rms, whole.psnr_db)


@pytest.mark.parametrize(
    ("shape", "window"), [((20, 15, 1), 7), ((1, 20, 15), 7), ((20, 4, 15), 3), ((6, 20, 15), 5), ((20, 2, 15), 7)]
)
def test_thin_volumes_have_a_smaller_window_and_slices_none(shape, window):
    metrics = pytest.importorskip("skimage.metrics")
    clean, changed = volumes(shape, 1)
    found = visibility(clean, changed, BOUNDS[:1], True)
    a, b = (np.clip(array[0].astype(np.float64) / 100, 0, 1) for array in (clean, changed))
    if min(shape) > 2:
        expected = metrics.structural_similarity(a, b, win_size=window, data_range=1.0)
    else:
        axis = int(np.argmin(shape))
        pairs = zip(np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0), strict=True)
        expected = np.mean([metrics.structural_similarity(*pair, win_size=window, data_range=1.0) for pair in pairs])
    assert found.ssim == pytest.approx(expected, abs=1e-9)


def test_nothing_changed_and_nothing_to_slide_over():
    clean, changed = volumes((2, 2, 9), 1)
    assert visibility(clean, clean, BOUNDS[:1], True) == Visibility(0.0, None, 1.0)
    assert visibility(clean, changed, BOUNDS[:1], True).ssim is None


def test_without_scikit_image_there_is_no_ssim(monkeypatch):
    clean, changed = volumes()
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    found = visibility(clean, changed, BOUNDS, True)
    assert found.ssim is None
    assert found.rms > 0
