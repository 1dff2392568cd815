"""From a trained run to a hardened one: what it inherits, what it logs, and that it can be interrupted."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.end_to_end.build import changes
from tests.end_to_end.conftest import TINY
from tests.end_to_end.test_train import StopAt
from voxward.cli import main
from voxward.commands.attack import attack
from voxward.commands.harden import harden
from voxward.commands.train import train
from voxward.core.choices import Change, Output
from voxward.core.document import without_format
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.interrupt import Interrupted
from voxward.core.plan import load_json
from voxward.core.recipe import Choice, dump_recipe, load_recipe
from voxward.runs.folder import RunFolder, RunSettings
from voxward.runs.kept import read_kept
from voxward.training.log import COLUMNS, read_log

SHORT = ("training.epochs=4", "defence.replays=2")


@pytest.fixture(scope="module")
def hardened(trained, tmp_path_factory):
    return harden(trained, out=tmp_path_factory.mktemp("hardened") / "run", overrides=SHORT, change=Change(seed=3))


def test_it_goes_on_from_the_run(hardened, trained):
    before, after = RunFolder(trained), RunFolder(hardened)
    assert after.plan.read_text() == before.plan.read_text()
    assert after.splits.read_text() == before.splits.read_text()
    assert load_json(RunSettings, after.settings).start == str(trained.resolve())
    recipe, was = load_recipe(after.recipe), load_recipe(before.recipe)
    assert recipe.defence.method == "free"
    assert recipe.defence.eps == pytest.approx(8 / 255)
    assert recipe.optimizer.options["lr"] == pytest.approx(was.optimizer.options["lr"] / 2)
    assert not (hardened / "prepared").exists()


def test_it_begins_with_the_run_s_weights(trained, phantoms, tmp_path):
    """Without a learning rate nothing moves, and nothing is gained, which is said."""
    still = ("optimizer.options.lr=0.0", "optimizer.options.weight_decay=0.0", *SHORT)
    with pytest.warns(UserWarning, match="the hardening gained nothing on perturbed patches: best step"):
        run = harden(trained, out=tmp_path / "run", overrides=still)
    first, kept = (read_kept(RunFolder(folder).kept) for folder in (trained, run))
    assert first.start is None
    assert first.scores.robust_dice is None
    assert kept.start == kept.scores
    # The same weights on the same patches, in another process of training.
    assert kept.scores.dice == pytest.approx(first.scores.dice, abs=1e-3)
    before, after = (load_file(RunFolder(folder).weights("best")) for folder in (trained, run))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_does_not_go_on_from_other_weights_than_it_began_with(hardened, trained, tmp_path):
    """A run that was trained again in its place would else be taken for what this one was hardened from."""
    copy = tmp_path / "run"
    shutil.copytree(hardened, copy)
    harden(trained, out=copy, resume=True)
    settings = RunFolder(copy).settings
    began = json.loads(settings.read_text())["start_weights"]
    assert len(began) == 64
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    weights = RunFolder(again).weights("auto")
    tensors = {name: value + 1 if value.is_floating_point() else value for name, value in load_file(weights).items()}
    save_file(tensors, weights)
    with pytest.raises(UserError, match=r"was hardened from other weights than .*again has now"):
        harden(again, out=copy, resume=True)


def test_the_log_tells_what_happened(hardened):
    rows = read_log(RunFolder(hardened).log)
    assert list(rows[0]) == [*COLUMNS, "clean_loss", "saturation", "gradient_norm", "robust_dice"]
    # Free's perturbation is at its rim from the second replay on, wherever the box leaves room.
    assert rows[-1]["saturation"] > 0.3
    assert all(row["gradient_norm"] > 0 for row in rows)
    assert all(0 <= row["robust_dice"] <= 1 for row in rows)
    assert not math.isnan(rows[0]["clean_loss"])
    kept = read_kept(RunFolder(hardened).kept)
    row = next(row for row in rows if row["step"] == kept.step)
    assert (row["validation_dice"], row["robust_dice"]) == (kept.scores.dice, kept.scores.robust_dice)
    scores = [(row["validation_dice"] + row["robust_dice"]) / 2 for row in rows]
    assert max(scores) == scores[rows.index(row)]


@pytest.mark.parametrize(
    "method",
    [
        "pgd",
        pytest.param("free", marks=pytest.mark.slow),
        pytest.param("trades", marks=pytest.mark.slow),
        pytest.param("noise", marks=pytest.mark.slow),
        pytest.param("mixed", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_like_another(trained, tmp_path, method):
    own = {"free": "defence.replays=2", "noise": "defence.clean=0.25"}.get(method, "defence.steps=1")
    options = {
        "method": method,
        "change": Change(seed=3),
        "overrides": ("training.epochs=4", own, "defence.warmup=0.5"),
    }
    whole = harden(trained, out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        harden(trained, out=Output(tmp_path / "parts", progress=StopAt(3)), **options)
    parts = harden(trained, out=tmp_path / "parts", resume=True)
    for checkpoint in ("best", "last"):
        one, other = (load_file(RunFolder(run).weights(checkpoint)) for run in (whole, parts))
        assert all(torch.equal(one[name], other[name]) for name in one)
    rows = [read_log(RunFolder(run).log) for run in (whole, parts)]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=0, abs=0, nan_ok=True
        )


@pytest.mark.slow
def test_a_benchmark_of_both_says_what_it_bought(trained, hardened, phantoms, tmp_path):
    options = {"attacks": ("fgsm-ce",), "eps": (8 / 255,), "cases": 2, "precision": "fp32"}
    result = attack(
        [trained, hardened], phantoms, out=tmp_path / "out", overrides=changes(**options, surrogate=trained)
    )
    (report,) = result.out.glob("hardening-*.md")
    text = report.read_text()
    assert [line.split("|")[1].strip() for line in text.splitlines()[:4]] == ["eps", "---", "clean", "8/255"]
    seconds = [read_log(RunFolder(run).log)[-1]["seconds"] for run in (trained, hardened)]
    assert f"{seconds[1] / seconds[0]:.2f} of the first training" in text
    # The run that is the surrogate itself is not attacked by its own perturbations.
    transferred = {record.model for record in result.records if record.attack == "transfer"}
    assert transferred == {report.stem.removeprefix("hardening-")}


def test_training_can_be_defended_from_the_start(phantoms, tmp_path):
    overrides = (*TINY, "training.epochs=1", "defence.steps=1")
    run = train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=[*overrides, "defence.method=pgd"])
    assert "robust_dice" in read_log(RunFolder(run).log)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 2.0}, "eps must be in"),
        ({"method": "pgd", "overrides": ("defence.objective=dicee",)}, "unknown objective"),
        ({"overrides": ("defence.objective=dice-sharp",)}, "free does not use objective"),
        ({"method": "noise", "eps": 4 / 255}, "noise does not use eps"),
        ({"overrides": ("defence.sigma=0.1",)}, "free does not use sigma"),
        ({"overrides": ("defence.replay=3",)}, "defence.replay"),
        ({"overrides": ("network.options.filters=[4,4,4,4,4,4]",)}, "does not fit the network"),
    ],
)
def test_bad_input_is_refused_at_the_door(trained, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        harden(trained, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_refused(phantoms, tmp_path):
    with pytest.raises(FileNotFoundError, match="not a trained run"):
        harden(phantoms, out=tmp_path / "run")


def test_what_is_no_hardening_of_the_run_is_not_resumed(trained, hardened, phantoms, tmp_path):
    with pytest.raises(ValueError, match="no hardened one"):
        harden(trained, out=trained, resume=True)
    other = shutil.copytree(trained, tmp_path / "other")
    plan = RunFolder(other).plan
    write_json(plan, {**without_format(json.loads(plan.read_text()), "plan.json"), "spacing": [9.0, 9.0, 9.0]})
    with pytest.raises(ValueError, match="another one"):
        harden(other, out=hardened, resume=True)


def test_what_the_run_does_not_say_is_inherited_too(trained, tmp_path):
    """A fold of more than five; the learning rate of a recipe that leaves it to the optimiser."""
    before = shutil.copytree(trained, tmp_path / "before")
    settings = without_format(json.loads(RunFolder(before).settings.read_text()), "run.json")
    write_json(RunFolder(before).settings, {**settings, "fold": 6, "folds": 8})
    recipe = load_recipe(RunFolder(before).recipe)
    plain = replace(recipe, optimizer=Choice("adam", {}))
    RunFolder(before).recipe.write_text(dump_recipe(plain))
    run = harden(before, out=tmp_path / "run", overrides=("training.epochs=1", "defence.replays=1"))
    settings = load_json(RunSettings, RunFolder(run).settings)
    assert (settings.fold, settings.folds) == (6, 8)
    assert load_recipe(RunFolder(run).recipe).optimizer.options["lr"] == pytest.approx(1e-3 / 2)


def test_the_command_line(trained, tmp_path, capsys):
    line = ["harden", str(trained), "--out", str(tmp_path / "run"), "--eps", "4/255", "--method", "pgd"]
    assert main([*line, "--set", "training.epochs=1", "--set", "defence.steps=1"]) == 0
    assert "voxward attack" in capsys.readouterr().out.replace("\n", " ")
    assert load_recipe(RunFolder(tmp_path / "run").recipe).defence.eps == pytest.approx(4 / 255)


SITTING = """
import json, os, signal, sys
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold
from voxward.core.interrupt import Interrupted

