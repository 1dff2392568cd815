"""Training cases are what nnU-Net's network sees, and a perturbation of them is one of the file."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import DATA
from tests.systems.nnunet.build import FIXTURES, HIPPOCAMPUS, dataset, plans, results
from tests.training.nnunet.build import REGIONS, labelled, slices, write_dataset
from voxward.core.case import Volume
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_label
from voxward.data.loader import validation_patches
from voxward.data.normalization import normalization_of
from voxward.data.store import open_case
from voxward.systems.nnunet.geometry import geometry_of
from voxward.systems.nnunet.intensities import MEASURES
from voxward.systems.nnunet.plans import Scheme, read_plan
from voxward.systems.nnunet.results import read_results
from voxward.training.defence import patch_ball
from voxward.training.nnunet.cases import fitting, prepare_as_nnunet, prepare_cases, resampled_label, training_plan

CT = {"normalization_schemes": ["CTNormalization"]}
AS_IT_IS = {"spacing": [1.0, 0.9, 1.1]}  # the files' own, in nnU-Net's order


def plan_of(tmp_path, data=None, **changes):
    return read_plan(results(tmp_path / "results", described=plans(**changes), data=data), "3d_fullres")


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_image_and_label_keep_their_place(tmp_path, order):
    """What is labelled is what is bright, whatever nnU-Net's order of axes."""
    image, truth = labelled(0)
    bright = Volume(np.where(truth.array > 0, 100.0, image.array)[0].astype(np.float32)[None], image.affine)
    spacing = [[1.0, 0.9, 1.1][axis] for axis in order]
    plan = plan_of(tmp_path, spacing=spacing, plan={"transpose_forward": order})
    found = prepare_as_nnunet(bright, truth, plan)
    # nnU-Net's array is (z, y, x), cut to the voxels that are not 0, and then transposed.
    z_y_x = truth.array.transpose(2, 1, 0)[1:-2, 2:-1, 1:-1].transpose(order)
    assert np.array_equal(found.label.numpy(), z_y_x)
    assert torch.equal(found.image[0] == found.image.max(), found.label > 0)


def test_a_resampled_label_keeps_its_volume(tmp_path):
    image, truth = labelled(0)
    plan = plan_of(tmp_path)  # 1.5 x 1.0 x 1.2 mm
    found = prepare_as_nnunet(image, truth, plan)
    assert found.label.shape == found.image.shape[1:] == (7, 12, 8)
    before = (truth.array > 0).sum() * 1.1 * 0.9
    assert float((found.label > 0).sum()) * 1.5 * 1.0 * 1.2 == pytest.approx(before, rel=0.15)
    assert set(np.unique(found.label)) == {0, 1, 2}


def geometry_from(shape, spacing, plan):
    array = np.ones((1, *shape), np.float32)
    return geometry_of(Volume(array, np.diag([*reversed(spacing), 1.0])), plan)


def test_the_class_that_fills_most_of_a_voxel_wins(tmp_path):
    """At twice the voxel size a voxel is the mean of eight."""
    plan = plan_of(tmp_path, spacing=[2.0, 2.0, 2.0])
    box = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (8, 10, 6)).astype(np.int32))
    found = resampled_label(box, geometry_from((6, 10, 8), (1.0, 1.0, 1.0), plan), plan).numpy()
    blocks = box.numpy().reshape(4, 2, 5, 2, 3, 2).transpose(0, 2, 4, 1, 3, 5).reshape(4, 5, 3, 8)
    counts = np.stack([(blocks == k).sum(-1) for k in range(3)])
    ranked = np.sort(counts, 0)
    clear = ranked[2] > ranked[1]
    assert 20 < clear.sum() < clear.size
    assert np.array_equal(found[clear], counts.argmax(0)[clear])
    tied = np.take_along_axis(counts, found[None].astype(int), 0)[0] == counts.max(0)
    assert tied.all()


def test_slices_of_a_thick_axis_are_not_mixed(tmp_path):
    plan = plan_of(tmp_path, spacing=[2.5, 0.5, 0.5])
    box = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (4, 6, 6)).astype(np.int32))
    found = resampled_label(box, geometry_from((6, 6, 4), (5.0, 0.5, 0.5), plan), plan)
    assert torch.equal(found, box.repeat_interleave(2, 0))


@pytest.mark.parametrize("scheme", ["z-score", "CT", "to one"])
def test_a_perturbation_is_a_share_of_the_file_s_range(tmp_path, scheme):
    """Eps in the network's unit is eps of the range of the file, or of that which CT is clipped to."""
    changes = {"z-score": {}, "CT": CT, "to one": {"normalization_schemes": ["RescaleTo01Normalization"]}}[scheme]
    data, plan = write_dataset(tmp_path / "data", cases=1), plan_of(tmp_path, **AS_IT_IS, **changes)
    dataset_ = fitting(open_dataset(data), plan)
    prepare_cases(dataset_, ["case_0"], plan, tmp_path / "prepared")
    (batch,) = validation_patches(tmp_path / "prepared", ["case_0"], training_plan(plan, 2), 0)
    array = read_image([data / "imagesTr/case_0_0000.nii.gz"]).array[:, 1:-1, 2:-1, 1:-2].astype(np.float64)
    unit, width = {
        "z-score": (array.std(), np.ptp(array)), "CT": (30.0, 130.0), "to one": (np.ptp(array), np.ptp(array)),
    }[scheme]  # fmt: skip
    ball = patch_ball(batch.images, batch.ranges, 8 / 255)
    assert float(ball.eps) == pytest.approx(8 / 255 * width / unit, rel=1e-5)
    moved = ball.project(batch.images + 1e9)
    assert float((moved - batch.images).max()) <= float(ball.eps) * (1 + 1e-5)


