"""What an ONNX file may be: damaged, unsafe and unknown ones are refused before anything is read or computed."""

from __future__ import annotations

import builtins
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.nets.onnx.build import model, node, saved
from voxward.core.errors import MissingPackageError, UserError
from voxward.nets.onnx.network import read_onnx
from voxward.nets.onnx.runtime import blackbox_onnx
from voxward.nets.onnx.uncovered import Uncovered

OPENERS = [read_onnx, blackbox_onnx]
SHAPE = (None, 1, None, None, None)
CANARY = np.arange(27 * 2, dtype=np.float32)


def _external(folder, **entries):
    """A convolution whose weights are in the file that `entries` say."""
    made = model([node("Conv", ["x", "w"])], {"w": CANARY.reshape(2, 1, 3, 3, 3)}, SHAPE)
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        weights.external_data.add(key=key, value=str(value))
    path = folder / "network.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def opened(monkeypatch):
    """The names of all files that are opened, to show that a canary is not."""
    names = []
    real, low = builtins.open, os.open

    def watched(file, *arguments, **options):
        names.append(str(file))
        return real(file, *arguments, **options)

    def watched_low(file, *arguments, **options):
        names.append(str(file))
        return low(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr("io.open", watched)
    monkeypatch.setattr(os, "open", watched_low)
    return names


@pytest.mark.parametrize("opener", OPENERS)
class TestDataBesideTheNetwork:
    def test_it_is_read(self, opener, tmp_path, opened):
        (tmp_path / "weights.bin").write_bytes(b"before" + CANARY.tobytes() + b"after")
        network = opener(_external(tmp_path, location="weights.bin", offset=6, length=216))
        assert any("weights.bin" in name for name in opened)
        image = torch.randn(1, 1, 4, 4, 4)
        expected = torch.nn.functional.conv3d(image, torch.from_numpy(CANARY).reshape(2, 1, 3, 3, 3))
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-3)

    def test_it_counts_in_the_identity(self, opener, tmp_path):
        path = _external(tmp_path, location="w")
        found = []
        for weights in (CANARY, CANARY + 1, CANARY):
            (tmp_path / "w").write_bytes(weights.tobytes())
            found.append(opener(path).identity)
        assert found[0] == found[2] != found[1]

    def test_it_may_be_in_a_folder_of_the_folder(self, opener, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "w").write_bytes(CANARY.tobytes())
        assert opener(_external(tmp_path, location="data/w"))(torch.zeros(1, 1, 3, 3, 3)).shape == (1, 2, 1, 1, 1)

    @pytest.mark.parametrize("location", ["../canary", "/canary", "a/../../canary", "C:canary", "..\\canary", ""])
    def test_it_must_not_be_elsewhere(self, opener, location, tmp_path, opened):
        folder = tmp_path / "network"
        (folder / "a").mkdir(parents=True)
        (tmp_path / "canary").write_bytes(CANARY.tobytes())
        where = str(tmp_path / "canary") if location == "/canary" else location
        path = _external(folder, location=where)
        opened.clear()
        with pytest.raises(UserError, match=r"network\.onnx: .*'w'.* not in the folder"):
            opener(path)
        assert not any("canary" in name for name in opened)

    @pytest.mark.parametrize("inner", ["link", "folder/canary"])
    def test_it_must_not_be_a_link_to_elsewhere(self, opener, inner, tmp_path, opened):
        folder = tmp_path / "network"
        folder.mkdir()
        (tmp_path / "canary").write_bytes(CANARY.tobytes())
        (folder / "link").symlink_to(tmp_path / "canary")
        (folder / "folder").symlink_to(tmp_path, target_is_directory=True)
        path = _external(folder, location=inner)
        opened.clear()
        with pytest.raises(UserError, match="not in the folder"):
            opener(path)
        assert not any("canary" in name or name.endswith("link") for name in opened)

    def test_a_pipe_is_not_waited_for(self, opener, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="no file"):
            opener(_external(tmp_path, location="pipe"))

    def test_a_missing_file_is_named(self, opener, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"'w' should be in .*gone"):
            opener(_external(tmp_path, location="gone"))

    @pytest.mark.parametrize("entries", [
        {"offset": 1}, {"offset": -4}, {"length": 8}, {"length": 1 << 50}, {"offset": "here"}, {"offset": 1 << 60},
    ])  # fmt: skip
    def test_its_size_must_be_right(self, opener, entries, tmp_path):
        (tmp_path / "w").write_bytes(CANARY.tobytes())
        with pytest.raises(UserError, match="'w'"):
            opener(_external(tmp_path, location="w", **entries))

    def test_a_constant_must_not_be_elsewhere_either(self, opener, tmp_path):
        value = numpy_helper.from_array(np.ones(1, np.float32), "hidden")
        value.ClearField("raw_data")
        value.data_location = TensorProto.EXTERNAL
        value.external_data.add(key="location", value="../canary")
        nodes = [node("Constant", [], ["c"], value=value), node("Mul", ["x", "c"])]
        path = tmp_path / "network.onnx"
        path.write_bytes(model([node("Identity", ["x"])], {}, SHAPE).SerializeToString())
        made = onnx.ModelProto.FromString(path.read_bytes())
        del made.graph.node[:]
        made.graph.node.extend(nodes)
        path.write_bytes(made.SerializeToString())
        with pytest.raises(UserError, match=r"'hidden'.*not in the folder"):
            opener(path)


