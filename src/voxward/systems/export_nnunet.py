"""A trained run as a results folder of nnU-Net v2, which `nnUNetv2_predict_from_modelfolder` predicts with.

Only runs of MONAI's DynUNet can be said so: it computes what nnU-Net's PlainConvUNet computes, with other names. The
folder has nnU-Net turn volumes to RAS, as voxward does, and its axes are those of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.sides import LEFT_RIGHT
from voxward.data.normalization import NORMALIZATIONS, normalization_of
from voxward.nets.monai_networks import dynunet_arguments
from voxward.systems.export import Written, nan_said, unsaid
from voxward.systems.nnunet.plans import read_plan
from voxward.systems.nnunet.weights import network_of, read_checkpoint
from voxward.systems.nnunet.written import write_checkpoint
from voxward.systems.run import RunSystem

CONFIGURATION = "3d_fullres"
CHECKPOINT = "fold_0/checkpoint_final.pth"


def write_nnunet(system: RunSystem, network: nn.Module, folder: Path) -> Written:
    """Write a results folder.

    Args:
        system: The run.
        network: Its network in float32, in evaluation mode on the CPU.
        folder: The folder, which is there and empty.

    Returns:
        The network as it was read again, and what nnU-Net does otherwise than the run.

    Raises:
        UserError: nnU-Net has no such network or no such normalisation.
    """
    plan = system.predictor.model.plan
    _refuse(network, plan)
    plans, dataset = _plans(system, network), _dataset(plan)
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", dataset)
    (folder / CHECKPOINT).parent.mkdir()
    write_checkpoint(folder / CHECKPOINT, {
        "network_weights": dict(_all_names(_weights(network))),
        "optimizer_state": None, "grad_scaler_state": None, "current_epoch": 0, "trainer_name": "nnUNetTrainer",
        "init_args": {"plans": plans, "configuration": CONFIGURATION, "fold": 0, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": _mirrors(system) or None,
    })  # fmt: skip
    said = read_plan(folder, CONFIGURATION)
    again = network_of(read_checkpoint(folder / CHECKPOINT), said.architecture, len(plan.channels), plan.labels.outputs)
    return Written(folder / CHECKPOINT, again, folder / "plans.json", tuple(differences(system)))


def differences(system: RunSystem) -> Iterator[str]:
    """Yield what nnU-Net does otherwise than a run, one sentence each."""
    predictor = system.predictor
    plan, inference = predictor.model.plan, predictor.model.inference
    kinds = [normalization_of(channel) for channel in plan.channels]
    yield from unsaid(system)
    yield from nan_said(plan)
    if predictor.mirrors and predictor.mean != "logits":
        yield "logits of mirrored copies are averaged, and not probabilities (inference.mean)"
    if (overlap := inference.overlap if predictor.overlap is None else predictor.overlap) != 0.5:
        yield f"windows overlap by a half (--step_size changes it), and not by {overlap}"
    if inference.weights == "gaussian":
        yield "windows are blended by nnU-Net's Gaussian, whose centre lies half a voxel further, in half precision"
    else:
        yield f"windows are blended by a Gaussian, and not by inference.weights: {inference.weights}"
    if plan.padding != "zero":
        yield f"small volumes are extended by zeros, and not by preparation.padding: {plan.padding}"
    if not plan.crop_nonzero:
        yield "margins of zeros are cut off (preparation.crop_nonzero is false)"
    if any(kind.nnunet is not None and kind.nnunet[1] for kind in kinds):
        yield "zeros inside the foreground are normalised like their neighbours, and one mask is for all channels"
    if plan.resample and any(kind.clips for kind in kinds):
        yield "intensities are clipped before they are resampled, and not after it"


def _refuse(network: nn.Module, plan: Plan) -> None:
    arguments = dynunet_arguments(network)
    if arguments is None:
        raise UserError(
            f"nnU-Net has no such network ({type(network).__name__}): only runs of the network dynunet can be exported "
            "to nnunet. --to bundle and --to pt2 take the others"
        )
    if len({tuple(size) for size in arguments["kernel_size"]}) > 1:
        raise UserError(
            "the levels of this network have kernels of different sizes, which MONAI and nnU-Net give to other levels "
            "of the decoder: it cannot be exported to nnunet. --to bundle and --to pt2 can"
        )
    if plan.labels.regions:
        raise UserError(
            "runs of regions cannot be exported to nnunet, which writes one region over another in another order: use "
            "--to bundle or --to pt2"
        )
    if list(plan.labels.values) != list(range(len(plan.labels.values))):
        raise UserError(
            f"nnU-Net needs the label values 0 to {len(plan.labels.values) - 1} in this order, and this run has "
            f"{', '.join(map(str, plan.labels.values))}: use --to bundle or --to pt2"
        )
    if flat := [channel.name for channel in plan.channels if _flat(channel)]:
        raise UserError(f"channel {flat[0]!r} has no intensity range in the plan, which nnU-Net needs: use --to pt2")
    if wrong := [channel for channel in plan.channels if normalization_of(channel).nnunet is None]:
        known = ", ".join(name for name in NORMALIZATIONS if NORMALIZATIONS[name].nnunet)
        raise UserError(
            f"nnU-Net has no normalization {wrong[0].normalization!r} (channel {wrong[0].name!r}); it has counterparts "
            f"of {known}: train with --set preparation.normalization=NAME, or use --to bundle or --to pt2"
        )


def _mirrors(system: RunSystem) -> tuple[int, ...]:
    """The axes along which nnU-Net mirrors; it cannot exchange classes of the left and the right."""
    pairs = system.predictor.model.inference.mirror_pairs
    return tuple(axis for axis in system.predictor.mirrors if axis != LEFT_RIGHT or not pairs)


def _flat(channel: ChannelPlan) -> bool:
    kind = normalization_of(channel)
    return kind.reads_plan and kind.clips and not channel.high > channel.low


def _weights(network: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights of a DynUNet by the names of `NnUNet`."""
    blocks = [network.input_block, *network.downsamples, network.bottleneck]
    for stage, block in enumerate(blocks):
        yield from _two(f"encoder.stages.{stage}.0.convs", block)
    for stage, up in enumerate(network.upsamples):
        yield f"decoder.transpconvs.{stage}.weight", up.transp_conv.conv.weight
        yield from _two(f"decoder.stages.{stage}.convs", up.conv_block)
    last, head = len(network.upsamples) - 1, network.output_block.conv.conv
    for stage, up in enumerate(network.upsamples):
        # The coarser outputs are for training alone: nnU-Net wants them, and does not compute them.
        channels = up.conv_block.conv2.conv.weight.shape[0]
        weight = head.weight if stage == last else head.weight.new_zeros(len(head.weight), channels, 1, 1, 1)
        yield f"decoder.seg_layers.{stage}.weight", weight
        yield f"decoder.seg_layers.{stage}.bias", head.bias if stage == last else torch.zeros_like(head.bias)


