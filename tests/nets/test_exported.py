"""Files of torch.export are data: whatever they say, nothing of theirs runs, and sizes that cannot be are refused."""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch

from tests.systems.network.build import WINDOW, Tiny, changed, exported
from voxward.core.errors import UserError
from voxward.nets import exported_operators
from voxward.nets.exported import fixed_window, read_exported


@pytest.fixture
def good(tmp_path):
    return exported(tmp_path / "good.pt2")


class Canary:
    """What makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def graph(document):
    return document["graph_module"]["graph"]


def node(document, target):
    return next(each for each in graph(document)["nodes"] if target in each["target"])


def of_model(change):
    return lambda name, document: change(document) if "/models/" in name else None


def of_weights(change):
    """A change of the first weight that has numbers."""

    def apply(name, document):
        if name.endswith("weights_config.json"):
            change(next(entry for entry in document["config"].values() if entry["tensor_meta"]["sizes"]))

    return apply


def set_target(target):
    return of_model(lambda document: node(document, "conv3d").update(target=target))


def set_size(key, value):
    def change(entry):
        entry["tensor_meta"][key][0] = {"as_int": value}

    return of_weights(change)


PROGRAMS = [
    "torch.ops.aten.no_such_operator.default", "os.system", "posix.system", "builtins.eval", "torch.load",
    "torch.ops.aten.__class__", "torch.ops.higher_order.wrap_with_set_grad_enabled", "_operator.attrgetter",
    "torch.ops.aten.from_file.default", "torch._C._jit_pass_inline", "",
]  # fmt: skip


@pytest.mark.parametrize("target", PROGRAMS)
def test_only_known_operators_are_called(good, tmp_path, target):
    path = changed(good, tmp_path / "bad.pt2", set_target(target))
    with pytest.raises(UserError, match="are not supported"):
        read_exported(path)


def test_pickled_weights_are_refused_and_pickled_inputs_never_opened(good, tmp_path):
    canary = tmp_path / "canary"
    program = io.BytesIO()
    torch.save(Canary(canary), program)
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()  # it would
    canary.rmdir()
    pickled = changed(good, tmp_path / "pickled.pt2", of_weights(lambda entry: entry.update(use_pickle=True)))
    with pytest.raises(UserError, match="is pickled, which may run code"):
        read_exported(pickled)
    inputs = tmp_path / "inputs.pt2"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(inputs, "w") as new:
        for name in old.namelist():
            new.writestr(name, program.getvalue() if "sample_inputs" in name else old.read(name))
    assert read_exported(inputs)(torch.zeros(1, 1, *WINDOW)).shape == (1, 3, *WINDOW)
    assert not canary.exists()


@pytest.mark.parametrize("place", ["../../weight_0", "/etc/hostname", "weight_0/../../x", "model.pt", "", "weight_999"])
def test_weights_lie_in_the_file_itself(good, tmp_path, place):
    path = changed(good, tmp_path / "bad.pt2", of_weights(lambda entry: entry.update(path_name=place)))
    with pytest.raises(UserError, match=r"bad\.pt2"):
        read_exported(path)


SIZES = [
    ("sizes", 10**12), ("sizes", 1 << 80), ("sizes", -1), ("strides", 10**9), ("strides", -1), ("sizes", 2.5),
    ("sizes", True), ("sizes", "__import__('os').system('true')"), ("sizes", None),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), SIZES)
def test_weights_have_sizes_that_their_numbers_fill(good, tmp_path, key, value):
    with pytest.raises(UserError, match=r"size|shorter"):
        read_exported(changed(good, tmp_path / "bad.pt2", set_size(key, value)))


def test_a_view_does_not_repeat_without_end(good, tmp_path):
    def change(entry):
        entry["tensor_meta"]["sizes"] = [{"as_int": 1 << 20}] * 3
        entry["tensor_meta"]["strides"] = [{"as_int": 0}] * 3

    with pytest.raises(UserError, match="sizes that cannot be"):
        read_exported(changed(good, tmp_path / "bad.pt2", of_weights(change)))


def test_expressions_are_never_evaluated(tmp_path):
    """torch.export.load gives them to sympify, which is eval."""
    good, canary = exported(tmp_path / "good.pt2", dynamic=True), tmp_path / "canary"
    program = f"open({str(canary)!r}, 'w')"

    def replaced(given):
        if isinstance(given, dict):
            return {key: program if key == "expr_str" else replaced(value) for key, value in given.items()}
        return [replaced(each) for each in given] if isinstance(given, list) else given

    def change(name, document):
        assert name.endswith("config.json") or "expr_str" in json.dumps(document)
        return json.dumps(replaced(document)).encode()

    network = read_exported(changed(good, tmp_path / "bad.pt2", change))
    assert network(torch.zeros(1, 1, *WINDOW)).shape == (1, 3, *WINDOW)
    assert not canary.exists()


def test_compressed_files_are_refused(good, tmp_path):
    """They could unpack to more than fits into memory; torch.export.save compresses nothing."""
    path = changed(good, tmp_path / "bad.pt2", lambda *_: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="is compressed"):
        read_exported(path)


def test_a_layer_that_fits_no_memory_is_refused_before_it_is_computed(tmp_path):
    class Large(Tiny):
        def forward(self, x):
            return super().forward(x).repeat(1, 1, 1, 1, 1 << 30)

    network = read_exported(exported(tmp_path / "n.pt2"))
    network.check_memory((1, 1, *WINDOW))
    with torch.device("meta"):
        program = torch.export.export(Large().eval(), (torch.zeros(1, 1, *WINDOW),))
    repeat = next(each for each in program.graph.nodes if "repeat" in str(each.target))
    path = changed(
        tmp_path / "n.pt2", tmp_path / "bad.pt2", of_model(lambda document: _repeated(document, repeat.args[1]))
    )
    with pytest.raises(UserError, match="fit no memory"):
        read_exported(path).check_memory((1, 1, *WINDOW))


def _repeated(document, repeats):
    last = graph(document)["nodes"][-1]
    self_, *_ = last["inputs"]
    last["target"] = "torch.ops.aten.repeat.default"
    last["inputs"] = [self_, {"name": "repeats", "arg": {"as_ints": list(repeats)}, "kind": 1}]


@pytest.mark.parametrize(("target", "given"), [
    ("_operator.mul", ["a", 10**12]), ("_operator.mod", ["%1000000000d", 1]), ("_operator.mul", [[0], 10**12]),
    ("_operator.mul", [1 << 61, 4]), ("_operator.getitem", ["text", 0]), ("math.trunc", ["text"]),
    ("_operator.add", []),
])  # fmt: skip
def test_arithmetic_is_on_numbers_that_can_be_sizes(target, given):
    with pytest.raises(UserError, match=r"numbers only|is no size"):
        exported_operators.call(target, dict(zip("abc", given, strict=False)))


DAMAGE = {
    "no graph": lambda document: document.pop("graph_module"),
    "nodes of a wrong kind": lambda document: graph(document).update(nodes=[3]),
    "no nodes": lambda document: graph(document).update(nodes=None),
    "two results": lambda document: graph(document)["outputs"].append(graph(document)["outputs"][0]),
    "a missing weight": lambda document: document["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
        parameter_name="gone"
    ),
    "a token": lambda document: document["graph_module"]["signature"]["input_specs"].append({"token": {}}),
    "a size": lambda document: graph(document)["tensor_values"]["x"]["sizes"].__setitem__(2, {"as_int": -4}),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_an_error_of_the_file(good, tmp_path, case):
    path = changed(good, tmp_path / "bad.pt2", of_model(lambda document: DAMAGE[case](document) and None))
    with pytest.raises(UserError, match=r"bad\.pt2"):
        read_exported(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"null", b"3", b'{"graph_module": Infinity}'])
def test_json_that_is_none(good, tmp_path, content):
    path = changed(good, tmp_path / "bad.pt2", lambda name, document: content)
    with pytest.raises(UserError, match=r"bad\.pt2"):
        read_exported(path)


def test_a_file_of_an_older_version(tmp_path):
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        for name in ("version", "serialized_exported_program.json", "serialized_state_dict.pt"):
            archive.writestr(name, b"x")
    with pytest.raises(UserError, match="older version of PyTorch"):
        read_exported(tmp_path / "old.pt2")


def test_a_cut_file(good, tmp_path):
    content = good.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 10):
        (tmp_path / "bad.pt2").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"bad\.pt2"):
            read_exported(tmp_path / "bad.pt2")
    with pytest.raises(FileNotFoundError):
        read_exported(tmp_path / "none.pt2")


def test_a_network_in_training_mode_is_refused(tmp_path):
    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop = torch.nn.BatchNorm3d(1), torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.norm(x))

    for network in (Norm().train(), Norm().norm.train(), Norm().drop.train()):
        program = torch.export.export(network, (torch.zeros(1, 1, *WINDOW),))
        torch.export.save(program, tmp_path / "n.pt2")
        with pytest.raises(UserError, match=r"training mode .*call network.eval\(\)"):
            read_exported(tmp_path / "n.pt2")


def test_attention_with_dropout_is_refused(tmp_path):
    class Attention(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    torch.export.save(torch.export.export(Attention(), (torch.zeros(1, 1, *WINDOW),)), tmp_path / "n.pt2")
    with pytest.raises(UserError, match="training mode"):
        read_exported(tmp_path / "n.pt2")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_fixed_batch_is_filled(tmp_path, size):
    """The sizes of a reshape are numbers in the file: another batch would be cut up wrongly."""

    class Grouped(torch.nn.Module):
        def forward(self, x):
            first, *rest = x.shape
            groups = x.reshape(first, -1)
            return ((groups - groups.mean(1, keepdim=True)) * groups.amax(1, keepdim=True)).reshape(first, *rest)

    torch.export.save(torch.export.export(Grouped(), (torch.rand(size, 1, *WINDOW),)), tmp_path / "n.pt2")
    network = read_exported(tmp_path / "n.pt2")
    for count in (1, 2, 3, 4):
        x = torch.rand(count, 1, *WINDOW, generator=torch.Generator().manual_seed(0), requires_grad=True)
        torch.testing.assert_close(network(x), Grouped()(x))
        weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
        found, expected = (torch.autograd.grad((each(x) * weights).sum(), x) for each in (network, Grouped()))
        torch.testing.assert_close(found, expected)


def test_a_fixed_size_is_the_only_one(good):
    network = read_exported(good)
    assert fixed_window(network.shape) == WINDOW
    with pytest.raises(UserError, match="exported for images of shape"):
        network(torch.zeros(1, 1, 8, 6, 6))