def _changed(path, change):
    made = model([node("Conv", ["x", "w"])], {"w": CANARY.reshape(2, 1, 3, 3, 3)}, SHAPE)
    change(made)
    path.write_bytes(made.SerializeToString())
    return path


def _huge_claim(made):
    made.graph.initializer[0].dims[0] = 1 << 40


def _negative_claim(made):
    made.graph.initializer[0].dims[0] = -2


def _huge_claim_in_numbers(made):
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.float_data.extend([1.0] * 5)
    weights.dims[0] = 1 << 40


def _custom_domain(made):
    made.graph.node[0].domain = "evil.ops"
    made.opset_import.add(domain="evil.ops", version=1)


def _a_branch(made):
    inner = helper.make_graph([node("Identity", ["w"], ["z"])], "inner", [], [])
    made.graph.node.append(node("If", ["x"], ["other"], then_branch=inner, else_branch=inner))


def _a_function(made):
    made.functions.append(
        helper.make_function("f.own", "Own", ["a"], ["b"], [node("Own", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    )


def _sparse(made):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "p")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1 << 40]))


def _two_images(made):
    made.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))


def _two_results(made):
    made.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 5))


def _whole_image(made):
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def _many_windows(made):
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def _flat_image(made):
    del made.graph.input[0].type.tensor_type.shape.dim[2:]


def _broken_order(made):
    made.graph.node[0].input[0] = "nowhere"


def _string_weights(made):
    made.graph.initializer[0].data_type = TensorProto.STRING


def _old(made):
    made.opset_import[0].version = 8


def _new(made):
    made.opset_import[0].version = 99


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(("change", "message"), [
    (_huge_claim, "'w' claims 1187[0-9]* bytes and has 216"), (_negative_claim, r"impossible sizes \[-2"),
    (_huge_claim_in_numbers, "claims 296[0-9]* numbers and has 5"), (_custom_domain, "Conv.*'evil.ops'.*ONNX's own"),
    (_a_branch, r"\(If\) is a branch or a loop"), (_a_function, "functions of its own .*Own"),
    (_sparse, "sparse weights"), (_two_images, "must take one image, got 2: x, other"),
    (_two_results, "output must be one of its results y, x, got several"), (_whole_image, "floating-point"),
    (_many_windows, "takes 4 windows at once"), (_flat_image, r"must have the sizes \(batch, channels"),
    (_broken_order, "breaks a rule of ONNX"), (_string_weights, "the number type 8"),
    (_old, "version 8; known are 9 to"), (_new, "version 99; known are 9 to"),
])  # fmt: skip
def test_a_file_is_refused(opener, change, message, tmp_path):
    path = _changed(tmp_path / "network.onnx", change)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}: .*{message}"):
        opener(path)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x08\x12", bytes(range(255, 0, -1))])