def progress(stage, done, total, /, **figures):
    if stage == "train" and done == stop:
        os.kill(os.getpid(), signal.SIGINT)

data, out, overrides, stop, resume = json.loads(sys.argv[1])
try:
    train(data, out=out, recipe="resdsn-c2f-coarse", resume=resume, fold=Fold(seed=1), compute=Compute("cpu", 2),
          overrides=["defence.method=free", *overrides], progress=progress)
except Interrupted:
    pass
"""


@pytest.mark.slow
def test_two_processes_resume_with_the_perturbations_of_each(phantoms, tmp_path):
    overrides = [
        *SHORT, "training.workers=0", "training.precision=fp32", "preparation.patch_size=[16,16,16]",
        "preparation.batch_size=2", "network.options.channels=[4,8,8,8]", "inference.extra_windows=1",
    ]  # fmt: skip
    script = tmp_path / "sitting.py"
    script.write_text(SITTING)

    def state(out, stop=0, resume=False):
        arguments = json.dumps([str(phantoms), str(tmp_path / out), overrides, stop, resume])
        subprocess.run([sys.executable, str(script), arguments], check=True, timeout=300)
        return torch.load(RunFolder(tmp_path / out).state, weights_only=True)

    whole, part = state("whole"), state("parts", stop=2)
    assert part["state"]["step"] == 2 < whole["state"]["step"]
    parts = state("parts", resume=True)
    first, second = whole["step"]["share"]
    assert not torch.equal(first, second)
    assert torch.equal(parts["step"]["share"], whole["step"]["share"])
    assert all(torch.equal(parts["network"][name], weight) for name, weight in whole["network"].items())
