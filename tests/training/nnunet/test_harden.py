"""A hardened nnU-Net is one that nnU-Net loads: every key, every entry, and the network that was trained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.end_to_end.test_train import StopAt
from tests.systems.nnunet.build import dataset, plans, results, volume
from tests.systems.nnunet.test_reading import Canary
from tests.training.nnunet.build import REGIONS, SHORT, complete, slices, write_dataset, write_results
from voxward.cli import main
from voxward.commands.harden import harden
from voxward.core.choices import Change, Compute, Output
from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted
from voxward.data.io import read_image, read_label
from voxward.runs.folder import RunFolder
from voxward.systems.nnunet.heldout import held_out
from voxward.systems.nnunet.results import read_results
from voxward.systems.nnunet.weights import own_name
from voxward.systems.open import open_system

pytestmark = pytest.mark.usefixtures("blank_pages")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("free", "trades", "noise", "mixed")]
PREDICT = shutil.which("nnUNetv2_predict_from_modelfolder")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "Dataset999_Tiny")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("source") / "trainer")


@pytest.fixture(scope="module")
def hardened(source, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("hardened") / "out"
    return harden(source, out=out, method="pgd", overrides=SHORT, change=Change(dataset=data, seed=3))


def content(folder, fold=0):
    return torch.load(folder / f"fold_{fold}/checkpoint_final.pth", weights_only=False)


def storages(weights):
    """The names that share a tensor."""
    found = {}
    for name, value in weights.items():
        found.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    return sorted(map(tuple, found.values()))


def trained(out, fold=0):
    return RunFolder(out / f"fold_{fold}/hardening")


def test_the_checkpoint_has_the_form_of_the_one_before(source, hardened):
    before, after = content(source), content(hardened)
    assert list(after) == list(before)
    assert list(after["network_weights"]) == list(before["network_weights"])
    assert storages(after["network_weights"]) == storages(before["network_weights"])
    assert len(storages(after["network_weights"])) < len(after["network_weights"])
    for name, value in before["network_weights"].items():
        assert (after["network_weights"][name].shape, after["network_weights"][name].dtype) == (
            value.shape,
            value.dtype,
        )
    for entry in ("trainer_name", "inference_allowed_mirroring_axes", "init_args", "_best_ema", "logging"):
        assert after[entry] == before[entry]
    assert after["optimizer_state"] is None
    for name in ("plans.json", "dataset.json"):
        assert (hardened / name).read_bytes() == (source / name).read_bytes()


def test_it_loads_without_running_anything(hardened):
    scalar = np._core.multiarray.scalar
    allowed = [scalar, np.dtype, np.dtypes.Float32DType]
    with torch.serialization.safe_globals(allowed):
        content = torch.load(hardened / "fold_0/checkpoint_final.pth", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in content["network_weights"].values())


def test_the_network_is_the_best_one_of_the_training(source, hardened):
    before, after = read_results(source), read_results(hardened)
    best = load_file(trained(hardened).weights("best"))
    own = {f"network.{name}": value for name, value in after.networks[0].state_dict().items()}
    assert own.keys() == best.keys()
    assert all(torch.equal(own[name], best[name]) for name in best)
    x = torch.randn(1, 1, 8, 12, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(before.networks[0](x), after.networks[0](x))
    assert after.mirrors == before.mirrors


def test_the_validation_cases_stay_unseen(source, hardened):
    split = json.loads(trained(hardened).splits.read_text())
    assert sorted((*split["fit"], *split["selection"])) == ["case_0", "case_2", "case_4"]
    assert held_out(source / "fold_0") == held_out(hardened / "fold_0") == ("case_1", "case_3")
    assert not (hardened / "fold_0/validation").exists()
    assert sorted(path.name for path in (trained(hardened).root / "prepared").iterdir()) == [
        "case_0",
        "case_2",
        "case_4",
    ]


def test_it_says_how_it_was_hardened(source, hardened, data):
    record = json.loads((hardened / "fold_0/hardening.json").read_text())
    assert record["format"] == 1
    assert (record["method"], record["seed"], record["minutes"], record["fold"]) == ("pgd", 3, None, "0")
    assert record["eps"] == pytest.approx(8 / 255)
    assert (record["source"], record["dataset"]) == (str(source.resolve()), str(data.resolve()))
    assert record["steps"] == 2  # two epochs of two cases, two in a batch


def test_without_a_learning_rate_nothing_moves(source, data, tmp_path):
    still = (*SHORT, "optimizer.options.lr=0.0", "optimizer.options.weight_decay=0.0")
    out = harden(source, out=tmp_path / "out", overrides=still, change=Change(dataset=data))
    before, after = content(source)["network_weights"], content(out)["network_weights"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(*(open_system(folder).segment(volume(seed=9)).label for folder in (source, out)))


@pytest.mark.parametrize("method", ["pgd", *SLOW])
def test_an_interrupted_hardening_ends_like_another(source, data, tmp_path, method):
    options = {"method": method, "change": Change(dataset=data, seed=3), "overrides": (*SHORT, "training.epochs=6")}
    whole = harden(source, out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        harden(source, out=Output(tmp_path / "parts", progress=StopAt(2)), **options)
    assert not (tmp_path / "parts/plans.json").exists()
    assert not (tmp_path / "parts/fold_0/checkpoint_final.pth").exists()
    parts = harden(source, out=tmp_path / "parts", resume=True, change=Change(dataset=data))
    first, second = (content(out)["network_weights"] for out in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for checkpoint in ("best", "last"):
        one, other = (load_file(trained(out).weights(checkpoint)) for out in (whole, parts))
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["regions", "slices", "turned"])
def test_other_plans(tmp_path, kind):
    declared = REGIONS if kind == "regions" else {}
    changes = slices() if kind == "slices" else {}
    turned = {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    plan = plans(**changes, plan=turned if kind == "turned" else {})
    source = write_results(
        tmp_path / "source", described=plan, data=dataset(**declared), mirrors=(0, 1) if kind == "slices" else (0, 1, 2)
    )
    data = write_dataset(tmp_path / "data", **declared)
    out = harden(source, out=tmp_path / "out", method="pgd", overrides=SHORT, change=Change(dataset=data))
    before, after = content(source), content(out)
    assert list(after["network_weights"]) == list(before["network_weights"])
    assert not torch.equal(*(each["network_weights"]["decoder.seg_layers.0.weight"] for each in (before, after)))
    assert open_system(out).segment(volume()).label.shape == (11, 16, 13)


def test_hardening_at_full_strength_learns(source, data, tmp_path):
    """A network with random weights comes to find the boxes, although its patches are perturbed."""
    learning = ("training.epochs=50", "optimizer.options.lr=0.03", "training.selection=0.4", *SHORT[1:])
    out = harden(source, out=tmp_path / "out", method="pgd", overrides=learning, change=Change(dataset=data))
    image, truth = read_image([data / "imagesTr/case_1_0000.nii.gz"]), read_label(data / "labelsTr/case_1.nii.gz").array
    scores = []
    for folder in (source, out):
        found = open_system(folder).segment(image).label
        scores.append(2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum()))
    assert scores[1] > 0.7 > scores[0]


def test_names_of_distributed_training_and_a_missing_optimizer(data, tmp_path):
    source = write_results(tmp_path / "source")
    before = content(source)
    del before["optimizer_state"]
    before["network_weights"] = {f"module.{name}": value for name, value in before["network_weights"].items()}
    torch.save(before, source / "fold_0/checkpoint_final.pth")
    out = harden(source, out=tmp_path / "out", overrides=SHORT, change=Change(dataset=data))
    after = content(out)
    assert list(after) == list(before)
    assert list(after["network_weights"]) == list(before["network_weights"])


def test_heads_of_deep_supervision_keep_their_weights(data, tmp_path):
    three = plans()["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] | {
        "n_stages": 3, "features_per_stage": [4, 6, 8], "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [1, 2, 1]], "n_conv_per_stage": [1, 1, 1], "n_conv_per_stage_decoder": [1, 1],
    }  # fmt: skip
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    source = write_results(tmp_path / "s", architecture={"network_class_name": name, "arch_kwargs": three})
    out = harden(source, out=tmp_path / "out", overrides=SHORT, change=Change(dataset=data))
    before, after = content(source)["network_weights"], content(out)["network_weights"]
    same = {own_name(name) for name in before if torch.equal(before[name], after[name])}
    assert {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"} <= same
    assert "decoder.seg_layers.1.weight" not in same


def test_folds_gather_in_one_folder(data, tmp_path):
    source = write_results(tmp_path / "source", folds=(0, 1))
    for fold in (0, 1):
        harden(source, out=tmp_path / "out", overrides=SHORT, change=Change(dataset=data, fold=fold))
    assert open_system(tmp_path / "out").options()["folds"] == ["0", "1"]
    other = write_results(tmp_path / "other", spacing=[1.0, 1.0, 1.0])
    with pytest.raises(UserError, match=r"plans.json describes another network"):
        harden(other, out=tmp_path / "out", overrides=SHORT, change=Change(dataset=data))


def test_a_zip_file_and_a_system_yaml(data, source, tmp_path):
    archive = shutil.make_archive(tmp_path / "model", "zip", source.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a zip file holds no predictions: nothing is unseen
        zipped = harden(archive, out=tmp_path / "a", overrides=SHORT, change=Change(dataset=data))
    assert (zipped / "fold_0/checkpoint_final.pth").is_file()
    path = tmp_path / "system.yaml"
    path.write_text(f"format: 1\nkind: nnunet\nresults: {source}\nfolds: [0]\n")
    out = harden(path, out=tmp_path / "b", overrides=SHORT, change=Change(dataset=data))
    assert held_out(out / "fold_0") == ("case_1", "case_3")


def test_a_folder_that_hides_its_validation_cases_is_told(data, tmp_path):
    source = results(tmp_path / "source")
    with pytest.warns(UserWarning, match="does not say which cases its network has not seen"):
        out = harden(source, out=tmp_path / "out", overrides=SHORT, change=Change(dataset=data))
    assert held_out(out / "fold_0") is None


def test_validation_cases_of_another_name_are_told(data, tmp_path):
    source = write_results(tmp_path / "source", validation=("case_1", "other_7"))
    with pytest.warns(UserWarning, match=r"1 of 2 validation cases of .*fold_0 are not in .*\(other_7\)"):
        harden(source, out=tmp_path / "out", overrides=SHORT, change=Change(dataset=data))


def refused(source, out, message, error=UserError, **options):
    with pytest.raises(error, match=message):
        harden(source, out=out, **{"overrides": SHORT, **options})
    assert not out.exists()


def test_what_does_not_fit_is_refused_and_nothing_is_written(source, data, tmp_path):
    here, out = Change(dataset=data), tmp_path / "out"
    refused(source, out, "dataset must be given: the results folder .* does not say where its images lie")
    refused(source, out, "no checkpoint_final.pth in fold 3; .*have it: 0", FileNotFoundError,
            change=Change(dataset=data, fold=3))  # fmt: skip
    refused(
        source, out, "'network.options.filters=.*decides this", change=here, overrides=("network.options.filters=1",)
    )
    refused(source, out, "training.auxiliary cannot be set", change=here, overrides=("training.auxiliary=[0.5]",))
    refused(source, out, "augmentation.sides cannot be set", change=here, overrides=("augmentation.sides=auto",))
    refused(source, out, "eps must be in", change=here, eps=2.0)
    refused(source, out, "unknown objective", change=here, method="pgd", overrides=("defence.objective=dicee",))
    refused(source, out, "by one process, got devices 2", change=here, compute=Compute(devices=2))
    refused(source, out, "holds no training to resume", FileNotFoundError, change=here, resume=True)
    refused(source, out, "minutes must be positive", change=here, minutes=0.0)
    with pytest.raises(UserError, match="is the network's own folder"):
        harden(source, out=source, overrides=SHORT, change=here)
    with pytest.raises(UserError, match="is the dataset's own folder"):
        harden(source, out=data, overrides=SHORT, change=here)


def test_other_folders_are_refused(data, tmp_path):
    here, out = Change(dataset=data), tmp_path / "out"
    two = write_results(tmp_path / "two", folds=(0, 1))
    refused(two, out, "has the folds 0, 1, and one network is hardened at a time.*--fold 0", change=here)
    cascade = results(tmp_path / "cascade")
    (cascade / "plans.json").write_text(json.dumps(plans(previous_stage="3d_lowres")))
    refused(cascade, out, "second stage of a cascade", change=here)
    hostile = results(tmp_path / "hostile")
    torch.save({**content(hostile), "logging": Canary(tmp_path / "canary")}, hostile / "fold_0/checkpoint_final.pth")
    refused(hostile, out, "is not loaded: it names", change=here)
    assert not (tmp_path / "canary").exists()


def test_other_datasets_are_refused(source, tmp_path):
    out = tmp_path / "out"
    single = write_dataset(tmp_path / "single")
    double = write_results(
        tmp_path / "double", data=dataset(2), normalization_schemes=["CTNormalization", "ZScoreNormalization"],
        use_mask_for_norm=[False, False],
    )  # fmt: skip
    refused(double, out, "has the channels MRI0, but the model takes MRI0, MRI1", change=Change(dataset=single))
    others = write_dataset(tmp_path / "others", labels={"background": 0, "a": 1, "c": 2})
    refused(source, out, "was trained on the labels background = 0, a = 1, b = 2, but .* c = 2",
            change=Change(dataset=others))  # fmt: skip
    alone = write_dataset(tmp_path / "alone", cases=2)
    everything = write_results(tmp_path / "everything", validation=("case_0", "case_1"))
    refused(everything, out, "no labelled case but the validation cases", change=Change(dataset=alone))
    assert not out.exists()


def test_a_training_goes_on_from_its_own_network_only(source, hardened, data, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(hardened, out)
    here = Change(dataset=data)
    with pytest.raises(UserError, match="already holds a training: pass --resume"):
        harden(source, out=out, overrides=SHORT, change=here)
    other = write_results(tmp_path / "other", folds=(5,))
    shutil.move(other / "fold_5", other / "fold_0")
    with pytest.raises(UserError, match="did not begin with the weights of"):
        harden(other, out=out, resume=True, change=here)
    with pytest.raises(UserError, match="contradicts the recipe"):
        harden(source, out=out, resume=True, overrides=("training.epochs=9",), change=here)
    before = content(out)["network_weights"]
    harden(source, out=out, resume=True, overrides=SHORT, change=here)  # it has ended: nothing is left to do
    assert all(torch.equal(value, before[name]) for name, value in content(out)["network_weights"].items())


def test_a_network_of_somebody_else_is_never_replaced(source, data, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(source, out)
    with pytest.raises(UserError, match=r"checkpoint_final.pth: not a file that voxward wrote"):
        harden(source, out=out, overrides=SHORT, change=Change(dataset=data))


def test_another_image_under_the_same_name_is_told_when_resumed(source, tmp_path):
    data = write_dataset(tmp_path / "data")
    options = {"change": Change(dataset=data)}
    stopped = Output(tmp_path / "out", progress=StopAt(1))
    with pytest.raises(Interrupted):
        harden(source, out=stopped, overrides=(*SHORT, "training.epochs=6"), **options)
    shutil.copy(data / "imagesTr/case_1_0000.nii.gz", data / "imagesTr/case_0_0000.nii.gz")
    with pytest.raises(UserError, match="case_0: it is another image than when the training began"):
        harden(source, out=tmp_path / "out", resume=True, **options)


def test_a_run_has_no_fold_to_choose(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(UserError, match="fold 0 says which network of an nnU-Net"):
        harden(tmp_path, out=tmp_path / "out", change=Change(fold=0))


def test_the_command_line(source, data, tmp_path, capsys):
    settings = [argument for change in SHORT for argument in ("--set", change)]
    out = tmp_path / "out"
    code = main(["harden", str(source), "--dataset", str(data), "--fold", "0", "--out", str(out), *settings])
    assert code == 0
    assert "hardened" in capsys.readouterr().out
    assert (out / "fold_0/checkpoint_final.pth").is_file()


@pytest.mark.slow
@pytest.mark.skipif(PREDICT is None, reason="nnunetv2 is not installed (no nnUNetv2_predict_from_modelfolder)")
@pytest.mark.parametrize("kind", ["classes", "regions", "slices"])
def test_nnunet_itself_predicts_the_same_with_it(tmp_path, kind):
    declared, changes = (REGIONS if kind == "regions" else {}), (slices() if kind == "slices" else {})
    plan = complete(plans(**changes))
    source = write_results(
        tmp_path / "source", described=plan, data=dataset(**declared), mirrors=(0, 1) if kind == "slices" else (0, 1, 2)
    )
    data = write_dataset(tmp_path / "data", **declared)
    out = harden(source, out=tmp_path / "out", method="pgd", overrides=SHORT, change=Change(dataset=data))
    (tmp_path / "in").mkdir()
    for n in (1, 3):
        shutil.copy(data / f"imagesTr/case_{n}_0000.nii.gz", tmp_path / "in")
    environment = {**os.environ, "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # nnU-Net lives in an environment of its own
    command = [
        PREDICT,
        "-i",
        "in",
        "-o",
        "found",
        "-m",
        str(out),
        "-f",
        "0",
        "-device",
        "cpu",
        "-npp",
        "1",
        "-nps",
        "1",
    ]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for n in (1, 3):
        own = open_system(out).segment(read_image([data / f"imagesTr/case_{n}_0000.nii.gz"])).label
        values = open_system(out).labels.to_values(own)
        assert np.array_equal(values, read_label(tmp_path / f"found/case_{n}.nii.gz").array)
