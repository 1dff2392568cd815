"""The ROG lattice against the same lattice of plain PyTorch layers, and a `dynunet` training step against MONAI's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from benchmarks.speed.harness import Duel, Work
from voxward.core.recipe import Choice
from voxward.losses.deep import supervised
from voxward.losses.registry import create_loss
from voxward.nets.blocks import InstanceNorm, PointwiseConv3d, Upsample
from voxward.nets.depthwise import DepthwiseConv3d
from voxward.nets.lattice import Lattice, Swish
from voxward.nets.one_sample import quick_on_one_sample
from voxward.nets.zoo import DEFAULT_FILTERS, dynunet
from voxward.training.learner import Learner
from voxward.training.schedule import create_schedule
from voxward.training.steps import StandardStep, StepInput

HIPPOCAMPUS = (32, 48, 32)
STRIDES = ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""The patch and the strides that ROG's rules give for the hippocampus data."""
PLAIN = "nn.Conv3d(groups), x * sigmoid(x), contiguous, eager fp32"
MONAI_STRIDES = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
MONAI_PATCH = (40, 56, 40)


def lattice_duels() -> Iterator[Duel]:
    """Forward, input gradient (parameters frozen) and training step, in fp32 and bf16, against plain layers in fp32."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours = Lattice(1, 3, STRIDES).to(device)
    peer = plain_lattice(ours)
    images = torch.randn(2, 1, *HIPPOCAMPUS, device=device)
    with torch.no_grad():
        expected = peer(images)
        error = float((ours(images) - expected).abs().max() / expected.abs().max())
    assert error < 1e-4, f"outputs differ by {error}"
    quality = f"fp32 outputs differ by {error:.0e} of the largest"
    kinds = {"forward": (_forward, (None, None)), "input gradient": (_input_gradient, (3.0, 6.0)),
             "training step": (_lattice_step, (2.5, 4.0))}  # fmt: skip
    for name, (kind, required) in kinds.items():
        for precision, at_least in zip(("fp32", "bf16"), required, strict=True):
            sides = kind(ours, images, precision), kind(peer, images, "fp32")
            yield Duel(f"lattice {name}, 2 x 32x48x32, {precision}", *sides, PLAIN, at_least, quality)
    if device.type == "cuda":
        sides = _lattice_step(ours, images, "bf16"), _lattice_step(peer, images, "bf16")
        yield Duel("lattice training step, 2 x 32x48x32, both bf16", *sides, "the same in bf16", 2.0, quality)


def dynunet_duels() -> Iterator[Duel]:
    """Our training step against the bare loop of a MONAI tutorial: the same network, weights, loss and optimiser.

    And the gradient of one window alone, as in an attack on a volume that fits into it.
    """
    from monai.losses import DiceCELoss
    from monai.networks.nets import DynUNet

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours = dynunet(1, 3, MONAI_STRIDES).to(device)
    kernels = [[3, 3, 3]] * 4
    steps = [[1, 1, 1], *map(list, MONAI_STRIDES)]
    theirs = DynUNet(
        3, 1, 3, kernels, steps, steps[1:], filters=DEFAULT_FILTERS[:4], norm_name=("instance", {"affine": True})
    ).to(device)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 1, *MONAI_PATCH, device=device)
    labels = torch.randint(0, 3, (2, *MONAI_PATCH), device=device)
    with torch.no_grad():
        expected = theirs.eval()(images)
        error = float((ours.eval()(images) - expected).abs().max() / expected.abs().max())
    quality, alone, frozen = f"fp32 outputs differ by {error:.0e} of the largest", images[:1], copy.deepcopy(ours)
    yield Duel(
        "dynunet input gradient, 1 x 40x56x40, fp32",
        _input_gradient(frozen, alone, "fp32", quick_on_one_sample(frozen)),
        _input_gradient(copy.deepcopy(theirs), alone, "fp32"), "bare MONAI network", None, quality,
    )  # fmt: skip
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    for precision in ("fp32", "bf16"):
        yield Duel(
            f"dynunet training step, 2 x 40x56x40, {precision}", our_step(ours, images, labels, precision),
            _bare_step(theirs, lambda z, y: loss(z.float(), y[:, None]), images, labels, precision),
            f"bare MONAI loop, {precision}", None, quality,
        )  # fmt: skip


class PlainLattice(nn.Module):
    """A Lattice's own modules put together again, without its layouts."""

    def __init__(self, lattice: Lattice) -> None:
        super().__init__()
        self.lattice = copy.deepcopy(lattice)
        _make_plain(self.lattice)

    def forward(self, images: Tensor) -> Tensor:
        """(b, in_channels, d, h, w) -> logits (b, out_channels, d, h, w)."""
        net = self.lattice
        shallow = net.stem(images)
        logits: Tensor = net.head(net.restore(net.combine(net._lattice(net.entry(shallow)) + shallow)))
        return logits


