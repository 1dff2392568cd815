"""Noise follows from its key alone, is drawn in float64, and leaves held voxels alone; changes compose as they say."""

from __future__ import annotations

import numpy as np
import pytest

from voxward.certificates import CHANGES, Frame, noisy, stream
from voxward.certificates.changes import changed
from voxward.core.errors import UserError

SHAPE = (2, 5, 4, 6)


def _volume(low: float = 0.0) -> tuple[np.ndarray, Frame]:
    rng = np.random.default_rng(1)
    volume = low + 200 * rng.random(SHAPE)
    held = np.zeros(SHAPE, bool)
    held[0, 0] = True
    volume[held] = 0.0
    return volume, Frame((low + 10, low + 20), (100.0, 50.0), held)


def test_noise_follows_from_its_key_alone() -> None:
    """The digest keeps what earlier folders hold: with another one, resumed runs would mix two kinds of noise."""
    assert stream(0, "case", "voxels", 3).standard_normal() == stream(0, "case", "voxels", 3).standard_normal()
    others = [(0, "case", "voxels", 4), (1, "case", "voxels", 3), (0, "other", "voxels", 3), (0, "case", "gain", 3)]
    assert len({stream(*key).standard_normal() for key in [*others, (0, "case", "voxels", 3)]}) == 5
    assert stream(0, "case", "voxels", 3).integers(1 << 30) == FIRST


FIRST = 504725920


def test_noise_has_the_size_of_each_window_and_spares_held_voxels() -> None:
    volume, frame = _volume()
    drawn = np.stack([noisy(volume, 0.25, frame, stream(n)) - volume for n in range(400)])
    assert drawn.dtype == np.float64
    assert not drawn[:, frame.held].any()
    assert drawn[:, 0, 1:].std() == pytest.approx(25, rel=0.02)
    assert drawn[:, 1].std() == pytest.approx(12.5, rel=0.02)
    assert frame.free == volume.size - 24


def test_no_volume_is_changed_in_place() -> None:
    volume, frame = _volume()
    before = volume.copy()
    noisy(volume, 0.25, frame, stream(0))
    for kind in CHANGES:
        changed(volume, kind, 0.2, frame, stream(0))
    assert np.array_equal(volume, before)


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("low", [0.0, -1000.0])
def test_changes_compose_by_adding_their_parameters(kind: str, low: float) -> None:
    """T(a) after T(b) is T(a + b), also beyond the window: this is what makes them certifiable."""
    volume, frame = _volume(low)
    change = CHANGES[kind]
    a, b = 0.3 * np.random.default_rng(2).standard_normal((2, change.count(2)))
    twice = change.apply(change.apply(volume, b, frame), a, frame)
    assert twice == pytest.approx(change.apply(volume, a + b, frame), rel=1e-9, abs=1e-9)
    assert change.apply(volume, np.zeros(change.count(2)), frame) == pytest.approx(volume, rel=1e-12)
    assert np.array_equal(twice[frame.held], volume[frame.held])
    assert not np.allclose(twice, volume)


def test_changes_do_what_they_are_called() -> None:
    volume, frame = _volume()
    free = ~frame.held
    gain = CHANGES["gain"].apply(volume, np.log([1.2, 0.5]), frame)
    assert gain[0][free[0]] == pytest.approx(1.2 * volume[0][free[0]])
    assert gain[1] == pytest.approx(0.5 * volume[1])
    offset = CHANGES["offset"].apply(volume, np.array([0.1, -0.2]), frame)
    assert (offset - volume)[0][free[0]] == pytest.approx(10)
    assert (offset - volume)[1] == pytest.approx(-10)
    middle = np.full((1, 1, 1, 1), 60.0)
    alone = Frame((10.0,), (100.0,), np.zeros((1, 1, 1, 1), bool))
    assert CHANGES["gamma"].apply(middle, np.log([2.0]), alone).item() == pytest.approx(35.0)


def test_a_bias_field_is_smooth_and_within_its_reading() -> None:
    flat, radius = np.full((1, 9, 9, 9), 100.0), 0.2
    frame = Frame((0.0,), (100.0,), np.zeros(flat.shape, bool))
    bias, rng = CHANGES["bias"], np.random.default_rng(0)
    assert bias.count(1) == 19
    most = radius * np.sqrt(19)
    for _ in range(20):
        drawn = rng.standard_normal(19)
        field = np.log(bias.apply(flat, radius * drawn / np.linalg.norm(drawn), frame)[0] / 100)
        assert np.abs(field).max() <= most
        assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.5 * most


def test_readings_say_the_change() -> None:
    assert CHANGES["gain"].reading(np.log(1.2), 1) == "gain -17% to +20%"
    assert CHANGES["offset"].reading(0.1, 1) == "offset -10% to +10% of the intensity window"
    assert CHANGES["gamma"].reading(np.log(2), 1) == "gamma 0.50 to 2.00"
    assert "of several together" in CHANGES["gain"].reading(0.1, 4)
    assert "norm 0.1" in CHANGES["bias"].reading(0.1, 1)


def test_what_is_no_change_is_refused() -> None:
    volume, frame = _volume()
    with pytest.raises(UserError, match="rotation"):
        changed(volume, "rotation", 0.1, frame, stream(0))
    with pytest.raises(UserError, match="sigma"):
        changed(volume, "gain", 0.0, frame, stream(0))
    with pytest.raises(UserError, match="per channel"):
        Frame((0.0,), (1.0, 1.0), np.zeros(SHAPE, bool))
