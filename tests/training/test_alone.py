"""One training at a time in a run folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from voxward.core.process import runs, this_host
from voxward.training.alone import CLAIM, refuse_launcher, training_alone


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def claimed(root: Path, host: str, number: int) -> Path:
    root.mkdir(exist_ok=True)
    path = root / CLAIM
    path.write_text(f"{host}\n{number}\ntoken\n")
    return path


def test_a_second_process_is_refused_and_the_first_one_keeps_the_folder(tmp_path: Path) -> None:
    path = claimed(tmp_path / "run", this_host(), os.getppid())
    before = path.read_text()
    with pytest.raises(ValueError, match=r"another process is at work in .*run"), training_alone(tmp_path / "run"):
        raise AssertionError
    assert path.read_text() == before


def test_the_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = claimed(tmp_path / "run", this_host(), dead_process())
    with training_alone(tmp_path / "run"):
        assert path.read_text().split("\n")[1] == str(os.getpid())
        (tmp_path / "run" / "recipe.yaml").write_text("")
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


def test_another_machine_that_shows_a_sign_of_life_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = claimed(tmp_path / "run", "elsewhere", 7)
    monkeypatch.setattr("time.sleep", lambda seconds: os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9)))
    with (
        pytest.warns(UserWarning, match="waiting up to 300 s for a sign of life"),
        pytest.raises(ValueError, match="another process is at work"),
        training_alone(tmp_path / "run"),
    ):
        raise AssertionError


def test_another_machine_that_died_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, waited = claimed(tmp_path / "run", "elsewhere", 7), []

    def later(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            os.utime(path, (0, 0))  # as if it had not been touched for long
            monkeypatch.setattr("voxward.training.alone._touched", lambda path: 1)

    monkeypatch.setattr("time.sleep", later)
    with pytest.warns(UserWarning, match="waiting up to 300 s"), training_alone(tmp_path / "run"):
        assert len(waited) == 3


def test_a_refused_training_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), training_alone(tmp_path / "run"):
        raise ValueError("no")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_ended_without_being_waited_for_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert runs(process.pid)
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert not runs(process.pid)
    process.wait()


def test_a_launcher_without_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_launcher(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_launcher(2)
    with pytest.raises(ValueError, match=r"started 2 processes \(WORLD_SIZE=2\).*pass --devices 2"):
        refuse_launcher(1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    refuse_launcher(1)
