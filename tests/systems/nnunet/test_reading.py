"""A results folder is data: nothing in it runs, and what cannot be reproduced is refused."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from contextlib import suppress

import pytest
import torch

from tests.systems.nnunet.build import dataset, plans, results, volume
from voxward.core.errors import UserError
from voxward.systems.nnunet.plans import Resampling
from voxward.systems.nnunet.results import read_results
from voxward.systems.open import open_system


@pytest.fixture
def folder(tmp_path):
    return results(tmp_path / "Dataset999_Tiny" / "trainer")


def changed(folder, **changes):
    (folder / "plans.json").write_text(json.dumps(plans(**changes)))
    return folder


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_folder_is_opened_by_its_path(folder):
    system = open_system(folder)
    assert (system.name, system.channels, system.labels.names) == (
        "Dataset999_Tiny-3d_fullres", ("MRI0",), ("background", "a", "b"),
    )  # fmt: skip
    assert system.options()["folds"] == ["0"]
    assert system.segment(volume()).label.shape == (11, 16, 13)


def test_settings_change_the_fingerprint(tmp_path):
    folder = results(tmp_path / "r", folds=(0, 1))
    prints = {open_system(folder, changes).fingerprint() for changes in ([], ["tta=none"], ["folds=[1]"])}
    assert len(prints) == 3


def test_a_pickle_does_not_run(folder, tmp_path):
    path, canary = folder / "fold_0/checkpoint_final.pth", tmp_path / "canary"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "logging": Canary(canary)}, path)
    with pytest.raises(UserError, match=r"checkpoint_final.pth is not loaded: it names .*system"):
        open_system(folder)
    assert not canary.exists()


def test_a_class_path_is_not_imported(folder, tmp_path):
    described = plans()
    architecture = described["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "os.system"
    (folder / "plans.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="network 'system' is not supported; supported: PlainConvUNet"):
        open_system(folder)
    architecture["network_class_name"] = "x.PlainConvUNet"
    architecture["arch_kwargs"]["nonlin"] = "builtins.eval"
    (folder / "plans.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="nonlinearity"):
        open_system(folder)


@pytest.mark.parametrize(("changes", "said"), [
    ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
    ({"plan": {"label_manager": "Mine"}}, "label_manager 'Mine'"),
    ({"preprocessor_name": "Mine"}, "preprocessor_name 'Mine'"),
    ({"plan": {"image_reader_writer": "Tiff3DIO"}}, "image_reader_writer 'Tiff3DIO'"),
    ({"normalization_schemes": ["Mine"]}, "normalisation 'Mine'"),
    ({"resampling_fn_data": "mine"}, "resampling_fn_data 'mine'"),
    ({"spacing": [1.0, 0.0, 1.0]}, "spacing must be"),
    ({"plan": {"transpose_forward": [0, 0, 1]}}, "transpose_forward"),
    ({"architecture": {"network_class_name": "PlainConvUNet"}}, "architecture"),
    ({"architecture": {"network_class_name": "PlainConvUNet", "arch_kwargs": [1]}}, "architecture"),
    ({"spacing": [1.0, 1.0]}, "the network has 3 axes, spacing has 2 and patch_size 3"),
    ({"resampling_fn_data_kwargs": [3]}, "resampling_fn_data_kwargs must be an object"),
    ({"resampling_fn_data_kwargs": {"separate_z_anisotropy_threshold": 5}}, "resampling_fn_data_kwargs holds"),
    ({"resampling_fn_data_kwargs": {"is_seg": True}}, "resampling_fn_data_kwargs holds"),
    ({"resampling_fn_probabilities_kwargs": {"aniso_axis_mode": "linear"}}, "resampling_fn_probabilities_kwargs holds"),
    ({"resampling_fn_probabilities_kwargs": {"mine": None}}, "resampling_fn_probabilities_kwargs holds"),
])  # fmt: skip
def test_what_cannot_be_reproduced_is_refused_with_its_file(folder, changes, said):
    with pytest.raises(UserError, match=said) as error:
        read_results(changed(folder, **changes))
    assert "plans.json" in str(error.value)


def network(**changes):
    """A plan whose network has other options; `patch_size` is the plan's own."""
    found = plans()
    own = found["configurations"]["3d_fullres"]
    own |= {key: changes.pop(key) for key in ("patch_size",) if key in changes}
    own["architecture"]["arch_kwargs"] |= changes
    return found


