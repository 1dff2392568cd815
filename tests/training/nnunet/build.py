"""A tiny dataset in nnU-Net's layout, and a results folder that fits it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.systems.nnunet.build import dataset, results, volume
from voxward.core.case import Volume
from voxward.data.io import write_image, write_label

# In float32, in this process, and as short as it gets.
SHORT = ("training.epochs=2", "training.workers=0", "training.precision=fp32")
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "order": [1, 2]}


def slices():
    """The changes of a plan that make it two-dimensional."""
    conv = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    options = {
        "n_stages": 2, "features_per_stage": [4, 6], "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * 2, "strides": [[1, 1], [2, 2]], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    return {
        "patch_size": [12, 8], "spacing": [1.0, 1.2],
        "architecture": {"network_class_name": conv, "arch_kwargs": options},
    }  # fmt: skip


def complete(plan):
    """A plan with the entries that nnU-Net itself needs, too."""
    own = plan["configurations"]["3d_fullres"]
    own["architecture"]["_kw_requires_import"] = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    own["resampling_fn_seg"] = own["resampling_fn_data"]
    own["resampling_fn_seg_kwargs"] = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    return plan


def labelled(seed: int, channels: int = 1) -> tuple[Volume, Volume]:
    """A volume with a bright box inside a less bright one, and the ground truth of both."""
    image, truth = volume(channels, seed=seed), np.zeros((11, 16, 13), np.uint8)
    truth[3:9, 4:13, 3:10] = 1
    truth[4:7, 6:10, 5:8] = 2
    array = image.array + 40.0 * truth
    return Volume(array.astype(np.float32), image.affine), Volume(truth, image.affine)


def write_dataset(root: Path, cases: int = 5, channels: int = 1, **declared) -> Path:
    """Write cases case_0, case_1, ... as nnU-Net's raw dataset."""
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for n in range(cases):
        image, truth = labelled(n, channels)
        for c in range(channels):
            write_image(root / f"imagesTr/case_{n}_{c:04d}.nii.gz", image.array[c], image.affine)
        write_label(root / f"labelsTr/case_{n}.nii.gz", truth.array, truth.affine)
    (root / "dataset.json").write_text(json.dumps({**dataset(channels, **declared), "numTraining": cases}))
    return root


def write_results(folder: Path, validation=("case_1", "case_3"), **options) -> Path:
    """Write a results folder whose folds have seen all cases but these."""
    results(folder, **options)
    for fold in folder.glob("fold_*"):
        (fold / "validation").mkdir()
        (fold / "validation/summary.json").write_text("{}")
        for id in validation:
            image, truth = labelled(0)
            write_label(fold / f"validation/{id}.nii.gz", truth.array, image.affine)
    return folder
