"""An attack of 12 units gives the same records in one process, on local workers of which one is killed, and on SLURM.

The SLURM is a real one with two nodes on this machine. One of its nodes goes down in the middle of a job, and another
job reaches its time limit and goes on in a new one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.commands import DATA, RUN
from tests.faults.folders import contents
from tests.faults.harness import ROOT

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

CASES = ("--cases", "3", "--split", "all", "--include-seen")
ATTACK = (
    "attack", RUN, "--dataset", DATA, "--protocol", "quick", "--eps", "8/255", "--attacks", "fgsm-ce", "apgd-dice",
    "--set", "budget.steps=2", "--set", "controls=[noise]", *CASES, "--no-report",
)  # fmt: skip
UNITS = 12  # of 3 cases: the clean prediction, noise, and two attacks


class Place:
    """A folder in which the command runs, its environment, and the units that its workers have begun."""

    def __init__(self, made: Path, folder: Path, pause: float) -> None:
        self.folder, self.log = folder, folder / "begun"
        for name in (DATA, RUN):
            (folder / name).symlink_to(made / name)
        programs = folder / "programs"
        programs.mkdir()
        (programs / "voxward").write_text(f'#!/bin/sh\nexec {sys.executable} -m voxward.cli "$@"\n')
        (programs / "dask").write_text(f'#!/bin/sh\nexec {sys.executable} -m dask "$@"\n')
        for path in programs.iterdir():
            path.chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "VOXWARD_TEST_BEGUN": str(self.log),
            "VOXWARD_TEST_PAUSE": str(pause), "DASK_DISTRIBUTED__WORKER__PRELOAD": "['tests.faults.logged']",
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of voxward in the folder."""
        return subprocess.Popen(
            ["voxward", *words], cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, executable=self.folder / "programs" / "voxward",
        )  # fmt: skip

    def records(self, out: str) -> dict[str, str]:
        """Return what the records of an attack say, but for seconds and moments."""
        return contents(self.folder / out / "records")

    def begun(self) -> list[tuple[str, int, str]]:
        """Return node, process and name of every unit that was begun, in their order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(node, int(number), name) for node, number, name in (line.split(" ", 2) for line in lines)]

    def until(self, true, seconds: float = 300.0, started: subprocess.Popen[str] | None = None) -> None:
        """Wait until something is true; fail where the process that is to make it so has ended."""
        end = time.monotonic() + seconds
        while not true():
            assert started is None or started.poll() is None, started.stdout.read()
            assert time.monotonic() < end, f"awaited in vain: {self.begun()}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The records of one process that nothing disturbs."""
    place = Place(made, tmp_path_factory.mktemp("alone"), 0.0)
    said = place.start(*ATTACK, "--out", "out").communicate()[0]
    records = place.records("out")
    assert len(records) == UNITS, said
    return records


def test_local_workers_of_which_one_is_killed(made, alone, tmp_path):
    place = Place(made, tmp_path, 1.0)
    started = place.start(*ATTACK, "--out", "out", "--cluster", "local:3")
    place.until(lambda: len(place.begun()) >= 5, started=started)
    os.kill(place.begun()[-1][1], signal.SIGKILL)
    said = started.communicate(timeout=300)[0]
    show("local:3", said, place)
    assert started.returncode in (0, 1), said
    assert place.records("out") == alone
    twice = [count for count in Counter(name for *_, name in place.begun()).values() if count > 1]
    assert len(place.begun()) <= UNITS + 1  # the unit in flight on the killed worker
    assert twice in ([], [2])


class Slurm:
    """A real SLURM with the nodes n1 and n2 on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script = folder, Path(__file__).with_name("slurm_two_nodes.sh")

    def start(self) -> None:
        """Start it, and keep the variables under which its commands work."""
        started = subprocess.run([self.script, "start", self.folder], capture_output=True, text=True)
        assert started.returncode == 0, started.stdout + started.stderr
        lines = (self.folder / "env").read_text().splitlines()
        self.environment = dict(line.split("=", 1) for line in lines)
        print(started.stdout)

    def stop(self) -> None:
        """Stop it."""
        subprocess.run([self.script, "stop", self.folder], check=False)

    def run(self, place: Place, *words: str, text: str | None = None) -> str:
        """Run one of its commands in the folder of a place, and return what it prints."""
        path = f"{place.folder / 'programs'}:{self.environment['PATH']}"
        environment = {**place.environment, **self.environment, "PATH": path}
        done = subprocess.run(
            words, cwd=place.folder, env=environment, input=text, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def submit(self, place: Place, *options: str) -> str:
        """Have `voxward slurm` write a script for the attack, submit it, and return the number of the job."""
        script = place.start("slurm", *options, "--", *ATTACK, "--out", "out").communicate()[0]
        assert script.startswith("#!/bin/bash\n"), script
        return self.run(place, "sbatch", "--parsable", text=script).strip()

    def ended(self, place: Place, job: str) -> str:
        """Wait until a job is over, and return what SLURM says of it."""
        found = {"": ""}

        def over() -> bool:
            found[""] = self.run(place, "scontrol", "show", "job", job)
            return any(f"JobState={state}" in found[""] for state in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"))

        try:
            place.until(over, 1200)
        except AssertionError as error:
            raise AssertionError(found[""] + self.log(place, job)) from error
        return found[""]

    def log(self, place: Place, job: str) -> str:
        """Return what a job has printed."""
        path = place.folder / f"voxward-{job}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory):
    """A running SLURM."""
    if os.geteuid() or shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("needs Debian or Ubuntu and root, to unpack and start a SLURM of two nodes")
    found = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


def show(name: str, said: str, place: Place) -> None:
    """Print what happened; `pytest -s` shows it."""
    print(f"\n=== {name}\n{said}\nbegun (node, process, unit):")
    print(*(f"  {node} {number} {unit}" for node, number, unit in place.begun()), sep="\n")


def test_a_node_of_slurm_goes_down_in_the_middle(made, alone, slurm, tmp_path):
    place = Place(made, tmp_path, 2.0)
    job = slurm.submit(place, "--nodes", "2", "--time", "15")
    place.until(lambda: len(place.begun()) >= 5 and len({node for node, *_ in place.begun()}) == 2)
    slurm.run(place, "scontrol", "update", "nodename=n2", "state=down", "reason=test")
    end = slurm.ended(place, job)
    place.until(lambda: slurm.run(place, "sinfo", "--noheader", "--format=%T").split() == ["idle"])
    show("SLURM, n2 down", f"{slurm.log(place, job)}\n{end}", place)
    assert "JobState=COMPLETED" in end or "ExitCode=1:0" in end, slurm.log(place, job)
    assert "Restarts=0" in end
    assert place.records("out") == alone
    assert len(place.begun()) <= UNITS + 1


def test_a_job_of_slurm_reaches_its_time_limit_and_goes_on(made, alone, slurm, tmp_path):
    place = Place(made, tmp_path, 10.0)  # one minute for two workers, and SLURM warns up to a minute too early
    job = slurm.submit(place, "--nodes", "2", "--time", "2", "--warn", "45")
    end = slurm.ended(place, job)
    show("SLURM, time limit", f"{slurm.log(place, job)}\n{end}", place)
    assert "JobState=COMPLETED" in end or "ExitCode=1:0" in end, slurm.log(place, job)
    assert "Restarts=0" not in end, "the job was to reach its time limit"
    assert place.records("out") == alone
    assert sorted(Counter(name for *_, name in place.begun()).values()) == [1] * UNITS  # drained: nothing twice
