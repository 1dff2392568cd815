"""MPUNet, the multi-planar U-Net that ROG compares with: one 2D network that sees a volume along several axes.

Source: Perslev, Dam, Pai, Igel: One Network To Segment Them All: A General, Lightweight System for Accurate 3D Medical
Image Segmentation, MICCAI 2019. The U-Net (64 filters times the root of 2, norms after each pair of convolutions,
nearest-neighbour raising with a convolution of 2 x 2) and the fusion (the probabilities of every axis and class times a
weight of their own, summed, and a bias for every class) are those of the authors' release, perslev/MultiPlanarUNet. No
code was taken over.

What differs: the release samples planes of the scan at any place and turn, and its loss is on the plane. Here a volume
of equal voxels is turned as a whole, sliced, and what was found is turned back, so that the loss is on the voxels. That
makes one differentiable network of it, which every attack takes as it is. The axes are those through the corners of an
icosahedron, turned at random: six axes cannot lie further apart than their 63.4 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits
from voxward.nets.inputs import check_input

MOST_VIEWS = 6
_POOLINGS = 4


class MPUNet(nn.Module):
    """The multi-planar U-Net for volumes of equal voxels.

    In training it looks along one axis at a time, each in turn. Otherwise it looks along all of them and fuses what
    they find. With `fuse` only the fusion is trained, along all axes, and the U-Net stays as it is.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel, at least 2: probabilities of classes are fused.
        filters: Channels of the finest level of the U-Net, times the root of 2, and doubled at each of four coarser
            levels. Published: 64, of which 90 to 1448 come.
        views: How many axes, 1 to 6.
        seed: The seed of the axes.
        fuse: Whether the fusion is trained, and not the U-Net.

    Raises:
        UserError: An option is out of range.

    Example:
        >>> network = voxward.create_network("mpunet", in_channels=1, out_channels=3, filters=4)
        >>> network(torch.zeros(1, 1, 16, 16, 16)).shape
        torch.Size([1, 3, 16, 16, 16])
    """

    turns: Tensor
    looks: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, filters: int = 64, views: int = MOST_VIEWS, seed: int = 0,
        fuse: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 1 <= views <= MOST_VIEWS:
            raise UserError(f"views must be 1 to {MOST_VIEWS}, got {views}")
        if filters < 1:
            raise UserError(f"filters must be at least 1, got {filters}")
        if out_channels < 2:
            raise UserError(f"mpunet fuses the probabilities of classes, and needs at least 2, got {out_channels}")
        self.in_channels = in_channels
        self.fuse = fuse
        self.unet = _UNet(in_channels, out_channels, filters).requires_grad_(not fuse)
        self.register_buffer("turns", view_turns(views, seed))
        self.register_buffer("looks", torch.zeros((), dtype=torch.long))  # in training: a resumed run goes on from here
        weights, bias = torch.ones(views, out_channels), torch.zeros(out_channels)
        if fuse:
            self.weights, self.bias = nn.Parameter(weights), nn.Parameter(bias)
        else:  # under the same names, so that the fusion begins with what the U-Net's training left
            self.register_buffer("weights", weights)
            self.register_buffer("bias", bias)

    def train(self, mode: bool = True) -> MPUNet:
        """Set training mode; a U-Net of which only the fusion is trained stays in evaluation mode."""
        super().train(mode)
        if self.fuse:
            self.unet.eval()
        return self

    def forward(self, images: Images) -> Logits:
        """Compute the logits of volumes.

        Args:
            images: (b, in_channels, d, h, w), of any size.

        Returns:
            Logits (b, out_channels, d, h, w).

        Raises:
            UserError: The channels do not fit.
        """
        check_input(images, self.in_channels, (1, 1, 1))
        if self.training and not self.fuse:
            turn = self.turns[self.looks % len(self.turns)]
            self.looks += 1
            return self._seen(images, turn)[0]
        total, covering, anyhow = (images.new_zeros(()) for _ in range(3))
        for turn, weights in zip(self.turns, self.weights, strict=True):
            logits, inside = self._seen(images, turn)
            found = weights.view(1, -1, 1, 1, 1) * logits.softmax(1)
            total, covering, anyhow = total + inside * found, covering + inside, anyhow + found
        # Where no axis's cube reaches, what each sees at its border counts.
        fused = torch.where(covering > 0, len(self.turns) * total / covering.clamp_min(1), anyhow)
        return fused + self.bias.view(1, -1, 1, 1, 1)

    def _seen(self, images: Images, turn: Tensor) -> tuple[Logits, Tensor]:
        """What the U-Net finds along one axis, and for each voxel (d, h, w) whether the turned cube holds it.

        turn: (3, 3), from the cube's axes to the volume's; slices lie across the cube's last axis.
        """
        size = images.shape[2:]
        edge = max(size)
        n = (edge + 2**_POOLINGS - 1) // 2**_POOLINGS * 2**_POOLINGS  # of a slice
        outwards = _places((n, n, edge), turn).to(images.dtype)
        cube = _sampled(images, outwards, size)
        b = images.shape[0]
        logits = self.unet(cube.movedim(-1, 1).flatten(0, 1)).unflatten(0, (b, edge)).movedim(1, -1)
        back = _places(size, turn.T).to(logits.dtype)
        x, y, z = back.abs().unbind(-1)
        inside = (x <= (n - 1) / 2) & (y <= (n - 1) / 2) & (z <= (edge - 1) / 2)
        return _sampled(logits, back, (n, n, edge)), inside.to(logits.dtype)


def view_turns(views: int, seed: int) -> Tensor:
    """Return axes that lie as far apart as six can, as matrices from a cube's axes to the volume's.

    Args:
        views: How many, at most 6.
        seed: The seed of the turn of all axes together.

    Returns:
        (views, 3, 3) rotations, whose last columns are the axes.
    """
    golden = (1 + math.sqrt(5)) / 2
    axes = torch.tensor(
        [(0, 1, golden), (0, 1, -golden), (1, golden, 0), (1, -golden, 0), (golden, 0, 1), (golden, 0, -1)],
        dtype=torch.float64, device="cpu",
    )  # fmt: skip
    drawn = torch.randn(3, 3, dtype=torch.float64, device="cpu", generator=torch.Generator().manual_seed(seed))
    whole = torch.linalg.qr(drawn).Q
    turned = (F.normalize(axes, dim=1) @ whole.T)[:views]
    return torch.stack([_turn_to(axis) for axis in turned]).float()


def _turn_to(axis: Tensor) -> Tensor:
    """A rotation whose last column is an axis."""
    other = torch.eye(3, dtype=axis.dtype, device=axis.device)[int(axis.abs().argmin())]
    first = F.normalize(torch.linalg.cross(axis, other), dim=0)
    return torch.stack([first, torch.linalg.cross(axis, first), axis], 1)


def _places(size: Sequence[int], turn: Tensor) -> Tensor:
    """Where the voxels of a block lie in another one round the same centre, in voxels from that centre: (*size, 3)."""
    axes = [torch.arange(n, device=turn.device, dtype=turn.dtype) - (n - 1) / 2 for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) @ turn.T


def _sampled(values: Tensor, places: Tensor, size: Sequence[int]) -> Tensor:
    """Linear interpolation of (b, c, *size) at places in voxels from the centre; outside, the border goes on.

    Sizes stay in arithmetic of numbers: a tensor made of them, or len(), would fix them where the network is exported.
    """
    halves = [torch.sym_max(n - 1, 1) / 2 for n in size]  # type: ignore[no-untyped-call]
    parts = [part / half for part, half in zip(places.unbind(-1), halves, strict=True)]
    grid = torch.stack(parts[::-1], -1)  # grid_sample names the last axis first
    grid = grid.expand(values.shape[0], *grid.shape)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=True)


class _UNet(nn.Module):
    """The U-Net for slices (b, c, h, w), with h and w divisible by 16."""

    def __init__(self, in_channels: int, out_channels: int, filters: int) -> None:
        super().__init__()
        widths = [int(filters * 2 ** (level + 0.5)) for level in range(_POOLINGS + 1)]
        before = (in_channels, *widths)
        self.encoder = nn.ModuleList(_pair(fewer, more) for fewer, more in zip(before, widths, strict=False))
        self.raises = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(below, width, 2), nn.ReLU(),
                nn.BatchNorm2d(width),
            )
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )  # fmt: skip
        self.decoder = nn.ModuleList(_pair(2 * width, width) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped = []
        for n, level in enumerate(self.encoder):
            x = level(x if n == 0 else F.max_pool2d(x, 2))
            skipped.append(x)
        for up, level, skip in zip(self.raises, self.decoder, reversed(skipped[:-1]), strict=True):
            x = level(torch.cat([skip, up(x)], 1))
        logits: Tensor = self.head(x)
        return logits


def _pair(before: int, after: int) -> nn.Module:
    """Two convolutions and the norm after them."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU(),
        nn.BatchNorm2d(after),
    )  # fmt: skip
