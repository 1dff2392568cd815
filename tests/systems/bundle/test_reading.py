"""A bundle is data: nothing in it runs, and what cannot be reproduced is refused with its place and the reason."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import zipfile

import numpy as np
import pytest
import torch
import yaml

from tests.systems.bundle.build import (
    ARGMAX,
    CLASSES,
    SIGMOID,
    SOFTMAX,
    UNET,
    WINDOWS,
    bundle,
    config,
    invert,
    scan,
    step,
)
from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.data.io import read_image
from voxward.nets.monai_networks import build_network
from voxward.systems.bundle.config import Config, Item
from voxward.systems.bundle.expressions import NotPlainError, compute
from voxward.systems.open import compose_system, open_system


def changed(folder, **changes):
    (folder / "configs/inference.json").write_text(json.dumps({**config(), **changes}))
    return folder


@pytest.fixture
def folder(tmp_path):
    return bundle(tmp_path / "b")


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


ATTACKS = {
    "a class path": {"network_def": {"_target_": "os.system", "command": "touch CANARY"}},
    "a class path in an argument": {"network_def": {**UNET, "act": {"_target_": "os.system", "x": "touch CANARY"}}},
    "a class path in a transform": {
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "os.system", "command": "touch CANARY"}]}
    },
    "a class path with a known name": {
        "inferer": {"_target_": "subprocess.getoutput", "cmd": "touch CANARY"}
    },
    "an import": {"network_def": {**UNET, "in_channels": "$import os; os.system('touch CANARY')"}},
    "__import__": {"network_def": {**UNET, "in_channels": "$__import__('os').system('touch CANARY')"}},
    "a lambda": {"network_def": {**UNET, "in_channels": "$(lambda: open('CANARY', 'w'))()"}},
    "an attribute": {"network_def": {**UNET, "in_channels": "$().__class__.__base__.__subclasses__()"}},
    "a call": {"network_def": {**UNET, "in_channels": "$open('CANARY', 'w')"}},
    "a method of an item": {"x": "y", "network_def": {**UNET, "in_channels": "$@x.format(open('CANARY', 'w'))"}},
    "a comprehension": {"network_def": {**UNET, "channels": "$[open('CANARY', 'w') for i in [1, 2]]"}},
    "the transform that is inverted": {
        "postprocessing": [SOFTMAX, {**invert(), "transform": "$open('CANARY', 'w')"}, ARGMAX]
    },
    "a lambda at the end": {
        "postprocessing": [ARGMAX, {"_target_": "Lambdad", "keys": "pred", "func": "$open('CANARY', 'w')"}]
    },
    "a condition": {"inferer": {**WINDOWS, "_disabled_": False, "overlap": "$0.5 if open('CANARY', 'w') else 0.25"}},
}  # fmt: skip


@pytest.mark.parametrize("case", ATTACKS)
def test_no_code_runs(folder, tmp_path, case):
    canary = tmp_path / "canary"
    changes = json.loads(json.dumps(ATTACKS[case]).replace("CANARY", str(canary)))
    with pytest.raises(UserError, match=r"inference\.json: \w+"):
        open_system(changed(folder, **changes))
    assert not canary.exists()


def test_items_that_decide_nothing_are_not_looked_at(folder, tmp_path):
    canary = tmp_path / "canary"
    code = f"$open('{canary}', 'w')"
    same = open_system(folder).fingerprint()
    changed(folder, imports=[code], initialize=[code], run=[code], datalist=code, device=code,
            inferer={**WINDOWS, "device": code, "sw_device": code}, handlers=[{"_target_": "os.system"}],
            evaluator={"_target_": "SupervisedEvaluator", "amp": code})  # fmt: skip
    assert open_system(folder).fingerprint() == same
    assert not canary.exists()


def test_a_pickle_does_not_run(folder, tmp_path):
    path, canary = folder / "models/model.pt", tmp_path / "canary"
    torch.save({"model": torch.load(path, weights_only=True), "optimizer": Canary(canary)}, path)
    with pytest.raises(UserError, match=r"model.pt is not loaded: it names .*system"):
        open_system(folder)
    assert not canary.exists()


def test_a_damaged_file_of_weights_is_refused(folder):
    (folder / "models/model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"model\.pt is"):
        open_system(folder)


@pytest.mark.parametrize(
    "content", [b"", b".", b"0.", b"\x80\x02}q\x00", b"\x80\x02h\x09.", b"\x80\x02J\x00", b"\x80\x02]e."]
)
def test_a_damaged_pickle_in_the_weights_is_an_error_of_the_file(folder, content):
    path = folder / "models/model.pt"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, before in entries.items():
            archive.writestr(name, content if name.endswith("data.pkl") else before)
    with pytest.raises(UserError, match=r"model\.pt is"):
        open_system(folder)


@pytest.mark.parametrize("path", ["../outside.pt", "/outside.pt", "models/link.pt"])
def test_weights_outside_the_bundle_are_refused(folder, tmp_path, path):
    outside = tmp_path / "outside.pt"
    outside.write_bytes((folder / "models/model.pt").read_bytes())
    (folder / "models/link.pt").symlink_to(outside)
    path = path.replace("/outside.pt", str(outside)) if path.startswith("/") else path
    loader = {"_target_": "CheckpointLoader", "load_path": f"$@bundle_root + '/{path}'" if "models" in path else path}
    with pytest.raises(UserError, match="outside the bundle"):
        open_system(changed(folder, checkpointloader=loader))
    with pytest.raises(UserError, match="outside the bundle"):
        open_system(folder, [f"weights={path}"])


def test_a_macro_stays_inside_the_bundle(folder, tmp_path):
    (tmp_path / "outside.json").write_text(json.dumps({"size": [8, 8, 8]}))
    with pytest.raises(UserError, match="inside the bundle"):
        open_system(changed(folder, inferer={**WINDOWS, "roi_size": "%../outside.json::size"}))
    (folder / "configs/more.json").write_text(json.dumps({"size": [8, 12, "@last"], "last": 8}))
    same = open_system(changed(folder)).fingerprint()
    for macro in ("%configs/more.json::size", "%more.json#size", "%sizes"):
        found = open_system(changed(folder, sizes=[8, 12, 8], last=8, inferer={**WINDOWS, "roi_size": macro}))
        assert found.fingerprint() == same


def test_a_configuration_that_is_a_link_to_elsewhere_is_refused(folder, tmp_path):
    path = folder / "configs/inference.json"
    path.rename(tmp_path / "outside.json")
    path.symlink_to(tmp_path / "outside.json")
    with pytest.raises(UserError, match="outside the bundle"):
        open_system(folder)


THRESHOLD = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
REFUSED = {
    r"network_def: unknown network of MONAI 'UNesT'": {"network_def": {"_target_": "scripts.UNesT"}},
    r"takes no argument 'colour'": {"network_def": {**UNET, "colour": 1}},
    r"MONAI builds no UNet": {"network_def": {**UNET, "strides": [2, 2, 2, 2]}},
    r"a network of 2 axes": {"network_def": {**UNET, "spatial_dims": 2}},
    r"transforms::0: RandFlipd: the transform RandFlipd is not known": {"preprocessing": [step("RandFlipd")]},
    r"transforms::0::mode: Spacingd: mode must be one of .* got 3: a spline": {
        "preprocessing": [step("Spacingd", pixdim=[1, 1, 1], mode=3)]
    },
    r"diagonal is not supported": {"preprocessing": [step("Spacingd", pixdim=[1, 1, 1], diagonal=True)]},
    r"releases of MONAI differ": {"preprocessing": [step("Spacingd", pixdim=[1, 1, 1], align_corners=True)]},
    r"the argument colour is not known": {"preprocessing": [step("ScaleIntensityd", colour=1)]},
    r"select_fn is code": {"preprocessing": [step("CropForegroundd", source_key="image", select_fn="$lambda x: x")]},
    r"_mode_ must be 'default'": {"preprocessing": [step("ScaleIntensityd", _mode_="callable")]},
    r"one image and no other key": {"preprocessing": [step("ScaleIntensityd", keys=["image", "label"])]},
    r"float32, got 'float16'": {"preprocessing": [step("CastToTyped", dtype="$torch.float16")]},
    r"axcodes must be": {"preprocessing": [step("Orientationd", axcodes="RAR")]},
    r"roi_size must hold one number": {"inferer": {**WINDOWS, "roi_size": [8, 8]}},
    r"overlap shares below 1": {"inferer": {**WINDOWS, "overlap": 1.0}},
    r"the inferer is not known": {"inferer": {"_target_": "PatchInferer"}},
    r"no Invertd": {
        "preprocessing": [step("Spacingd", pixdim=[1, 1, 1])], "postprocessing": [SOFTMAX, ARGMAX]
    },
    r"an AsDiscreted with argmax": {"postprocessing": [SOFTMAX, invert()]},
    r"threshold of softmax": {"postprocessing": [SOFTMAX, THRESHOLD]},
    r"either argmax or a threshold": {"postprocessing": [{"_target_": "AsDiscreted", "keys": "pred"}]},
    r"to_onehot": {"postprocessing": [{**ARGMAX, "to_onehot": 3}]},
    r"preprocessing: it is missing": {"preprocessing": None},
    r"there is no item '@nothing#2'": {"inferer": {**WINDOWS, "overlap": "@nothing#2"}},
    r"refers to itself": {"a": "@b", "b": "$@a + 1", "inferer": {**WINDOWS, "overlap": "@a"}},
    r"transforms::0::labels: Orientationd: directions": {
        "preprocessing": [step("Orientationd", axcodes="RAS", labels=[["R", "L"], ["A", "P"], ["S", "I"]])]
    },
    r"min_pixdim must hold numbers": {"preprocessing": [step("Spacingd", pixdim=1, min_pixdim=["x"])]},
    r"one result of the network": {"postprocessing": [{**SOFTMAX, "keys": ["pred", "label"]}, ARGMAX]},
    r"no other key, got \['label'\]": {"postprocessing": [SOFTMAX, {**ARGMAX, "keys": "label"}]},
    r"CastToTyped: dtype must be float32": {
        "postprocessing": [SOFTMAX, {"_target_": "CastToTyped", "keys": "pred", "dtype": "$torch.uint8"}, ARGMAX]
    },
    r"transform must be @preprocessing": {
        "postprocessing": [SOFTMAX, {**invert(), "transform": "@preprocessing_of_labels"}, ARGMAX]
    },
    r"a comparison of lists": {"inferer": {**WINDOWS, "overlap": "$0.5 if @x == [1] else 0.25"}, "x": ["$1"]},
    r"say which label values each": {
        "postprocessing": [SIGMOID, THRESHOLD]
    },
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_reproduced_is_refused_with_its_place(folder, said):
    changes = {name: value for name, value in REFUSED[said].items() if value is not None}
    if "preprocessing" in changes:
        changes["preprocessing"] = {
            "_target_": "Compose",
            "transforms": [step("LoadImaged"), *changes["preprocessing"]],
        }
        said = said.replace("transforms::0", "transforms::1")
    changed(folder, **changes)
    if None in REFUSED.get(said, {"": 0}).values():
        path = folder / "configs/inference.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in REFUSED[said]}))
    with pytest.raises(UserError, match=said) as error:
        open_system(folder)
    assert "inference.json" in str(error.value)


@pytest.mark.parametrize(("text", "value"), [
    ("1 + 2 * 3 - 4 / 8", 6.5), ("-(7 // 2) % 2", -3 % 2), ("len(@names) + 1", 3), ("[1] * 2 + [@n]", [1, 1, 5]),
    ("(1, 2)", [1, 2]), ("None", None), ("not True", False), ("'a' + 'b'", "ab"), ("torch.float32", "float32"),
    ("@n if @n > 4 else 0", 5), ("@names", ["a", "b"]), ("float(@n)", 5.0), ("@network.to(@device)", "net"),
    ("monai.utils.CommonKeys.IMAGE", "image"), ("@deep::0#x", 1), ("np.int16", "int16"),
])  # fmt: skip
def test_an_expression_that_is_data(text, value):
    known = {"names": ["a", "b"], "n": 5, "network": "net", "deep::0#x": 1}
    assert compute(text, known.__getitem__) == value


@pytest.mark.parametrize("text", [
    "os", "print(1)", "[1, 2][0]", "{1: 2}", "f'{1}'", "'%s' % 1", "[i for i in [1]]", "(x := 1)", "1 if", "a.b",
    "torch.load", "torch.nn.functional", "len(1)", "1 / 0", "'a' * 100000", "[1] * 99999", "10 ** 9",
    "10000000000 * 10000000000",
    "len([1], key=1)", "b'x'", "1j", "@n.to.x", "@n.append(1)", "lambda: 1", "1 +" * 5000 + "1", "(" * 500 + ")" * 500,
    "yield", "await x", "import os", "x = 1", "*[1]", "len(*[[1]])", "...", "1 < 2 < 3", "~1", "1 << 40", "int('x')",
])  # fmt: skip
def test_an_expression_that_is_more_than_data(text):
    with pytest.raises(NotPlainError):
        compute(text, {"n": 5}.__getitem__)


COMPOSE = config()["preprocessing"]


@pytest.mark.parametrize(("item", "said"), [
    ({**COMPOSE, "lazy": True}, "lazy resampling"), ({**COMPOSE, "colour": 1}, "the argument colour is not known"),
    ({"_target_": "Compose"}, "transforms is missing"),
    ({"_target_": "Compose", "transforms": [step("LoadImaged", affine_lps_to_ras=False)]}, "affines are read"),
    ({"_target_": "Compose", "transforms": ["@preprocessing"]}, "it holds itself"),
])  # fmt: skip
def test_a_list_of_transforms_that_does_more_is_refused(folder, item, said):
    with pytest.raises(UserError, match=rf"inference\.json: preprocessing.*{said}"):
        open_system(changed(folder, preprocessing=item))


def test_a_list_of_transforms_that_is_switched_off(folder):
    same = open_system(folder).fingerprint()
    more = {"_target_": "Compose", "transforms": [step("ScaleIntensityd")]}
    for off, equal in ((True, True), (False, False)):
        steps = [*COMPOSE["transforms"], {**more, "_disabled_": off}]
        found = open_system(changed(folder, preprocessing={"_target_": "Compose", "transforms": steps}))
        assert (found.fingerprint() == same) is equal


def test_references_inside_lists_of_expressions(tmp_path):
    tree = {"a": [1, 2], "b": 3, "x": "$[@a, [@b, @a]]"}
    read = Config(tmp_path / "inference.json", tmp_path, tree)
    assert read.plain(Item("x", tree["x"])) == [[1, 2], [3, [1, 2]]]


def test_a_list_of_lists_does_not_fill_the_memory(folder):
    with pytest.raises(UserError, match="more than 20000 items"):
        open_system(changed(folder, inferer={**WINDOWS, "roi_size": "$[[1] * 10000] * 10000"}))


def test_numbers_for_another_number_of_channels_are_refused(tmp_path):
    steps = [step("NormalizeIntensityd", subtrahend=[3.0, 4.0], divisor=[7.0, 8.0], channel_wise=True)]
    system = open_system(bundle(tmp_path / "b", config(steps)))
    with pytest.raises(UserError, match="1 channels, but NormalizeIntensityd has 2 numbers"):
        system.segment(Volume(np.zeros((1, 8, 12, 8), np.float32), np.eye(4)))


def test_references_are_followed(tmp_path):
    tree = {"a": {"b": [10, {"c": "$@x * 2"}]}, "x": 3, "y": "@a#b#1", "z": "$@a::b::0 + @a#b#1#c"}
    read = Config(tmp_path / "inference.json", tmp_path, tree)
    assert read.plain(Item("y", tree["y"])) == {"c": 6}
    assert read.plain(Item("z", tree["z"])) == 16


def test_items_that_stand_for_too_much_are_refused(folder):
    many = {f"x{n}": [f"@x{n + 1}"] * 10 for n in range(10)}
    with pytest.raises(UserError, match="more than 20000 items"):
        open_system(changed(folder, **many, x10=1, inferer={**WINDOWS, "roi_size": "@x0"}))


def test_yaml_is_read_as_json_is(folder):
    same = open_system(folder).fingerprint()
    path = folder / "configs/inference.json"
    described = json.loads(path.read_text())
    path.unlink()
    described["steps"] = described["preprocessing"].pop("transforms")
    described["preprocessing"]["transforms"] = "$@steps + []"
    (folder / "configs/inference.yaml").write_text(yaml.safe_dump(described))
    assert open_system(folder).fingerprint() == same


def test_yaml_builds_no_objects(folder, tmp_path):
    (folder / "configs/inference.json").unlink()
    canary = tmp_path / "canary"
    (folder / "configs/inference.yaml").write_text(f"a: !!python/object/apply:os.system ['touch {canary}']")
    with pytest.raises(UserError, match="not valid YAML"):
        open_system(folder)
    assert not canary.exists()


def test_what_is_switched_off_is_left_out(folder):
    same = open_system(folder).fingerprint()
    steps = [*config()["preprocessing"]["transforms"], step("ScaleIntensityd", _disabled_="$not @on")]
    for on, equal in ((False, True), (True, False)):
        found = open_system(changed(folder, on=on, preprocessing=steps)).fingerprint()
        assert (found == same) is equal


@pytest.mark.parametrize("name", ["model", "state_dict", "network"])
def test_weights_inside_a_checkpoint(folder, name):
    same, path = open_system(folder).fingerprint(), folder / "models/model.pt"
    weights = {f"module.{key}": value for key, value in torch.load(path, weights_only=True).items()}
    torch.save({name: weights, "epoch": 3}, path)
    assert open_system(folder).fingerprint() == same


def test_a_checkpoint_that_holds_itself_has_no_weights(folder):
    content = {"epoch": 3}
    content["model"] = content
    torch.save(content, folder / "models/model.pt")
    with pytest.raises(UserError, match=r"model\.pt holds no weights"):
        open_system(folder)


def test_weights_of_another_network_are_refused(folder):
    with pytest.raises(UserError, match=r"model\.pt does not fit the network of the bundle: .* differ"):
        open_system(changed(folder, network_def={**UNET, "channels": [4, 8]}))


def test_the_configuration_names_the_weights(folder):
    (folder / "models/model.pt").rename(folder / "models/best.pt")
    with pytest.raises(FileNotFoundError, match=r"models/model\.pt"):
        open_system(folder)
    loader = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/' + @name"}
    assert open_system(changed(folder, name="best.pt", handlers=[{"_target_": "StatsHandler"}, loader]))
    assert open_system(changed(folder), ["weights=models/best.pt"])
    assert open_system(changed(folder, ckpt_path="$@bundle_root + '/models/best.pt'"))


def test_weights_that_are_named_by_code_are_the_usual_ones_with_a_warning(folder):
    loader = {"_target_": "CheckpointLoader", "load_path": "$os.path.join(@bundle_root, 'models', 'model.pt')"}
    with pytest.warns(UserWarning, match=r"models/model\.pt is taken instead"):
        open_system(changed(folder, checkpointloader=loader))


def test_an_argument_that_was_dropped_from_monai(tmp_path):
    arguments = {"img_size": 32, "in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 3}
    if importlib.util.find_spec("einops") is None:
        with pytest.raises(UserError, match="pip install einops"):
            build_network("SwinUNETR", arguments)
    else:
        assert build_network("SwinUNETR", arguments)
    with pytest.raises(UserError, match="takes no argument 'img_size'"):
        build_network("UNet", {"img_size": 32})


def test_no_weights_are_downloaded(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: pytest.fail("it downloads weights"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("it downloads weights"))
    arguments = {"in_channels": 1, "out_channels": 2, "backbone": "efficientnet-b0", "spatial_dims": 2}
    assert build_network("FlexibleUNet", {**arguments, "pretrained": True})


def test_a_system_yaml(folder, tmp_path):
    text = compose_system("bundle", [folder], tmp_path / "new/system.yaml", ["name=mine"])  # the folder is not there
    (tmp_path / "new").mkdir()
    (tmp_path / "new/system.yaml").write_text(text)
    system = open_system(tmp_path / "new/system.yaml", ["tta=none"])
    assert (system.name, system.fingerprint()) == ("mine", open_system(folder).fingerprint())
    with pytest.raises(UserError, match="bundle says which systems"):
        open_system(tmp_path / "new/system.yaml", ["bundle=x"])


def test_a_network_without_a_name_of_its_own(folder):
    described = config()
    described["network"] = described.pop("network_def")
    same = open_system(folder).fingerprint()
    (folder / "configs/inference.json").write_text(json.dumps(described))
    assert open_system(folder).fingerprint() == same


@pytest.mark.parametrize(("array", "said"), [
    (np.zeros((1, 8, 12, 8)), "no voxel is above 0"), (np.full((1, 8, 12, 8), 7.0), "cannot be padded"),
])  # fmt: skip
def test_a_volume_that_cannot_be_prepared_is_refused(tmp_path, array, said):
    steps = [step("CropForegroundd", source_key="image"), step("SpatialPadd", spatial_size=40, mode="reflect")]
    system = open_system(bundle(tmp_path / "b", config(steps)))
    with pytest.raises(UserError, match=said):
        system.segment(Volume(array.astype(np.float32), np.eye(4)))


def test_windows_that_the_network_cannot_take_are_refused(tmp_path):
    system = open_system(bundle(tmp_path / "b", config(inferer={**WINDOWS, "roi_size": [7, 12, 8]})))
    with pytest.raises(UserError, match=r"cannot take windows of \(7, 12, 8\) voxels"):
        system.segment(Volume(np.zeros((1, 9, 12, 8), np.float32), np.eye(4)))


def test_a_volume_with_another_number_of_channels_is_refused(folder, tmp_path):
    volume = read_image([scan(tmp_path / "x.nii.gz")] * 2)
    with pytest.raises(UserError, match=re.escape("takes 1 channels (MR), got 2")):
        open_system(folder).segment(volume)


def test_regions_must_name_the_outputs(tmp_path):
    post = [SIGMOID, THRESHOLD]
    folder = bundle(tmp_path / "b", config(post=post))
    with pytest.raises(UserError, match="regions must name background, a, b, got core"):
        open_system(folder, ["regions={core: [1]}"])
    with pytest.raises(UserError, match="regions are for networks with one sigmoid"):
        open_system(bundle(tmp_path / "c"), ["regions={a: [1]}"])


def test_without_metadata_classes_have_numbers(folder):
    (folder / "configs/metadata.json").unlink()
    system = open_system(folder)
    assert system.labels.names == ("background", "class 1", "class 2")
    assert len(system.labels.names) == len(CLASSES)
