"""A trained run as a bundle of MONAI, which `python -m monai.bundle run` predicts with, without voxward.

MONAI's own transforms stand for the run's preparation, as far as there are such; normalisations that MONAI has not are
expressions in the configuration. What MONAI does otherwise than the run is returned, one sentence each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.files import write_json
from voxward.core.plan import ChannelPlan, Plan
from voxward.data.normalization import normalization_of
from voxward.nets.monai_networks import build_network, dynunet_arguments
from voxward.systems.bundle.weights import load_weights, read_weights
from voxward.systems.export import Written, nan_said, noise_window, unsaid, write_pt2
from voxward.systems.network.files import read_network
from voxward.systems.run import RunSystem

MODELS = "models"
_KEY = {"keys": "image"}
_MODES: dict[int, str | int] = {0: "nearest", 1: "bilinear"}
_BLENDINGS = ("gaussian", "constant")
_PADDINGS = {"zero": "constant", "edge": "replicate", "reflect": "reflect"}
_LOAD = [
    "$@network.load_state_dict(torch.load(@bundle_root + '/models/model.pt', weights_only=True))",
    "$@network.eval()",
]
_RUN = [
    "$None if @datalist else (_ for _ in ()).throw(FileNotFoundError("
    "'there are no images in ' + @dataset_dir + '; they are named *.nii.gz, "
    "with several channels *_0000.nii.gz, *_0001.nii.gz, ...'))",
    "$torch.set_grad_enabled(False)",
    "$list(map(@predict, @dataset))",
]


def write_bundle(system: RunSystem, network: nn.Module, folder: Path, window: Tensor | None = None) -> Written:
    """Write a bundle.

    Args:
        system: The run.
        network: Its network in float32, in evaluation mode on the CPU.
        folder: The folder of the bundle, which is there and empty.
        window: A window (1, c, d, h, w) that the network is traced with; None makes one of noise.

    Returns:
        The network as it was read again, and what MONAI does otherwise than the run.
    """
    (folder / MODELS).mkdir()
    if (arguments := dynunet_arguments(network)) is not None:
        path = folder / MODELS / "model.pt"
        torch.save({name: value.detach().contiguous() for name, value in network.state_dict().items()}, path)
        definition: Any = {"_target_": "DynUNet", **arguments}
        again = load_weights(build_network("DynUNet", arguments), read_weights(path), path).eval()
        load = _LOAD
    else:
        path = folder / MODELS / "model.pt2"
        write_pt2(network, noise_window(system.predictor) if window is None else window, path)
        definition, load = "$torch.export.load(@bundle_root + '/models/model.pt2').module()", list[str]()
        again = read_network(path)
    (folder / "configs").mkdir()
    said = folder / "configs" / "inference.json"
    write_json(said, {**_inference(system, definition), "run": [*load, *_RUN]})
    write_json(folder / "configs" / "metadata.json", _metadata(system))
    return Written(path, again, said, tuple(differences(system)))


def differences(system: RunSystem) -> Iterator[str]:
    """Yield what MONAI does otherwise than a run, one sentence each."""
    predictor = system.predictor
    plan, inference = predictor.model.plan, predictor.model.inference
    yield from unsaid(system)
    yield from nan_said(plan)
    if predictor.mirrors:
        yield "mirrored copies of windows are not averaged (tta: mirrors)"
    if inference.placement == "step":
        yield (
            "where an axis needs three windows or more, MONAI places them at a fixed step and moves the last one back, "
            "and the run spreads them evenly"
        )
    if plan.labels.regions:
        yield "a mask has a channel of 0 and 1 for each region, and is no map of label values"
    if inference.weights not in _BLENDINGS:
        yield f"windows are blended by a Gaussian, and not by inference.weights: {inference.weights}"
    if not plan.resample:
        return
    yield (
        "voxels keep the plan's spacing, while the run stretches every axis to a whole number of voxels: near the end "
        "of an axis the two differ by up to half a voxel"
    )
    kinds = [normalization_of(channel) for channel in plan.channels]
    if any(kind.clips for kind in kinds) and any(kind.per_case for kind in kinds):
        yield "intensities are clipped before they are resampled, and not after it"
    if max(plan.spline_order) > 1:
        yield "logits are resampled to the file's voxels by the splines of the images, and not linearly"
    if plan.labels.regions:
        yield "probabilities, and not logits, are resampled to the file's voxels"


def _inference(system: RunSystem, definition: Any) -> dict[str, Any]:
    predictor = system.predictor
    plan, inference = predictor.model.plan, predictor.model.inference
    overlap = inference.overlap if predictor.overlap is None else predictor.overlap
    return {
        "imports": ["$import glob", "$import os", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "./images",
        "output_dir": "./masks",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "datalist": _datalist(len(plan.channels)),
        "network_def": definition,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": list(_preprocessing(plan))},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": list(plan.window_size), "sw_batch_size": 4,
            "overlap": overlap, "mode": inference.weights if inference.weights in _BLENDINGS else "gaussian",
            "sigma_scale": 0.125,
            "padding_mode": _PADDINGS[plan.padding],
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(plan)},
        "predict": "$lambda case: @postprocessing({**case, 'pred': "
        "@inferer(case['image'][None].to(@device), @network)[0]})",
    }  # fmt: skip


def _datalist(channels: int) -> str:
    """Files of one channel each are named as nnU-Net names them: CASE_0000.nii.gz, CASE_0001.nii.gz, ..."""
    if channels == 1:
        return "$[{'image': path} for path in sorted(glob.glob(os.path.join(glob.escape(@dataset_dir), '*.nii.gz')))]"
    return (
        "$[{'image': sorted(glob.glob(glob.escape(first[:-len('0000.nii.gz')]) + '[0-9]' * 4 + '.nii.gz'))} "
        "for first in sorted(glob.glob(os.path.join(glob.escape(@dataset_dir), '*_0000.nii.gz')))]"
    )


def _step(name: str, **options: Any) -> dict[str, Any]:
    return {"_target_": name, **_KEY, **options}


def _preprocessing(plan: Plan) -> Iterator[dict[str, Any]]:
    yield _step("LoadImaged")
    yield _step("EnsureChannelFirstd")
    yield _step("EnsureTyped", dtype="$torch.float32")
    yield _step("Orientationd", axcodes="RAS")
    if plan.crop_nonzero:
        yield _step("CropForegroundd", source_key="image", select_fn="$lambda x: x != 0", allow_smaller=True)
    fixed = not any(normalization_of(channel).per_case for channel in plan.channels)
    normalised = list(_normalisation(plan.channels))
    if not fixed:
        yield from normalised
    if plan.resample:
        mode = _MODES.get(max(plan.spline_order), max(plan.spline_order))
        yield _step("Spacingd", pixdim=list(plan.spacing), mode=mode, padding_mode="border")
    if fixed:
        yield from normalised
    yield _step("EnsureTyped", dtype="$torch.float32")


def _normalisation(channels: Sequence[ChannelPlan]) -> Iterator[dict[str, Any]]:
    """MONAI's own transform where it has one for all channels, and expressions elsewhere."""
    alike = len({replace(channel, name="") for channel in channels}) == 1
    found = normalization_of(channels[0]).monai(channels[0]) if alike else None
    if found is not None:
        yield _step(found[0], **found[1])
        return
    parts = ", ".join(f"lambda c: {normalization_of(channel).expression(channel)}" for channel in channels)
    refused = "(_ for _ in ()).throw(ValueError('a channel without different intensities cannot be normalised'))"
    checked = f"(lambda y: y if torch.isfinite(y).all() else {refused})"
    yield _step("Lambdad", func=f"$lambda x: {checked}(torch.stack([f(c) for f, c in zip([{parts}], x)]))")