def plain_lattice(lattice: Lattice) -> PlainLattice:
    """The same weights in PyTorch's own layers."""
    return PlainLattice(lattice)


class _PlainSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class _PlainUpsample(nn.Module):
    def __init__(self, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.factor = tuple(map(float, factor))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode="trilinear", align_corners=True)


def _make_plain(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, DepthwiseConv3d | PointwiseConv3d):
            kernel, stride, padding = child.kernel_size, child.stride, child.padding
            layer = nn.Conv3d(
                child.in_channels, child.out_channels, kernel, stride, padding,  # type: ignore[arg-type]
                groups=child.groups, bias=False,
            )  # fmt: skip
            layer.load_state_dict(child.state_dict())
            setattr(module, name, layer.to(child.weight.device))
        elif isinstance(child, InstanceNorm):
            norm = nn.InstanceNorm3d(len(child.weight), child.eps, affine=True)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm.to(child.weight.device))
        elif isinstance(child, Swish):
            setattr(module, name, _PlainSwish())
        elif isinstance(child, Upsample):
            setattr(module, name, _PlainUpsample(child.factor))
        else:
            _make_plain(child)


def _scores(network: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        out: Tensor = network(images)
    return out.float()


def _forward(network: nn.Module, images: Tensor, precision: str) -> Work:
    def work() -> None:
        with torch.no_grad():
            _scores(network, images, precision)

    return work


def _input_gradient(
    network: nn.Module, images: Tensor, precision: str, forward: Callable[[Tensor], Tensor] | None = None
) -> Work:
    """forward: how the network is called, where it is not called as it is."""

    def work() -> None:
        network.requires_grad_(False)
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(_scores(forward or network, leaf, precision).square().mean(), leaf)

    return work


def _lattice_step(network: nn.Module, images: Tensor, precision: str) -> Work:
    labels = torch.randint(0, 3, (len(images), *images.shape[2:]), device=images.device)
    return _bare_step(network, F.cross_entropy, images, labels, precision)


def _bare_step(
    network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, precision: str
) -> Work:
    """Forward, backward and Adam."""
    network.requires_grad_(True).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def work() -> None:
        network.requires_grad_(True)
        optimizer.zero_grad(set_to_none=True)
        loss(_scores(network, images, precision), labels).backward()
        optimizer.step()

    return work


def our_step(network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Work:
    fabric = Fabric(accelerator=images.device.type, precision="bf16-mixed" if precision == "bf16" else "32-true")
    wrapped, optimizer = fabric.setup(network.train(), torch.optim.Adam(network.parameters(), 1e-4))
    loss, schedule = supervised(create_loss(Choice("dice-ce")), ()), create_schedule(Choice("constant"))
    step = StandardStep(Learner(fabric, wrapped, optimizer, loss, schedule))
    windows = images.new_tensor([[[-2.0, 2.0]] * images.shape[1]] * len(images))
    batch = StepInput(images, labels, windows, 1, 0.5, torch.Generator())
    return lambda: step(batch)
