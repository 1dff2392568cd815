"""Networks that torch exported: scores and gradients are those of the network itself."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from monai.networks import nets
from torch import nn

from tests.systems.nnunet.build import FIXTURES
from voxward.nets.onnx.network import read_onnx
from voxward.nets.onnx.runtime import blackbox_onnx
from voxward.nets.registry import create_network

UNET = FIXTURES / "monai_bundle/exported_networks"


def _dynunet(**options):
    return nets.DynUNet(3, 1, 2, [3, 3, 3], [1, 2, [2, 2, 1]], [2, [2, 2, 1]], filters=[4, 6, 8], **options)


NETWORKS = {
    "UNet": lambda: nets.UNet(3, 1, 3, (4, 6, 8), (2, 2), num_res_units=2),
    "UNet with batch norm": lambda: nets.UNet(3, 1, 3, (4, 6, 8), (2, 2), norm="batch", act="relu"),
    "DynUNet": _dynunet,
    "DynUNet with residual blocks": lambda: _dynunet(res_block=True),
    "SegResNet": lambda: nets.SegResNet(3, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)),
    "SegResNet, interpolated": lambda: nets.SegResNet(
        3, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,), upsample_mode="nontrainable"
    ),
    "AttentionUnet": lambda: nets.AttentionUnet(3, 1, 2, (4, 6, 8), (2, 2)),
    "a network of voxward": lambda: create_network("resdsn", 1, 2),
    "resized by numbers": lambda: _Resized(),
}  # fmt: skip


class _Resized(nn.Module):
    """Resizing by odd factors, pooling with a remainder, and padding back to the image's size."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(8, 2, 1)

    def forward(self, x):
        high = nn.functional.hardswish(self.first(x))
        low = nn.functional.avg_pool3d(nn.functional.silu(high), 3, 2, 1, ceil_mode=True, count_include_pad=False)
        low = nn.functional.gelu(nn.functional.instance_norm(low))
        up = nn.functional.interpolate(low, size=x.shape[2:], mode="trilinear", align_corners=True)
        near = nn.functional.interpolate(high, scale_factor=0.5, mode="nearest")
        near = nn.functional.pad(near, (1, 0, 1, 0, 1, 0), mode="replicate")[..., 1:, 1:, 1:]
        near = nn.functional.interpolate(near, size=x.shape[2:], mode="nearest")
        return self.last(torch.cat([up, high * near.mean((2, 3, 4), keepdim=True)], 1))


def _network(make):
    torch.manual_seed(2)
    network = make().eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def _exported(network, path, opset, sizes=(16, 16, 8)):
    axes = {0: "b", 2: "d", 3: "h", 4: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(1, 1, *sizes),), path, dynamo=False, opset_version=opset, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": axes, "y": axes},
        )  # fmt: skip
    return path


def _gradient(network, image, weights):
    image = image.clone().requires_grad_()
    return torch.autograd.grad((network(image) * weights).sum(), image)[0]