def test_a_damaged_file_is_refused(opener, content, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        opener(path)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_that_is_cut_short_is_refused(opener, tmp_path):
    path = _changed(tmp_path / "network.onnx", lambda made: None)
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=re.escape(str(path))):
            opener(path)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_missing_file_is_named(opener, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx"):
        opener(tmp_path / "gone.onnx")


@pytest.mark.parametrize(("opener", "package"), [
    (read_onnx, "onnx"), (blackbox_onnx, "onnx"), (blackbox_onnx, "onnxruntime"),
])  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(opener, package, tmp_path, monkeypatch):
    path = _changed(tmp_path / "network.onnx", lambda made: None)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}: pip install voxward\[onnx\]"):
        opener(path)


@pytest.mark.parametrize(("made", "message"), [
    (node("NonZero", ["x"], name="odd"), "the node 'odd' .NonZero.: the operator NonZero is not covered"),
    (node("Resize", ["x", "", "s"], mode="cubic"), "Resize.: mode 'cubic' is not one of nearest, linear"),
    (node("Resize", ["x", "", "s"], coordinate_transformation_mode="tf_crop_and_resize"), "tf_crop_and_resize"),
    (node("AveragePool", ["x"], kernel_shape=[2, 2, 2], dilations=[2, 2, 2]), "dilations"),
    (node("BatchNormalization", ["x", "s", "s", "s", "s"], training_mode=0, epsilon=0.1, momentum=0.1), None),
    (node("BatchNormalization", ["x", "s", "s", "s", "s"], ["y", "m", "v"], training_mode=1), "training_mode 1|first"),
    (node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2, 2]), "more than its first result"),
    (node("Cast", ["x"], to=TensorProto.COMPLEX64), "number type 14"),
])  # fmt: skip
def test_what_is_not_covered_is_refused_when_it_is_read(made, message, tmp_path):
    path = saved(tmp_path / "n.onnx", [made], {"s": np.ones(5, np.float32)}, (None, 5, None, None, None), 19)
    if message is None:
        read_onnx(path)
        return
    with pytest.raises(Uncovered, match=f"{re.escape(str(path))}: .*{message}"):
        read_onnx(path)


def test_what_is_not_covered_can_be_run_without_a_gradient(tmp_path):
    nodes = [node("Resize", ["x", "", "s"], mode="cubic")]
    path = saved(tmp_path / "n.onnx", nodes, {"s": np.array([1, 1, 2, 2], np.float32)}, (None, 1, None, None))
    network = blackbox_onnx(path)
    image = torch.randn(2, 1, 4, 5, requires_grad=True)
    assert network(image).shape == (2, 1, 8, 10)
    assert not network(image).requires_grad
    assert not network.differentiable


@pytest.mark.parametrize(("operator", "inputs", "constants"), [
    ("Expand", ["x", "s"], {"s": np.array([1 << 40, 1, 1, 1, 1])}),
    ("Tile", ["x", "s"], {"s": np.array([1, 1, 1 << 20, 1 << 20, 1])}),
    ("Pad", ["x", "s"], {"s": np.array([0, 0, 1 << 40, 0, 0, 0, 0, 0, 0, 0])}),
    ("Resize", ["x", "", "s"], {"s": np.array([1, 1, 1e6, 1e6, 1], np.float32)}),
])  # fmt: skip
def test_a_gigantic_result_is_refused_before_memory_is_taken(operator, inputs, constants, tmp_path):
    path = saved(tmp_path / "n.onnx", [node(operator, inputs)], constants, SHAPE)
    with pytest.raises(UserError, match=rf"{operator}.*a result would have the sizes"):
        read_onnx(path)(torch.zeros(1, 1, 2, 2, 2))


