"""Prepared shapes that no one can have meant."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tests.data.volumes import make_plan
from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.data import sizes
from voxward.data.prepare import frame_of, prepare


def volume(spacing: float, shape: tuple[int, int, int] = (24, 24, 16)) -> Volume:
    return Volume(np.ones((1, *shape), np.int16), np.diag([spacing] * 3 + [1.0]))


@pytest.mark.parametrize("build", [frame_of, lambda *given: prepare(given[0], None, *given[1:])])
def test_a_case_a_thousand_times_too_large_is_refused_by_name(build) -> None:
    message = (
        r"case 'one': \(24, 24, 16\) voxels would become \(24000, 24000, 16000\).* voxels of 1000 x 1000 x 1000 mm"
    )
    with pytest.raises(UserError, match=message):
        build(volume(1000.0), make_plan(), "one")


def test_the_memory_of_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "memory_bytes", lambda: 4 * 48**3)
    frame_of(volume(2.0, (24, 24, 24)), make_plan(), "one")
    with pytest.raises(UserError, match="more than can be held"):
        frame_of(volume(2.1, (24, 24, 24)), make_plan(), "one")


def test_a_large_volume_that_does_not_grow_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is the system's business where the file itself fits."""
    monkeypatch.setattr(sizes, "memory_bytes", lambda: 100)
    assert frame_of(volume(1.0), make_plan(), "one").shape == (24, 24, 16)


def test_a_case_of_which_hardly_a_voxel_is_left_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"case 'one': of \(24, 24, 16\) voxels only \(1, 1, 1\) are left"):
        frame_of(volume(0.001), make_plan(), "one")


@pytest.mark.parametrize(("spacing", "shape"), [(0.25, (24, 24, 16)), (0.1, (12, 12, 12)), (1.0, (64, 64, 1))])
def test_an_ordinary_volume_is_no_warning(spacing: float, shape: tuple[int, int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frame_of(volume(spacing, shape), make_plan(), "one").source_shape == shape


def test_this_machine_has_memory() -> None:
    assert 2**28 < sizes.memory_bytes() < 2**50
