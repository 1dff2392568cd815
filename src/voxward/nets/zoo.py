"""MONAI's networks; no other module of voxward imports them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Size3
from voxward.nets.blocks import InstanceNorm

DEFAULT_FILTERS = (16, 32, 64, 128, 128, 128)


def dynunet(
    in_channels: int,
    out_channels: int,
    strides: Sequence[Size3] = ((2, 2, 2), (2, 2, 2), (2, 2, 2)),
    kernel_sizes: Sequence[Size3] | None = None,
    filters: Sequence[int] = DEFAULT_FILTERS,
) -> nn.Module:
    """Create nnU-Net's plain convolutional U-Net, as MONAI's DynUNet has it.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Stride per axis of each downsampling step, at least two steps.
        kernel_sizes: Kernel per axis of each resolution level, that is one more than strides; None: 3x3x3.
        filters: Channels per level, the finest first; levels beyond the list keep its last entry.

    Returns:
        A network from (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w).

    Raises:
        UserError: There are fewer than two steps, or the kernels do not fit them.
    """
    from monai.networks.nets import DynUNet

    levels = len(strides) + 1
    if len(strides) < 2:
        raise UserError(
            f"dynunet needs at least two downsampling steps, got {len(strides)}: patches whose edges are all at least "
            "16 voxels have two; smaller volumes need another network, such as rog"
        )
    kernels = [list(size) for size in kernel_sizes] if kernel_sizes else [[3, 3, 3]] * levels
    if len(kernels) != levels:
        raise UserError(f"kernel_sizes needs one entry per level ({levels}), got {len(kernels)}")
    network: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernels,
        strides=[[1, 1, 1], *(list(step) for step in strides)],
        upsample_kernel_size=[list(step) for step in strides],
        filters=[filters[min(level, len(filters) - 1)] for level in range(levels)],
        norm_name=("instance", {"affine": True}),
    )
    network = _with_fast_norms(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.register_forward_pre_hook(_channels_last)
    return network


def _channels_last(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous(memory_format=torch.channels_last_3d) for x in inputs)


def _with_fast_norms(network: nn.Module) -> nn.Module:
    """Put our InstanceNorm, which is equal in numbers, in place of PyTorch's, which copies channels-last volumes."""
    for name, child in network.named_children():
        if isinstance(child, nn.InstanceNorm3d):
            setattr(network, name, InstanceNorm(child.num_features, child.eps))
        else:
            _with_fast_norms(child)
    return network
