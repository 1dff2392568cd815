"""Every operator and option that is covered gives what onnxruntime gives, and its gradient is that of the function."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.nets.onnx.build import node, saved
from voxward.nets.onnx.file import OPSETS
from voxward.nets.onnx.network import read_onnx
from voxward.nets.onnx.operators import OPERATORS
from voxward.nets.onnx.runtime import blackbox_onnx

ROWS = [node("Flatten", ["x"], ["rows"])]
IMAGE, FLAT, LINE = (2, 4, 5, 6, 7), (2, 4, 6, 5), (2, 4, 9)
_RANDOM = np.random.default_rng(7)


def _floats(*shape):
    return _RANDOM.normal(size=shape).astype(np.float32)


def _whole(*values):
    return np.array(values, dtype=np.int64)


def _scales(*values):
    return np.array(values, dtype=np.float32)


class Case:
    """An operator between x and y: its other inputs, its attributes, the image and the opset."""

    def __init__(self, operator, *inputs, shape=IMAGE, opset=17, positive=False, before=(), **attributes):
        self.operator, self.shape, self.opset, self.positive = operator, shape, opset, positive
        self.inputs, self.attributes, self.before = inputs, attributes, before

    def __str__(self):
        details = [f"{key}={value}" for key, value in self.attributes.items()]
        details += [str(each.ravel()[:6].tolist()) for each in self.inputs if each is not None and each.size < 20]
        return "-".join([self.operator, str(self.opset), f"{len(self.shape) - 2}d", *details])

    def save(self, path):
        names = ["" if each is None else f"c{n}" for n, each in enumerate(self.inputs)]
        constants = {name: each for name, each in zip(names, self.inputs, strict=True) if name}
        image = self.before[-1].output[0] if self.before else "x"
        made = node(self.operator, [image, *names], **self.attributes)
        return saved(path, [*self.before, made], constants, shape=(None, *self.shape[1:]), opset=self.opset)

    def image(self):
        values = np.random.default_rng(3).normal(size=self.shape)
        return torch.from_numpy(np.abs(values) + 0.1 if self.positive else values).float()


W3, W2, W1 = _floats(6, 4, 3, 3, 2), _floats(6, 4, 3, 2), _floats(6, 4, 3)
T3, T2 = _floats(4, 3, 3, 2, 2), _floats(4, 3, 3, 2)
CONVOLUTIONS = [
    Case("Conv", W3), Case("Conv", W3, _floats(6)), Case("Conv", W2, _floats(6), shape=FLAT),
    Case("Conv", W1, _floats(6), shape=LINE), Case("Conv", W3, kernel_shape=[3, 3, 2], pads=[1, 1, 0, 1, 1, 0]),
    Case("Conv", W3, pads=[0, 1, 1, 2, 0, 1]), Case("Conv", W3, strides=[2, 1, 3], pads=[1, 0, 1, 0, 1, 1]),
    Case("Conv", W3, dilations=[2, 1, 3], pads=[1, 1, 2, 1, 1, 2]), Case("Conv", _floats(4, 2, 3, 3, 3), group=2),
    Case("Conv", _floats(8, 1, 3, 3, 3), group=4, opset=9), Case("Conv", W3, opset=22),
    *[Case("Conv", W3, auto_pad=rule, strides=[2, 1, 2]) for rule in ("VALID", "SAME_UPPER", "SAME_LOWER")],
    Case("ConvTranspose", T3), Case("ConvTranspose", T3, _floats(3), strides=[2, 2, 2]),
    Case("ConvTranspose", T2, _floats(3), shape=FLAT, strides=[2, 1]), Case("ConvTranspose", T3, pads=[1, 1, 0] * 2),
    Case("ConvTranspose", T3, _floats(3), strides=[2, 2, 2], pads=[1, 0, 1, 0, 1, 0]),
    Case("ConvTranspose", T3, _floats(3), strides=[2, 2, 2], output_padding=[1, 0, 1]),
    Case("ConvTranspose", T3, _floats(3), strides=[2, 2, 2], output_padding=[1, 1, 1], pads=[1, 1, 0] * 2),
    Case("ConvTranspose", T3, dilations=[2, 1, 2]), Case("ConvTranspose", _floats(4, 2, 2, 2, 2), group=2),
    Case("ConvTranspose", T3, _floats(3), strides=[2, 2, 2], output_shape=[11, 12, 14]),
    Case("ConvTranspose", T3, strides=[2, 2, 2], output_shape=[10, 12, 14], auto_pad="SAME_UPPER"),
    Case("ConvTranspose", T3, strides=[2, 2, 2], auto_pad="SAME_UPPER"),
    Case("ConvTranspose", T3, strides=[2, 2, 2], auto_pad="SAME_LOWER"),
    Case("ConvTranspose", T3, strides=[2, 2, 2], auto_pad="VALID", opset=22),
]  # fmt: skip
POOLS = [
    Case(pool, kernel_shape=[2, 3, 2], **options)
    for pool in ("MaxPool", "AveragePool")
    for options in (
        {}, {"opset": 22}, {"strides": [2, 2, 2]}, {"strides": [2, 2, 2], "ceil_mode": 1},
        {"strides": [2, 1, 2], "pads": [1, 1, 1, 0, 1, 0]},
        {"strides": [2, 2, 3], "pads": [1, 1, 1] * 2, "ceil_mode": 1},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2, 2]},
        {"auto_pad": "VALID", "strides": [2, 1, 2]},
    )
] + [
    Case("MaxPool", kernel_shape=[3, 2], shape=FLAT), Case("MaxPool", kernel_shape=[3], shape=LINE, opset=9),
    Case("MaxPool", kernel_shape=[2, 2, 2], dilations=[2, 1, 2]),
    Case("AveragePool", kernel_shape=[3, 2], shape=FLAT), Case("AveragePool", kernel_shape=[3], shape=LINE, opset=9),
    Case("AveragePool", kernel_shape=[3, 3, 3], pads=[1] * 6, count_include_pad=1),
    Case("AveragePool", kernel_shape=[3, 3, 3], pads=[1, 0, 1, 0, 1, 1], count_include_pad=1, strides=[2, 2, 2]),
    Case("GlobalAveragePool"), Case("GlobalMaxPool"), Case("GlobalAveragePool", shape=FLAT, opset=9),
]  # fmt: skip
RESIZES = [
    Case("Resize", _scales(), _scales(1, 1, *scales), shape=shape, opset=opset, mode=mode,
         coordinate_transformation_mode=rule)
    for mode in ("nearest", "linear")
    for rule in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    for opset in (11, 13, 18, 19)
    for shape, scales in ((IMAGE, (2, 1.7, 0.6)), (FLAT, (1.5, 0.7)), (LINE, (2,)))
] + [
    Case("Resize", None, None, _whole(2, 4, *sizes), mode=mode, coordinate_transformation_mode=rule)
    for mode in ("nearest", "linear")
    for rule in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    for sizes in ((10, 12, 14), (7, 3, 1), (3, 9, 11))
] + [
    Case("Resize", None, _scales(1, 1, 2, 3, 1.7), mode="nearest", nearest_mode=rounding,
         coordinate_transformation_mode=rule)
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    for rule in ("half_pixel", "asymmetric")
] + [
    Case("Resize", None, _scales(2, 1.5), mode="linear", axes=[2, 4], opset=18),
    Case("Resize", None, _scales(1, 1, 1.3, 2.2, 1), mode="linear", opset=19,
         coordinate_transformation_mode="half_pixel_symmetric"),
    Case("Resize", _scales(1, 1, 2, 1.5, 0.6), mode="nearest", opset=10),
    Case("Resize", _scales(1, 1, 2, 2, 2), mode="linear", opset=10),
    Case("Upsample", _scales(1, 1, 2, 3, 1), mode="nearest", opset=9),
    Case("Upsample", _scales(1, 1, 2, 2, 2), mode="linear", opset=9),
    Case("Upsample", _scales(1, 1, 2, 3), mode="linear", shape=FLAT, opset=9),
]  # fmt: skip
NORMS = [
    Case("InstanceNormalization", _floats(4), _floats(4), epsilon=1e-3),
    Case("InstanceNormalization", _floats(4), _floats(4), opset=9, shape=FLAT),
    Case("InstanceNormalization", _floats(4), _floats(4), opset=22),
    *[Case("BatchNormalization", _floats(4), _floats(4), _floats(4), np.abs(_floats(4)) + 0.5, epsilon=1e-3, opset=n)
      for n in (9, 14, 15)],
    Case("GroupNormalization", _floats(4), _floats(4), num_groups=2, opset=21, epsilon=1e-3),
    Case("LayerNormalization", _floats(7), _floats(7)), Case("LayerNormalization", _floats(6, 7), axis=3, epsilon=1e-2),
    Case("LayerNormalization", _floats(7), axis=-2),
]  # fmt: skip
ACTIVATIONS = [
    *[Case(name) for name in ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Neg", "Abs", "Softplus", "Softsign", "Floor",
                              "Ceil", "Round", "Sign", "Sin", "Cos", "Identity", "HardSwish", "LeakyRelu", "Elu",
                              "Celu", "Selu", "ThresholdedRelu", "HardSigmoid")],
    *[Case(name, opset=9) for name in ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "LeakyRelu", "Elu", "HardSigmoid")],
    *[Case(name, positive=True) for name in ("Sqrt", "Log", "Reciprocal")],
    Case("LeakyRelu", alpha=0.2), Case("Elu", alpha=0.5), Case("Celu", alpha=0.5), Case("Selu", alpha=1.5, gamma=1.2),
    Case("ThresholdedRelu", alpha=0.4), Case("HardSigmoid", alpha=0.3, beta=0.4), Case("Mish", opset=18),
    Case("Gelu", opset=20), Case("Gelu", opset=20, approximate="tanh"),
    Case("PRelu", _floats(4, 1, 1, 1)), Case("PRelu", _floats(1)), Case("PRelu", _floats(1, 1, 7), opset=9),
    Case("Clip", _floats(1)[0] * 0 - 1, _floats(1)[0] * 0 + 0.5), Case("Clip", None, np.float32(0.3)), Case("Clip"),
    Case("Clip", opset=9, min=-0.4, max=0.6), Case("Clip", opset=9, min=0.0),
    *[Case(name, opset=opset, **options) for name in ("Softmax", "LogSoftmax")
      for opset, options in ((9, {}), (11, {"axis": 2}), (13, {}), (13, {"axis": 1}), (17, {"axis": -2}))],
    Case("Dropout"), Case("Dropout", ratio=0.3, opset=9), Case("Dropout", np.float32(0.4), np.array(False)),
    Case("Swish", opset=24), Case("Swish", opset=24, alpha=0.7),
]  # fmt: skip
ARITHMETIC = [
    *[Case(name, other) for name in ("Add", "Sub", "Mul", "Div") for other in (_floats(*IMAGE), _floats(4, 1, 1, 7))],
    *[Case(name, _floats(1), opset=9) for name in ("Add", "Sub", "Mul", "Div")],
    Case("Pow", np.float32(2)), Case("Pow", np.float32(1.5), positive=True), Case("Pow", _whole(3), opset=12),
    Case("Mod", _floats(1) + 2, fmod=1), *[Case(name, _floats(*IMAGE), _floats(7)) for name in ("Max", "Min", "Sum")],
    Case("Mean", _floats(*IMAGE)), Case("MatMul", _floats(7, 3)), Case("MatMul", _floats(2, 4, 5, 7, 3)),
    Case("Gemm", _floats(6, 3), _floats(3), shape=(2, 2, 3), before=ROWS, alpha=0.5, beta=2.0),
    Case("Gemm", _floats(3, 6), shape=(2, 2, 3), before=ROWS, transB=1),
    Case("Gemm", _floats(2, 3), _floats(3), shape=(2, 2, 3), before=ROWS, transA=1, opset=9),
    Case("Einsum", _floats(4, 3), equation="bcijk,cn->bnijk"),
    *[Case(name, opset=opset, axes=axes, keepdims=keep)
      for name in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
                   "ReduceProd") for opset in (9, 11) for axes, keep in (([2, 4], 1), ([-1], 0))],
    *[Case(name, _whole(2, -1), opset=18, keepdims=keep)
      for name in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
                   "ReduceProd") for keep in (0, 1)],
    Case("ReduceMean", opset=18), Case("ReduceMean", opset=18, noop_with_empty_axes=1), Case("ReduceSum", opset=11),
    Case("CumSum", np.int64(2)),
]  # fmt: skip
SHAPES = [
    Case("Concat", _floats(2, 3, 5, 6, 7), axis=1), Case("Concat", _floats(*IMAGE), axis=-1),
    Case("Slice", opset=9, starts=[1, -3], ends=[3, 1000], axes=[1, 4]), Case("Slice", opset=9, starts=[0], ends=[1]),
    Case("Slice", _whole(1, 0), _whole(4, -1), _whole(2, 3)), Case("Slice", _whole(0, 0, 0, 1), _whole(2, 9, 9, 3)),
    Case("Slice", _whole(-1, 5), _whole(-(2**62), 0), _whole(-1, 3), _whole(-2, -1)),
    Case("Slice", _whole(0, 1), _whole(2**62, 2**62), _whole(-1, 3), _whole(3, 2)),
    *[Case("Pad", opset=n, pads=[0, 0, 1, 2, 0, 0, 0, 0, 1, 2], mode=mode)
      for n in (9,) for mode in ("constant", "reflect", "edge")],
    *[Case("Pad", _whole(0, 0, 1, 2, 0, 0, 0, 0, 1, 3), mode=mode) for mode in ("constant", "reflect", "edge")],
    Case("Pad", _whole(1, 0, -1, 2, 0, 0, 1, -2, 1, 3), np.float32(0.7)),
    Case("Pad", _whole(1, 2, 0, 3), None, _whole(2, -1), opset=18, mode="edge"),
    Case("Pad", _whole(0, 0, 1, 2, 0, 0, 0, 0, 1, 3), mode="wrap", opset=19),
    Case("Transpose"), Case("Transpose", perm=[0, 2, 1, 4, 3]), Case("Reshape", _whole(0, -1, 7)),
    Case("Reshape", _whole(2, 4, -1), opset=9), Case("Reshape", _whole(8, 5, 6, 7), allowzero=1),
    Case("Flatten"), Case("Flatten", axis=3), Case("Flatten", axis=-1), Case("Flatten", axis=0, opset=9),
    Case("Squeeze", shape=(2, 1, 5, 1), axes=[1], opset=11), Case("Squeeze", _whole(-1), shape=(2, 1, 5, 1)),
    Case("Squeeze", shape=(2, 1, 5, 1)), Case("Unsqueeze", axes=[0, 3], opset=11), Case("Unsqueeze", _whole(-1, 1)),
    Case("Expand", _whole(3, 2, 1, 5, 6, 7)), Case("Expand", _whole(7), shape=(2, 4, 1)),
    Case("Tile", _whole(1, 2, 1, 3, 1)), Case("Gather", _whole(2, -1, 0), axis=1),
    Case("Gather", np.int64(1), axis=2), Case("Gather", _whole(1, 0, 3, 2).reshape(2, 2), axis=-1, opset=9),
    Case("GatherElements", np.zeros((2, 1, 5, 6, 7), np.int64) - 1, axis=1), Case("Cast", to=1),
    Case("CastLike", _floats(1), opset=19), Case("DepthToSpace", shape=(2, 8, 3, 4), blocksize=2),
    Case("DepthToSpace", shape=(2, 8, 3, 4), blocksize=2, mode="CRD"),
    Case("SpaceToDepth", shape=(2, 3, 4, 6), blocksize=2),
]  # fmt: skip
SAMPLES = [
    Case("GridSample", _floats(2, 3, 4, 5, 3) / 2, opset=20, mode=mode, padding_mode=padding, align_corners=aligned)
    for mode in ("linear", "nearest")
    for padding in ("zeros", "border", "reflection")
    for aligned in (0, 1)
] + [Case("GridSample", _floats(2, 3, 4, 2) / 2, shape=FLAT, opset=16, mode="bilinear", padding_mode="border")]
CASES = [*CONVOLUTIONS, *POOLS, *RESIZES, *SAMPLES, *NORMS, *ACTIVATIONS, *ARITHMETIC, *SHAPES]


def _close(found, expected, share=2e-5):
    """Within the rounding of float32, with sums of some hundred terms."""
    assert found.shape == expected.shape
    scale = max(float(expected.abs().max()), 1.0) if expected.numel() else 1.0
    assert float((found.double() - expected.double()).abs().max()) <= share * scale


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_gives_what_onnxruntime_gives(case, tmp_path):
    path, image = case.save(tmp_path / "network.onnx"), case.image()
    network, expected = read_onnx(path), blackbox_onnx(path)(image)
    _close(network(image), expected)
    # A device without numbers refuses to mix with the CPU, as every other device does.
    assert network.to("meta")(image.to("meta")).shape == expected.shape


@pytest.mark.no_cover  # long, and other tests run the same lines
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_of_an_operator_is_its_difference_quotient(case, tmp_path):
    network = read_onnx(case.save(tmp_path / "network.onnx")).double()
    image = case.image().double().requires_grad_()
    generator = torch.Generator().manual_seed(5)
    along = torch.randn(image.shape, dtype=torch.float64, generator=generator)
    weights = torch.randn(network(image).shape, dtype=torch.float64, generator=generator)

    def value(at):
        return (network(at) * weights).sum()

    (gradient,) = torch.autograd.grad(value(image), image)
    step = 1e-6
    with torch.no_grad():
        quotient = (value(image + step * along) - value(image - step * along)) / (2 * step)
    expected = (gradient * along).sum()
    size = float((gradient * along).abs().sum()) + 1e-3
    assert abs(float(quotient - expected)) <= 1e-5 * size


def test_every_covered_operator_is_in_the_table():
    of_sizes = {
        "And", "Constant", "ConstantOfShape", "Equal", "EyeLike", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
        "Not", "Or", "Range", "Shape", "Size", "Split", "Where",
    }  # fmt: skip
    assert {case.operator for case in CASES} | of_sizes == set(OPERATORS)


def test_the_documentation_lists_the_covered_operators():
    page = (Path(__file__).parents[3] / "docs" / "own-network.md").read_text(encoding="utf-8")
    section = page.split("### ONNX\n")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(OPERATORS)
    assert f"opsets {OPSETS[0]} to {OPSETS[-1]}" in section


@pytest.mark.parametrize("kernel", [2, 3])
def test_an_average_with_a_remainder_counts_its_padding_as_torch_does(kernel, tmp_path):
    """Versions of onnxruntime differ in this."""
    case = Case(
        "AveragePool", kernel_shape=[kernel] * 3, strides=[2] * 3, pads=[1] * 6, ceil_mode=1, count_include_pad=1
    )
    image = case.image()
    expected = torch.nn.functional.avg_pool3d(image, kernel, 2, 1, ceil_mode=True)
    _close(read_onnx(case.save(tmp_path / "network.onnx"))(image), expected)
