"""A volume segmented as nnU-Net segments it, to the last bit on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3
from voxward.nets.one_sample import quick_on_one_sample
from voxward.pipeline.predictor import Done
from voxward.systems.nnunet import intensities
from voxward.systems.nnunet.geometry import Geometry, geometry_of
from voxward.systems.nnunet.halves import half_sums, mirrored_mean, plan_of, reporter
from voxward.systems.nnunet.plans import NnPlan
from voxward.systems.nnunet.resampling import resampled
from voxward.systems.nnunet.results import NnResults


@torch.no_grad()
def prepared(volume: Volume, geometry: Geometry, plan: NnPlan) -> Image:
    """Return the image that the networks see, before it is padded.

    Args:
        volume: The volume (c, i, j, k).
        geometry: How it lies.
        plan: The plan.

    Returns:
        The image (c, d, h, w), float32.
    """
    box = geometry.cut(torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))).contiguous()
    figures = intensities.measured(box, geometry.inside, plan.schemes, intensities.moments_as_numpy)
    image = intensities.normalised(box, geometry.inside, plan.schemes, figures)
    return resampled(image, geometry.grid, geometry.spacing, geometry.target, plan.data)


def padded(
    image: Shaped[Tensor, "c d h w"], window: Size3
) -> tuple[Shaped[Tensor, "c d2 h2 w2"], tuple[slice, slice, slice]]:
    """Pad an image with 0 to at least a window, the odd voxel behind. Differentiable.

    Args:
        image: The image (c, d, h, w).
        window: The shape of a window.

    Returns:
        The padded image, and where the image lies in it.
    """
    missing = [max(edge - length, 0) for edge, length in zip(window, image.shape[1:], strict=True)]
    before = [amount // 2 for amount in missing]
    pairs = [(low, amount - low) for low, amount in zip(before, missing, strict=True)]
    flat = [value for pair in reversed(pairs) for value in pair]
    d, h, w = (slice(low, low + length) for low, length in zip(before, image.shape[1:], strict=True))
    return F.pad(image, flat), (d, h, w)


def forward_of(network: torch.nn.Module, slicewise: bool) -> Callable[[Images], Logits]:
    """Return a network's forward pass on windows (n, c, d, h, w); of slices where the network has two axes."""
    if not slicewise:
        return quick_on_one_sample(network)
    return lambda images: network(images.squeeze(2)).unsqueeze(2)


@torch.no_grad()
def half_logits(results: NnResults, image: Image, done: Done | None = None) -> CaseLogits:
    """Return the mean logits of all folds on the network's grid, added up in half precision.

    Args:
        results: The results folder.
        image: The image (c, d, h, w), not padded.
        done: Told about windows.

    Returns:
        Logits (k, d, h, w), float16, in nnU-Net's order of outputs.

    Raises:
        UserError: A logit is NaN or infinite.
    """
    plan, total = results.plan, None
    whole, place = padded(image.to(next(results.networks[0].parameters()).device), plan.window)
    windows = plan_of(_size3(whole), plan.window, plan.slicewise)
    for n, network in enumerate(results.networks):
        forward = mirrored_mean(forward_of(network, plan.slicewise), results.mirrors)
        told = reporter(done, windows, len(results.networks), n)
        own = half_sums(forward, whole, windows, len(plan.heads), told)
        total = own if total is None else total.add_(own)
    assert total is not None
    if len(results.networks) > 1:
        total = total.div_(len(results.networks))
    if not bool(torch.isfinite(total).all()):
        raise UserError("the networks return NaN or infinite logits, or logits that do not fit 16 bits")
    return total[(slice(None), *place)]


def segment(
    results: NnResults, volume: Volume, done: Done | None = None, probabilities: np.ndarray | None = None
) -> np.ndarray:
    """Segment a volume as nnU-Net does.

    Args:
        results: The results folder.
        volume: The volume (c, i, j, k) as its file stores it.
        done: Told about windows.
        probabilities: An array (k, i, j, l) of those of certain background, which is overwritten inside the crop box;
            None for none.

    Returns:
        Class indices (i, j, k), uint8, or uint16 beyond 256 classes.
    """
    plan = results.plan
    geometry = geometry_of(volume, plan)
    logits = half_logits(results, prepared(volume, geometry, plan), done)
    restored = resampled(logits, geometry.cropped, geometry.target, geometry.spacing, plan.logits)
    if probabilities is not None:
        probabilities[...] = _pasted(restored, geometry, plan, probabilities)
    box = read(restored, plan)[None]
    found = geometry.paste(box, box.new_zeros(1))[0]
    return found.contiguous().numpy().astype(np.uint8 if plan.labels.count <= 256 else np.uint16)


def _pasted(logits: CaseLogits, geometry: Geometry, plan: NnPlan, around: np.ndarray) -> np.ndarray:
    """Probabilities in the order of the labels, in the file's voxels; `around` holds those of background."""
    wide = logits.float()
    box = torch.sigmoid(wide)[in_order(plan)] if plan.labels.regions else torch.softmax(wide, 0)
    return geometry.paste(box, torch.from_numpy(around[:, 0, 0, 0].copy()).to(box)).numpy()


def in_order(plan: NnPlan) -> list[int]:
    """Return, for each output in the order of the labels, its place in nnU-Net's order."""
    return sorted(range(len(plan.heads)), key=plan.heads.__getitem__)


def read(logits: CaseLogits, plan: NnPlan) -> Tensor:
    """Turn logits into class indices as nnU-Net does.

    Args:
        logits: Logits (k, d, h, w), in nnU-Net's order of outputs.
        plan: The plan.

    Returns:
        Class indices (d, h, w), int64.
    """
    if not plan.labels.regions:
        return torch.from_numpy(logits.numpy().argmax(0))  # of equal logits the first wins
    inside = torch.sigmoid(logits.float()) > 0.5
    return plan.labels.read(torch.where(inside[in_order(plan)], 1.0, -1.0)).long()


def _size3(image: Image) -> Size3:
    d, h, w = image.shape[1:]
    return d, h, w
