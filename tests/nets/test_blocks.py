import pytest
import torch
import torch.nn.functional as F
from torch import nn

from voxward.nets.blocks import InstanceNorm, PointwiseConv3d, Upsample


@pytest.mark.parametrize("channels_last", [True, False])
def test_instance_norm_equals_pytorch(channels_last):
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64) * 2 + 1
    x = x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x
    ours, plain = InstanceNorm(3).double(), nn.InstanceNorm3d(3, affine=True).double()
    for module in (ours, plain):
        module.weight.data = torch.tensor([0.5, 1.0, -2.0], dtype=torch.float64)
        module.bias.data = torch.tensor([0.1, 0.0, 3.0], dtype=torch.float64)
    gradient = torch.randn_like(x)
    results = []
    for module in (ours, plain):
        leaf = x.clone().requires_grad_()
        out = module(leaf)
        results.append((out, *torch.autograd.grad(out, (leaf, module.weight, module.bias), gradient)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels_last", [True, False])
def test_what_follows_an_instance_norm_may_change_it_in_place(channels_last):
    x = torch.randn(1, 2, 3, 3, 3)
    x = (x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x).requires_grad_()
    F.relu(InstanceNorm(2)(x), inplace=True).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("channels_last", [True, False])
def test_instance_norm_is_exact_in_large_volumes(channels_last):
    """Adding one value after the other leaves 5e-4 here."""
    x = torch.randn(1, 4, 64, 64, 96, generator=torch.Generator().manual_seed(0)) + 4
    x = x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x
    out, expected = InstanceNorm(4)(x).detach(), F.instance_norm(x.double())
    assert float((out - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("value", [3.3, -1234.567])
def test_a_constant_channel_with_a_large_mean_becomes_the_shift(value):
    x = torch.full((1, 2, 48, 48, 48), value).contiguous(memory_format=torch.channels_last_3d)
    plain = F.instance_norm(x.contiguous())
    assert float(InstanceNorm(2)(x).detach().abs().max()) <= max(2 * float(plain.abs().max()), 1e-4)


@pytest.mark.parametrize(
    "cut", [lambda x: x[..., :4], lambda x: x[:, :2], lambda x: x.transpose(2, 4)], ids=["rows", "channels", "turned"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_instance_norm_takes_any_layout(cut, dtype):
    x = cut(torch.randn(1, 4, 5, 6, 7).contiguous(memory_format=torch.channels_last_3d)).to(dtype)
    leaf = x.detach().requires_grad_()
    out = InstanceNorm(x.shape[1])(leaf)
    out.float().square().sum().backward()
    expected = F.instance_norm(x.float())
    assert float((out.float() - expected).detach().abs().max()) < (1e-5 if dtype == torch.float32 else 0.05)
    assert torch.isfinite(leaf.grad).all()


def test_instance_norm_keeps_channels_last_and_survives_a_constant_channel():
    x = torch.ones(1, 2, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    out = InstanceNorm(2)(x)
    out.sum().backward()
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 1)])
def test_pointwise_equals_convolution(stride):
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    module = PointwiseConv3d(3, 5, stride).double()
    ours, plain = module(x), F.conv3d(x, module.weight, stride=stride)
    gradient = torch.randn_like(plain)
    for a, b in zip(
        (ours, *torch.autograd.grad(ours, (x, module.weight), gradient)),
        (plain, *torch.autograd.grad(plain, (x, module.weight), gradient)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("factor", [(2, 2, 2), (2, 1, 3), (1, 1, 1)])
@pytest.mark.parametrize("size", [(3, 4, 5), (1, 2, 3)])
def test_upsample_equals_trilinear(factor, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    ours = Upsample(factor)(x)
    scale = tuple(float(f) for f in factor)
    plain = F.interpolate(x, scale_factor=scale, mode="trilinear", align_corners=True)
    gradient = torch.randn_like(plain)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, gradient)[0] for out in (ours, plain)))
