"""nnU-Net's two U-Nets, with the parameter names of its checkpoints.

Isensee et al., "nnU-Net" (Nature Methods 2021) and "nnU-Net Revisited" (MICCAI 2024). The modules compute what
dynamic-network-architectures' PlainConvUNet and ResidualEncoderUNet compute, in two or three dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.registry import Registry

_CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

NORMS: Registry[type[nn.Module]] = Registry(
    "normalisation layer of an nnU-Net",
    {layer.__name__: layer for layer in (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d)},
)
NONLINEARITIES: Registry[type[nn.Module]] = Registry(
    "nonlinearity of an nnU-Net",
    {layer.__name__: layer for layer in (nn.LeakyReLU, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish)},
)


@dataclass(frozen=True)
class Layer:
    """A layer by its name, with its options.

    Attributes:
        name: A name of NORMS or NONLINEARITIES.
        options: The keyword arguments of the layer.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """The shape of an nnU-Net. Sizes are one number per spatial axis, two or three.

    Attributes:
        residual: Whether the encoder has residual blocks (ResidualEncoderUNet) instead of plain convolutions.
        features: The number of feature maps of each stage, the finest stage first.
        kernels: The kernel size of each stage.
        strides: The stride with which each stage begins; the first stage has stride 1.
        encoder: The number of convolutions, or of residual blocks, of each stage.
        decoder: The number of convolutions of each decoder stage, the coarsest first; one fewer than stages.
        bias: Whether convolutions have a bias.
        norm: The normalisation layer.
        nonlinearity: The nonlinearity.
        nonlinearity_first: Whether the nonlinearity comes before the normalisation.
        stem: The number of feature maps of a residual encoder's first convolution; None takes those of the first stage.

    Raises:
        UserError: The lists differ in length, or there is no such layer.
    """

    residual: bool
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    bias: bool
    norm: Layer
    nonlinearity: Layer
    nonlinearity_first: bool = False
    stem: int | None = None

    def __post_init__(self) -> None:
        stages = len(self.features)
        lengths = [len(self.kernels), len(self.strides), len(self.encoder), len(self.decoder) + 1]
        if stages < 2 or set(lengths) != {stages}:
            raise UserError(
                f"an nnU-Net needs a kernel size, a stride and a number of blocks for each of its {stages} stages, and "
                f"one decoder stage fewer; got {lengths[0]}, {lengths[1]}, {lengths[2]} and {lengths[3] - 1}"
            )
        if {len(size) for size in (*self.kernels, *self.strides)} not in ({2}, {3}):
            raise UserError(f"kernel sizes and strides need 2 or 3 numbers each, got {self.kernels} and {self.strides}")
        NORMS[self.norm.name]
        NONLINEARITIES[self.nonlinearity.name]

    @property
    def axes(self) -> int:
        """Return the number of spatial axes, 2 or 3."""
        return len(self.strides[0])

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Return the product of the strides per axis, which an input's size must be a multiple of."""
        sizes = torch.tensor(self.strides).prod(0).tolist()
        return tuple(int(size) for size in sizes)