def _agrees(path, network, image, share=1e-5):
    ours = read_onnx(path).double()
    network, image = network.double(), image.double()
    expected = network(image)
    assert (ours(image) - expected).norm() <= share * expected.norm()
    weights = torch.randn(expected.shape, dtype=torch.float64)
    gradient = _gradient(network, image, weights)
    assert (_gradient(ours, image, weights) - gradient).norm() <= share * gradient.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_and_gradient_of_an_exported_network(name, tmp_path):
    network = _network(NETWORKS[name])
    path = _exported(network, tmp_path / "network.onnx", 17)
    theirs = blackbox_onnx(path)
    image = torch.randn(1, 1, 16, 16, 8)
    with torch.no_grad():
        torch.testing.assert_close(read_onnx(path)(image), network(image), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(theirs(image), network(image), rtol=1e-4, atol=1e-4)
    _agrees(path, network, image)


@pytest.mark.parametrize(("opset", "name"), [
    (9, "UNet with batch norm"), (11, "resized by numbers"), (13, "resized by numbers"), (20, "resized by numbers"),
])  # fmt: skip
def test_other_opsets(opset, name, tmp_path):
    network = _network(NETWORKS[name])
    _agrees(_exported(network, tmp_path / "network.onnx", opset), network, torch.randn(1, 1, 16, 16, 8))


@pytest.mark.parametrize("name", ["UNet", "SegResNet", "SegResNet, interpolated"])
def test_windows_of_another_size_and_number(name, tmp_path):
    network = _network(NETWORKS[name])
    path = _exported(network, tmp_path / "network.onnx", 17)
    assert read_onnx(path).shape == (1, None, None, None)
    _agrees(path, network, torch.randn(3, 1, 8, 24, 16))


def test_a_network_of_one_window_at_a_time(tmp_path):
    network = _network(NETWORKS["UNet"])
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 1, 8, 8, 8),), path, dynamo=False, opset_version=17)
    assert read_onnx(path).shape == blackbox_onnx(path).shape == (1, 8, 8, 8)
    image = torch.randn(3, 1, 8, 8, 8)
    torch.testing.assert_close(blackbox_onnx(path)(image), network(image), rtol=1e-4, atol=1e-4)
    _agrees(path, network, image)


def test_one_of_several_results(tmp_path):
    network = _network(lambda: nn.ModuleList([nn.Conv3d(1, 2, 1), nn.Conv3d(1, 3, 3)]))
    network.forward = lambda x: (network[0](x), network[1](x))
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 8, 8, 8),),
            path,
            dynamo=False,
            opset_version=17,
            output_names=["fine", "coarse"],
        )
    image = torch.randn(1, 1, 8, 8, 8)
    for opener in (read_onnx, blackbox_onnx):
        torch.testing.assert_close(opener(path, "coarse")(image), network[1](image), rtol=1e-4, atol=1e-5)
    assert read_onnx(path, "fine").operators == ("Conv",)


def test_weights_move_to_another_type_and_back(tmp_path):
    network = read_onnx(_exported(_network(NETWORKS["UNet"]), tmp_path / "network.onnx", 17))
    image = torch.randn(1, 1, 8, 8, 8)
    before = network(image)
    assert {each.dtype for each in network.double().parameters()} == {torch.float64}
    assert torch.equal(network.float()(image), before)
    assert not any(each.requires_grad for each in network.parameters())
    assert not network.training


@pytest.mark.parametrize("name", ["UNet", "SegResNet"])
def test_weights_in_half_precision(name, tmp_path):
    """They are computed in float32; onnxruntime computes in half precision."""
    network = _network(NETWORKS[name]).half()
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.randn(1, 1, 16, 16, 8)
        torch.onnx.export(network, (image.half(),), path, dynamo=False, opset_version=17)
    ours, theirs = read_onnx(path), blackbox_onnx(path)
    expected = network.float()(image)
    torch.testing.assert_close(ours(image), expected, rtol=1e-4, atol=1e-4)
    assert (theirs(image) - expected).norm() <= 0.02 * expected.norm()


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="torch's new exporter needs onnxscript")
@pytest.mark.parametrize(
    "name", ["UNet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SegResNet", "resized by numbers"))]
)
def test_the_new_exporter(name, tmp_path):
    network = _network(NETWORKS[name])
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 1, 16, 16, 8),), path, dynamo=True, verbose=False)
    _agrees(path, network, torch.randn(1, 1, 16, 16, 8))


@pytest.mark.skipif(not UNET.is_dir(), reason=f"the fixtures are not at {FIXTURES}")
def test_the_network_of_the_fixture():
    """Its image and logits are those of the network before it was exported."""
    with np.load(UNET / "unet_io.npz") as pair:
        image, logits = (torch.from_numpy(pair[key]) for key in ("image", "logits"))
    with torch.no_grad():
        ours, theirs = read_onnx(UNET / "unet.onnx")(image), blackbox_onnx(UNET / "unet.onnx")(image)
    assert (ours - logits).norm() <= 1e-5 * logits.norm()
    assert (theirs - logits).norm() <= 1e-5 * logits.norm()
