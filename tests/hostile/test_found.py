"""Faults that campaigns have found, each by the smallest file that shows its kind."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import onnx
import pytest
import torch

from tests.hostile.models import bundles, exports, nnunet_zips, nnunets, prepared
from tests.hostile.reader import lay
from tests.hostile.test_memory import archive, array, changed
from tests.nets.onnx.build import node, saved
from voxward.core.archive import is_archive, opened_archive
from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.core.yaml import read_yaml
from voxward.data.io import read_header
from voxward.data.store import open_case
from voxward.nets.onnx.network import read_onnx
from voxward.systems.evaluate import Evaluation
from voxward.systems.open import open_system
from voxward.training.optim import OPTIMIZERS


@pytest.mark.parametrize("text", ["x: !!bool z", "x: !!timestamp 1", "x: !!int zz", "? [a]\n: b", "x: 2024-13-45"])
def test_yaml_of_a_wrong_kind_names_its_file(text: str):
    with pytest.raises(UserError, match="mine is not valid YAML"):
        read_yaml(text, "mine")


@pytest.mark.parametrize("kind", ["[1]", "{a: 1}", "-1", "null", "runs"])
def test_a_system_of_no_kind_names_its_file(kind: str, tmp_path: Path):
    (tmp_path / "system.yaml").write_text(f"kind: {kind}\n")
    with pytest.raises(UserError, match=r"system\.yaml: .*kind"):
        open_system(tmp_path / "system.yaml")


def test_a_name_that_is_too_long_for_the_disk(tmp_path: Path):
    (tmp_path / "system.yaml").write_text(f"kind: run\nrun: {'A' * 3000}\n")
    with pytest.raises(UserError, match=r"system\.yaml: 'AAA.*cannot be a path"):
        open_system(tmp_path / "system.yaml")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_header(tmp_path / f"{'A' * 3000}.nii")


def test_a_name_that_is_no_text_is_in_no_registry():
    registry: Registry[int] = Registry("shape", {"one": 1})
    assert [] not in registry
    assert {} not in registry


def test_a_function_that_may_not_run_names_the_folder_of_its_file(tmp_path: Path):
    (tmp_path / "system.yaml").write_text(
        "kind: blackbox\nfunction: os:getcwd\nlabels: {background: 0, a: 1}\nchannels: [x]\n"
    )
    with pytest.raises(UserError, match="--trust") as refused:
        open_system(tmp_path / "system.yaml")
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"lr": 0.1, "k": -1}, {"lr": 0.1, "betas": [2, 3]}])
def test_ranger_refuses_options_as_other_optimisers_do(options: dict[str, object]):
    pytest.importorskip("pytorch_optimizer")
    with pytest.raises(UserError, match="ranger"):
        OPTIMIZERS.build("ranger", [torch.nn.Parameter(torch.zeros(1))], **options)


def before_its_beginning(path: Path) -> Path:
    """An archive whose list of members begins before the file does."""
    content = path.read_bytes()
    path.write_bytes(content[len(content) - 60 :])
    return path


def test_an_archive_that_begins_before_its_file_is_damaged(tmp_path: Path):
    path = tmp_path / "a.zip"
    path.write_bytes(archive({"a": b"1", "b" * 100: b"2"}))
    before_its_beginning(path)
    with pytest.raises(zipfile.BadZipFile), opened_archive(path):
        pass
    assert is_archive(path)
    with pytest.raises(FileNotFoundError), opened_archive(tmp_path / "none"):
        pass


CUT: dict[str, tuple[Callable[[], tuple[dict[str, object], ...]], str, str]] = {
    "nnunet": (nnunets, "m/fold_0/checkpoint_final.pth", "m"), "bundle": (bundles, "b/models/model.pt", "b"),
    "zip": (nnunet_zips, "model.zip", "model.zip"), "pt2": (exports, "net.pt2", "net.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_model_whose_archive_begins_before_its_file_is_named(name: str, tmp_path: Path):
    sound, file, system = CUT[name]
    lay(sound()[0], tmp_path)
    before_its_beginning(tmp_path / file)
    with pytest.raises(UserError, match="damaged") as refused:
        open_system(tmp_path / system, device="cpu")
    assert str(tmp_path / file) in str(refused.value)


def test_a_fault_inside_a_zip_file_names_the_zip_file(tmp_path: Path):
    lay(nnunets()[0], tmp_path)
    (tmp_path / "m" / "plans.json").write_text("[]")
    packed = Path(shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path, "m"))
    with pytest.raises(UserError, match="must hold a JSON object") as refused:
        open_system(packed)
    assert f"{packed}/m/plans.json" in str(refused.value)


INFINITE = {
    "nnunet": ("m/plans.json",
    lambda found: found["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(
        features_per_stage=[float("inf"), 4])),
    "nnunet reader": ("m/plans.json", lambda found: found.update(image_reader_writer={})),
    "bundle": ("b/configs/inference.json", lambda found: found["inferer"].update(roi_size=[float("inf")] * 3)),
    "bundle classes": ("b/configs/inference.json", lambda found: found["network_def"].update(out_channels=10**9)),
    "bundle layers": ("b/configs/inference.json", lambda found: found["network_def"].update(num_res_units=10**6)),
}  # fmt: skip


@pytest.mark.parametrize("name", INFINITE)
def test_numbers_that_no_network_has(name: str, tmp_path: Path):
    file, change = INFINITE[name]
    lay(changed((nnunets if file[0] == "m" else bundles)()[0], file, change), tmp_path)
    with pytest.raises(UserError) as refused:
        open_system(tmp_path / file[0], device="cpu")
    assert str(tmp_path / file) in str(refused.value)


def test_an_infinite_number_of_voxels_in_metrics():
    case = {"id": "a", "classes": {"liver": {"dice": 0.5, "truth_voxels": float("inf"), "predicted_voxels": 1}}}
    with pytest.raises(UserError, match=r"metrics\.json: a class cannot have inf voxels"):
        Evaluation.from_data({"cases": [case]}, "metrics.json")


def test_an_onnx_attribute_that_is_no_text(tmp_path: Path):
    path = saved(
        tmp_path / "a.onnx", [node("Resize", ["x", "", "s"], ["y"], mode=b"\xff")], {"s": np.ones(5, np.float32)}
    )
    with pytest.raises(UserError, match=r"a\.onnx"):
        read_onnx(path)


@pytest.mark.parametrize("place", ["key", "value"])
def test_an_onnx_tensor_beside_the_network_in_a_file_whose_name_is_no_text(tmp_path: Path, place: str):
    path = saved(tmp_path / "a.onnx", [node("Add", ["x", "w"], ["y"])], {"w": np.ones(5, np.float32)})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.data"
    content = model.SerializeToString()
    word = b"location" if place == "key" else b"w.data"
    assert content.count(word) == 1
    path.write_bytes(content.replace(word, b"\xff" * len(word)))
    with pytest.raises((UserError, FileNotFoundError), match=r"a\.onnx|which is no file"):
        read_onnx(path)


def test_orders_of_splines_may_be_written_as_real_numbers(tmp_path: Path):
    def change(found: dict) -> None:
        found["configurations"]["3d_fullres"]["resampling_fn_data_kwargs"] |= {"order_z": 0.0, "force_separate_z": 0}

    lay(changed(nnunets()[0], "m/plans.json", change), tmp_path)
    assert open_system(tmp_path / "m", device="cpu")


class TestPreparedCases:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        lay(prepared()[0], tmp_path)
        return tmp_path

    def test_an_image_of_another_shape(self, folder: Path):
        case = open_case(folder, "phantom_000")
        (folder / "image.b2nd").unlink()
        blosc2.asarray(np.zeros((1, 40, 40, 40), np.float32), urlpath=str(folder / "image.b2nd"))
        with pytest.raises(UserError, match=r"image\.b2nd does not fit its case\.json"):
            case.image_region((0, 0, 0), (2, 2, 2))

    def test_a_label_of_another_type(self, folder: Path):
        case = open_case(folder, "phantom_000")
        (folder / "label.b2nd").unlink()
        blosc2.asarray(np.zeros(case.shape, np.float64), urlpath=str(folder / "label.b2nd"))
        with pytest.raises(UserError, match=r"label\.b2nd does not fit its case\.json"):
            case.label_region((0, 0, 0), (2, 2, 2))

    def test_a_damaged_chunk(self, folder: Path):
        path = folder / "image.b2nd"
        content = bytearray(path.read_bytes())
        content[400:-400] = bytes(len(content) - 800)
        path.write_bytes(content)
        case = open_case(folder, "phantom_000")
        with pytest.raises(UserError, match=r"image\.b2nd is damaged"):
            case.load()

    @pytest.mark.parametrize(
        "content",
        [array("(2, 3)") + np.full((2, 3), 10**6, "<i4").tobytes(), array("(1, 3)") + np.full(3, -1, "<i4").tobytes()],
    )
    def test_voxels_outside_of_the_volume(self, content: bytes, folder: Path):
        (folder / "locations.npz").write_bytes(archive({"1.npy": content}))
        with pytest.raises(UserError, match="outside of the shape"):
            open_case(folder, "phantom_000").locations(1)

    def test_voxels_of_a_class_that_are_not_there(self, folder: Path):
        (folder / "locations.npz").write_bytes(archive({"9.npy": array("(1, 3)") + bytes(12)}))
        with pytest.raises(UserError, match="no voxels of '1'"):
            open_case(folder, "phantom_000").locations(1)
