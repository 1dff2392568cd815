"""Nothing in a results folder or a zip file runs, and nothing is written: a canary file tells."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
import stat
import sys
import zipfile

import pytest
import torch

from tests.systems.nnunet.build import plans, results, volume
from tests.systems.nnunet.test_reading import Canary
from voxward.core.errors import UserError
from voxward.systems.nnunet import archive
from voxward.systems.open import open_system


@pytest.fixture
def canary(tmp_path):
    """A file that must never be there."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def folder(tmp_path):
    return results(tmp_path / "Dataset999_Tiny" / "trainer")


@pytest.fixture
def trap(tmp_path, canary, monkeypatch):
    """A module that writes the canary when it is imported; it can be found by its name."""
    (tmp_path / "trap.py").write_text(
        f"open({str(canary)!r}, 'w').close()\nclass PlainConvUNet: pass\ndef run(*a, **k): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert "trap" not in sys.modules


def described(**entries):
    """A plan whose network has other entries."""
    found = plans()
    network = found["configurations"]["3d_fullres"]["architecture"]
    network["arch_kwargs"] |= entries.pop("arch_kwargs", {})
    network |= entries
    return found


def test_the_trap_works(trap, canary):
    importlib.import_module("trap")
    assert canary.exists()
    canary.unlink()
    del sys.modules["trap"]


@pytest.mark.parametrize("entries", [
    {"network_class_name": "trap.PlainConvUNet"},
    {"_kw_requires_import": ["conv_op", "norm_op", "nonlin", "trap.run", "n_stages"]},
    {"arch_kwargs": {"conv_op": "trap.Conv3d", "norm_op": "trap.InstanceNorm3d", "nonlin": "trap.LeakyReLU"}},
])  # fmt: skip
def test_the_modules_of_names_in_a_plan_are_not_imported(folder, trap, entries):
    """The last part of a name decides, and stands for what voxward itself has."""
    (folder / "plans.json").write_text(json.dumps(described(**entries)))
    assert open_system(folder).segment(volume()).label.any()


@pytest.mark.parametrize("entries", [
    {"network_class_name": "trap.run"},
    {"network_class_name": ["trap", "run"]},
    {"arch_kwargs": {"nonlin": "trap.run"}},
    {"arch_kwargs": {"norm_op": "trap.run"}},
    {"arch_kwargs": {"conv_op": "trap.run"}},
    {"arch_kwargs": {"block": "trap.run"}},
    {"arch_kwargs": {"nonlin_kwargs": {"hook": "trap.run"}}},
    {"arch_kwargs": {"norm_op_kwargs": {"eps": "__import__('trap')"}}},
])  # fmt: skip
def test_what_voxward_does_not_have_is_refused(folder, trap, entries):
    (folder / "plans.json").write_text(json.dumps(described(**entries)))
    with pytest.raises(UserError, match=r"plans.json"):
        open_system(folder)


@pytest.mark.parametrize("entry", [
    {"label_manager": "trap.run"}, {"image_reader_writer": "trap.run"}, {"experiment_planner_used": "trap.run"},
])  # fmt: skip
def test_classes_of_the_plan_are_not_imported(folder, trap, entry):
    (folder / "plans.json").write_text(json.dumps({**plans(), **entry}))
    if "experiment_planner_used" in entry:  # decides nothing
        open_system(folder)
    else:
        with pytest.raises(UserError, match=r"plans.json"):
            open_system(folder)


@pytest.mark.parametrize("key", ["network_weights", "trainer_name", "init_args", "extra"])
def test_a_pickle_in_any_entry_of_a_checkpoint_is_refused(folder, canary, key):
    path = folder / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, key: Canary(canary)}, path)
    with pytest.raises(UserError, match=r"checkpoint_final.pth is not loaded"):
        open_system(folder)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_as_a_checkpoint_is_refused(folder, canary, protocol):
    (folder / "fold_0/checkpoint_final.pth").write_bytes(pickle.dumps(Canary(canary), protocol))
    with pytest.raises(UserError, match=r"checkpoint_final.pth"):
        open_system(folder)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_as_a_checkpoint_is_refused(folder):
    torch.jit.save(torch.jit.trace(torch.nn.Conv3d(1, 1, 1), torch.zeros(1, 1, 2, 2, 2)), folder / "scripted.pth")
    (folder / "scripted.pth").replace(folder / "fold_0/checkpoint_final.pth")
    with pytest.raises(UserError, match=r"checkpoint_final.pth"):
        open_system(folder)


