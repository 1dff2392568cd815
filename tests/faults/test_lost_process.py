"""One of two processes of a training dies, hangs or refuses: the other one ends within a minute and says so once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder
from voxward.training.log import read_log

# A program, because each process of a training runs it again. Each leaves its number; preparing may take for ever.
PROGRAM = """
import os, sys, time
from pathlib import Path
import voxward.training.train as module
from voxward.cli import main

data, out, when, *rest = sys.argv[1:]
Path(out).with_suffix("." + os.environ.get("LOCAL_RANK", "0")).write_text(str(os.getpid()))

def for_ever(*arguments, **others):
    Path(out).with_suffix(".prepares").touch()
    while True:
        time.sleep(0.1)

if when == "prepare":
    module.prepare_dataset = for_ever
sys.exit(main(["train", data, "--out", out, "--device", "cpu", "--recipe", "dynunet", *rest]))
"""
LONG = (
    "training.workers=1", "training.precision=fp32", "network.options.filters=[4,8,8,8,8,8]",
    "preparation.batch_size=1", "training.epochs=1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def phantom_data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(root, 8, size=24)
    return root


class Training:
    """A training by two processes."""

    def __init__(self, folder, data, when, *arguments):
        self.out, self.when = folder / "run", when
        program = folder / "program.py"
        program.write_text(PROGRAM)
        changes = [word for change in LONG for word in ("--set", change)]
        command = [sys.executable, program, data, self.out, when, "--devices", "2", *changes, *arguments]
        self.process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_alone()
        )

    def number(self, rank):
        return self.process.pid if rank == 0 else int(self.out.with_suffix(".1").read_text())

    def begun(self):
        """Wait until the work has begun that is to be disturbed."""
        log, until = RunFolder(self.out).log, time.monotonic() + 200
        while time.monotonic() < until and self.process.poll() is None:
            if self.out.with_suffix(".prepares").exists() or (log.is_file() and len(read_log(log)) >= 2):
                time.sleep(3)  # so that the second process waits for the first one
                return
            time.sleep(0.2)
        pytest.fail(f"nothing began: {self.process.communicate()[0]}")

    def end(self):
        """Return the exit code, what was said, and the seconds that it took."""
        began = time.monotonic()
        text = self.process.communicate(timeout=100)[0]
        return self.process.returncode, text, time.monotonic() - began


def _alone():
    """The environment without what a launcher around the tests has set."""
    mine = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
    return mine | {"COLUMNS": "200"}


def _runs(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(number):
    until = time.monotonic() + 20
    while _runs(number) and time.monotonic() < until:
        time.sleep(0.2)
    return not _runs(number)


def _errors(text):
    return [line for line in text.replace("\r", "\n").splitlines() if line.startswith("error")]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
@pytest.mark.parametrize("when", ["prepare", "train"])
@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "has died"), (signal.SIGSTOP, "it hangs")])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_others_end_within_a_minute(phantom_data, tmp_path, when, number, said, rank):
    training = Training(tmp_path, phantom_data, when)
    training.begun()
    numbers = [training.number(n) for n in (0, 1)]
    os.kill(numbers[rank], number)
    code, text, seconds = training.end()
    assert seconds < 60
    assert code == (1 if rank else -signal.SIGKILL)
    (error,) = _errors(text)
    assert f"process {rank} of 2 (number {numbers[rank]}" in error
    assert said in error
    assert "Traceback" not in text
    assert all(map(_gone, numbers))
    assert not list(training.out.rglob("*.unfinished*"))
    assert RunFolder(training.out).state.is_file() is (when == "train")


@pytest.mark.slow
def test_what_the_first_process_refuses_is_said_once(phantom_data, tmp_path):
    """A plan that does not fit is found when both processes are there already."""
    (tmp_path / "list.csv").write_text("case\nnobody\n")
    training = Training(tmp_path, phantom_data, "train", "--exclude", str(tmp_path / "list.csv"))
    code, text, _ = training.end()
    assert code == 2
    (error,) = _errors(text)
    assert "nobody" in error
    assert "Traceback" not in text
    assert _gone(int(training.out.with_suffix(".1").read_text()))
