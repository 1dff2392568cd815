"""What a training promises: it resumes to the bit, stops when told, keeps to its budget, and refuses bad input."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.end_to_end.conftest import TINY
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold, Reuse
from voxward.core.interrupt import Interrupted
from voxward.core.log_file import log_row
from voxward.core.plan import load_json
from voxward.runs.folder import RunFolder, RunSplit, load_run
from voxward.runs.postprocess import PostProcess
from voxward.training.ledger import read_ledger
from voxward.training.log import COLUMNS, read_log


class StopAt:
    """Sends the signal of Ctrl-C when training reaches a step."""

    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number = step, number

    def __call__(self, stage, done, total, /, **figures):
        if stage == "train" and done == self.step:
            os.kill(os.getpid(), self.number)


def _same_run(a, b):
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in read_log(RunFolder(r).log)] for r in (a, b)]
    assert rows[0] == rows[1]
    for checkpoint in ("last", "best"):
        first, second = (load_file(RunFolder(r).weights(checkpoint)) for r in (a, b))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_folder_holds_everything(trained):
    names = {str(p.relative_to(trained)) for p in trained.rglob("*") if p.is_file() and "prepared" not in p.parts}
    assert names >= {
        "recipe.yaml", "plan.json", "splits.json", "postprocess.json", "checkpoints/best.safetensors",
        "checkpoints/last.safetensors", "checkpoints/state.pt", "logs/training.csv", "logs/curve.png",
    }  # fmt: skip
    assert not [name for name in names if "unfinished" in name]
    assert any(name.startswith("logs/tensorboard/") for name in names)


@pytest.mark.parametrize("crop", [True, False])
def test_the_recipe_says_whether_cases_are_measured_cropped(phantoms, tmp_path, monkeypatch, crop):
    asked = []

    def measure(*arguments):
        asked.append(arguments[4])
        raise ValueError("far enough")

    monkeypatch.setattr(sys.modules["voxward.training.begin"], "fingerprint", measure)
    with pytest.raises(ValueError, match="far enough"):
        train(phantoms, out=tmp_path / "run", overrides=[f"preparation.crop_nonzero={str(crop).lower()}"])
    assert asked == [crop]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_resume_equals_uninterrupted_to_the_bit(phantoms, trained, tmp_path, number):
    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="step 3; --resume"):
        train(phantoms, out=out, recipe="dynunet", overrides=TINY, progress=StopAt(3, number), fold=Fold(seed=1))
    train(phantoms, out=out, resume=True)
    _same_run(out, trained)


def test_resume_after_a_kill_starts_at_the_last_save(phantoms, trained, tmp_path):
    """Rows that a killed sitting logged after its last save are dropped; an ended run resumes to itself."""
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(phantoms, out=out, recipe="dynunet", overrides=TINY, progress=StopAt(4), fold=Fold(seed=1))
    with RunFolder(out).log.open("a") as log:
        log.write(log_row(COLUMNS, (5, 1, 9.0, 9.0, 0.0, 0.0, 1.0)))
    train(phantoms, out=out, resume=True)
    train(phantoms, out=out, resume=True)
    _same_run(out, trained)


def test_other_seeds_give_other_runs(phantoms, trained, tmp_path):
    other = train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=TINY, fold=Fold(seed=2))
    assert read_log(RunFolder(other).log)[0]["training_loss"] != read_log(RunFolder(trained).log)[0]["training_loss"]


@pytest.mark.slow
def test_a_time_budget_is_kept_over_an_interruption(phantoms, tmp_path):
    out, minutes = tmp_path / "run", 0.25
    started = time.perf_counter()
    with pytest.raises(Interrupted):
        train(
            phantoms, out=out, recipe="dynunet", minutes=minutes, overrides=TINY, progress=StopAt(14), fold=Fold(seed=1)
        )
    state = torch.load(RunFolder(out).state, weights_only=True)["state"]
    assert state["total_steps"] > 14
    train(phantoms, out=out, minutes=50.0, resume=True)  # the budget is decided: another one changes nothing
    assert time.perf_counter() - started < 60
    rows = read_log(RunFolder(out).log)
    end = torch.load(RunFolder(out).state, weights_only=True)["state"]
    assert rows[-1]["step"] == end["step"] == end["total_steps"]
    assert 0.85 * minutes * 60 < rows[-1]["seconds"] < 2 * minutes * 60  # how exactly: tests/training/test_budget.py
    assert rows[-1]["learning_rate"] < 0.1 * max(row["learning_rate"] for row in rows)  # the schedule fits the length


@pytest.mark.slow
def test_a_budget_survives_an_interruption_before_it_became_steps(phantoms, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(
            phantoms,
            out=out,
            recipe="dynunet",
            minutes=0.1,
            overrides=[*TINY, "training.epochs=100000"],
            progress=StopAt(3),
        )
    assert torch.load(RunFolder(out).state, weights_only=True)["state"]["total_steps"] is None
    train(phantoms, out=out, resume=True)  # with the recipe's epochs this would not end
    assert read_log(RunFolder(out).log)[-1]["seconds"] < 60


def test_training_lowers_the_loss(trained):
    rows = read_log(RunFolder(trained).log)
    assert rows[-1]["training_loss"] < rows[0]["training_loss"]


@pytest.mark.slow
def test_the_lattice_trains_too(phantoms, trained, tmp_path):
    overrides = ["training.workers=1", "training.epochs=1", "preparation.batch_size=3", "postprocessing.kind=none"]
    run = train(phantoms, out=tmp_path / "run", recipe="rog", overrides=overrides)
    model = load_run(run)
    assert model.postprocess == PostProcess()
    assert model.plan.window_size[0] % model.plan.total_stride[0] == 0


def test_validation_cases_are_never_prepared(phantoms, trained):
    split = json.loads((trained / "splits.json").read_text())
    prepared = {p.name for p in (trained / "prepared").iterdir() if p.is_dir()}
    assert prepared == {*split["fit"], *split["selection"]}
    assert not prepared & set(split["validation"])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"minutes": 0.0}, "minutes must be positive"),
        ({"recipe": "rogg"}, "unknown recipe"),
        ({"overrides": ["training.epochs=0"]}, "at least 1"),
        ({"fold": Fold(fold=9)}, "fold"),
        ({"compute": Compute("cuda")}, "CUDA"),
        ({"overrides": ["training.precision=fp16"], "compute": Compute("cpu")}, "fp16"),
        ({"overrides": ["network.options.kernel_sizes=[[3,3,3]]"], "recipe": "dynunet"}, "one entry per level"),
        ({"overrides": ["loss.name=hinge"]}, "unknown loss"),
        ({"overrides": ["optimizer.options.speed=3"]}, "optimizer"),
        ({"overrides": ["network.options.depth=3"]}, "no option depth"),
        ({"overrides": ["postprocessing.classes.tumor=lesion"]}, r"postprocessing.classes: unknown class 'tumor'"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(phantoms, tmp_path, arguments, problem):
    if "compute" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match=problem):
        train(phantoms, out=tmp_path / "run", **arguments)
    assert not RunFolder(tmp_path / "run").recipe.exists()
    assert not RunFolder(tmp_path / "run").plan.exists()


def test_a_plan_of_another_dataset_is_refused(phantoms, trained, tmp_path):
    plan = json.loads((trained / "plan.json").read_text())
    del plan["checksum"]  # as whoever edits a file does
    plan["channels"][0]["name"] = "CT"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match="has the channels MRI, but the model takes CT"):
        train(phantoms, out=tmp_path / "run", reuse=Reuse(plan=tmp_path / "plan.json"))


def test_the_dataset_folder_is_not_written_into(phantoms):
    with pytest.raises(ValueError, match="dataset's own folder"):
        train(phantoms, out=phantoms)


@pytest.mark.slow
def test_two_processes_train_one_network(phantoms, tmp_path):
    command = [sys.executable, "-m", "voxward.cli", "train", str(phantoms), "--recipe", "dynunet", "--device", "cpu"]
    command += ["--devices", "2", "--out", str(tmp_path / "run")]
    command += [part for override in TINY for part in ("--set", override)]
    subprocess.run(command, check=True, timeout=300)
    run = RunFolder(tmp_path / "run")
    assert read_log(run.log)[-1]["step"] == 4  # 2 epochs of 5 cases, 2 processes of 2
    assert set(read_ledger(run.ledger)) == set(load_json(RunSplit, run.splits).fit)
    assert len(run.ledger.read_text().splitlines()) == 1 + 4 * 4
    assert [path.name for path in run.ledger.parent.glob("ledger*")] == ["ledger.csv"]


@pytest.mark.slow
def test_two_processes_keep_a_time_budget_together(phantoms, tmp_path):
    """They correct its length alike: else one of them would wait for the other for ever."""
    command = [sys.executable, "-m", "voxward.cli", "train", str(phantoms), "--recipe", "dynunet", "--device", "cpu"]
    command += ["--devices", "2", "--minutes", "0.3", "--out", str(tmp_path / "run")]
    command += [part for override in TINY for part in ("--set", override)]
    subprocess.run(command, check=True, timeout=300)
    run = RunFolder(tmp_path / "run")
    state = torch.load(run.state, weights_only=True)["state"]
    assert state["step"] == state["total_steps"] == read_log(run.log)[-1]["step"]
    assert 0.85 * 18 < state["seconds"] < 2 * 18


@pytest.mark.gpu
def test_resume_on_a_gpu(phantoms, tmp_path):
    overrides = [*TINY, "training.precision=fp16"]
    with pytest.raises(Interrupted):
        train(
            phantoms,
            out=tmp_path / "run",
            recipe="dynunet",
            overrides=overrides,
            progress=StopAt(3),
            compute=Compute(device="cuda"),
        )
    train(phantoms, out=tmp_path / "run", resume=True, overrides=overrides, compute=Compute(device="cuda"))
    assert RunFolder(tmp_path / "run").weights("best").is_file()


def test_runs_are_not_overwritten_and_only_runs_are_resumed(phantoms, trained, tmp_path):
    with pytest.raises(ValueError, match="already holds a run"):
        train(phantoms, out=trained)
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        train(phantoms, out=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=r"training\.epochs=9 contradicts"):
        train(phantoms, out=trained, resume=True, overrides=["training.epochs=9"])
    with pytest.raises(ValueError, match=r"defence\.method=free contradicts"):
        train(phantoms, out=trained, resume=True, overrides=["defence.method=free"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(tmp_path / "nowhere", out=tmp_path / "run")


def test_a_diverging_loss_is_named(phantoms, tmp_path):
    with pytest.raises(FloatingPointError, match="lower optimizer"):
        train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=[*TINY, "optimizer.options.lr=1e30"])


def test_training_outside_the_main_thread_works(phantoms, tmp_path):
    """Signals reach the main thread only; a notebook or a server may train from another."""
    thread = threading.Thread(
        target=train, args=(phantoms,), kwargs={"out": tmp_path / "run", "recipe": "dynunet", "overrides": TINY}
    )
    thread.start()
    thread.join()
    assert RunFolder(tmp_path / "run").weights("best").is_file()
