"""The Triton kernels, on a GPU or, where there is none, in Triton's interpreter on the CPU."""

import pytest
import torch
import torch.nn.functional as F

depthwise_triton = pytest.importorskip("voxward.nets.depthwise_triton", reason="needs triton", exc_type=ImportError)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Planes beyond one tile, more planes than one walk takes, and axes shorter than the kernel.
SHAPES = [(2, 3, 5, 7, 6), (1, 2, 9, 13, 11), (1, 1, 1, 3, 2), (1, 2, 4, 1, 1)]


def _inputs(shape, dtype=torch.float32):
    x = torch.randn(shape, device=DEVICE, dtype=dtype)
    return x, torch.randn(shape[1], 1, 3, 3, 3, device=DEVICE, dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_grouped_convolution(shape):
    x, weight = (t.requires_grad_() for t in _inputs(shape))
    exact = F.conv3d(x, weight, padding=1, groups=shape[1])
    gradient = torch.randn_like(exact)
    for_x, for_weight = torch.autograd.grad(exact, (x, weight), gradient)
    with torch.no_grad():
        torch.testing.assert_close(depthwise_triton.convolve(x, weight), exact, rtol=1e-4, atol=1e-5)
        flipped = depthwise_triton.convolve(gradient, weight.flip(2, 3, 4))
        torch.testing.assert_close(flipped, for_x, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(depthwise_triton.weight_gradient(gradient, x), for_weight, rtol=1e-4, atol=1e-4)


def test_half_precision_is_accumulated_in_float32():
    x, weight = _inputs((1, 2, 6, 8, 8), torch.bfloat16)
    exact = F.conv3d(x.float(), weight.float(), padding=1, groups=2)
    ours = depthwise_triton.convolve(x, weight)
    assert ours.dtype is torch.bfloat16
    # One rounding of the result to 8 bits of mantissa; Triton's interpreter cuts the others off.
    torch.testing.assert_close(ours.float(), exact, rtol=2**-7, atol=2**-8)


def test_any_memory_format():
    x, weight = _inputs((1, 4, 6, 5, 7))
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(depthwise_triton.convolve(last, weight), depthwise_triton.convolve(x, weight))


@pytest.mark.gpu
def test_the_networks_use_them_on_cuda():
    from voxward.nets.depthwise import depthwise_conv3d

    x, weight = (t.requires_grad_() for t in _inputs((2, 8, 12, 12, 12)))
    ours, exact = depthwise_conv3d(x, weight), F.conv3d(x, weight, padding=1, groups=8)
    gradient = torch.randn_like(exact)
    pairs = zip(torch.autograd.grad(ours, (x, weight), gradient), torch.autograd.grad(exact, (x, weight), gradient),
                strict=True)  # fmt: skip
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
