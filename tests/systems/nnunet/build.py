"""Small results folders in nnU-Net's layout, with random weights, and the fixtures that nnU-Net itself wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.nets.nnunet import NnUNet
from voxward.systems.nnunet.plans import read_plan

FIXTURES = Path(os.environ.get("VOXWARD_FIXTURES", Path(__file__).parents[4] / "shared" / "fixtures"))
HIPPOCAMPUS = (
    FIXTURES / "nnunet_hippocampus/results/Dataset004_Hippocampus/nnUNetTrainer_5epochs__nnUNetPlansSmall__3d_fullres"
)
REGIONS = FIXTURES / "nnunet_regions/results/Dataset801_RegionsAniso"
REGIONS_3D = REGIONS / "nnUNetTrainer_1epoch__nnUNetPlansSmall__3d_fullres"
REGIONS_2D = REGIONS / "nnUNetTrainer_1epoch__nnUNetResEncSmall__2d"

_SPLINES = {"is_seg": False, "order_z": 0, "force_separate_z": None}


def plans(**changes):
    """A plan of one channel and two stages; changes of the configuration, and `plan` for the plan itself."""
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 12, 8],
        "spacing": [1.5, 1.0, 1.2],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**_SPLINES, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**_SPLINES, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2, "features_per_stage": [4, 6], "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
                "n_conv_per_stage_decoder": [1], "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
            },
        },
    }  # fmt: skip
    plan = changes.pop("plan", {})
    figures = {"percentile_00_5": -60.0, "percentile_99_5": 70.0, "mean": 3.0, "std": 30.0}
    return {
        "dataset_name": "Dataset999_Tiny", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": figures, "1": figures},
        "configurations": {"3d_fullres": {**configuration, **changes}}, **plan,
    }  # fmt: skip


def flat(**changes):
    """A plan whose network sees slices."""
    found = plans(patch_size=[8, 8], spacing=[1.0, 1.2], **changes)
    own = found["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    own |= {
        "conv_op": "torch.nn.modules.conv.Conv2d", "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "kernel_sizes": [[3, 3]] * 2, "strides": [[1, 1], [2, 2]],
    }  # fmt: skip
    return found


def dataset(channels=1, labels=None, order=None):
    """The dataset.json of `channels` channels."""
    found = {
        "channel_names": {str(n): f"MRI{n}" for n in range(channels)},
        "labels": labels or {"background": 0, "a": 1, "b": 2},
        "file_ending": ".nii.gz",
    }
    return found if order is None else {**found, "regions_class_order": order}


def results(folder: Path, described=None, data=None, folds=(0,), mirrors=(0, 1, 2), **changes) -> Path:
    """Write a results folder, whose checkpoints are named as nnU-Net names its own."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(described or plans(**changes)))
    (folder / "dataset.json").write_text(json.dumps(data or dataset()))
    plan = read_plan(folder, "3d_fullres")
    for fold in folds:
        torch.manual_seed(fold if isinstance(fold, int) else 0)
        network = NnUNet(plan.architecture, len(plan.channels), len(plan.heads))
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint(network.state_dict(), mirrors), folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def checkpoint(weights, mirrors=(0, 1, 2)):
    """What nnU-Net writes: each layer of a block twice, and the encoder again inside the decoder."""
    twice = dict(weights)
    for name, value in weights.items():
        block, _, parameter = name.rpartition(".")
        owner, _, layer = block.rpartition(".")
        if ".convs." in name and layer in ("conv", "norm"):
            twice[f"{owner}.all_modules.{int(layer == 'norm')}.{parameter}"] = value
    twice |= {f"decoder.{name}": value for name, value in twice.items() if name.startswith("encoder.")}
    return {
        "network_weights": twice, "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": mirrors,
        "init_args": {"configuration": "3d_fullres", "device": torch.device("cpu")}, "_best_ema": np.float32(0.5),
        "optimizer_state": None, "logging": {"mean_fg_dice": [0.5]},
    }  # fmt: skip


def volume(channels=1, shape=(11, 16, 13), seed=0) -> Volume:
    """Noise with a margin of zeros, on a grid that the plan resamples."""
    rng = np.random.default_rng(seed)
    array = np.zeros((channels, *shape), np.float32)
    array[:, 1:-1, 2:-1, 1:-2] = rng.normal(5, 30, (channels, shape[0] - 2, shape[1] - 3, shape[2] - 3))
    return Volume(array, np.diag([1.1, 0.9, 1.0, 1.0]))