def test_pickles_beside_are_not_opened(folder, canary):
    """Postprocessing is read from its JSON, the geometry of cases not at all."""
    place = folder / "crossval_results_folds_0"
    place.mkdir()
    (place / "postprocessing.json").write_text(json.dumps({
        "postprocessing_fns": ["nnunetv2.x.remove_all_but_largest_component_from_segmentation"],
        "postprocessing_kwargs": [{"labels_or_regions": 1}],
    }))  # fmt: skip
    (folder / "fold_0/validation").mkdir()
    for path in (place / "postprocessing.pkl", folder / "fold_0/validation/a.pkl", folder / "dataset_fingerprint.pkl"):
        path.write_bytes(pickle.dumps(Canary(canary)))
    system = open_system(folder, ["postprocessing=true"])
    assert system.after.groups == ((1,),)
    system.segment(volume())


@pytest.mark.parametrize("name", ["trap.run", "os.system"])
def test_functions_of_the_postprocessing_are_not_imported(folder, trap, name):
    place = folder / "crossval_results_folds_0"
    place.mkdir()
    content = {"postprocessing_fns": [name], "postprocessing_kwargs": [{}]}
    (place / "postprocessing.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not known"):
        open_system(folder, ["postprocessing=true"])


@pytest.mark.parametrize("name", [
    "../canary.json", "/tmp/../canary.json", "a/../../canary.json", "..\\canary.json", "C:\\canary.json",
    "C:canary.json", "", "/", "a/b/../../../canary.pth",
])  # fmt: skip
def test_a_zip_file_that_names_other_places_is_refused(folder, tmp_path, canary, name):
    path = zipped(folder, tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo(name), "{}")
    before = set(tmp_path.parent.rglob("canary*"))  # other tests have files of this name, too
    with pytest.raises(UserError, match="a place outside itself"):
        open_system(path)
    assert set(tmp_path.parent.rglob("canary*")) == before


def test_links_in_a_zip_file_are_not_followed(folder, tmp_path, canary):
    """A link to a folder outside, and a file that would be written through it."""
    outside, path = tmp_path / "outside", zipped(folder, tmp_path)
    outside.mkdir()
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link("Dataset999_Tiny/trainer/way"), str(outside))
        file.writestr("Dataset999_Tiny/trainer/way/canary.json", "{}")
        file.writestr(link("Dataset999_Tiny/trainer/secret.json"), str(folder / "plans.json"))
    open_system(path)
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_a_file_is_no_json(folder, tmp_path):
    path = tmp_path / "linked.zip"
    with zipfile.ZipFile(path, "w") as file:
        for inner in ("dataset.json", "fold_0/checkpoint_final.pth"):
            file.write(folder / inner, f"trainer/{inner}")
        file.writestr(link("trainer/plans.json"), str(folder / "plans.json"))
    with pytest.raises(UserError, match="is not JSON"):
        open_system(path)


def test_a_zip_file_that_would_fill_the_disk_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_MOST_INFLATED", 0)
    with pytest.raises(UserError, match=r"its 3 files claim .* bytes: nothing was unpacked"):
        open_system(zipped(folder, tmp_path))


def test_many_small_files_that_would_fill_the_disk_are_refused(tmp_path):
    """Each of them packs well, and claims little by itself."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for n in range(12):
            file.writestr(f"trainer/{n}.json", bytes(10 << 20))
    with pytest.raises(UserError, match="its 12 files claim 125829120 bytes: nothing was unpacked"):
        open_system(path)


def test_a_damaged_zip_file_says_so(folder, tmp_path):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("trainer/plans.json", b"0" * 1000)
        start = file.getinfo("trainer/plans.json").header_offset + 30 + len("trainer/plans.json")
    content = bytearray(path.read_bytes())
    content[start : start + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged, or no zip file"):
        open_system(path)


def test_nothing_is_left_of_a_zip_file(folder, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    open_system(zipped(folder, tmp_path))
    assert list(place.iterdir()) == []


def zipped(folder, tmp_path):
    return shutil.make_archive(str(tmp_path / "model"), "zip", folder.parent.parent, folder.parent.name)


def link(name):
    found = zipfile.ZipInfo(name)
    found.create_system = 3
    found.external_attr = (stat.S_IFLNK | 0o777) << 16
    return found
