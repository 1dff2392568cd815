"""Readers of trained models: weights and states of a run, prepared cases, and models of other tools."""

from __future__ import annotations

import functools
import io
import json
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np

from tests.hostile.mutations import bytes_changed, json_changed, zip_changed
from tests.hostile.reader import Content, Files, Reader
from tests.hostile.run import files as run_files
from voxward.data.store import open_case
from voxward.runs.folder import load_run, read_state, unfinished
from voxward.systems.open import open_system

CANARY = Path(tempfile.gettempdir()) / "voxward-hostile-canary"
"""What a program inside a file makes; it must never be there."""
_CASE = "prepared/phantom_000"


class Canary:
    """What makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(CANARY), "w")


def _harmless() -> None:
    """See that no program of a file has run."""
    if CANARY.exists():
        CANARY.unlink()
        raise AssertionError("a program that was in a file has run")


def _held(files: Files, name: str) -> bytes:
    content = files[name]
    assert isinstance(content, bytes)
    return content


@functools.cache
def prepared() -> tuple[Files, ...]:
    """Return the files of two prepared cases, each as `case`."""
    found = run_files()
    names = ("prepared/phantom_000/", "prepared/phantom_001/")
    return tuple({k.removeprefix(n): v for k, v in found.items() if k.startswith(n)} for n in names)


def npz_changed(random: Random, name: str, data: bytes) -> bytes:
    """Change an array of an archive: its header, which says how large it is, or its numbers."""
    end = data.find(b"\n") + 1
    if random.randrange(3) == 0 or not end:
        return bytes_changed(random, data, 128)
    kinds = ("<i4", "|O", "<f8", "<U10", ">i4", "|V8", "[('a','<i4')]", "<M8[s]")
    shapes = ("(9999999999999, 3)", "(-1, 3)", "(3,)", "()", "(0, 3)", "(2, 3)", "(100000000, 3)", "(1, 2, 3, 4)", "x")
    header = f"{{'descr': {random.choice(kinds)!r}, 'fortran_order': False, 'shape': {random.choice(shapes)}, }}"
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + data[end:]


def prepared_changed(random: Random, files: Files) -> Files:
    """Return a prepared case of which a file was changed, is missing, or is of another case."""
    name = random.choice(sorted(files))
    content, kind = _held(files, name), random.randrange(12)
    if kind == 0:
        return {other: held for other, held in files.items() if other != name}
    if kind == 1:
        return {**files, name: random.choice(prepared())[name]}
    if name == "case.json":
        return {**files, name: json_changed(random, content)}
    if name == "locations.npz":
        return {**files, name: zip_changed(random, content, npz_changed)}
    return {**files, name: bytes_changed(random, content, random.choice((64, 200, 400, None)))}


def use_prepared(folder: Path) -> str:
    """Open a prepared case and read all of it, as training does."""
    id = str(json.loads((folder / "case.json").read_bytes())["id"]) if _is_json(folder / "case.json") else "phantom_000"
    case = open_case(folder, id)
    found = case.load()
    assert tuple(found.image.shape[1:]) == case.shape
    assert found.label is None or tuple(found.label.shape) == case.shape
    for k in case.classes:
        places = case.locations(k)
        assert places.ndim == 2
        assert places.shape[1] == 3
        assert places.dtype.kind in "iu"
        assert len(places)
        assert (places >= 0).all()
        assert (places < np.array(case.shape)).all()
    annotated = case.annotated
    assert annotated is None or annotated.shape[1] == 3
    return "sound"


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes())["id"], str)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def pickle_changed(random: Random, name: str, data: bytes) -> bytes:
    """Change a member of a file of torch.save: other bytes, or a pickle that runs a program or holds something else."""
    if not name.endswith(".pkl"):
        return bytes_changed(random, data)
    hostile = (
        Canary(), {"state": Canary()}, [1], {"state": 1}, {"state": {"step": Canary}}, {}, None,
        {"network_weights": {}}, 1e400,
        {1: 2}, {"network_weights": {"a": "b"}}, {"network_weights": Canary()}, "x" * 100,
    )  # fmt: skip
    if random.randrange(2):
        return bytes_changed(random, data)
    return pickle.dumps(random.choice(hostile), protocol=random.choice((0, 2, 4)))


@functools.cache
def weights() -> tuple[Files, ...]:
    """Return a run with its weights and its state."""
    return ({name: content for name, content in run_files().items() if not name.startswith("prepared")},)


def weights_changed(random: Random, files: Files) -> Files:
    """Return a run with changed weights or a changed state."""
    if random.randrange(2):
        name = "checkpoints/best.safetensors"
        content = _held(files, name)
        length = int.from_bytes(content[:8], "little")
        if random.randrange(2):
            return {**files, name: bytes_changed(random, content, random.choice((8, 8 + length, None)))}
        header = json_changed(random, content[8 : 8 + length])
        size = random.choice((len(header), len(header), len(header), 0, 2**40, 2**63, len(header) + 1))
        return {**files, name: size.to_bytes(8, "little") + header + content[8 + length :]}
    name = "checkpoints/state.pt"
    return {**files, name: zip_changed(random, _held(files, name), pickle_changed)}


def use_weights(folder: Path) -> str:
    """Read the weights of a run into its network, and its state."""
    from voxward.runs.folder import RunFolder

    run = RunFolder(folder)
    try:
        unfinished(run)
        state = read_state(run.state)
        assert isinstance(state, dict)
    finally:
        _harmless()
    model = load_run(folder, "best")
    assert all(value.dtype.is_floating_point for value in model.network.parameters())
    return "sound"


def _folder(make: Callable[[Path], object]) -> Files:
    """All files that something writes into a folder."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(Path(place))
        found: dict[str, Content] = {}
        for path in sorted(Path(place).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(place))] = path.read_bytes()
        return found


