"""A run as a bundle of MONAI and as a folder of nnU-Net: what those tools find is what the run finds."""

from __future__ import annotations

import json
from contextlib import chdir
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

import voxward
from tests.conftest import DATA
from voxward.cli import main
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.data.io import read_label, write_image
from voxward.systems.export import difference, noise_window
from voxward.systems.export_bundle import differences as unlike_monai
from voxward.systems.export_bundle import write_bundle
from voxward.systems.export_nnunet import differences as unlike_nnunet
from voxward.systems.export_nnunet import write_nnunet
from voxward.systems.nnunet.weights import read_content

PLAIN = ["postprocessing=false", "tta=none", "precision=fp32"]
FIXTURE = DATA.parent / "fixtures" / "nnunet_hippocampus" / "results"


def run_with(trained, kind="mr", **changes):
    """The run with another normalisation, in its own voxels: no training is needed to compare what is computed."""
    run = voxward.open_system(trained, PLAIN, device="cpu")
    model = run.predictor.model
    channel = ChannelPlan("a", kind, 50.0, 150.0, 90.0, 30.0)
    plan = replace(model.plan, channels=(channel,), **{"resample": False, **changes})
    return replace(run, predictor=replace(run.predictor, model=replace(model, plan=plan)))


def network_of(run):
    return deepcopy(run.predictor.model.network).float().eval()