@pytest.mark.parametrize(("changes", "said"), [
    ({"kernel_sizes": [[3, 3, 0], [3, 3, 3]]}, r"kernel_sizes must hold whole .* got 0 in \[\[3, 3, 0\]"),
    ({"kernel_sizes": [[3, 3, 3.5], [3, 3, 3]]}, "kernel_sizes must hold whole numbers from 1 on, got 3.5"),
    ({"kernel_sizes": [[3, 3], [3, 3, 3]]}, r"kernel_sizes must hold 3 numbers for each stage, got \[3, 3\]"),
    ({"kernel_sizes": [[3, 3, 2], [3, 3, 3]]}, r"kernel_sizes \[\[3, 3, 2\], .*: kernel sizes must be odd"),
    ({"strides": [[1, 1, 1], [2, 2, 0]]}, "strides must hold whole numbers from 1 on, got 0"),
    ({"strides": [[1, 1, 1], [2, -2, 2]]}, "strides must hold whole numbers from 1 on, got -2"),
    ({"strides": [[2, 2, 2], [2, 2, 2]]}, r"strides \[\[2, 2, 2\], \[2, 2, 2\]\] do not bring a window"),
    ({"strides": [[1, 1, 1], [2, 2, 16]]}, r"patch_size a multiple of \[2, 2, 16\]"),
    ({"strides": [[1, 1, 1], True]}, "strides must hold whole numbers from 1 on, got True"),
    ({"patch_size": [1, 12, 8]}, r"a window of patch_size \[1, 12, 8\] back"),
    ({"patch_size": [8, 12.5, 8]}, "patch_size must hold whole numbers from 1 on, got 12.5"),
    ({"patch_size": [2, 2, 2]}, r"takes no patch_size of \[2, 2, 2\]: its coarsest stage has one voxel"),
    ({"features_per_stage": [4, 0]}, "features_per_stage must hold whole numbers from 1 on, got 0"),
    ({"n_conv_per_stage": [0, 1]}, "n_conv_per_stage must hold whole numbers from 1 on, got 0"),
    ({"n_stages": 3}, r"features_per_stage must hold a value for each of 3 stages, got \[4, 6\]"),
    ({"n_stages": 10**12, "features_per_stage": 4}, "n_stages must be at most 64, got 1000000000000"),
])  # fmt: skip
def test_a_network_that_nnunet_does_not_build_is_refused_with_the_value(folder, tmp_path, changes, said):
    with suppress(UserError):  # weights that are those of the network, where it can be described at all
        folder = results(tmp_path / "r", network(**changes))
    (folder / "plans.json").write_text(json.dumps(network(**changes)))
    with pytest.raises(UserError, match=rf"plans\.json: .*{said}") as error:
        read_results(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [
    {"kernel_sizes": [[1, 3, 3], [3, 3, 3]]},
    {"kernel_sizes": [[1, 3, 3], [1, 3, 3]], "strides": [[1, 1, 1], [1, 2, 2]], "patch_size": [1, 12, 8]},
    {"kernel_sizes": 3, "strides": [1, 2], "n_conv_per_stage": 1, "n_conv_per_stage_decoder": [1.0]},
], ids=["2.5D", "one slice", "one number for all"])  # fmt: skip
def test_thin_kernels_and_windows_are_those_of_nnunet(tmp_path, changes):
    """One number is that of all axes or stages, as nnU-Net's networks take it."""
    system = open_system(results(tmp_path / "r", network(**changes)))
    for shape in ((11, 16, 13), (5, 16, 13)):
        assert system.segment(volume(shape=shape)).label.shape == shape


def test_options_of_resampling_that_are_left_out_are_those_of_the_function(folder):
    """nnU-Net calls its functions with what the plan lists; these are the defaults of their signatures in 2.8.1."""
    splines, linear = ("resample_data_or_seg_to_shape", "resample_torch_fornnunet")
    plan = read_results(changed(folder, resampling_fn_data_kwargs={}, resampling_fn_probabilities_kwargs={})).plan
    assert plan.data == plan.logits == Resampling(splines, order=3, order_z=0, force_separate_z=False)
    plan = read_results(changed(folder, resampling_fn_data=linear, resampling_fn_data_kwargs={})).plan
    assert plan.data.force_separate_z is None


