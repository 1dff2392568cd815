"""MONAI's networks; no other module of voxward imports them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits, Size3
from voxward.nets.blocks import InstanceNorm
from voxward.nets.inputs import check_input

DEFAULT_FILTERS = (16, 32, 64, 128, 128, 128)
Outputs = Logits | tuple[Logits, ...]
UNET_PLUS_PLUS_FILTERS = (32, 64, 128, 256, 512, 32)


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


class UNetPlusPlus(nn.Module):
    """UNet++ for volumes, as MONAI's BasicUNetPlusPlus has it, with a stride per axis of each downsampling step.

    Source: Zhou et al.: UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation,
    IEEE TMI 2019. With its widths, one channel and two classes MONAI's network has 26.38 M parameters; the ROG paper
    gives 26.2 M for UNet++.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Stride per axis of each of the four downsampling steps, 1 or 2.
        filters: Channels of the five levels, the finest first, then those before the logits.
        auxiliary: Give the three shallower networks logits of their own, which learn too.

    Raises:
        UserError: There are not four strides, or not six positive numbers of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        strides: Sequence[Size3] = ((2, 2, 2),) * 4,
        filters: Sequence[int] = UNET_PLUS_PLUS_FILTERS,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        from monai.networks.nets import BasicUNetPlusPlus

        if len(strides) != 4 or any(len(step) != 3 or not set(step) <= {1, 2} for step in strides):
            raise UserError(f"strides must be four, of 1 or 2 per axis, got {tuple(strides)}")
        if len(filters) != 6 or min(filters) < 2:
            raise UserError(f"filters must be six numbers from 2 up, got {tuple(filters)}")
        self.in_channels, self.auxiliary = in_channels, auxiliary
        i, j, k = (math.prod(step) for step in zip(*strides, strict=True))
        self.total_stride: Size3 = (i, j, k)
        network = BasicUNetPlusPlus(3, in_channels, out_channels, tuple(filters), deep_supervision=True)
        for level, stride in enumerate(strides):
            _with_stride(network, level, stride)
        if not auxiliary:  # MONAI makes them in any case, and they would never learn
            for number in (1, 2, 3):
                setattr(network, f"final_conv_0_{number}", nn.Identity())
        self.network = _with_fast_norms(network)

    def forward(self, images: Images) -> Outputs:
        """Compute the logits of a batch.

        Args:
            images: (b, in_channels, d, h, w).

        Returns:
            Logits (b, out_channels, d, h, w). In training mode, with `auxiliary`, a tuple: these logits, then those of
            the networks of three, two and one steps.

        Raises:
            UserError: The channels do not fit, or the total stride does not divide a size.
        """
        check_input(images, self.in_channels, self.total_stride)
        *others, logits = self.network(images)
        if self.auxiliary and self.training:
            return logits, *reversed(others)
        return logits  # type: ignore[no-any-return]


def _with_stride(network: nn.Module, level: int, stride: Size3) -> None:
    """Give MONAI's UNet++ another stride than 2 between a level and the next coarser one."""
    if tuple(stride) == (2, 2, 2):
        return
    network.get_submodule(f"conv_{level + 1}_0").max_pooling = nn.MaxPool3d(stride, stride)
    for column in range(1, 5 - level):
        up = network.get_submodule(f"upcat_{level}_{column}.upsample")
        old = up.get_submodule("deconv")
        assert isinstance(old, nn.ConvTranspose3d)
        up.deconv = nn.ConvTranspose3d(old.in_channels, old.out_channels, stride, stride)


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
