import pytest
import torch
import torch.nn.functional as F

from voxward.nets.depthwise import DepthwiseConv3d, depthwise_conv3d

CASES = [((1, 1, 1), (1, 1, 1)), ((2, 2, 2), (1, 1, 1)), ((2, 2, 1), (1, 1, 1)), ((1, 1, 1), (0, 1, 0))]


def _inputs(dtype, channels_last=True):
    x = torch.randn(2, 4, 7, 6, 5, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x
    return x.requires_grad_(), torch.randn(4, 1, 3, 3, 3, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(("stride", "padding"), CASES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_equals_grouped_convolution_in_double(stride, padding, channels_last):
    x, weight = _inputs(torch.float64, channels_last)
    ours = depthwise_conv3d(x, weight, stride, padding)
    reference = F.conv3d(x, weight, stride=stride, padding=padding, groups=4)
    gradient = torch.randn_like(reference)
    pairs = zip(
        (ours, *torch.autograd.grad(ours, (x, weight), gradient)),
        (reference, *torch.autograd.grad(reference, (x, weight), gradient)),
        strict=True,
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("stride", "padding"), CASES)
def test_gradcheck(stride, padding):
    x, weight = _inputs(torch.float64)
    small = x[:1, :, :4, :4, :4].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, w: depthwise_conv3d(a, w, stride, padding), (small, weight))


def test_bfloat16_gradients_follow_float32():
    x, weight = _inputs(torch.float32)
    exact = torch.autograd.grad(depthwise_conv3d(x, weight).square().sum(), (x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        out = depthwise_conv3d(x, weight)
    assert out.dtype is torch.bfloat16
    rough = torch.autograd.grad(out.float().square().sum(), (x, weight))
    for a, b in zip(rough, exact, strict=True):
        assert (a - b).norm() / b.norm() < 0.02


def test_unneeded_gradients_are_skipped():
    x, weight = _inputs(torch.float32)
    (gradient,) = torch.autograd.grad(depthwise_conv3d(x, weight.detach()).sum(), (x,))
    assert gradient.shape == x.shape
    (gradient,) = torch.autograd.grad(depthwise_conv3d(x.detach(), weight).sum(), (weight,))
    assert gradient.shape == weight.shape


def test_wrong_weights_are_refused():
    with pytest.raises(ValueError, match=r"weight must be \(4, 1"):
        depthwise_conv3d(torch.randn(1, 4, 5, 5, 5), torch.randn(3, 1, 3, 3, 3))


def test_module_starts_like_a_plain_convolution():
    torch.manual_seed(1)
    ours = DepthwiseConv3d(4)
    torch.manual_seed(1)
    plain = torch.nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=False)
    torch.testing.assert_close(ours.weight, plain.weight)