@pytest.mark.parametrize("axes", [[[0]], torch.ones(2), [0, 0], [3], 1])
def test_mirror_axes_must_be_axes(folder, axes):
    path = folder / "fold_0/checkpoint_final.pth"
    torch.save({**torch.load(path, weights_only=False), "inference_allowed_mirroring_axes": axes}, path)
    with pytest.raises(UserError, match="inference_allowed_mirroring_axes must hold axes"):
        read_results(folder)


@pytest.mark.parametrize(
    "content", [b"", b".", b"0.", b"\x80\x02}q\x00", b"\x80\x02h\x09.", b"\x80\x02J\x00", b"\x80\x02]e."]
)
def test_a_damaged_pickle_in_a_checkpoint_is_an_error_of_the_file(folder, content):
    path = folder / "fold_0/checkpoint_final.pth"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, before in entries.items():
            archive.writestr(name, content if name.endswith("data.pkl") else before)
    with pytest.raises(UserError, match=r"checkpoint_final.pth is"):
        read_results(folder)


def test_a_trainer_that_changed_the_network_is_refused(folder):
    path = folder / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    del content["network_weights"]["decoder.seg_layers.0.bias"]
    torch.save(content, path)
    with pytest.raises(UserError, match=r"decoder.seg_layers.0.bias.*nnUNetTrainer"):
        read_results(folder)


def test_copies_of_a_layer_must_agree(folder):
    path = folder / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    name = "decoder.encoder.stages.0.0.convs.0.conv.weight"
    content["network_weights"][name] = content["network_weights"][name] + 1
    torch.save(content, path)
    with pytest.raises(UserError, match="differs from"):
        read_results(folder)


def test_prefixes_of_distributed_training_are_left_out(folder):
    path = folder / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["network_weights"] = {f"_orig_mod.{name}": value for name, value in content["network_weights"].items()}
    first = open_system(folder).fingerprint()
    torch.save(content, path)
    assert open_system(folder).fingerprint() == first


def test_plans_of_before_name_the_network_otherwise(folder):
    first, described = open_system(folder).segment(volume()).label, plans()
    own = described["configurations"]["3d_fullres"]
    del own["architecture"]
    own |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [1, 1], "n_conv_per_stage_decoder": [1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]], "conv_kernel_sizes": [[3, 3, 3]] * 2,
    }  # fmt: skip
    described["configurations"]["3d_small"] = {"inherits_from": "3d_fullres"}
    (folder / "plans.json").write_text(json.dumps(described))
    assert (open_system(folder).segment(volume()).label == first).all()


def test_missing_folds_and_checkpoints_are_named(folder):
    with pytest.raises(FileNotFoundError, match="in fold 3; folds that have it: 0"):
        open_system(folder, ["folds=[3]"])
    with pytest.raises(FileNotFoundError, match=r"in any fold; .*other checkpoints: checkpoint_final.pth"):
        open_system(folder, ["checkpoint=checkpoint_best.pth"])
    with pytest.raises(UserError, match="give a results folder in it: trainer"):
        open_system(folder.parent)


def test_a_fold_without_a_checkpoint_is_not_left_out_in_silence(folder):
    (folder / "fold_1").mkdir()
    with pytest.warns(UserWarning, match=r"fold_1 has no checkpoint_final.pth, and is left out: folds 0 predict"):
        open_system(folder)
    open_system(folder, ["folds=[0]"])  # whoever names the folds is not told


def test_a_folder_that_holds_no_model_says_what_would(folder):
    with pytest.raises(FileNotFoundError, match=r"no model of another tool: give a run folder .* of nnU-Net"):
        open_system(folder / "fold_0")


def test_a_zip_file_is_the_folder(folder, tmp_path):
    path = shutil.make_archive(str(tmp_path / "model"), "zip", folder.parent.parent, folder.parent.name)
    assert open_system(path).fingerprint() == open_system(folder).fingerprint()


@pytest.mark.parametrize("name", ["../victim/plans.json", "/abs/plans.json", "a/../../plans.json"])
def test_a_zip_file_writes_nothing_outside(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, "{}")
    with pytest.raises(UserError, match="a place outside itself"):
        open_system(tmp_path / "x.zip")


def test_an_ignore_label_has_no_output(tmp_path):
    labels = {"background": 0, "a": 1, "b": 2, "ignore": 3}
    system = open_system(results(tmp_path / "r", data=dataset(labels=labels)))
    assert system.labels.outputs == 3
    assert set(system.segment(volume()).label.ravel()) <= {0, 1, 2}
