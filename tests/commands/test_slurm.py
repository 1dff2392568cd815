"""The batch scripts that `voxward slurm` prints are what bash and SLURM understand."""

from __future__ import annotations

import shlex
import subprocess

import pytest

import voxward
from voxward.cli import main, parser
from voxward.commands.slurm import TOGETHER, UNITS
from voxward.core.errors import UserError
from voxward.core.job import Job

ATTACK = ["attack", "my run", "--dataset", "data", "--set", "threat.eps=[4/255, $HOME]"]


def arrays(script):
    """What bash reads out of the arrays that the script begins with."""
    names = ("command", "needs", "offers", "tasks")
    lines = [line for line in script.splitlines() if line.split("=(")[0] in names]
    shown = [f'printf "%s\\n" {name} "${{{name}[@]}}" ""' for name in names]
    out = subprocess.run(["bash", "-c", "\n".join([*lines, *shown])], capture_output=True, text=True, check=True)
    return {part.split("\n")[0]: part.split("\n")[1:] for part in out.stdout.strip("\n").split("\n\n")}


def check(script):
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    return script


def test_workers_and_the_command_that_uses_them():
    job = Job(nodes=4, time="8:00:00", gpus_per_node=2, cpus_per_task=8, mem="64G", partition="gpu", account="me")
    script = check(voxward.slurm(ATTACK, job, setup="module load cuda; source 'my venv/bin/activate'"))
    for line in ("nodes=4", "ntasks-per-node=2", "gpus-per-node=2", "cpus-per-task=8", "mem=64G", "time=8:00:00",
                 "partition=gpu", "account=me", "signal=B:USR1@300", "requeue", "no-kill"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script
    assert "\nmodule load cuda; source 'my venv/bin/activate'\n" in script
    found = arrays(script)
    assert found["command"] == ["voxward", *ATTACK]  # quoted, whatever it holds
    assert found["needs"] == found["offers"] == ["--resources", "GPU=1"]
    assert found["tasks"] == ["--nodes=4", "--ntasks-per-node=2", "--cpus-per-task=8"]


def test_without_gpus_none_is_asked_for():
    script = check(voxward.slurm(["voxward", *ATTACK], Job(nodes=1, time="90", workers_per_node=3)))
    assert "gpu" not in script.lower().replace("for each gpu", "")
    assert arrays(script)["tasks"] == ["--nodes=1", "--ntasks-per-node=3"]
    assert shlex.split(script.split("command=")[1].split("\n")[0].strip("()"))[:2] == ["voxward", "attack"]


def test_one_training_on_all_gpus():
    job = Job(nodes=2, time="2-0", gpus_per_node=4)
    script = check(voxward.slurm(["train", "data", "--out", "my run"], job))
    command = next(line for line in script.splitlines() if line.startswith("command="))
    assert command == "command=(voxward train data --out 'my run' --devices 4 --nodes 2)"
    assert "begun='my run/recipe.yaml'\n" in script
    assert "dask" not in script


@pytest.mark.parametrize(
    ("time", "seconds"), [("90", 5400), ("90:30", 5430), ("8:00:00", 28800), ("2-12", 216000), ("1-00:30:05", 88205)]
)
def test_time_limits_are_read_as_slurm_reads_them(time, seconds):
    assert Job(nodes=1, time=time).seconds == seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 0}, "nodes must be at least 1, got 0"),
        ({"gpus_per_node": -1}, "gpus_per_node must be at least 0"),
        ({"workers_per_node": 0}, "workers_per_node must be at least 1"),
        ({"gpus_per_node": 2, "workers_per_node": 3}, "at most gpus_per_node"),
        ({"time": "8 hours"}, "time must be a time limit as SLURM writes it, .* got '8 hours'"),
        ({"time": "0:00:00"}, "time must be"),
        ({"time": "5:00"}, "warn must be a number of seconds below the time limit, which is 300 s, got 300"),
        ({"partition": "a\n#SBATCH --x"}, "partition must be one word"),
        ({"mem": "64 G"}, "mem must be one word"),
    ],
)
def test_jobs_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Job(**{"nodes": 1, "time": "8:00:00", **options})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "must be given after --, got none"),
        (["predict", "run"], "got predict: no other one is done on several machines"),
        ([*ATTACK, "--cluster", "local:2"], "the script adds --cluster to the command itself"),
        ([*ATTACK, "--resources=GPU=1"], "the script adds --resources"),
        (["train", "data", "--out", "r", "--devices", "2"], "the script adds --devices"),
        (["train", "data"], "train needs --out"),
    ],
)
def test_commands_that_cannot_be_done_so_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        voxward.slurm(words, Job(nodes=1, time="8:00:00"))


def test_the_commands_that_are_known_take_what_the_script_adds():
    commands = next(action for action in parser()._actions if action.dest == "command").choices
    for name, line in commands.items():
        options = line._option_string_actions
        assert (name in UNITS) == ("--cluster" in options)
        assert (name in TOGETHER) == ("--devices" in options)


def test_the_command_line_prints_the_script(capsys):
    words = ["slurm", "--nodes", "2", "--time", "60", "--gpus-per-node", "1", "--", *ATTACK]
    assert main(words) == 0
    assert capsys.readouterr().out == voxward.slurm(ATTACK, Job(nodes=2, time="60", gpus_per_node=1))
    with pytest.raises(SystemExit):
        main([*words, "--no-such-argument"])
    assert capsys.readouterr().out == ""