def _postprocessing(plan: Plan) -> list[dict[str, Any]]:
    back = {
        "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
        "nearest_interp": False, "to_tensor": True,
    }  # fmt: skip
    # MONAI puts zeros where the margin was cut off: as logits of classes they mean background, as those of regions
    # they would mean a half.
    if plan.labels.regions:
        decided = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}, back,
                   {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]  # fmt: skip
    else:
        decided = [back, {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
        places = list(range(len(plan.labels.values)))
        if places != list(plan.labels.values):
            values = {"orig_labels": places, "target_labels": list(plan.labels.values)}
            decided.append({"_target_": "MapLabelValued", "keys": "pred", **values})
    saved = {
        "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg",
        "output_ext": ".nii.gz", "separate_folder": False, "resample": False,
    }  # fmt: skip
    return [*decided, saved]


def _metadata(system: RunSystem) -> dict[str, Any]:
    plan, labels = system.predictor.model.plan, system.predictor.model.plan.labels
    names = labels.scored if labels.regions else labels.names
    shape = {"spatial_shape": list(plan.window_size), "dtype": "float32", "is_patch_data": True}
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "exported by voxward"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel")},
        "name": system.name,
        "task": f"Segmentation of {', '.join(names if labels.regions else names[1:])}",
        "description": f"A run of voxward. MONAI differs from it: {'; '.join(differences(system))}.",
        "authors": "",
        "copyright": "",
        "network_data_format": {
            "inputs": {"image": {
                "type": "image", "format": "magnitude", "num_channels": len(plan.channels), **shape, "value_range": [],
                "channel_def": {str(n): channel.name for n, channel in enumerate(plan.channels)},
            }},
            "outputs": {"pred": {
                "type": "image", "format": "segmentation", "num_channels": len(names), **shape, "value_range": [0, 1],
                "channel_def": {str(n): name for n, name in enumerate(names)},
            }},
        },
    }  # fmt: skip