def _two(name: str, block: Any) -> Iterator[tuple[str, Tensor]]:
    for place, (conv, norm) in enumerate(((block.conv1, block.norm1), (block.conv2, block.norm2))):
        yield f"{name}.{place}.conv.weight", conv.conv.weight
        yield f"{name}.{place}.norm.weight", norm.weight
        yield f"{name}.{place}.norm.bias", norm.bias


def _all_names(weights: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """nnU-Net holds a block's layers again as a list, and the encoder again inside the decoder."""
    for name, value in weights:
        kept = value.detach().contiguous()
        listed = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        for alias in dict.fromkeys((name, listed)):
            yield alias, kept
            if alias.startswith("encoder."):
                yield f"decoder.{alias}", kept


def _plans(system: RunSystem, network: Any) -> dict[str, Any]:
    plan = system.predictor.model.plan
    resampling = "resample_data_or_seg_to_shape" if plan.resample else "no_resampling_hack"
    images: dict[str, Any] = {}  # nnU-Net's function that resamples nothing takes no options
    if plan.resample:
        images = {"is_seg": False, "order": max(plan.spline_order), "order_z": 0, "force_separate_z": False}
    logits, masks = ({**images, "order": 1, "is_seg": seg} if images else {} for seg in (False, True))
    schemes = [normalization_of(channel).nnunet or ("", False) for channel in plan.channels]
    return {
        "dataset_name": plan.dataset,
        "plans_name": "voxward",
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [2, 1, 0],  # nnU-Net's arrays are (z, y, x), the run's (x, y, z)
        "transpose_backward": [2, 1, 0],
        "original_median_spacing_after_transp": list(plan.spacing),
        "original_median_shape_after_transp": list(plan.window_size),
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): _figures(channel) for n, channel in enumerate(plan.channels)
        },
        "configurations": {CONFIGURATION: {
            "data_identifier": f"voxward_{CONFIGURATION}", "preprocessor_name": "DefaultPreprocessor",
            "batch_size": plan.batch_size, "patch_size": list(plan.window_size),
            "median_image_size_in_voxels": list(plan.window_size), "spacing": list(plan.spacing),
            "normalization_schemes": [name for name, _ in schemes], "use_mask_for_norm": [mask for _, mask in schemes],
            "resampling_fn_data": resampling, "resampling_fn_data_kwargs": images,
            "resampling_fn_seg": resampling, "resampling_fn_seg_kwargs": masks,
            "resampling_fn_probabilities": resampling, "resampling_fn_probabilities_kwargs": logits,
            "architecture": _architecture(network), "batch_dice": False,
        }},
    }  # fmt: skip


def _architecture(network: Any) -> dict[str, Any]:
    levels = len(network.strides)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": list(network.filters),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [list(size) for size in network.kernel_size],
            "strides": [list(step) for step in network.strides],
            "n_conv_per_stage": [2] * levels,
            "n_conv_per_stage_decoder": [2] * (levels - 1),
            "conv_bias": False,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _figures(channel: ChannelPlan) -> dict[str, float]:
    return {
        "percentile_00_5": channel.low, "percentile_99_5": channel.high, "min": channel.low, "max": channel.high,
        "mean": channel.mean, "median": channel.mean, "std": channel.std,
    }  # fmt: skip


def _dataset(plan: Plan) -> Mapping[str, Any]:
    # nnU-Net wants the name `background`; the ignore label is for training alone.
    found = {"labels": {"background": 0, **dict(zip(plan.labels.names[1:], plan.labels.values[1:], strict=True))}}
    return {
        "name": plan.dataset,
        "channel_names": {str(n): channel.name for n, channel in enumerate(plan.channels)},
        **found,
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
