"""The model card of an exported run: its facts are those of the run's own files, and nothing else is claimed."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from safetensors import safe_open

import voxward
from voxward.core.labels import LabelSet, Region
from voxward.report.export_card import CARD, write_export_card
from voxward.runs.postprocess import PostProcess

EXACT = ["precision=fp32"]
ATTACK = ["attacks=[fgsm-dice]", "threat.eps=[16/255]", "controls=[]", "keep=none", *EXACT]


@pytest.fixture(scope="module")
def measured(trained, phantoms, tmp_path_factory):
    """A run that was evaluated and attacked in its own folder."""
    run = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(trained, run)
    voxward.evaluate(run, overrides=EXACT)
    voxward.attack(run, phantoms, overrides=ATTACK, out=voxward.Output(run / "attack", report=False))
    return run


def card_of(run, folder, overrides=(), unsaid=()):
    folder.mkdir()
    (folder / "network.pt2").write_bytes(b"any")
    system = voxward.open_system(run, overrides, device="cpu") if hasattr(run, "joinpath") else run
    write_export_card(system, folder, unsaid)
    return (folder / CARD).read_text(encoding="utf-8")


def cells(card):
    """The first two columns of all tables of a card, as they are read."""
    plain = re.sub(r"\\([^\w\s])", r"\1", card)
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", plain, re.M)
    return {name: value for name, value in rows if set(name) != {"-"}}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_facts_are_those_of_the_runs_files(measured, tmp_path):
    found = cells(card_of(measured, tmp_path / "out", EXACT))
    plan, split, settings = (read(measured / name) for name in ("plan.json", "splits.json", "run.json"))
    recipe = yaml.safe_load((measured / "recipe.yaml").read_text(encoding="utf-8"))
    filters = recipe["network"]["options"]["filters"]
    assert found["recipe"] == f"{recipe['name']}: {recipe['description']}, {min(filters)} to {max(filters)} channels"
    assert found["architecture"] == f"{recipe['network']['name']} (filters {recipe['network']['options']['filters']})"
    assert found["adversarial training"] == "none"
    assert (found["dataset"], found["padding"]) == (plan["dataset"], plan["padding"])
    assert found["channels"] == ", ".join(channel["name"] for channel in plan["channels"])
    assert found["intensities of MRI"] == plan["channels"][0]["normalization"]
    assert found["seed"] == str(settings["seed"])
    assert found["began with"] == "random weights"
    for use, name in (("fit", "training"), ("selection", "selection"), ("validation", "validation")):
        assert found[f"{name} cases"].split(" ")[0] == str(len(split[use]))
    told = [float(one) for one in found["voxel size"].split(" mm")[0].split(" x ")]
    np.testing.assert_allclose(told, plan["spacing"], rtol=1e-5)
    assert found["window"] == " x ".join(map(str, plan["window_size"])) + " voxels"
    assert float(found["overlap"]) == recipe["inference"]["overlap"]
    assert found["blending"] == recipe["inference"]["weights"]
    labels = plan["labels"]
    assert [found[str(value)] for value in labels["values"]] == labels["names"]
    with (measured / "logs" / "training.csv").open() as log:
        assert found["training steps"] == list(csv.DictReader(log))[-1]["step"]


def test_the_weights_are_named_by_their_digest(measured, tmp_path):
    for checkpoint in ("best", "last"):
        found = cells(card_of(measured, tmp_path / checkpoint, [*EXACT, f"checkpoint={checkpoint}"]))
        path = measured / "checkpoints" / f"{found['checkpoint']}.safetensors"
        assert found["SHA-256 of the checkpoint"] == hashlib.sha256(path.read_bytes()).hexdigest()
        with safe_open(path, "np") as file, safe_open(path.with_stem(checkpoint), "np") as asked:
            assert file.keys() == asked.keys()
            assert all(np.array_equal(file.get_tensor(name), asked.get_tensor(name)) for name in file.keys())  # noqa: SIM118
            assert found["parameters"] == str(sum(file.get_tensor(name).size for name in file.keys()))  # noqa: SIM118
        assert found["network.pt2"] == hashlib.sha256(b"any").hexdigest()


def test_the_figures_are_those_of_the_folder_with_their_n(measured, tmp_path):
    card = card_of(measured, tmp_path / "out", EXACT)
    whole, found = re.sub(r"\\(.)", r"\1", card), cells(card)
    metrics = read(measured / "metrics.json")
    mean, n = metrics["foreground"]["mean"], metrics["foreground"]["n"]
    assert re.search(rf"mean Dice {mean:.3f} \[.*\] \(n = {n}\)\. Empty masks: ignore", whole)
    for name, scores in metrics["classes"].items():
        assert found[name].startswith(f"{scores['dice']['mean']:.3f}")
        assert found[name].endswith(f"(n = {scores['dice']['n']})")
    with (measured / "attack" / "robustness.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["attack"] == "fgsm-dice")
    assert found["16/255"].startswith(f"{float(row['dice']):.3f}")
    assert found["16/255"].endswith(f"(n = {row['cases']})")
    assert whole.count("These figures are of the run as it was exported.") == 2
    with (measured / "logs" / "training.csv").open() as log:
        best = max(float(row["validation_dice"]) for row in csv.DictReader(log))
    assert f"patches of the selection cases was {best:.3f}" in whole
    assert "not measured" not in whole


def test_figures_of_other_settings_are_told_apart(measured, tmp_path):
    card = card_of(measured, tmp_path / "out", [*EXACT, "tta=mirrors", "overlap=0.25"], ["windows vote"])
    found = cells(card)
    assert found["test-time augmentation"] == "mirrors along the axes 0, 1, 2"
    assert float(found["overlap"]) == 0.25
    assert card.count("with other settings, other weights or another number type") == 2
    assert "exported." not in card.split("## Figures")[1].split("## Intended")[0]
    assert "by other means:\n\n- windows vote" in card


def test_what_was_not_measured_is_said(trained, tmp_path):
    card = card_of(trained, tmp_path / "out")
    assert "How robust the network is against attacks was not measured" in card
    assert "Its Dice on whole validation cases was not measured" in card


def test_a_damaged_file_is_told_and_no_place_of_this_machine_is(measured, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(measured, run)
    (run / "metrics.json").write_text("{")
    card = card_of(run, tmp_path / "out", EXACT)
    assert "1 file of that folder could not be read" in card
    assert "Its Dice on whole validation cases was not measured" in card
    for text in (card, (tmp_path / "out" / CARD).read_text()):
        assert str(tmp_path) not in text
        assert "/" not in re.sub(r"\d+/255|checkpoints/|and/or", "", text)


def test_a_model_without_a_folder_and_names_that_markdown_would_read(trained, tmp_path):
    system = voxward.open_system(trained, device="cpu")
    model = system.predictor.model
    regions = (Region("*in*", (3,)), Region("b|c", (2, 3)), Region("all", (1, 2, 3)))
    labels = LabelSet(("background", "a", "b|c", "*in*"), (0, 1, 2, 3), regions, ignore=9)
    steps = PostProcess(("share", "none", "lesion"), (1.0, 1.0, 2.0), filled=(False, True, False), islands=0.1)
    (channel,) = model.plan.channels
    pair = (channel, replace(channel, normalization="none"))
    changed = replace(model, plan=replace(model.plan, labels=labels, channels=pair), postprocess=steps)
    card = card_of(replace(system, folder=None, predictor=replace(system.predictor, model=changed)), tmp_path / "out")
    assert r"| b\|c | 2, 3 |" in card
    assert "| 9 | voxels that nobody has annotated" in card
    found = cells(card)
    assert found["post-processing"] == (
        "a by the rule share; *in* by the rule lesion; holes of b|c are filled; "
        "parts below 0.1 of the largest part of the foreground are dropped"
    )
    assert found["recipe"] == found["cases"] == found["checkpoint"] == "not recorded"
    assert found["intensities of MRI (channel 0)"].startswith(channel.normalization)
    assert found["intensities of MRI (channel 1)"] == "none"
