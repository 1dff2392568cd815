"""Convolutions of a single sample against PyTorch's in float64, and which calls are replaced."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from voxward.nets.one_sample import OneSample, quick_on_one_sample

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
SLOW = "aten::slow_conv3d"


def called(work):
    """The names of the operators that a call runs, without convolutions of single voxels, which unfold nothing."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        work()
    return {event.name for event in found.events() if event.name != SLOW or event.input_shapes[1][2:] != [1, 1, 1]}


def arguments(dtype=torch.float32, kernel=(3, 3, 3), channels=4, samples=1, size=(6, 7, 5)):
    """An input, a weight and a bias, whose numbers float32 holds."""
    source = torch.Generator().manual_seed(0)
    shapes = (samples, channels, *size), (5, channels, *kernel), (5,)
    return [torch.randn(shape, generator=source).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(
    ("kernel", "how"),
    [
        ((3, 3, 3), {"padding": 1}),
        ((3, 3, 3), {}),
        ((1, 3, 3), {"padding": (0, 1, 1)}),
        ((3, 3, 1), {"padding": (1, 1, 0), "stride": (2, 2, 1)}),
        ((3, 3, 3), {"padding": 2, "dilation": 2}),
        ((2, 2, 2), {"stride": 2}),
        ((3, 2, 3), {"padding": [1, 0, 2]}),
        ((1, 2, 2), {"padding": (2, 3, 3)}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_value_and_gradients_are_pytorchs(kernel, how, bias):
    results = []
    for dtype in (torch.float32, torch.float64):
        x, weight, shift = arguments(dtype, kernel)
        inputs = (x, weight, shift) if bias else (x, weight)
        with OneSample():
            out = F.conv3d(x, weight, shift if bias else None, **how)
        pull = torch.linspace(-1, 1, out.numel()).to(dtype).reshape(out.shape)
        results.append((out, *torch.autograd.grad(out, inputs, pull)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(
    "function", [F.conv3d, torch.ops.aten.conv3d.default], ids=["conv3d", "of an exported network"]
)
def test_pytorchs_slow_routine_is_avoided_in_both_directions(function):
    x, weight, _ = arguments()

    def work():
        function(x, weight, None, [1, 1, 1], [1, 1, 1]).sum().backward()

    def quick():
        with OneSample():
            out = function(x, weight, None, [1, 1, 1], [1, 1, 1])
        torch.autograd.grad(out.sum(), x)

    assert SLOW in called(work)
    found = called(quick)
    assert SLOW not in found
    assert "aten::mkldnn_convolution" in found


@pytest.mark.parametrize(
    "given",
    [
        {"dtype": torch.float64},
        {"samples": 2},
        {"kernel": (1, 1, 1)},
        {"kernel": (4, 4, 4)},
        {"channels": 64, "size": (20, 20, 4)},
    ],
    ids=str,
)
def test_other_convolutions_are_pytorchs_own(given, monkeypatch):
    monkeypatch.setattr(torch, "mkldnn_convolution", None)  # calling it would fail
    x, weight, shift = arguments(**given)
    with OneSample():
        out = F.conv3d(x, weight, shift)
    assert torch.equal(out, F.conv3d(x, weight, shift))


def test_grouped_transposed_and_bfloat16_ones_are_pytorchs_own(monkeypatch):
    monkeypatch.setattr(torch, "mkldnn_convolution", None)
    x, weight, _ = arguments()
    with OneSample(), torch.autocast("cpu", torch.bfloat16):
        assert F.conv3d(x, weight).dtype == torch.bfloat16
    with OneSample():
        assert F.conv3d(x, weight[:4, :1], groups=4).shape == (1, 4, 4, 5, 3)
        assert F.conv_transpose3d(x, weight[:4], stride=2).shape[1] == 4
        assert F.conv3d(x, weight, padding="same").shape == (1, 5, 6, 7, 5)


def test_transforms_of_pytorch_still_work():
    x, weight, _ = (one.detach() for one in arguments())
    with OneSample():
        many = torch.func.vmap(lambda one: F.conv3d(one[None], weight))(torch.stack([x[0], x[0]]))
        slope = torch.func.grad(lambda one: F.conv3d(one, weight).sum())(x)
    assert many.shape == (2, 1, 5, 4, 5, 3)
    leaf = x.requires_grad_()
    torch.testing.assert_close(slope, torch.autograd.grad(F.conv3d(leaf, weight).sum(), leaf)[0])


def test_a_network_is_wrapped_and_may_change_in_place():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv3d(4, 2, 3, padding=1)).eval()
    x = torch.randn(1, 1, 6, 6, 6, requires_grad=True)
    found = called(lambda: quick_on_one_sample(network)(x).sum().backward(inputs=[x]))
    assert SLOW not in found
    torch.testing.assert_close(quick_on_one_sample(network)(x), network(x), rtol=1e-4, atol=1e-5)
