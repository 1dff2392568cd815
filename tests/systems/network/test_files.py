"""Networks in files: the same numbers as the network in memory, and what is refused."""

import re

import numpy as np
import pytest
import torch

from tests.nets.onnx import build as onnx_build
from tests.systems.network.build import (
    EXPORTED,
    LABELS,
    WINDOW,
    Tiny,
    described,
    exported,
    scripted,
    volume,
)
from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.yaml import dump_yaml
from voxward.nets.exported import read_exported
from voxward.systems.open import open_system
from voxward.systems.system import NotDifferentiable


def same_network(found, eager, *shape):
    """The logits, and the gradient of a weighted sum of them."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    results = []
    for network in (found, eager):
        leaf = x.clone().requires_grad_()
        logits = network(leaf)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
        results.append((logits.detach(), torch.autograd.grad((logits * weights).sum(), leaf)[0]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
    assert float(results[1][1].abs().max()) > 0


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_exported_network_is_the_network(tmp_path, dynamic):
    eager = Tiny().eval()
    found = read_exported(exported(tmp_path / "n.pt2", eager, dynamic=dynamic))
    assert found.shape == ((1, 1, None, None, None) if dynamic else (1, 1, *WINDOW))
    same_network(found, eager, 2, 1, *WINDOW)
    if dynamic:
        same_network(found, eager, 1, 1, 12, 8, 6)


def test_an_image_is_not_written_into(tmp_path):
    class InPlace(Tiny):
        def forward(self, x):
            return super().forward(x.relu_())

    found = read_exported(exported(tmp_path / "n.pt2", InPlace()))
    x = torch.randn(1, 1, *WINDOW)
    before = x.clone()
    found(x)
    assert torch.equal(x, before)
    same_network(found, Wrapped(), 1, 1, *WINDOW)


class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = Tiny().eval()

    def forward(self, x):
        return self.network(x.relu())


def test_the_file_decides_on_the_window(tmp_path):
    exported(tmp_path / "n.pt2")
    system = open_system(described(tmp_path, "n.pt2", leaving_out=["window"]))
    assert system.predictor.model.plan.window_size == WINDOW
    with pytest.raises(UserError, match=r"exported for windows of \[8, 6, 4\], got \[8, 6, 8\]"):
        open_system(described(tmp_path, "n.pt2", window=[8, 6, 8]))
    exported(tmp_path / "free.pt2", dynamic=True)
    with pytest.raises(UserError, match="window is missing"):
        open_system(described(tmp_path, "free.pt2", leaving_out=["window"]))
    assert open_system(described(tmp_path, "free.pt2", window=[4, 4, 8])).predictor.model.plan.window_size == (4, 4, 8)


MISFITS = [
    ({"channels": [{"name": "T1"}, {"name": "T2"}]}, "takes 1 channels, got 2"),
    ({"labels": {"background": 0, "a": 1}}, r"must return the shape \(1, 2, 8, 6, 4\), got \(1, 3, 8, 6, 4\)"),
    ({"slicewise": True, "window": [8, 6]}, "takes images of 3 axes, which needs slicewise: false"),
    ({"window": [8, 6]}, "window must have 3 numbers"),
    ({"window": [8, 6, 0]}, "exported for windows"),
    ({"returns": "probabilities"}, "got values from"),
    ({"orientation": "RAR"}, "orientation must be three letters"),
    ({"spacing": [1.0, 0.0, 1.0]}, "spacing must be positive"),
    ({"labels": {"a": 1}}, "background"),
    ({"outputs": ["a", "b", "c"]}, "outputs must name each of background, a, b once"),
    ({"channels": []}, "at least one channel"),
    ({"channels": [{"name": "CT", "normalization": "ct"}]}, "needs low and high"),
    ({"channels": [{"name": "CT", "normalization": "ctt"}]}, "unknown normalization 'ctt'"),
    ({"channels": [{"name": "CT", "normalization": "zscore", "low": 1.0}]}, "does not use low"),
    ({"channels": [{"name": "CT", "normalization": "scale", "low": 0, "high": 2, "std": 3}]}, "does not use std"),
    ({"channels": [{"name": "CT", "normalization": "ct", "low": 0, "high": 2, "std": 0}]}, "std must be above 0"),
    ({"mirror_axes": [3]}, "mirror_axes may hold 0 to 2"),
    ({"checkpoint": "best"}, "checkpoint is for trained runs"),
    ({"blending": "cosine"}, "unknown blending weights 'cosine'"),
    ({"tta": "symmetries"}, r"exported for images of shape \(1, 8, 6, 4\), got \(1, 6, 8, 4\)"),
    ({"trust": True}, "unknown key 'trust'"),
    ({"network": "there-is-none.pt2"}, "there is no network"),
]


@pytest.mark.parametrize(("entries", "message"), MISFITS, ids=lambda value: next(iter(value)) if value else "")
def test_what_does_not_fit_is_refused_when_it_is_opened(tmp_path, entries, message):
    exported(tmp_path / "n.pt2")
    with pytest.raises((UserError, FileNotFoundError), match=message):
        open_system(described(tmp_path, **{"network": "n.pt2", **entries}))


def test_a_window_that_the_network_cannot_take_is_refused(tmp_path):
    """A dynamic file only says that any size is taken; the network itself pools twice."""
    exported(tmp_path / "n.pt2", dynamic=True)
    with pytest.raises(UserError, match="the network refuses a window of 1 channels and \\[7, 6, 4\\] voxels"):
        open_system(described(tmp_path, "n.pt2", window=[7, 6, 4]))


def test_a_network_alone_needs_a_description(tmp_path):
    for path in (exported(tmp_path / "n.pt2"), scripted(tmp_path / "n.ts"), scripted(tmp_path / "odd.bin")):
        with pytest.raises(UserError, match="is a network alone: describe its channels, labels and window"):
            open_system(path)


def test_weights_without_a_network_are_refused(tmp_path):
    torch.save(Tiny().state_dict(), tmp_path / "n.pt")
    with pytest.raises(UserError, match="may hold weights without a network"):
        open_system(described(tmp_path, "n.pt"))


def test_a_changed_file_has_another_fingerprint(tmp_path):
    exported(tmp_path / "n.pt2")
    first = open_system(described(tmp_path, "n.pt2")).fingerprint()
    assert open_system(described(tmp_path, "n.pt2")).fingerprint() == first
    assert open_system(described(tmp_path, "n.pt2", result=0)).fingerprint() != first
    assert open_system(described(tmp_path, "n.pt2", padding="edge")).fingerprint() != first
    assert open_system(described(tmp_path, "n.pt2", outputs=["b", "a", "background"])).fingerprint() != first
    network = Tiny()
    with torch.no_grad():
        network.last.bias += 1
    exported(tmp_path / "n.pt2", network)
    assert open_system(described(tmp_path, "n.pt2")).fingerprint() != first


def test_a_graph_without_a_gradient_says_so(tmp_path):
    class Cut(Tiny):
        def forward(self, x):
            return super().forward(x.detach())

    system = open_system(described(tmp_path, exported(tmp_path / "n.pt2", Cut()).name))
    assert system.segment(volume()).label.shape == (13, 9, 10)
    batch = torch.from_numpy(volume().array)[None]
    model, box = system.freeze(volume()), (slice(2, 5), slice(0, 3), slice(1, 4))
    for refused in (
        system.check_gradient,
        lambda: model.value_and_grad(batch, batch[:, 0].long(), lambda z, t: z.sum()),
    ):
        with pytest.raises(NotDifferentiable, match="net has no gradient"):
            refused()
    # Attacks that need no gradient have its scores, and its local updates.
    np.testing.assert_array_equal(model.segment(model.logits(batch))[0], system.segment(volume()).label)
    changed = batch.clone()
    changed[:, :, *box] += 9
    after = model.logits_after(model.sweep(batch), changed, box).logits
    torch.testing.assert_close(after, model.logits(changed), rtol=0, atol=1e-4)


ORACLES = {"unet.pt2": {}, "unet_dynamic.pt2": {}, "unet.ts": {"trust": True}, "unet.onnx": {}}


@pytest.mark.skipif(not EXPORTED.is_dir(), reason="the fixtures are not there")
@pytest.mark.parametrize("name", ORACLES)
def test_the_logits_are_those_of_the_eager_network(tmp_path, name):
    """Of the network that MONAI trained, which these files were exported from."""
    oracle = np.load(EXPORTED / "unet_io.npz")
    image, expected = oracle["image"], torch.from_numpy(oracle["logits"])
    entries = {
        "format": 1, "kind": "network", "network": str(EXPORTED / name), "channels": [{"name": "MR"}],
        "labels": LABELS, "window": list(image.shape[2:]),
    }  # fmt: skip
    path = tmp_path / "net.yaml"
    path.write_text(dump_yaml(entries))
    system = open_system(path, **ORACLES[name])
    source = Volume(image[0], np.eye(4))
    found = system.freeze(source).logits(torch.from_numpy(image))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    clear = expected[0].topk(2, 0).values.diff(dim=0)[0].abs() > 1e-3
    assert np.array_equal(system.segment(source).label[clear], expected[0].argmax(0).numpy()[clear])


def test_messages_name_the_file(tmp_path):
    (tmp_path / "n.pt2").write_bytes(b"no zip")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "n.pt2"))):
        open_system(described(tmp_path, "n.pt2"))


class Several(Tiny):
    def forward(self, x):
        return x, super().forward(x)


def test_one_of_several_results_counts(tmp_path):
    exported(tmp_path / "n.pt2", Several())
    exported(tmp_path / "one.pt2")
    with pytest.raises(UserError, match="it returns 2 results: say by result which one"):
        open_system(described(tmp_path, "n.pt2"))
    with pytest.raises(UserError, match="it returns 2 results, of which there is no number 2"):
        open_system(described(tmp_path, "n.pt2", result=2))
    found = open_system(described(tmp_path, "n.pt2", result=1)).segment(volume()).label
    assert np.array_equal(found, open_system(described(tmp_path, "one.pt2")).segment(volume()).label)
    scripted(tmp_path / "n.ts", Several())
    assert np.array_equal(found, open_system(described(tmp_path, "n.ts", result=1), trust=True).segment(volume()).label)
    for result in (None, 3, "out"):
        with pytest.raises(UserError, match=r"say by result which|has no result"):
            open_system(described(tmp_path, "n.ts", result=result), trust=True)


def onnx_network(path, operator="Conv", **options):
    """A convolution to three classes of windows of any size, and a LeakyRelu; or another operator in its place."""
    weights = np.random.default_rng(0).normal(0, 1, (3, 1, 3, 3, 1)).astype(np.float32)
    first = onnx_build.node(
        operator,
        ["x", "w"] if operator == "Conv" else ["x"],
        ["h"],
        **({"pads": [1, 1, 0, 1, 1, 0]} if operator == "Conv" else {}),
    )
    steps = [first, onnx_build.node("LeakyRelu", ["h"], ["y"], alpha=0.2)]
    onnx_build.saved(path, steps, {"w": weights} if operator == "Conv" else {}, **options)
    return weights


def test_a_network_in_onnx(tmp_path):
    weights = onnx_network(tmp_path / "n.onnx")
    system = open_system(described(tmp_path, "n.onnx"))
    array = volume(shape=WINDOW).array
    found = system.freeze(Volume(array, np.eye(4))).logits(torch.from_numpy(array)[None])
    expected = torch.nn.functional.conv3d(torch.from_numpy(array)[None], torch.from_numpy(weights), padding=(1, 1, 0))
    torch.testing.assert_close(found, torch.nn.functional.leaky_relu(expected, 0.2), rtol=1e-4, atol=1e-3)
    system.check_gradient()
    with pytest.raises(UserError, match="window is missing"):
        open_system(described(tmp_path, "n.onnx", leaving_out=["window"]))
    with pytest.raises(UserError, match="takes 1 channels, got 2"):
        open_system(described(tmp_path, "n.onnx", channels=[{"name": "T1"}, {"name": "T2"}]))


def test_a_network_in_onnx_without_a_gradient(tmp_path):
    onnx_network(tmp_path / "n.onnx")
    exact, other = (open_system(described(tmp_path, "n.onnx", gradient=gradient)) for gradient in (True, False))
    assert (exact.segment(volume()).label == other.segment(volume()).label).mean() > 0.999
    exact.check_gradient()
    with pytest.raises(UserError, match="net has no gradient"):
        other.check_gradient()
    with pytest.raises(UserError, match=r"gradient: false is for \.onnx files"):
        open_system(described(tmp_path, exported(tmp_path / "n.pt2").name, gradient=False))


def test_an_operator_that_is_not_covered_names_the_way_out(tmp_path):
    onnx_network(tmp_path / "n.onnx", operator="Hardmax")
    with pytest.raises(UserError, match=r"n\.onnx: .*Hardmax.* gradient: false runs it by onnxruntime"):
        open_system(described(tmp_path, "n.onnx"))