@functools.cache
def nnunets() -> tuple[Files, ...]:
    """Return results folders of nnU-Net: of classes, of regions, and of slices."""
    from tests.systems.nnunet.build import dataset, flat, results

    regions = dataset(labels={"background": 0, "whole": [1, 2], "core": [2]}, order=[1, 2])
    return (
        _folder(lambda place: results(place / "m")), _folder(lambda place: results(place / "m", data=regions)),
        _folder(lambda place: results(place / "m", described=flat(), mirrors=(0, 1))),
    )  # fmt: skip


def nnunet_changed(random: Random, files: Files) -> Files:
    """Return a results folder of which a document or a checkpoint was changed."""
    name = random.choice(("m/plans.json", "m/plans.json", "m/dataset.json", "m/fold_0/checkpoint_final.pth"))
    content = _held(files, name)
    if name.endswith(".json"):
        return {**files, name: json_changed(random, content)}
    return {**files, name: zip_changed(random, content, pickle_changed)}


def _opened(path: Path) -> str:
    try:
        system = open_system(path, device="cpu")
    finally:
        _harmless()
    assert len(system.labels.values) >= 2
    assert system.channels is not None
    return "opened"


def use_nnunet(folder: Path) -> str:
    """Open a results folder of nnU-Net."""
    return _opened(folder / "m")


@functools.cache
def nnunet_zips() -> tuple[Files, ...]:
    """Return what nnU-Net exports as one file."""

    def packed(files: Files) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in files:
                archive.writestr(f"Dataset999_Tiny/{name}", _held(files, name))
        return file.getvalue()

    return tuple({"model.zip": packed(files)} for files in nnunets())


def zip_of_nnunet_changed(random: Random, files: Files) -> Files:
    """Return an exported model with a changed, missing, renamed or added member."""

    def inner(random: Random, name: str, data: bytes) -> bytes:
        return json_changed(random, data) if name.endswith(".json") else bytes_changed(random, data)

    return {"model.zip": zip_changed(random, _held(files, "model.zip"), inner)}


def use_nnunet_zip(folder: Path) -> str:
    """Open a model that nnU-Net has exported; nothing may be left beside it."""
    try:
        return _opened(folder / "model.zip")
    finally:
        assert {path.name for path in folder.iterdir()} <= {"model.zip"}


@functools.cache
def bundles() -> tuple[Files, ...]:
    """Return bundles of MONAI."""
    from tests.systems.bundle.build import bundle, config, invert, step

    post = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}, invert(nearest=True)]
    steps = (step("Spacingd", pixdim=[1.0, 1.0, 1.0], mode="bilinear"), step("NormalizeIntensityd", nonzero=True))
    return (
        _folder(lambda place: bundle(place / "b")), _folder(lambda place: bundle(place / "b", config(steps))),
        _folder(lambda place: bundle(place / "b", config((step("Orientationd", axcodes="RAS"), *steps), post=post))),
    )  # fmt: skip


def bundle_changed(random: Random, files: Files) -> Files:
    """Return a bundle of which a configuration or the weights were changed."""
    names = ("b/configs/inference.json", "b/configs/inference.json", "b/configs/metadata.json", "b/models/model.pt")
    name = random.choice(names)
    content = _held(files, name)
    if name.endswith(".json"):
        found = json_changed(random, content)
        if random.randrange(6) == 0:
            words = (
                b"\"$open('/tmp/voxward-hostile-canary', 'w')\"",
                b'"%../../x.json"',
                b'"@a::b"',
                b'"$@network_def"',
            )
            found = found.replace(
                random.choice((b'"UNet"', b"0.5", b'"image"', b'"."', b'"gaussian"')), random.choice(words), 1
            )
        return {**files, name: found}
    return {**files, name: zip_changed(random, content, pickle_changed)}


def use_bundle(folder: Path) -> str:
    """Open a bundle of MONAI."""
    return _opened(folder / "b")


NET = {
    "format": 1, "kind": "network", "channels": [{"name": "MR"}], "labels": {"background": 0, "a": 1, "b": 2},
    "window": [8, 6, 4],
}  # fmt: skip