class _Block(nn.Module):
    """Convolution, normalisation and nonlinearity."""

    def __init__(self, of: Architecture, ends: tuple[int, int], kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        padding = [(edge - 1) // 2 for edge in kernel]
        self.conv = _CONV[of.axes](*ends, kernel, stride, padding, bias=of.bias)
        self.norm = _norm(of, ends[1])
        self.first = of.nonlinearity_first
        self.nonlin = _nonlinearity(of)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        found: Tensor = self.norm(self.nonlin(x)) if self.first else self.nonlin(self.norm(x))
        return found


class _Linear(nn.Module):
    """Convolution and normalisation."""

    def __init__(self, of: Architecture, ends: tuple[int, int], kernel: Sequence[int], bias: bool) -> None:
        super().__init__()
        self.conv = _CONV[of.axes](*ends, kernel, padding=[(edge - 1) // 2 for edge in kernel], bias=bias)
        self.norm = _norm(of, ends[1])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(x))
        return found


class _Stack(nn.Module):
    """Convolutions one after the other, the first with a stride."""

    def __init__(
        self, of: Architecture, count: int, ends: tuple[int, int], kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * of.axes
        self.convs = nn.Sequential(
            _Block(of, ends, kernel, stride),
            *(_Block(of, (ends[1], ends[1]), kernel, ones) for _ in range(count - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convs(x)
        return found


class _Residual(nn.Module):
    """Two convolutions and a skip connection, which is pooled and projected where the sizes differ."""

    def __init__(self, of: Architecture, ends: tuple[int, int], kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = _Block(of, ends, kernel, stride)
        self.conv2 = _Linear(of, (ends[1], ends[1]), kernel, of.bias)
        skip: list[nn.Module] = []
        if any(step != 1 for step in stride):
            skip.append(_POOL[of.axes](tuple(stride), tuple(stride)))
        if ends[0] != ends[1]:
            skip.append(_Linear(of, ends, (1,) * of.axes, False))
        self.skip = nn.Sequential(*skip)
        self.nonlin = _nonlinearity(of)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.nonlin(self.conv2(self.conv1(x)) + self.skip(x))
        return found


class _Residuals(nn.Module):
    """Residual blocks one after the other, the first with a stride."""

    def __init__(
        self, of: Architecture, count: int, ends: tuple[int, int], kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * of.axes
        self.blocks = nn.Sequential(
            _Residual(of, ends, kernel, stride),
            *(_Residual(of, (ends[1], ends[1]), kernel, ones) for _ in range(count - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.blocks(x)
        return found


class _Encoder(nn.Module):
    def __init__(self, of: Architecture, channels: int) -> None:
        super().__init__()
        before, self.stem = channels, None
        if of.residual:
            before = of.stem or of.features[0]
            self.stem = _Stack(of, 1, (channels, before), of.kernels[0], (1,) * of.axes)
        stages: list[nn.Module] = []
        for count, after, kernel, stride in zip(of.encoder, of.features, of.kernels, of.strides, strict=True):
            if of.residual:
                stages.append(_Residuals(of, count, (before, after), kernel, stride))
            else:
                stages.append(nn.Sequential(_Stack(of, count, (before, after), kernel, stride)))
            before = after
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.stem is not None:
            x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _Decoder(nn.Module):
    def __init__(self, of: Architecture, outputs: int) -> None:
        super().__init__()
        self.stages, self.transpconvs, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for n, count in enumerate(of.decoder):
            below, here, stride = of.features[-1 - n], of.features[-2 - n], of.strides[-1 - n]
            self.transpconvs.append(_TRANSPOSED[of.axes](below, here, stride, stride, bias=of.bias))
            self.stages.append(_Stack(of, count, (2 * here, here), of.kernels[-2 - n], (1,) * of.axes))
            self.seg_layers.append(_CONV[of.axes](here, outputs, 1))

    def forward(self, skips: Sequence[Tensor]) -> Tensor:
        x = skips[-1]
        for n, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            x = stage(torch.cat((up(x), skips[-2 - n]), 1))
        found: Tensor = self.seg_layers[-1](x)
        return found


class NnUNet(nn.Module):
    """An nnU-Net as it predicts: the logits of the finest stage, without deep supervision's other outputs.

    Args:
        of: The shape of the network.
        channels: The number of input channels.
        outputs: The number of classes or regions.
    """

    def __init__(self, of: Architecture, channels: int, outputs: int) -> None:
        super().__init__()
        self.of = of
        self.encoder = _Encoder(of, channels)
        self.decoder = _Decoder(of, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of images.

        Args:
            x: Images (b, c, *spatial), whose sizes are multiples of `of.total_stride`.

        Returns:
            Logits (b, k, *spatial).
        """
        found: Tensor = self.decoder(self.encoder(x))
        return found


def _norm(of: Architecture, features: int) -> nn.Module:
    return _layer(NORMS[of.norm.name], features, **of.norm.options)


def _nonlinearity(of: Architecture) -> nn.Module:
    # Nothing is computed in place: a gradient may need what would be overwritten.
    options = {name: value for name, value in of.nonlinearity.options.items() if name != "inplace"}
    return _layer(NONLINEARITIES[of.nonlinearity.name], **options)


def _layer(kind: type[nn.Module], *features: int, **options: Any) -> nn.Module:
    try:
        return kind(*features, **options)
    except TypeError as error:
        raise UserError(f"{kind.__name__} does not take the options {dict(options)}: {error}") from error
