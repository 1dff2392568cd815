"""The attack and benchmark commands on a tiny run: books, resuming, refusals."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import voxward
from tests.end_to_end.build import changes
from tests.end_to_end.conftest import TINY
from voxward.cli import main, translated
from voxward.cli.robustness import show
from voxward.commands.attack import attack
from voxward.commands.train import train
from voxward.core.choices import Fold
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_label
from voxward.robustness.description import read_protocol
from voxward.robustness.finding import Finding
from voxward.robustness.record import EQUAL_NOISE

QUICK = {"attacks": ("apgd-dice", "fab-dice", "square"), "eps": (8 / 255, 16 / 255), "steps": 10, "queries": 10,
         "fab_steps": 3, "cases": 1, "precision": "fp32"}  # fmt: skip


SMALL = ("attacks=[fgsm-ce]", "threat.eps=[8/255]", "controls=[noise]")
LINE = ["--attacks", *QUICK["attacks"], "--eps", "8/255", "16/255", "--cases", "1", "--set", "budget.steps=10",
        "--set", "budget.queries=10", "--set", "budget.fab_steps=3", "--set", "precision=fp32"]  # fmt: skip
"""The same on the command line."""


@pytest.fixture(scope="module")
def skilled(phantoms, tmp_path_factory):
    """A run that has learnt something: an attack on a model without Dice proves nothing."""
    more = ("network.options.filters=[8,16,16,16,8,8]", "training.epochs=60", "optimizer.options.lr=0.01")
    return train(
        phantoms,
        out=tmp_path_factory.mktemp("skilled") / "run",
        recipe="dynunet",
        overrides=(*TINY, *more),
        fold=Fold(seed=1),
    )


@pytest.fixture(scope="module")
def attacked(skilled, phantoms, tmp_path_factory):
    return attack(skilled, phantoms, out=tmp_path_factory.mktemp("attack"), overrides=changes(**QUICK))


def test_the_books_are_complete(attacked):
    found = {(record.attack, round(record.eps * 255)) for record in attacked.records}
    wanted = {
        (name, eps) for name in ("noise", *EQUAL_NOISE, "doubled", "apgd-dice", "fab-dice", "square") for eps in (8, 16)
    }
    assert found == wanted | {("clean", 0), ("clip", 0), ("probe", 0), ("reach", 255)}
    for name in (
        "robustness.md",
        "robustness.csv",
        "sanity.json",
        "curves.png",
        "iterations.png",
        "iterations.md",
        "settings.json",
        "cases.json",
        "protocol.json",
    ):
        assert (attacked.out / name).stat().st_size > 0
    assert list(attacked.out.glob("panel-*.png"))


def test_the_attacked_model_is_the_deployed_one(attacked):
    for record in attacked.records:
        assert record.deployed_clean == record.clean
        assert record.clean_dice() > 0.4


def test_the_attacks_worked_and_are_booked(attacked):
    found = {record.attack: record for record in attacked.records if record.eps > 10 / 255}
    assert found["apgd-dice"].dice() < 0.7 * found["apgd-dice"].clean_dice()
    assert found["square"].forwards >= 10
    assert 0 < found["apgd-dice"].gradients <= 10
    threshold = found["fab-dice"].options["threshold"]
    assert threshold == pytest.approx(found["fab-dice"].clean_dice() / 2)  # mu / 2, of the one case
    bound = [record for record in found.values() if record.attack not in ("reach", *EQUAL_NOISE)]
    assert all(record.written <= record.eps * (1 + 1e-5) for record in bound)


def test_attacks_never_raise_the_dice_and_stay_in_the_ball(attacked):
    for record in attacked.records:
        if record.kind == "attack":
            assert record.dice() <= record.clean_dice()
            assert record.distance <= record.eps * (1 + 1e-5)


def test_a_file_lies_in_the_ball_and_is_what_was_judged(skilled, phantoms, tmp_path):
    options = {**QUICK, "attacks": ("apgd-dice",), "controls": (), "keep": "all"}
    result = attack(skilled, phantoms, out=tmp_path, overrides=changes(**options))
    record = next(r for r in result.records if r.attack == "apgd-dice" and r.eps > 10 / 255)
    path = next((result.out / "volumes").glob(f"*/apgd-dice/{record.eps:.5f}/{record.case}.*"))
    source, stored = read_image(open_dataset(phantoms).case(record.case).images), read_image([path])
    assert stored.array.dtype == source.array.dtype
    np.testing.assert_allclose(stored.affine, source.affine, atol=1e-5)
    (low, high), *_ = record.threat.bounds
    assert np.abs(stored.array.astype(float) - source.array).max() <= record.eps * (high - low) * (1 + 1e-5)


def test_a_second_call_computes_nothing(attacked, skilled, phantoms):
    before = {path: path.stat().st_mtime_ns for path in (attacked.out / "records").rglob("*.json")}
    again = attack(skilled, phantoms, out=attacked.out, overrides=changes(**QUICK))
    assert again.records == attacked.records
    assert before == {path: path.stat().st_mtime_ns for path in (attacked.out / "records").rglob("*.json")}


def test_another_precision_or_other_data_need_another_folder(attacked, skilled, phantoms, tmp_path):
    with pytest.raises(ValueError, match=r"systems\.run\.precision: bf16, was fp32.*another --out"):
        attack(skilled, phantoms, out=attacked.out, overrides=changes(**{**QUICK, "precision": "bf16"}))
    other = tmp_path / phantoms.name
    subprocess.run(["cp", "-r", str(phantoms), str(other)], check=True)
    label = open_dataset(other).case(attacked.records[0].case).label
    truth = read_label(label)
    write_label(label, np.where(truth.array == 1, 0, truth.array), truth.affine)
    with pytest.raises(ValueError, match=r"the files of case phantom_.*another --out"):
        attack(skilled, other, out=attacked.out, overrides=changes(**QUICK))


def test_other_settings_need_another_folder(attacked, skilled, phantoms):
    with pytest.raises(ValueError, match=r"protocol\.budget\.steps.*another --out"):
        attack(skilled, phantoms, out=attacked.out, overrides=changes(**{**QUICK, "steps": 11}))


def _units(out):
    return [path for path in (out / "records").rglob("*.json") if not path.name.startswith(".")]


def _kept(out):
    """The volumes and segmentations that are kept, each with what it holds."""
    files = [path for folder in ("volumes", "segmentations") for path in (out / folder).rglob("*.nii*")]
    return {path.relative_to(out): read_image([path]).array.tobytes() for path in files}


@pytest.mark.slow  # tests/robustness/test_store.py kills work that is as quick as a file
def test_a_killed_benchmark_resumes_with_the_same_numbers(attacked, skilled, phantoms, tmp_path):
    line = [
        sys.executable, "-m", "voxward.cli", "attack", str(skilled), "--dataset", str(phantoms), "--out", str(tmp_path),
        *LINE,
    ]  # fmt: skip
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(_units(tmp_path)) < 3 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in _units(tmp_path)}
    assert 3 <= len(finished) < len(_units(attacked.out))
    resumed = attack(skilled, phantoms, out=tmp_path, overrides=changes(**QUICK))
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())

    def numbers(records):
        return [(r.attack, r.eps, r.adversarial, r.deployed, r.distance, r.history) for r in records]

    assert numbers(resumed.records) == numbers(attacked.records)
    assert _kept(tmp_path) == _kept(attacked.out)


def test_several_runs_make_a_leaderboard(skilled, phantoms, tmp_path):
    other = tmp_path / "other"
    other.symlink_to(skilled, target_is_directory=True)
    options = {**QUICK, "attacks": ("fgsm-ce",), "controls": (), "eps": (8 / 255,)}
    with pytest.raises(ValueError, match="different names"):
        attack([skilled, skilled], phantoms, out=tmp_path / "twice", overrides=changes(**options))
    assert not (tmp_path / "twice").exists()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(skilled), str(copy)], check=True)
    result = attack([skilled, copy], phantoms, out=tmp_path / "out", overrides=changes(**options))
    assert len(result.leaderboard.rows) == 2
    assert (result.out / "leaderboard.md").is_file()


def test_patch_mode(skilled, phantoms, tmp_path):
    options = {
        **QUICK,
        "mode": "patch",
        "attacks": ("pgd-ce",),
        "controls": tuple(EQUAL_NOISE),
        "sanity.absolute": 0.25,
    }
    result = attack(skilled, phantoms, out=tmp_path, overrides=changes(**options))
    assert all(record.deployed is None and record.mode == "patch" for record in result.records)
    # Normalised intensities lie below 0, too, where Rician noise means nothing.
    assert {record.attack for record in result.records} & set(EQUAL_NOISE) == {"gaussian"}
    assert any(note.startswith("rician of run is not over 1 case of 1") for note in result.report.notes)
    assert any("a Dice of mu / 2 or above, and of 0.25 or above" in note for note in result.report.notes)


@pytest.mark.slow
def test_a_surrogate_adds_a_transfer_attack(skilled, trained, phantoms, tmp_path):
    quick = {**QUICK, "attacks": ("fgsm-ce",), "controls": ()}
    with pytest.raises(ValueError, match="the surrogate is run itself"):
        attack(skilled, phantoms, out=tmp_path, overrides=changes(**quick, surrogate=skilled))
    result = attack(skilled, phantoms, out=tmp_path, overrides=changes(**quick, surrogate=trained))
    assert [r.white_box for r in result.records if r.attack == "transfer"] == [False, False]


def test_one_class_can_be_erased(attacked, skilled, phantoms, tmp_path):
    """Attacked alone, a class loses at least as much as it does when the mean of both is attacked."""
    options = {**QUICK, "attacks": ("apgd-dice",), "controls": ()}
    result = attack(skilled, phantoms, out=tmp_path, overrides=changes(**options, erase="organ a"))
    before = {r.eps: r for r in attacked.records if r.attack == "apgd-dice"}
    for record in result.records:
        assert record.classes == ("organ a",)
        assert record.clean[0] > 0.4
        assert record.deployed_clean == record.clean
        if record.attack == "apgd-dice":
            assert record.clean[0] == before[record.eps].clean[0]
            assert record.adversarial[0] <= before[record.eps].adversarial[0]


def test_a_budget_is_an_estimate_and_no_work(skilled, phantoms, tmp_path):
    few = changes(**{**QUICK, "attacks": ("apgd-dice",), "controls": ("clean",)})
    result = attack(skilled, phantoms, out=tmp_path / "none", overrides=few, estimate=True)
    assert result.hours > 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": (-0.1,)}, "eps must be"),
        ({"eps": (1.5,)}, "0 to 1"),
        ({"eps": (0.0,)}, "above 0"),
        ({"eps": ()}, "at least one"),
        ({"attacks": ("apgd-dicee",)}, "Did you mean 'apgd-dice'"),
        ({"norm": "l2"}, "square .*knows the norms linf"),
        ({"policy": "nothing"}, "policy"),
        ({"cases": 0}, "cases must be"),
        ({"steps": 0}, "steps"),
        ({"mode": "patch", "unit": "native"}, "patch"),
        ({"mode": "patch", "statistics": "live"}, "patch"),
        ({"erase": "spleen"}, "erase must name one of the classes organ a, organ b, lesion"),
    ],
)
def test_bad_input_is_refused_before_any_work(skilled, phantoms, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        attack(skilled, phantoms, out=tmp_path / "out", overrides=changes(**{**QUICK, **options}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["attack", "benchmark"])
def test_a_negative_fraction_is_an_eps_that_is_refused(skilled, phantoms, tmp_path, capsys, command):
    line = [
        command,
        str(skilled),
        "--dataset",
        str(phantoms),
        "--out",
        str(tmp_path / "out"),
        "--eps",
        "8/255",
        "-1/255",
    ]
    assert main(line) == 2
    assert "threat.eps must be above 0, got -0.0039" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_labels_is_refused(skilled, phantoms, tmp_path):
    bare = tmp_path / "bare"
    (bare / "images").mkdir(parents=True)
    case = open_dataset(phantoms).cases[0]
    (bare / "images" / case.images[0].name).symlink_to(case.images[0])
    with pytest.raises((ValueError, FileNotFoundError)):
        attack(skilled, bare, out=tmp_path / "out", overrides=changes(**QUICK))
    assert not (tmp_path / "out").exists()


def test_the_command_line(attacked, skilled, phantoms, capsys):
    line = ["attack", str(skilled), "--dataset", str(phantoms), "--out", str(attacked.out), *LINE]
    assert read_protocol(attacked.out).command.startswith(f"voxward.attack(systems={str(skilled)!r}, ")
    code = main(line)
    how = read_protocol(attacked.out)
    assert (shlex.split(how.command), how.python) == (["voxward", *line], False)
    assert code == (0 if attacked.trustworthy else 1)
    assert "apgd-dice" in capsys.readouterr().out
    passed = [finding["passed"] for finding in json.loads((attacked.out / "sanity.json").read_text())["findings"]]
    assert attacked.trustworthy == (False not in passed)


def test_the_python_interface(skilled, phantoms):
    import torch

    case = open_dataset(phantoms).cases[0]
    volume = read_image(case.images)
    predictor = voxward.Predictor(voxward.load_run(skilled), torch.device("cpu"), "fp32")
    model = voxward.PipelineModel.freeze([predictor], volume)
    target = torch.from_numpy(voxward.read_label(case.label).array.astype(np.int64))[None]
    threat = voxward.ThreatModel(8 / 255, bounds=model.bounds)
    images = torch.from_numpy(volume.array.astype(np.float32))[None]
    result = voxward.attacks.create("apgd-dice", steps=10)(model, images, target, threat)
    assert float(result.dice) <= float(result.clean_dice)
    assert result.gradients <= 10


def test_requirements_are_judged_and_gate(attacked, skilled, phantoms, capsys):
    """They may change without another attack: no record depends on them."""
    wanted = ["clean_dice >= 0.01", "robust_dice@16/255 >= 0.999"]
    overrides = [*changes(**QUICK), f"require=[{', '.join(wanted)}]"]
    result = attack(skilled, phantoms, out=attacked.out, overrides=overrides)
    assert result.records == attacked.records
    assert [(verdict.requirement, verdict.met) for verdict in result.verdicts] == list(
        zip(wanted, (True, False), strict=True)
    )
    written = json.loads((attacked.out / "requirements.json").read_text())
    assert [verdict["met"] for verdict in written["requirements"]] == [True, False]
    trusted = replace(result, findings=())
    assert not result.met
    assert show(trusted) == 3
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "NOT MET: robust_dice@16/255 >= 0.999" in printed
    assert "figures and the page report.html: " in printed
    assert show(trusted, report=False) == 3
    assert "report.html" not in capsys.readouterr().out  # that which lies there is of an earlier call
    assert show(replace(trusted, verdicts=trusted.verdicts[:1])) == 0
    failed = Finding("noise control", False, "noise moves the Dice")
    assert show(replace(result, findings=(failed,))) == 1  # such figures say nothing about a requirement


@pytest.mark.slow
def test_every_table_says_what_else_the_folder_holds(skilled, phantoms, tmp_path):
    """Who opens one table must not take it for one over all cases of the folder."""
    out = tmp_path / "out"
    for count in (2, 1):
        attack([skilled], phantoms, out=out, overrides=[*SMALL, f"cases={count}"])
    for name in ("robustness.md", "classes.md", "areas.md", "iterations.md"):
        assert "that this call does not ask for: no figure here is over it" in (out / name).read_text(), name


def test_what_can_be_named_is_listed(capsys):
    assert main(["attack", "--list"]) == 0
    printed = capsys.readouterr().out
    for name in ("apgd-dice", "strong", "rog-paper", "balanced-ce"):
        assert name in printed


def test_an_attack_needs_a_system_and_a_dataset(skilled, capsys):
    for line in (["attack"], ["attack", str(skilled)]):
        assert main(line) == 2
        assert "at least one SYSTEM, and the dataset as --dataset" in capsys.readouterr().err


@pytest.mark.slow
def test_the_former_name_says_so(skilled, phantoms, tmp_path, capsys):
    line = ["benchmark", str(skilled), "--dataset", str(phantoms), "--out", str(tmp_path / "out"), "--estimate"]
    assert main([*line, "--cases", "1", "--attacks", "fgsm-ce", "--set", "controls=[clean]"]) == 0
    said = capsys.readouterr()
    assert "voxward benchmark is now voxward attack" in said.err
    assert "estimated" in said.out
    assert said.err.count("short trials systems and cases are read") == 1
    assert re.search(r"with 1 worker like this process: \S+ hours, \d\d:\d\d:\d\d\n", said.out)
    with pytest.warns(UserWarning, match="is now voxward attack"):
        voxward.benchmark(
            skilled, phantoms, out=tmp_path / "out", overrides=["cases=1", "attacks=[fgsm-ce]", "controls=[clean]"],
            estimate=True,
        )  # fmt: skip


def test_both_the_protocol_and_the_systems_are_changed_by_set(skilled, phantoms, tmp_path):
    with pytest.raises(ValueError, match=r"unknown key 'budjet'.*Did you mean 'budget'"):
        attack(skilled, phantoms, out=tmp_path / "out", overrides=["budjet.steps=3"])
    with pytest.raises(ValueError, match="unknown key 'marginn'"):
        attack(skilled, phantoms, out=tmp_path / "out", overrides=["budget.steps=3", "marginn=4"])
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_into_the_dataset(skilled, phantoms):
    before = sorted(path.name for path in phantoms.iterdir())
    for out in (phantoms, phantoms / "labelsTr"):
        with pytest.raises(ValueError, match="dataset's own folder"):
            attack(skilled, phantoms, out=out, overrides=changes(**QUICK))
        with pytest.raises(ValueError, match="dataset's own folder"):
            voxward.evaluate(skilled, phantoms, out=out)
    assert sorted(path.name for path in phantoms.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--members", "b"], "--members is now: write a system: voxward compose ensemble"),
        (["--save-volumes"], "--save-volumes is now: --set keep=all"),
    ],
)
def test_arguments_of_version_0_1_say_what_they_are_now(capsys, words, said):
    with pytest.raises(SystemExit) as stop:
        main(["attack", "run", "--dataset", "data", *words])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_arguments_of_version_0_1_that_are_entries_now_still_work(capsys):
    words = ["attack", "run", "--tta", "mirrors", "--steps=5", "--seed", "3", "--fab-steps", "7", "--norm"]
    today = ["--set", "tta=mirrors", "--set", "budget.steps=5", "--seed", "3", "--set", "budget.fab_steps=7", "--norm"]
    assert translated(words, ("--set", "--seed")) == [*words[:2], *today]
    assert "--tta is now: --set tta=mirrors" in capsys.readouterr().err
    assert translated(words, ("--tta",)) == words
