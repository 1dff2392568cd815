"""Distances, areas and volumes on grids of a tilted gantry, against brute force in space."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.spacing import ShearedSpacing, spacing_of, voxel_mm3, without_axes
from voxward.data.fingerprint import summarize
from voxward.metrics.lesions import score_lesions
from voxward.metrics.policies import Scoring
from voxward.metrics.score import score_case
from voxward.metrics.surface import surface, surface_distances
from voxward.metrics.surface_area import surface_elements
from voxward.runs.components import fuse_small_components

LABELS = LabelSet(("background", "a"), (0, 1))


def tilted(degrees: float, spacing: tuple[float, float, float] = (0.7, 0.8, 4.0)) -> np.ndarray:
    """The slices are shifted against each other along the second axis."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 2] = spacing[2] * np.array([0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    affine[:3, 3] = (10, -20, 30)
    return affine


def masks() -> tuple[np.ndarray, np.ndarray]:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (14, 12, 8)), indexing="ij"), -1)
    true = (((grid - [6, 5, 3]) / [4, 4, 2]) ** 2).sum(-1) <= 1
    return true, np.roll(true, (1, 3, 2), (0, 1, 2))


def distances(one: np.ndarray, other: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """From every surface voxel of one mask to the nearest of the other, over all pairs."""
    a, b = (np.argwhere(surface(mask)) @ affine[:3, :3].T for mask in (one, other))
    return np.linalg.norm(a[:, None] - b[None], axis=-1).min(1)


@pytest.mark.parametrize("degrees", [0.0, 8.0, -22.0, 40.0])
def test_distances_are_those_in_space(degrees: float) -> None:
    true, predicted = masks()
    affine = tilted(degrees)
    found = surface_distances(true, predicted, spacing_of(affine))
    np.testing.assert_allclose(found.to_prediction, distances(true, predicted, affine), rtol=1e-9)
    np.testing.assert_allclose(found.to_truth, distances(predicted, true, affine), rtol=1e-9)
    label = Volume(true.astype(np.uint8), affine)
    scores = score_case("one", label.array, predicted.astype(np.uint8), label.spacing, LABELS).classes["a"]
    assert scores["hd95_mm"] == pytest.approx(found.hd95_mm)
    lesions = score_lesions(true, predicted, label.spacing)
    assert lesions.lesions[0].volume_mm3 == pytest.approx(true.sum() * abs(np.linalg.det(affine[:3, :3])))


def test_the_shear_matters() -> None:
    true, predicted = masks()
    affine = tilted(30)
    plain = surface_distances(true, predicted, tuple(np.linalg.norm(affine[:3, :3], axis=0)))
    assert abs(surface_distances(true, predicted, spacing_of(affine)).hd95_mm - plain.hd95_mm) > 0.3


@pytest.mark.parametrize("degrees", [0.0, 8.0, -35.0])
def test_areas_follow_the_grid(degrees: float) -> None:
    """A box of voxels is a parallelepiped; its edges and corners are cut off, which weighs little on a large one."""
    n = (30, 30, 30)
    affine = tilted(degrees, (1.0, 1.0, 1.0))
    mask = np.ones(n, bool)
    edges = [affine[:3, axis] * n[axis] for axis in range(3)]
    exact = 2 * sum(np.linalg.norm(np.cross(edges[a], edges[b])) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert surface_elements(mask, spacing_of(affine)).areas.sum() == pytest.approx(exact, rel=0.05)


def test_the_area_of_an_ordinary_grid_is_as_before() -> None:
    true, _ = masks()
    spacing = (0.7, 0.8, 4.0)
    sheared = ShearedSpacing(spacing)
    sheared.directions = np.eye(3)
    plain, general = (surface_elements(true, each).areas for each in (spacing, sheared))
    np.testing.assert_allclose(general, plain, rtol=1e-5)
    truth, prediction = (mask.astype(np.uint8) for mask in masks())
    scored = score_case("one", truth, prediction, spacing_of(tilted(20)), LABELS, Scoring(nsd="area")).classes["a"]
    assert 0 < scored["nsd"] < 1


def test_one_slice_of_a_tilted_scan_is_an_ordinary_plane() -> None:
    true, predicted = (mask[:, :, 3:4] for mask in masks())
    affine = tilted(20)
    assert not isinstance(without_axes(spacing_of(affine), (2,)), ShearedSpacing)
    turned = [
        score_case("one", t.astype(np.uint8), p.astype(np.uint8), s, LABELS).classes["a"]["hd95_mm"]
        for t, p, s in ((true, predicted, spacing_of(affine)), (true, predicted, (0.7, 0.8, 4.0)))
    ]
    assert turned[0] == turned[1]


def test_an_ordinary_grid_has_a_plain_spacing() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag([0.7, 0.8, 4.0])).astype(np.float32)
    assert type(spacing_of(affine)) is tuple
    assert spacing_of(affine) == pytest.approx((0.7, 0.8, 4.0))
    assert np.isnan(spacing_of(np.full((4, 4), np.nan))[0])


def test_volumes_in_mm3_are_determinants() -> None:
    affine = tilted(30)
    volume = abs(np.linalg.det(affine[:3, :3]))
    spacing = spacing_of(affine)
    assert voxel_mm3(spacing) == pytest.approx(volume)
    assert voxel_mm3(spacing) < 0.9 * np.prod(spacing)
    again = pickle.loads(pickle.dumps(spacing))
    np.testing.assert_array_equal(again.directions, spacing.directions)
    label = np.zeros((6, 6, 6), np.uint8)
    label[1:3, 1, 1] = 1
    image = Volume(np.ones((1, 6, 6, 6), np.int16), affine)
    (found,) = summarize(image, Volume(label, affine), LABELS, "one").volumes
    assert found == pytest.approx((2 * volume,))
    for least, kept in ((1.9 * volume, 2), (2.1 * volume, 0)):
        assert fuse_small_components(label, 1, least, spacing).sum() == kept
