"""Predictions against those of nnU-Net itself, voxel by voxel, where its folders are at hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import DATA
from tests.systems.nnunet.build import FIXTURES, HIPPOCAMPUS, REGIONS_2D, REGIONS_3D
from voxward.data.io import read_image, read_label
from voxward.pipeline.probabilities import certain
from voxward.systems.nnunet import judge
from voxward.systems.nnunet.geometry import geometry_of
from voxward.systems.nnunet.results import read_results

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"there is no folder {FIXTURES}")

ORACLE = FIXTURES / "nnunet_regions/oracle"


def phantom(name):
    return read_image([FIXTURES / f"nnunet_regions/images/{name}_{channel:04d}.nii.gz" for channel in (0, 1)])


def expected(path, results):
    return results.plan.labels.to_index(read_label(path).array)


@pytest.mark.parametrize(("folder", "oracle"), [(REGIONS_3D, "regions_3d"), (REGIONS_2D, "regions_2d_resenc")])
@pytest.mark.parametrize("name", ["phantom_016", "phantom_017", "phantom_018"])
def test_regions_and_thick_slices(folder, oracle, name):
    results = read_results(folder)
    found = judge.segment(results, phantom(name))
    assert np.array_equal(found, expected(ORACLE / oracle / f"{name}.nii.gz", results))


@pytest.mark.parametrize(("folder", "oracle"), [(REGIONS_3D, "regions_3d"), (REGIONS_2D, "regions_2d_resenc")])
def test_each_step_of_regions(folder, oracle):
    results, volume = read_results(folder), phantom("phantom_016")
    steps = np.load(ORACLE / f"{oracle}_steps/phantom_016.npz")
    geometry = geometry_of(volume, results.plan)
    assert [[part.start, part.stop] for part in geometry.box] == steps["box"].tolist()
    image = judge.prepared(volume, geometry, results.plan)
    np.testing.assert_allclose(image.numpy(), steps["preprocessed"], atol=2e-5)
    # From nnU-Net's own image, so that nothing before the windows counts: equal but for the order of additions.
    logits = judge.half_logits(results, torch.from_numpy(steps["preprocessed"]))
    np.testing.assert_allclose(logits.float().numpy(), steps["window_logits"].astype(np.float32), atol=0.07)


@pytest.mark.parametrize(("folder", "oracle"), [(REGIONS_3D, "regions_3d"), (REGIONS_2D, "regions_2d_resenc")])
def test_probabilities_of_regions(folder, oracle):
    results, volume = read_results(folder), phantom("phantom_016")
    kept = certain(results.plan.labels, volume.shape)
    judge.segment(results, volume, probabilities=kept)
    theirs = np.load(ORACLE / f"{oracle}_probabilities/phantom_016.npz")["probabilities"]
    np.testing.assert_allclose(kept[list(results.plan.heads)], theirs.transpose(0, 3, 2, 1), atol=2e-2)


@pytest.mark.data
@pytest.mark.parametrize("name", ["hippocampus_004", "hippocampus_019"])
def test_classes_without_mirrors(name):
    results = replace(read_results(HIPPOCAMPUS, [0]), mirrors=())
    found = judge.segment(results, read_image([DATA / f"Task04_Hippocampus/imagesTr/{name}.nii.gz"]))
    oracle = FIXTURES / f"nnunet_hippocampus/oracle/fold_0_no_mirroring/{name}.nii.gz"
    assert np.array_equal(found, expected(oracle, results))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("oracle", "folds", "mirrored"), [
    ("fold_0", [0], True), ("folds_0_1", [0, 1], True), ("fold_0_no_mirroring", [0], False),
])  # fmt: skip
def test_every_oracle(oracle, folds, mirrored):
    results = read_results(HIPPOCAMPUS, folds)
    results = results if mirrored else replace(results, mirrors=())
    for path in sorted((FIXTURES / "nnunet_hippocampus/oracle" / oracle).glob("*.nii.gz")):
        found = judge.segment(results, read_image([DATA / f"Task04_Hippocampus/imagesTr/{path.name}"]))
        assert np.array_equal(found, expected(path, results)), path.name
