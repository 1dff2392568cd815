"""A run as torch.export or ONNX: the file does what the run does, in voxward and without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import voxward
from voxward.cli import main
from voxward.core.labels import LabelSet
from voxward.core.plan import load_plan
from voxward.core.recipe import load_recipe
from voxward.core.yaml import packaged_names
from voxward.data.io import read_label
from voxward.nets.registry import network_for_plan
from voxward.runs.postprocess import PostProcess
from voxward.systems.export import difference, labels_entry, unsaid, write_onnx, write_pt2
from voxward.systems.export_bundle import write_bundle
from voxward.systems.network.files import read_network

PLAIN = ["postprocessing=false"]
SEARCHED = {"msnas", "msnas-2d"}  # their networks are found first


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return voxward.export(trained, out=tmp_path_factory.mktemp("exported") / "out", overrides=PLAIN)


@pytest.fixture
def traced(exported, monkeypatch):
    """Exports of the same run save the program that `exported` holds: to trace a network takes seconds."""
    monkeypatch.setattr("voxward.systems.export._program", lambda *_: torch.export.load(exported.network))


def predicts_the_same(description, trained, phantoms, folder):
    exact = [*PLAIN, "precision=fp32"]
    ours = voxward.predict(trained, phantoms, out=folder / "ours", overrides=exact)
    theirs = voxward.predict(description, phantoms, out=folder / "theirs")
    assert [path.name for path in ours] == [path.name for path in theirs]
    # A voxel between two classes may fall to either by rounding.
    return all(np.mean(read_label(a).array != read_label(b).array) < 1e-4 for a, b in zip(ours, theirs, strict=True))


def test_the_exported_system_predicts_what_the_run_predicts(exported, trained, phantoms, tmp_path):
    assert exported.network.name == "network.pt2"
    assert exported.apart < 1e-3
    assert exported.description is not None
    assert predicts_the_same(exported.description, trained, phantoms, tmp_path)


@pytest.mark.slow
def test_onnx_predicts_what_the_run_predicts(trained, phantoms, tmp_path):
    pytest.importorskip("onnxscript")
    found = voxward.export(trained, out=tmp_path / "out", to="onnx", overrides=PLAIN)
    assert found.network.name == "network.onnx"
    assert predicts_the_same(found.description, trained, phantoms, tmp_path)


def test_it_is_read_without_voxward_and_for_windows_of_other_sizes(exported, trained):
    program = torch.export.load(exported.network).module()
    system = voxward.open_system(trained, device="cpu")
    network, channels = system.predictor.model.network.float().eval(), len(system.channels)
    first = system.predictor.model.plan.window_size
    for size in (first, tuple(2 * n for n in first)):
        window = torch.randn(1, channels, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(window), network(window), rtol=1e-4, atol=1e-4)


def test_an_attack_goes_through_the_exported_file(exported, trained, phantoms, tmp_path):
    quick = [
        "attacks=[apgd-dice]",
        "threat.eps=[16/255]",
        "budget.steps=10",
        "cases=1",
        "controls=[]",
        "precision=fp32",
    ]
    held_out = json.loads((trained / "splits.json").read_text())["validation"]
    cases = voxward.Cases(phantoms, ids=held_out[:1])
    ours = voxward.attack(trained, cases, out=tmp_path / "run", overrides=[*quick, *PLAIN])
    with pytest.warns(UserWarning, match="nothing is known about which images"):
        theirs = voxward.attack(exported.description, cases, out=tmp_path / "file", overrides=quick)
    results = [ours, theirs]
    dice = [next(record.dice() for record in one.records if record.attack == "apgd-dice") for one in results]
    assert dice[0] == pytest.approx(dice[1], abs=5e-3)


def test_what_a_description_cannot_say_is_named_and_none_is_written(traced, trained, tmp_path, monkeypatch):
    run = voxward.open_system(trained, PLAIN, device="cpu")
    assert not list(unsaid(run))
    model = run.predictor.model
    changes = {
        "placement": replace(model, inference=replace(model.inference, placement="count")),
        "combine": replace(model, inference=replace(model.inference, combine="vote", weights="constant")),
        "post-processes": replace(model, postprocess=PostProcess(islands=0.2)),
        "splines": replace(model, plan=replace(model.plan, spline_order=(3, 3, 0), resample=True)),
    }
    for word, changed in changes.items():
        (sentence,) = unsaid(replace(run, predictor=replace(run.predictor, model=changed)))
        assert word in sentence
    monkeypatch.setattr("voxward.systems.export.unsaid", lambda _: ["windows vote"])
    with pytest.warns(UserWarning, match="no system.yaml can say, so there is none: windows vote"):
        found = voxward.export(trained, out=tmp_path / "out")
    assert found.description is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["MODEL_CARD.md", "network.pt2"]
    assert "Whoever runs the network must do by other means:\n\n- windows vote" in (
        tmp_path / "out" / "MODEL_CARD.md"
    ).read_text(encoding="utf-8")


def test_nothing_is_written_where_the_file_does_something_else(traced, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("voxward.commands.export.difference", lambda *_: (0.5, 1e-4))
    with pytest.raises(ValueError, match=r"differ from the run's by 0\.5"):
        voxward.export(trained, out=tmp_path / "out", overrides=PLAIN)
    assert not list(tmp_path.iterdir())


def test_refusals(trained, tmp_path):
    ensemble = voxward.compose("ensemble", [trained, trained], out=tmp_path / "both.yaml")
    with pytest.raises(ValueError, match="is no single run of voxward"):
        voxward.export(ensemble, out=tmp_path / "out")
    with pytest.raises(ValueError, match="is there already"):
        voxward.export(trained, out=tmp_path)
    with pytest.raises(ValueError, match=r"unknown format .*Known: bundle, nnunet, onnx, pt2"):
        voxward.export(trained, out=tmp_path / "out", to="tensorrt")


def test_the_command_line(traced, trained, tmp_path, capsys):
    assert main(["export", str(trained), "--out", str(tmp_path / "out"), "--set", "tta=mirrors", "--set", *PLAIN]) == 0
    said = capsys.readouterr().out
    assert "network.pt2" in said
    assert "voxward evaluate" in said
    assert "tta: mirrors" in (tmp_path / "out" / "system.yaml").read_text()


@pytest.mark.slow
def test_regions_are_described(tmp_path):
    voxward.write_phantoms(tmp_path / "brains", 4, 0, "brain", size=32)
    small = ["network.options.width=4", "preparation.patch_size=[16,16,16]", "training.epochs=1", "training.workers=0"]
    run = voxward.train(
        tmp_path / "brains", out=tmp_path / "run", recipe="brats-a", overrides=[*small, "inference.tta=mirrors"]
    )
    found = voxward.export(run, out=tmp_path / "out", overrides=["tta=none", "checkpoint=last", *PLAIN])
    assert found.description is not None
    other = voxward.open_system(found.description, device="cpu")
    assert other.labels.scored == voxward.open_system(run, device="cpu").labels.scored


def network_and_window(recipe, folder):
    """The network of a packaged recipe, for a dataset that fits it, and a window of noise."""
    kind = "brain" if recipe.startswith("brats") else "organ"
    voxward.write_phantoms(folder / "data", 3, 0, kind, size=32)
    voxward.plan(folder / "data", recipe=recipe, out=folder / "plan")
    plan, chosen = load_plan(folder / "plan" / "plan.json"), load_recipe(recipe)
    network = network_for_plan(chosen.network.name, plan, chosen.network.options).eval()
    # Half of the network's own window, a quarter of a large one: what is compared is not the size. mpunet sees a window
    # along six axes at once, which takes 16 GB at its own size; at 16 voxels a number of 1 would be fixed.
    sizes = (
        (24,) * 3 if recipe == "mpunet" else [n // (4 if n >= 128 else 2) if n >= 64 else n for n in plan.window_size]
    )
    return network, torch.randn(1, len(plan.channels), *sizes)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pt2", "onnx"])
@pytest.mark.parametrize("recipe", sorted(set(packaged_names("recipes")) - SEARCHED))
def test_every_packaged_recipe_can_be_exported(tmp_path, recipe, to):
    network, window = network_and_window(recipe, tmp_path)
    path = Path(tmp_path / f"network.{to}")
    (write_onnx if to == "onnx" else write_pt2)(network, window, path)
    apart, limit = difference(network, read_network(path), window)
    assert apart <= limit


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(set(packaged_names("recipes")) - SEARCHED))
def test_monai_reads_the_network_of_every_packaged_recipe_from_its_bundle(trained, tmp_path, recipe):
    from monai.bundle import ConfigParser

    network, window = network_and_window(recipe, tmp_path)
    run = voxward.open_system(trained, device="cpu")
    (tmp_path / "bundle").mkdir()
    write_bundle(run, network, tmp_path / "bundle", window)
    said = ConfigParser()
    said.read_config(tmp_path / "bundle" / "configs" / "inference.json")
    said["bundle_root"], said["device"] = str(tmp_path / "bundle"), "cpu"
    theirs = said.get_parsed_content("network")
    if network_file := list((tmp_path / "bundle" / "models").glob("model.pt")):
        theirs.load_state_dict(torch.load(network_file[0], weights_only=True))
        theirs.eval()
    apart, limit = difference(network, theirs, window)
    assert apart <= limit


def test_a_network_that_finds_nan_is_not_the_run():
    class Nothing(torch.nn.Module):
        def forward(self, x):
            return x * float("nan")

    apart, limit = difference(torch.nn.Identity(), Nothing(), torch.randn(1, 1, 1, 8, 8))
    assert not apart <= limit


def test_overlapping_regions_keep_their_order():
    plain = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3))
    labels = plain.with_regions({"A": (1, 2), "B": (2, 3)}, (1, 3))
    entry = labels_entry(labels)
    again = plain.with_regions({name: tuple(entry["labels"][name]) for name in entry["labels"] if name != "background"},
                               tuple(entry["regions_class_order"]))  # fmt: skip
    assert again == labels
