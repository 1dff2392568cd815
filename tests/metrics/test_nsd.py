"""The two surface Dice: by voxels and by area. MONAI is the independent judge of the second one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice

from tests.metrics.shapes import flat_pair
from voxward.core.labels import LabelSet
from voxward.metrics.nsd import NSD_DEFINITIONS
from voxward.metrics.policies import Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import score_case
from voxward.metrics.surface_area import area_nsd, surface_elements

LABELS = LabelSet(("background", "organ"), (0, 1))


def monai(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    masks = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth))
    options = {"include_background": True, "use_subvoxels": True, "spacing": list(spacing)}
    return float(compute_surface_dice(*masks, [tolerance], **options))


def nsd(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float], kind: str) -> float | None:
    maps = truth.astype(np.uint8), prediction.astype(np.uint8)
    return score_case("a", *maps, spacing, LABELS, Scoring(nsd=kind)).classes["organ"]["nsd"]


def test_the_two_definitions_on_thick_slices() -> None:
    """The figures are those of MONAI and of DeepMind's surface-distance 0.1."""
    truth, prediction, spacing = flat_pair()
    assert nsd(truth, prediction, spacing, "voxels") == pytest.approx(0.260, abs=5e-4)
    assert nsd(truth, prediction, spacing, "area") == pytest.approx(0.471, abs=5e-4)


@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 11)])
@pytest.mark.parametrize("tolerance", [0.0, 0.7, 2.0])
def test_the_area_is_monais(shape: tuple[int, ...], tolerance: float) -> None:
    random = np.random.default_rng(1)
    truth, prediction = (random.random(shape) > 0.8 for _ in range(2))
    spacing = (1.0, 2.0, 3.5)[: len(shape)]
    assert area_nsd(truth, prediction, spacing, tolerance) == pytest.approx(
        monai(truth, prediction, spacing, tolerance), abs=1e-5
    )


def test_the_area_of_a_box_is_that_of_its_faces() -> None:
    """A long box of 2 x 3 mm: edges and corners are cut off, so the area is a little smaller than 6 faces."""
    box = np.ones((40, 40, 40), bool)
    area = surface_elements(box, (1.0, 2.0, 3.0)).areas.sum()
    faces = 2 * 40 * 40 * (1 * 2 + 2 * 3 + 1 * 3)
    assert 0.97 * faces < area < faces


def test_a_slice_is_measured_by_its_outline_wherever_its_thin_axis_is() -> None:
    random = np.random.default_rng(2)
    truth, prediction = (random.random((12, 11)) > 0.6 for _ in range(2))
    expected = monai(truth, prediction, (1.0, 1.5), 2.0)
    flat = nsd(truth[:, :, None], prediction[:, :, None], (1.0, 1.5, 9.0), "area")
    turned = nsd(truth[None], prediction[None], (9.0, 1.0, 1.5), "area")
    assert flat == pytest.approx(expected, abs=1e-5)
    assert turned == flat


def test_a_row_of_voxels_can_be_measured() -> None:
    row = np.zeros((6, 1, 1), bool)
    row[1:3] = True
    assert nsd(row, row, (2.0, 1.0, 1.0), "area") == 1.0
    assert nsd(row, np.roll(row, 3, 0), (2.0, 1.0, 1.0), "area") == pytest.approx(2 / 12, abs=0.2)


@pytest.mark.parametrize("kind", list(NSD_DEFINITIONS))
@pytest.mark.parametrize("policy", ["ignore", "one", "brats"])
def test_empty_masks_count_the_same_in_both(kind: str, policy: str) -> None:
    empty, full = np.zeros((3, 3, 3), np.uint8), np.ones((3, 3, 3), np.uint8)
    scoring = Scoring(policy, nsd=kind)

    def score(truth: np.ndarray, prediction: np.ndarray) -> float | None:
        return score_case("a", truth, prediction, (1.0, 1.0, 1.0), LABELS, scoring).classes["organ"]["nsd"]

    assert score(empty, empty) == (None if policy == "ignore" else 1.0)
    assert score(full, empty) == score(empty, full) == 0.0
    assert score(full, full) == 1.0


def test_the_box_around_both_masks_changes_nothing() -> None:
    truth, prediction, spacing = flat_pair()
    wide = [np.pad(mask, 7) for mask in (truth, prediction)]
    assert nsd(*wide, spacing, "area") == nsd(truth, prediction, spacing, "area")


def test_what_ends_at_unannotated_voxels_is_no_surface() -> None:
    """The same box twice, of which the right half is not annotated: only a surface that is known to be one counts."""
    box, unknown = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    box[3:9, 3:9, 3:6], unknown[:, :, 6:] = True, True
    elements = surface_elements(box, (1.0, 1.0, 1.0), unknown)
    whole = surface_elements(box, (1.0, 1.0, 1.0))
    assert elements.points[:, 2].max() < whole.points[:, 2].max()
    assert area_nsd(box, box, (1.0, 1.0, 1.0), 0.0, unknown) == 1.0
    assert area_nsd(box, box, (1.0, 1.0, 1.0), 0.0, ~box) is None


def test_tables_name_the_definition() -> None:
    assert METRICS["nsd"].title(Scoring()) == "NSD 2 mm"
    assert METRICS["nsd"].title(Scoring(nsd="area")) == "NSD area 2 mm"


def test_an_unknown_definition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"definition of the NSD 'aera'\. Did you mean 'area'"):
        Scoring(nsd="aera")
