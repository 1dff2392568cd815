"""Graphs whose sizes follow from the image, as exporters write them, give what onnxruntime gives for several sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.defs import onnx_opset_version

from tests.nets.onnx.build import node, saved
from voxward.nets.onnx.file import OPSETS
from voxward.nets.onnx.network import read_onnx
from voxward.nets.onnx.runtime import blackbox_onnx


def _whole(*values):
    return np.array(values, dtype=np.int64)


def _agree(path, channels=2):
    ours, theirs = read_onnx(path), blackbox_onnx(path)
    for sizes in ((4, 5, 6), (8, 3, 2)):
        image = torch.randn(2, channels, *sizes, generator=torch.Generator().manual_seed(1))
        expected = theirs(image)
        assert ours(image).shape == expected.shape
        torch.testing.assert_close(ours(image), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.double()(image.double()).float(), expected, rtol=1e-5, atol=1e-5)
        ours.float()
    # A device without numbers refuses to mix with the CPU, as every other device does.
    assert ours.to("meta")(image.to("meta")).shape == expected.shape


SHAPE = (None, 2, None, None, None)


@pytest.mark.parametrize("opset", [opset for opset in OPSETS if opset <= onnx_opset_version()])
def test_a_size_that_is_computed_and_reshaped_to(opset, tmp_path):
    """As the exporter of TorchScript writes view(b, 1, -1, w)."""
    axes = {} if opset >= 13 else {"axes": [0]}
    more = ["zero"] if opset >= 13 else []
    nodes = [
        node("Shape", ["x"], ["sizes"]),
        node("Gather", ["sizes", "first"], ["b"], axis=0), node("Gather", ["sizes", "last"], ["w"], axis=0),
        node("Mul", ["b", "two"], ["twice"]), node("Div", ["twice", "two"], ["once"]),
        node("Unsqueeze", ["once", *more], ["b1"], **axes), node("Unsqueeze", ["w", *more], ["w1"], **axes),
        node("Concat", ["b1", "one", "minus", "w1"], ["shape"], axis=0), node("Reshape", ["x", "shape"], ["y"]),
    ]  # fmt: skip
    constants = {"first": np.int64(0), "last": np.int64(-1), "one": _whole(1), "minus": _whole(-1), "two": np.int64(2)}
    constants |= {"zero": _whole(0)} if opset >= 13 else {}
    _agree(saved(tmp_path / "n.onnx", nodes, constants, SHAPE, opset))


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_an_image_is_resized_to_the_size_of_another(opset, tmp_path):
    """As F.interpolate(size=skip.shape[2:]) is exported."""
    nodes = [
        node("MaxPool", ["x"], ["low"], kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=1),
        node("Shape", ["x"], ["sizes"]), node("Slice", ["sizes", "two", "five", "zero"], ["spatial"]),
        node("Shape", ["low"], ["lows"]), node("Slice", ["lows", "zero", "two", "zero"], ["front"]),
        node("Cast", ["spatial"], ["whole"], to=TensorProto.INT64),
        node("Concat", ["front", "whole"], ["target"], axis=0),
        node("Resize", ["low", "none", "none", "target"], ["up"], mode="linear",
             coordinate_transformation_mode="pytorch_half_pixel"),
        node("Concat", ["up", "x"], ["y"], axis=1),
    ]  # fmt: skip
    constants = {"two": _whole(2), "five": _whole(5), "zero": _whole(0), "none": np.zeros(0, np.float32)}
    _agree(saved(tmp_path / "n.onnx", nodes, constants, SHAPE, opset))


def test_scales_that_are_computed_from_sizes(tmp_path):
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Cast", ["sizes"], ["floats"], to=TensorProto.FLOAT),
        node("Div", ["more", "floats"], ["scales"]),
        node("Mul", ["floats", "scales"], ["target"]), node("Div", ["target", "floats"], ["again"]),
        node("Slice", ["again", "two", "five"], ["spatial"]), node("Concat", ["ones", "spatial"], ["all"], axis=0),
        node("Resize", ["x", "", "all"], ["y"], mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
    ]  # fmt: skip
    constants = {
        "more": np.array([2, 2, 16, 15, 12], np.float32), "two": _whole(2), "five": _whole(5),
        "ones": np.ones(2, np.float32),
    }  # fmt: skip
    _agree(saved(tmp_path / "n.onnx", nodes, constants, SHAPE))


def test_padding_up_to_an_even_size(tmp_path):
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Mod", ["sizes", "two"], ["odd"]),
        node("ConstantOfShape", ["five"], ["nothing"], value=numpy_helper.from_array(_whole(0))),
        node("Concat", ["nothing", "odd"], ["pads"], axis=0), node("Pad", ["x", "pads"], ["y"], mode="edge"),
    ]  # fmt: skip
    _agree(saved(tmp_path / "n.onnx", nodes, {"two": np.int64(2), "five": _whole(5)}, SHAPE))


def test_choices_between_sizes(tmp_path):
    """Equal and Where as they are written for expand(-1, ...), and every comparison."""
    compared = [
        ("Greater", "sizes", "three"), ("GreaterOrEqual", "sizes", "three"), ("Less", "sizes", "three"),
        ("LessOrEqual", "sizes", "three"),
    ]  # fmt: skip
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Size", ["x"], ["count"]),
        *[node(name, [a, b], [f"is{n}"]) for n, (name, a, b) in enumerate(compared)],
        node("And", ["is0", "is1"], ["both"]), node("Or", ["is2", "is3"], ["either"]), node("Not", ["both"], ["not"]),
        node("Equal", ["wish", "minus"], ["free"]), node("Where", ["free", "sizes", "wish"], ["target"]),
        node("Expand", ["x", "target"], ["wide"]),
        *[node("Cast", [name], [f"{name}f"], to=TensorProto.FLOAT) for name in ("either", "not", "count")],
        node("Add", ["eitherf", "notf"], ["flags"]), node("Add", ["wide", "flags"], ["moved"]),
        node("Div", ["moved", "countf"], ["y"]),
    ]  # fmt: skip
    constants = {"three": np.int64(5), "minus": np.int64(-1), "wish": _whole(-1, 2, -1, -1, -1)}
    made = saved(tmp_path / "n.onnx", nodes, constants, SHAPE)
    # The last axis is 5 long in no window: flags have five entries, as have the axes.
    for sizes in ((4, 6, 5), (2, 3, 5)):
        image = torch.randn(1, 2, *sizes, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(read_onnx(made)(image), blackbox_onnx(made)(image), rtol=1e-5, atol=1e-6)


def test_coordinates_beside_the_image(tmp_path):
    """Range, Expand and Concat, as networks that see where they are do it."""
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Gather", ["sizes", "last"], ["w"], axis=0),
        node("Range", ["nought", "w", "step"], ["places"]), node("Cast", ["places"], ["floats"], to=TensorProto.FLOAT),
        node("Slice", ["sizes", "zero", "one"], ["front"]), node("Slice", ["sizes", "two", "five"], ["back"]),
        node("Concat", ["front", "one", "back"], ["target"], axis=0), node("Expand", ["floats", "target"], ["plane"]),
        node("Concat", ["x", "plane"], ["y"], axis=1),
    ]  # fmt: skip
    constants = {
        "last": np.int64(-1), "nought": np.int64(0), "step": np.int64(1), "zero": _whole(0), "one": _whole(1),
        "two": _whole(2), "five": _whole(5),
    }  # fmt: skip
    _agree(saved(tmp_path / "n.onnx", nodes, constants, SHAPE))


@pytest.mark.parametrize("k", [0, 1, -1])
def test_a_matrix_of_ones_and_zeros(k, tmp_path):
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Slice", ["sizes", "two", "four"], ["target"]),
        node("ConstantOfShape", ["target"], ["nothing"], value=numpy_helper.from_array(np.zeros(1, np.float32))),
        node("EyeLike", ["nothing"], ["eye"], k=k), node("MatMul", ["eye", "x"], ["y"]),
    ]  # fmt: skip
    path = saved(tmp_path / "n.onnx", nodes, {"two": _whole(2), "four": _whole(4)}, SHAPE)
    image = torch.randn(1, 2, 4, 4, 3)
    torch.testing.assert_close(read_onnx(path)(image), blackbox_onnx(path)(image), rtol=1e-6, atol=1e-6)


def test_a_matrix_of_whole_ones_has_the_type_of_its_pattern(tmp_path):
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Slice", ["sizes", "two", "four"], ["target"]),
        node("ConstantOfShape", ["target"], ["nothing"], value=numpy_helper.from_array(_whole(0))),
        node("EyeLike", ["nothing"], ["eye"]), node("Div", ["eye", "half"], ["cut"]),
        node("Cast", ["cut"], ["floats"], to=TensorProto.FLOAT), node("MatMul", ["floats", "x"], ["y"]),
    ]  # fmt: skip
    constants = {"two": _whole(2), "four": _whole(4), "half": np.int64(2)}
    path = saved(tmp_path / "n.onnx", nodes, constants, SHAPE)
    image = torch.randn(1, 2, 4, 4, 3)
    assert torch.equal(read_onnx(path)(image), torch.zeros_like(image))
    assert torch.equal(blackbox_onnx(path)(image), torch.zeros_like(image))


@pytest.mark.parametrize(("opset", "options", "sizes"), [
    (9, {"axis": 1, "split": [1, 3]}, ()), (11, {"axis": -1}, ()), (13, {"axis": 1}, (3, 1)), (17, {"axis": 1}, ()),
    (18, {"axis": 1, "num_outputs": 2}, ()), (18, {"axis": 1}, (1, 3)),
])  # fmt: skip
def test_split(opset, options, sizes, tmp_path):
    nodes = [
        node("Split", ["x", *(["sizes"] if sizes else [])], ["a", "b"], **options),
        node("Concat", ["b", "a"], ["y"], axis=1),
    ]
    shape = (None, 4, None, None, 6)
    path = saved(tmp_path / "n.onnx", nodes, {"sizes": _whole(*sizes)} if sizes else {}, shape, opset)
    image = torch.randn(2, 4, 3, 5, 6)
    assert torch.equal(read_onnx(path)(image), blackbox_onnx(path)(image))


def test_an_uneven_split(tmp_path):
    nodes = [node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2), node("Concat", ["b", "a"], ["y"], axis=2)]
    path = saved(tmp_path / "n.onnx", nodes, {}, (None, 4, 5, 5, 6), 18)
    image = torch.randn(2, 4, 5, 5, 6)
    assert torch.equal(read_onnx(path)(image), blackbox_onnx(path)(image))


@pytest.mark.parametrize("given", [
    {"value": numpy_helper.from_array(np.float32(0.5))}, {"value_float": 0.5}, {"value_floats": [0.5]},
])  # fmt: skip
def test_constants(given, tmp_path):
    nodes = [helper.make_node("Constant", [], ["c"], **given), node("Mul", ["x", "c"])]
    _agree(saved(tmp_path / "n.onnx", nodes, {}, SHAPE))


@pytest.mark.parametrize("given", [{"value_int": 2}, {"value_ints": [2]}])
def test_constants_of_whole_numbers(given, tmp_path):
    nodes = [helper.make_node("Constant", [], ["c"], **given), node("Pow", ["x", "c"])]
    _agree(saved(tmp_path / "n.onnx", nodes, {}, SHAPE))


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.INT16])
def test_numbers_that_wrap_around(kind, tmp_path):
    nodes = [
        node("Cast", ["minus"], ["small"], to=kind), node("Cast", ["small"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["x", "f"], ["y"]),
    ]  # fmt: skip
    _agree(saved(tmp_path / "n.onnx", nodes, {"minus": _whole(-7)}, SHAPE))


def test_numbers_that_are_cut_off_as_their_type_does(tmp_path):
    nodes = [
        node("Cast", ["big"], ["small"], to=TensorProto.INT8), node("Cast", ["small"], ["f"], to=TensorProto.FLOAT),
        node("Div", ["minus", "two"], ["cut"]), node("Cast", ["cut"], ["g"], to=TensorProto.FLOAT),
        node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE), node("Cast", ["d"], ["e"], to=TensorProto.FLOAT),
        node("Mul", ["e", "f"], ["h"]), node("Add", ["h", "g"], ["y"]),
    ]  # fmt: skip
    _agree(saved(tmp_path / "n.onnx", nodes, {"big": _whole(300), "minus": _whole(-7), "two": _whole(2)}, SHAPE))
