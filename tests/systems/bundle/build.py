"""Small bundles with random weights, what MONAI itself makes of them, and the fixture that MONAI wrote."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.networks import nets

FIXTURES = Path(os.environ.get("VOXWARD_FIXTURES", Path(__file__).parents[4] / "shared" / "fixtures"))
HIPPOCAMPUS = FIXTURES / "monai_bundle/hippocampus_small"
ORACLE = FIXTURES / "monai_bundle/oracle"

UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 6], "strides": [2],
    "num_res_units": 0,
}  # fmt: skip
WINDOWS = {"_target_": "SlidingWindowInferer", "roi_size": [8, 12, 8], "overlap": 0.5, "mode": "gaussian"}
LOAD = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
SIGMOID = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
CLASSES = {"0": "background", "1": "a", "2": "b"}


def step(name, **arguments):
    return {"_target_": name, "keys": "image", **arguments}


def invert(nearest=False):
    return {
        "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
        "nearest_interp": nearest, "to_tensor": True,
    }  # fmt: skip


def config(steps=(), network=UNET, inferer=WINDOWS, post=None, **more):
    """A configuration with what every bundle holds that is code."""
    return {
        "imports": ["$import glob"], "bundle_root": ".", "dataset_dir": "/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))", "device": "$torch.device('cpu')",
        "network_def": network, "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [*LOAD, *steps]},
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": post or [SOFTMAX, invert(), ARGMAX]},
        "run": ["$@evaluator.run()"], **more,
    }  # fmt: skip


def bundle(folder: Path, described=None, classes=CLASSES, seed=0, scale=3.0) -> Path:
    """Write a bundle; `scale` makes its random network more certain."""
    described = described or config()
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/inference.json").write_text(json.dumps(described))
    outputs = {"pred": {"num_channels": len(classes), "channel_def": classes}}
    inputs = {"image": {"channel_def": {"0": "MR"}}}
    metadata = {"network_data_format": {"inputs": inputs, "outputs": outputs}}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    network = described["network_def"]
    if isinstance(network, dict) and hasattr(nets, network["_target_"]):
        torch.manual_seed(seed)
        made = getattr(nets, network["_target_"])(**{k: v for k, v in network.items() if k != "_target_"})
        weights = {name: value * scale if "weight" in name else value for name, value in made.state_dict().items()}
        torch.save(weights, folder / "models/model.pt")
    return folder


def rotated(spacing=(1.1, 0.9, 1.0), order=(0, 1, 2), flips=(1, 1, 1), degrees=0.0):
    """An affine: axes in another order, some of them backwards, all turned about the first axis."""
    affine = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine[:3, :3] = (turn @ np.eye(3)[:, list(order)]) * np.asarray(spacing) * np.asarray(flips)
    affine[:3, 3] = (-7.5, 11.25, 3.0)
    return affine


def scan(path: Path, shape=(11, 16, 13), affine=None, seed=0) -> Path:
    """Write a smooth volume with a margin of zeros."""
    rng = np.random.default_rng(seed)
    array = np.zeros(shape, np.float32)
    array[1:-1, 2:-1, 1:-2] = rng.normal(20, 30, (shape[0] - 2, shape[1] - 3, shape[2] - 3))
    image = nibabel.Nifti1Image(array, rotated() if affine is None else affine)
    nibabel.save(image, path)
    return path


def by_monai(folder: Path, path: Path, upto=None):
    """What MONAI's own parser, transforms and inferer make of a file; `upto` "image" for the prepared image."""
    from monai.bundle import ConfigParser

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        parser = ConfigParser()
        parser.read_config(folder / "configs/inference.json")
        data = parser.get_parsed_content("preprocessing")({"image": str(path)})
        image = data["image"]
        if upto == "image":
            return image.as_tensor().clone()
        network = parser.get_parsed_content("network_def").eval()
        network.load_state_dict(torch.load(folder / "models/model.pt", weights_only=True))
        data["pred"] = parser.get_parsed_content("inferer")(image[None], network)[0]
        return parser.get_parsed_content("postprocessing")(data)["pred"].as_tensor().numpy()


def alike(found, expected):
    """Whether two masks agree but for two voxels, whose scores may tie: another processor rounds them otherwise."""
    return found.shape == expected.shape and np.count_nonzero(found != expected) <= 2