@functools.cache
def exports() -> tuple[Files, ...]:
    """Return networks of torch.export, for one size and for any."""
    from tests.systems.network.build import exported

    net = json.dumps({**NET, "network": "net.pt2"}).encode()
    return tuple(
        {
            "net.pt2": _held(_folder(lambda place, d=dynamic: exported(place / "net.pt2", dynamic=d)), "net.pt2"),
            "net.yaml": net,
        }  # type: ignore[misc]
        for dynamic in (False, True)
    )


def export_changed(random: Random, files: Files) -> Files:
    """Return a .pt2 file of which a member was changed."""

    def inner(random: Random, name: str, data: bytes) -> bytes:
        return json_changed(random, data) if name.endswith(".json") else bytes_changed(random, data)

    return {**files, "net.pt2": zip_changed(random, _held(files, "net.pt2"), inner)}


def use_network(folder: Path) -> str:
    """Open a network that another tool has exported."""
    return _opened(folder / "net.yaml")


@functools.cache
def onnxes() -> tuple[Files, ...]:
    """Return networks in ONNX, one of them with its numbers in a file beside it."""
    from onnx import TensorProto

    from tests.nets.onnx.build import model, node

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 1, 3, 3, 3)).astype(np.float32)
    parts = [node("Conv", ["x", "w"], ["c"], pads=[1] * 6), node("Relu", ["c"], ["y"])]
    plain, beside = model(parts, {"w": kernel}), model(parts, {"w": kernel})
    held = beside.graph.initializer[0]
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "net.data"), ("offset", "0"), ("length", str(kernel.nbytes))):
        held.external_data.add(key=key, value=value)
    resized = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 6), node("AveragePool", ["c"], ["p"], kernel_shape=[2, 2, 2],
        strides=[2, 2, 2]),
        node("Resize", ["p", "", "s"], ["r"], mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor"),
        node("Softplus", ["r"], ["y"]),
    ]  # fmt: skip
    more = model(resized, {"w": kernel, "s": np.array([1, 1, 2, 2, 2], np.float32)}, (None, 1, 8, 6, 4))
    net = json.dumps({**NET, "network": "net.onnx"}).encode()
    found = [{"net.onnx": each.SerializeToString(), "net.yaml": net} for each in (plain, beside, more)]
    found[1]["net.data"] = kernel.tobytes()
    return tuple(found)


def onnx_changed(random: Random, files: Files) -> Files:
    """Return an ONNX file of other bytes, or with other values in its messages."""
    content = _held(files, "net.onnx")
    if random.randrange(3) == 0:
        return {**files, "net.onnx": bytes_changed(random, content)}
    import onnx

    made = onnx.load_from_string(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        _change_message(random, made)
    try:
        return {**files, "net.onnx": made.SerializeToString()}
    except Exception:  # a message that protobuf itself does not write
        return files


_TEXTS = (
    "",
    "x",
    "y",
    "w",
    "c",
    "../../etc/passwd",
    "/etc/passwd",
    "If",
    "Conv",
    "Loop",
    "Gemm",
    "Shape",
    "Pad",
    "ai.other",
    "é",
)
_WHOLES = (0, 1, -1, 2, 3, 7, 10, 100, 10**6, 2**31 - 1, 2**40, -(2**40), 2**62)


def _change_message(random: Random, message: object) -> None:
    """Change one value somewhere in a message of protobuf."""
    for _ in range(12):
        fields = message.ListFields()  # type: ignore[attr-defined]
        if not fields:
            return
        field, value = random.choice(fields)
        several = hasattr(value, "append") or hasattr(value, "add")
        if field.message_type is not None:
            if several and random.randrange(8) == 0:
                index = random.randrange(len(value))
                if random.randrange(2):
                    del value[index]
                else:
                    value.add().CopyFrom(value[index])
                return
            message = random.choice(list(value)) if several else value
            continue
        new = _other(random, field.cpp_type, value)
        try:
            if several:
                value[random.randrange(len(value))] = new
            else:
                setattr(message, field.name, new)
        except (TypeError, ValueError):
            pass
        return


def _other(random: Random, kind: int, value: object) -> object:
    """A value of one of protobuf's types: 9 is text or bytes, 5 and 6 are real numbers, others are whole."""
    if kind == 9:
        text = random.choice(_TEXTS)
        first = next(iter(value), "") if not isinstance(value, str | bytes) else value  # type: ignore[call-overload]
        return text.encode() * random.choice((1, 100)) if isinstance(first, bytes) else text
    if kind in (5, 6):
        return random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    return random.choice(_WHOLES)


MODELS: Sequence[Reader] = (
    Reader("prepared", prepared, prepared_changed, use_prepared, "case.json"),
    Reader("weights", weights, weights_changed, use_weights, "checkpoints/state.pt"),
    Reader("nnunet", nnunets, nnunet_changed, use_nnunet, "m/plans.json"),
    Reader("nnunet-zip", nnunet_zips, zip_of_nnunet_changed, use_nnunet_zip, "model.zip"),
    Reader("bundle", bundles, bundle_changed, use_bundle, "b/configs/inference.json"),
    Reader("pt2", exports, export_changed, use_network, "net.pt2"),
    Reader("onnx", onnxes, onnx_changed, use_network, "net.onnx"),
)