@pytest.mark.parametrize("name", list(MEASURES))
@pytest.mark.parametrize("masked", [False, True])
def test_every_normalisation_of_nnunet_is_one_of_voxward(tmp_path, name, masked):
    """Of a masked channel the zeros stay 0; only CT is clipped to the plan's range."""
    plan = replace(plan_of(tmp_path), schemes=(Scheme(name, masked),))
    found = normalization_of(training_plan(plan, 2).channels[0])
    assert found.reads_plan is (name == "CTNormalization" and not masked)
    assert (found.zero((1.0, 9.0, 4.0, 2.0)) == 0.0) is masked


def test_a_scan_that_is_smaller_than_a_patch_is_filled_with_0(tmp_path):
    data, plan = write_dataset(tmp_path / "data", cases=1), plan_of(tmp_path, patch_size=[16, 16, 16])
    prepare_cases(fitting(open_dataset(data), plan), ["case_0"], plan, tmp_path / "prepared")
    (batch,) = validation_patches(tmp_path / "prepared", ["case_0"], training_plan(plan, 2), 0)
    stored = open_case(tmp_path / "prepared/case_0", "case_0")
    assert batch.images.shape == (1, 1, 16, 16, 16)
    assert int((batch.images != 0).sum()) == math.prod(stored.shape)


def test_slices_are_one_voxel_thick(tmp_path):
    data, plan = write_dataset(tmp_path / "data", cases=1), plan_of(tmp_path, **slices())
    prepare_cases(fitting(open_dataset(data), plan), ["case_0"], plan, tmp_path / "prepared")
    (batch,) = validation_patches(tmp_path / "prepared", ["case_0"], training_plan(plan, 2), 0)
    assert batch.images.shape == (1, 1, 1, 12, 8)
    assert training_plan(plan, 2).strides == ((1, 2, 2),)


def test_voxels_that_nobody_has_annotated_stay_so(tmp_path):
    declared = {"labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}
    image, truth = labelled(0)
    truth.array[:, :, 6:] = 3
    found = prepare_as_nnunet(image, truth, plan_of(tmp_path, data=dataset(**declared), **AS_IT_IS))
    assert set(np.unique(found.label)) == {0, 1, 2, 255}


def test_labels_outside_the_crop_box_are_told(tmp_path):
    data, plan = write_dataset(tmp_path / "data", cases=1), plan_of(tmp_path)
    path = data / "labelsTr/case_0.nii.gz"
    truth = read_label(path)
    changed = truth.array.copy()
    changed[0, 0, 0] = 1
    write_label(path, changed, truth.affine)
    with pytest.warns(
        UserWarning, match=r"outside the box of the non-zero voxels in 1 cases \(case_0: 1\): they are cut"
    ):
        prepare_cases(fitting(open_dataset(data), plan), ["case_0"], plan, tmp_path / "prepared")


def test_a_case_that_is_there_is_kept(tmp_path):
    data, plan = write_dataset(tmp_path / "data", cases=2), plan_of(tmp_path)
    told = fitting(open_dataset(data), plan)
    prepare_cases(told, ["case_0"], plan, tmp_path / "prepared")
    before = (tmp_path / "prepared/case_0/case.json").stat().st_mtime_ns
    prepare_cases(told, ["case_0", "case_1"], plan, tmp_path / "prepared")
    assert (tmp_path / "prepared/case_0/case.json").stat().st_mtime_ns == before
    assert (tmp_path / "prepared/case_1/case.json").is_file()


def test_regions_are_prepared_as_classes(tmp_path):
    data = write_dataset(tmp_path / "data", cases=1, **REGIONS)
    plan = plan_of(tmp_path, data=dataset(**REGIONS), **AS_IT_IS)
    prepare_cases(fitting(open_dataset(data), plan), ["case_0"], plan, tmp_path / "prepared")
    label = open_case(tmp_path / "prepared/case_0", "case_0").load().label
    masks = plan.labels.target(label[None])[0]
    raw = read_label(data / "labelsTr/case_0.nii.gz").array
    sizes = {name: int(mask.sum()) for name, mask in zip(plan.labels.scored, masks, strict=True)}
    assert sizes == {"whole": int((raw > 0).sum()), "core": int((raw == 2).sum())}


@pytest.mark.data
@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"there is no folder {FIXTURES}")
def test_a_real_case_is_what_nnunet_makes_of_it():
    steps = np.load(FIXTURES / "nnunet_hippocampus/oracle/steps_folds_0_1/hippocampus_004.npz")
    folder = DATA / "Task04_Hippocampus"
    image = read_image([folder / "imagesTr/hippocampus_004.nii.gz"])
    found = prepare_as_nnunet(
        image, read_label(folder / "labelsTr/hippocampus_004.nii.gz"), read_results(HIPPOCAMPUS, [0]).plan
    )
    np.testing.assert_allclose(found.image.numpy(), steps["preprocessed"], atol=2e-5)
