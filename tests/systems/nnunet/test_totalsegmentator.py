"""Folders as TotalSegmentator keeps them: several parts of many classes, one fold, no mirror axes, old plans."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import voxward
from tests.systems.nnunet.build import dataset, plans, results, volume
from voxward.core.errors import UserError
from voxward.data.io import read_label, write_image
from voxward.systems.open import open_system

PARTS = {
    "Dataset291_TotalSegmentator_part1_organs_1559subj": ("nnUNetTrainerNoMirroring", 24),
    "Dataset292_TotalSegmentator_part2_vertebrae_1532subj": ("nnUNetTrainerNoMirroring", 26),
    "Dataset297_TotalSegmentator_total_3mm_1559subj": ("nnUNetTrainer_4000epochs_NoMirroring", 117),
}


def old_plans():
    """The plans of before nnU-Net 2.3, for one CT channel at 1.5 mm."""
    figures = {"percentile_00_5": -40.0, "percentile_99_5": 50.0, "mean": 5.0, "std": 25.0}
    found = plans(
        plan={"foreground_intensity_properties_per_channel": {"0": figures}}, spacing=[1.5, 1.5, 1.5],
        normalization_schemes=["CTNormalization"],
    )  # fmt: skip
    own = found["configurations"]["3d_fullres"]
    del own["architecture"]
    own |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [1, 1], "n_conv_per_stage_decoder": [1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]], "conv_kernel_sizes": [[3, 3, 3]] * 2,
    }  # fmt: skip
    return found


@pytest.fixture
def weights(tmp_path):
    """The folder ~/.totalsegmentator/nnunet/results."""
    root = tmp_path / "results"
    for part, (trainer, classes) in PARTS.items():
        labels = {"background": 0, **{f"class_{n}": n for n in range(1, classes + 1)}}
        described = {**dataset(labels=labels), "channel_names": {"0": "CT"}}
        folder = root / part / f"{trainer}__nnUNetPlans__3d_fullres"
        folder.parent.mkdir(parents=True)
        results(folder, old_plans(), described, mirrors=None)
        path = folder / "fold_0/checkpoint_final.pth"
        content = torch.load(path, weights_only=False)
        del content["inference_allowed_mirroring_axes"]
        torch.save({**content, "trainer_name": trainer}, path)
    return root


def folder_of(weights, part):
    return weights / part / f"{PARTS[part][0]}__nnUNetPlans__3d_fullres"


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_system(weights, part):
    trainer, classes = PARTS[part]
    system = open_system(folder_of(weights, part))
    options = system.options()
    assert (options["trainer"], options["folds"], options["mirror_axes"]) == (trainer, ["0"], [])
    assert system.labels.count == classes + 1
    found = system.segment(volume()).label
    assert (found.shape, found.dtype) == ((11, 16, 13), np.uint8)
    assert open_system(folder_of(weights, part), ["tta=none"]).fingerprint() == system.fingerprint()


def test_the_folder_of_a_part_names_what_is_inside(weights):
    (folder_of(weights, next(iter(PARTS))).parent / "nnUNetTrainer__nnUNetPlans__3d_fullres").mkdir()
    with pytest.raises(
        UserError, match="give a results folder in it: nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
    ):
        open_system(weights / next(iter(PARTS)))


def test_a_part_predicts_and_has_an_exact_gradient(weights, tmp_path):
    part = folder_of(weights, "Dataset297_TotalSegmentator_total_3mm_1559subj")
    scan = volume()
    write_image(tmp_path / "ct.nii.gz", scan.array, scan.affine)
    (written,) = voxward.predict(part, tmp_path / "ct.nii.gz", out=tmp_path / "out")
    system = open_system(part)
    assert np.array_equal(read_label(written).array, system.segment(scan).label)
    model = system.freeze(scan)
    x = torch.from_numpy(scan.array)[None]
    target = torch.ones(x.shape[2:], dtype=torch.long)[None]
    _, _, gradient = model.value_and_grad(x, target, lambda logits, _: logits[:, 7].sum((1, 2, 3)))
    clipped = (x < -40) | (x > 50)
    assert not gradient[clipped].any()
    assert gradient.abs().max() > 0


def test_nothing_is_known_about_its_training(weights, tmp_path):
    system = open_system(folder_of(weights, next(iter(PARTS))))
    known = system.training()
    assert (known.held_out, known.trained) == ({}, {})
    with pytest.raises(UserError, match="no masks of the tool that made it"):
        voxward.check_system(system, tmp_path)
