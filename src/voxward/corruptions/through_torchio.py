"""Scans through transforms of TorchIO, in a grid without orientation: axes are those of the file, lengths in mm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from voxward.corruptions.packages import torchio
from voxward.corruptions.scan import Scan


def transformed(scan: Scan, *transforms: Any) -> Scan:
    """Return a scan after transforms of TorchIO, one after another.

    The orientation of the file is left out: what is oblique or sheared is a grid at right angles to TorchIO.

    Args:
        scan: The scan. Its label, if there is one, is moved with the image by nearest neighbour.
        transforms: The transforms, which do not change the grid in the end.
    """
    package = torchio()
    affine = np.diag([*map(float, scan.spacing), 1.0])
    images: dict[str, Any] = {"image": package.ScalarImage(tensor=_tensor(scan.image), affine=affine)}
    if scan.label is not None:
        maps = scan.label.reshape(-1, *scan.shape)
        images["label"] = package.LabelMap(tensor=_tensor(maps), affine=affine)
    subject = package.Subject(**images)
    for transform in transforms:
        subject = transform(subject)
    image = _values(subject["image"], scan.image)
    label = None if scan.label is None else _values(subject["label"], scan.label)
    return replace(scan, image=image, label=label)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32).copy())


def _values(image: Any, like: np.ndarray) -> np.ndarray:
    found: np.ndarray = image.data.numpy().reshape(like.shape)
    return found.astype(like.dtype)