def test_a_gigantic_constant_is_refused_before_memory_is_taken(tmp_path):
    nodes = [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"])]
    path = saved(tmp_path / "n.onnx", nodes, {"s": np.array([1 << 20, 1 << 20, 1, 1, 1])}, SHAPE)
    with pytest.raises(UserError, match=r"ConstantOfShape.*a result would have the sizes"):
        read_onnx(path)


@pytest.mark.parametrize("opener", OPENERS)
def test_many_tensors_cannot_name_the_same_bytes_to_fill_the_memory(opener, tmp_path, monkeypatch):
    made = model([node("Conv", ["x", "w"])], {"w": CANARY.reshape(2, 1, 3, 3, 3)}, SHAPE)
    for n in range(20):
        made.graph.initializer.append(numpy_helper.from_array(CANARY, f"more{n}"))
        made.graph.initializer[-1].ClearField("raw_data")
        made.graph.initializer[-1].data_location = TensorProto.EXTERNAL
        made.graph.initializer[-1].external_data.add(key="location", value="w")
    (tmp_path / "w").write_bytes(CANARY.tobytes())
    (tmp_path / "network.onnx").write_bytes(made.SerializeToString())
    opener(tmp_path / "network.onnx")
    monkeypatch.setattr("voxward.nets.onnx.file._LARGEST", len(made.SerializeToString()) + 10 * CANARY.nbytes)
    with pytest.raises(UserError, match=r"network\.onnx: it and its data files hold more than"):
        opener(tmp_path / "network.onnx")


def test_optional_results_that_are_left_out(tmp_path):
    made = helper.make_node("Dropout", ["x"], ["y", ""], name="drop")
    path = saved(tmp_path / "n.onnx", [made], {}, SHAPE)
    image = torch.randn(1, 1, 2, 3, 2)
    assert torch.equal(read_onnx(path)(image), image)


def test_a_split_into_more_parts_than_results_is_named(tmp_path):
    split = node("Split", ["x", "sizes"], ["a", "b"], axis=2)
    path = _changed(tmp_path / "n.onnx", lambda made: made.graph.initializer.append(
        numpy_helper.from_array(np.array([1, 1, 1]), "sizes")))  # fmt: skip
    made = onnx.ModelProto.FromString(path.read_bytes())
    del made.graph.node[:]
    made.graph.node.extend([split, node("Concat", ["a", "b"], axis=2)])
    path.write_bytes(made.SerializeToString())
    with pytest.raises(UserError, match=r"n\.onnx: the node 'make_a' .Split. cannot be computed"):
        read_onnx(path)(torch.zeros(1, 1, 3, 2, 2))


def test_group_normalization_of_opset_18_is_refused(tmp_path):
    """Its scale and bias were one number per group, instead of one per channel."""
    made = node("GroupNormalization", ["x", "s", "s"], num_groups=4)
    path = tmp_path / "n.onnx"
    path.write_bytes(model([node("Identity", ["x"])], {"s": np.ones(4, np.float32)}, (None, 4, None, None, None), 18)
                     .SerializeToString())  # fmt: skip
    changed = onnx.ModelProto.FromString(path.read_bytes())
    del changed.graph.node[:]
    changed.graph.node.extend([made])
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(UserError, match="GroupNormalization"):
        read_onnx(path)


def test_weights_are_held_once(tmp_path):
    path = _changed(tmp_path / "network.onnx", lambda made: None)
    network = read_onnx(path)
    assert [tuple(each.shape) for each in network.parameters()] == [(2, 1, 3, 3, 3)]
    assert network._precise == {}


def test_no_file_is_written(tmp_path):
    path = _changed(tmp_path / "network.onnx", lambda made: None)
    for opener in OPENERS:
        opener(path)(torch.zeros(1, 1, 4, 4, 4))
    assert list(Path(tmp_path).iterdir()) == [path]
