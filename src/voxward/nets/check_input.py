"""What every network of ours checks before it computes: the channels and the sizes of a batch."""

from __future__ import annotations

from torch import Tensor

from voxward.core.errors import UserError


def check_input(images: Tensor, channels: int, total_stride: tuple[int, ...]) -> None:
    """Check that a network can take a batch.

    Args:
        images: (b, c, *spatial).
        channels: The network's number of image channels.
        total_stride: The number per axis that must divide the images' size.

    Raises:
        UserError: The channels or the sizes do not fit; the message says what to pad to.
    """
    if images.shape[1] != channels:
        raise UserError(f"the network takes {channels} channels, got {images.shape[1]}")
    size = tuple(images.shape[2:])
    if any(length % step for length, step in zip(size, total_stride, strict=True)):
        legal = tuple(-(-length // step) * step for length, step in zip(size, total_stride, strict=True))
        raise UserError(f"the network needs sizes divisible by {total_stride}, got {size}: pad to {legal}")