def a_scan(run, longer=6):
    """A scan with a margin of zeros, turned and flipped in its file, that needs at most two windows per axis."""
    shape = [n + longer for n in run.predictor.model.plan.window_size]
    array = np.random.default_rng(0).normal(100, 30, (1, *shape)).round().astype(np.float32)
    array[:, :3] = array[:, :, -2:] = 0
    affine = np.array([[0, -1.5, 0, 3], [1.2, 0, 0, -4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    return Volume(array.transpose(0, 2, 1, 3).copy(), affine)


@pytest.mark.filterwarnings("ignore")  # MONAI's own
@pytest.mark.parametrize("kind", ["mr", "zscore"])
def test_monai_predicts_with_a_bundle_what_the_run_predicts(trained, tmp_path, kind):
    from monai.bundle import run as run_bundle

    run, folder = run_with(trained, kind), tmp_path / "bundle"
    scan = a_scan(run)
    if kind == "mr":  # label values with a gap: MONAI's argmax finds places
        plan = run.predictor.model.plan
        gap = replace(plan, labels=replace(plan.labels, values=(*plan.labels.values[:-1], 9)))
        run = replace(run, predictor=replace(run.predictor, model=replace(run.predictor.model, plan=gap)))
    folder.mkdir()
    made = write_bundle(run, network_of(run), folder)
    assert made.path.name == "model.pt"
    (images := tmp_path / "images [1]").mkdir()
    write_image(images / "scan.nii.gz", scan.array, scan.affine)
    with chdir(folder), torch.random.fork_rng():
        run_bundle(config_file="configs/inference.json", dataset_dir=str(images), output_dir=str(tmp_path / "masks"))
    torch.set_grad_enabled(True)
    found = read_label(tmp_path / "masks" / "scan_seg.nii.gz")
    expected = np.asarray(run.predictor.model.plan.labels.values)[run.segment(scan).label]
    np.testing.assert_allclose(found.affine, scan.affine)
    # Voxels between two classes may fall to either by rounding.
    assert np.mean(found.array != expected) < 2e-3
    assert len(np.unique(expected)) > 1


@pytest.mark.filterwarnings("ignore")  # MONAI's own
def test_a_folder_without_images_is_no_success(trained, tmp_path):
    from monai.bundle import run as run_bundle

    run, folder = run_with(trained), tmp_path / "bundle"
    folder.mkdir()
    write_bundle(run, network_of(run), folder)
    (tmp_path / "empty").mkdir()
    with chdir(folder), pytest.raises((RuntimeError, FileNotFoundError)) as raised:
        run_bundle(config_file="configs/inference.json", dataset_dir=str(tmp_path / "empty"))
    torch.set_grad_enabled(True)
    assert "there are no images in" in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.slow
def test_a_network_that_monai_has_not_is_a_graph_in_the_bundle(trained, tmp_path):
    run = run_with(trained)
    wrapped = torch.nn.Sequential(network_of(run))
    (tmp_path / "bundle").mkdir()
    made = write_bundle(run, wrapped, tmp_path / "bundle")
    assert made.path.name == "model.pt2"
    apart, limit = difference(wrapped, made.network, noise_window(run.predictor))
    assert apart <= limit
    said = json.loads((tmp_path / "bundle" / "configs" / "inference.json").read_text())
    assert said["network_def"].startswith("$torch.export.load(")


def test_what_the_tools_do_otherwise_is_said(trained):
    run = run_with(trained)
    assert len(list(unlike_monai(run))) == 2  # NaN, and where windows lie
    cubic = run_with(trained, resample=True, spline_order=(3, 3, 3))
    assert any("clipped before" in said for said in unlike_monai(cubic))
    assert any("half a voxel" in said for said in unlike_monai(cubic))
    assert any("margins of zeros" in said for said in unlike_nnunet(run_with(trained, "standard", crop_nonzero=False)))
    assert any("extended by zeros" in said for said in unlike_nnunet(run_with(trained, "standard", padding="edge")))
    assert any("zeros inside" in said for said in unlike_nnunet(run_with(trained, "zscore")))
    mirrored = run_with(trained)
    mirrored = replace(mirrored, predictor=replace(mirrored.predictor, tta="mirrors"))
    assert any("mirrored" in said for said in unlike_monai(mirrored))


@pytest.mark.parametrize("kind", ["standard", "ct"])
def test_nnunet_predicts_with_the_folder_what_the_run_predicts(trained, tmp_path, kind):
    """Read by voxward, whose predictions are nnU-Net's own to the voxel (tests/systems/nnunet)."""
    run = run_with(trained, kind)
    (tmp_path / "nnunet").mkdir()
    write_nnunet(run, network_of(run), tmp_path / "nnunet")
    scan = a_scan(run, longer=0)  # in one window: the Gaussians of the two differ
    theirs = voxward.open_system(tmp_path / "nnunet", ["folds=[0]"], device="cpu")
    assert theirs.labels.names == run.labels.names
    found, expected = (system.segment(scan, probabilities=True).probabilities for system in (theirs, run))
    inner = (slice(None), *(slice(n // 4, -n // 4) for n in scan.shape))  # nnU-Net's half precision rounds corners most
    assert np.ptp(expected[inner]) > 0.1
    np.testing.assert_allclose(found[inner], expected[inner], rtol=0, atol=0.01)


@pytest.mark.data
def test_the_weights_have_all_names_that_nnunet_looks_for(trained, tmp_path):
    theirs = read_content(next(FIXTURE.glob("*/*/fold_0/checkpoint_final.pth")))["network_weights"]
    run = run_with(trained, "standard")
    (tmp_path / "nnunet").mkdir()
    path = write_nnunet(run, network_of(run), tmp_path / "nnunet").path
    levels = len(run.predictor.model.plan.strides) + 1
    assert levels == 3, "the fixture has three levels"
    # The fixture's convolutions have a bias, those of the run have none.
    biases = {name for name in theirs if name.endswith(".bias") and (".conv." in name or ".all_modules.0." in name)}
    biases |= {name for name in theirs if name.startswith("decoder.transpconvs.") and name.endswith(".bias")}
    assert set(read_content(path)["network_weights"]) == set(theirs) - biases


def test_what_nnunet_has_not_is_refused_and_nothing_is_written(trained, tmp_path):
    with pytest.raises(ValueError, match=r"nnU-Net has no normalization 'mr'.*ct, zscore, none"):
        voxward.export(trained, out=tmp_path / "out", to="nnunet", overrides=PLAIN)
    run = run_with(trained, "standard")
    labels = run.predictor.model.plan.labels
    gap = run_with(trained, "standard", labels=replace(labels, values=(*labels.values[:-1], 9)))
    with pytest.raises(ValueError, match="needs the label values 0 to 3 in this order, and this run has 0, 1, 2, 9"):
        write_nnunet(gap, network_of(gap), tmp_path)
    with pytest.raises(ValueError, match="nnU-Net has no such network"):
        write_nnunet(run, torch.nn.Sequential(network_of(run)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("default:.*is done otherwise there")
def test_the_command_line_writes_a_bundle(trained, tmp_path, capsys):
    assert main(["export", str(trained), "--out", str(tmp_path / "out"), "--to", "bundle"]) == 0
    said = capsys.readouterr()
    assert "model.pt" in said.out
    assert "this is done otherwise there than in the run: the run post-processes the class map" in said.err
    described = json.loads((tmp_path / "out" / "configs" / "metadata.json").read_text())
    outputs = described["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert tuple(outputs.values()) == voxward.open_system(trained, device="cpu").labels.names
