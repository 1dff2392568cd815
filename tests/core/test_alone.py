"""One process at a time works in a folder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from voxward.core.alone import LOCK, OWNER, Busy, alone
from voxward.core.errors import UserError
from voxward.core.invocation import typed

HOLD = """
import sys, time
from pathlib import Path
from voxward.core.alone import alone
with alone(Path(sys.argv[1]), "an attack"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_by_name_and_a_killed_one_holds_nothing(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        named = rf"another process works in .*run \(process {other.pid} of .*: an attack\)"
        with pytest.raises(Busy, match=named), alone(folder, "an attack"):
            raise AssertionError
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (folder / LOCK).exists()
    with alone(folder, "an attack"):
        assert f"process {os.getpid()} of" in (folder / OWNER).read_text()


def test_the_command_is_named_and_nothing_is_left(tmp_path):
    folder = tmp_path / "run"
    with typed(["voxward", "attack", "my run"]), alone(folder, "an attack"):
        assert "voxward attack 'my run'" in (folder / OWNER).read_text()
        with pytest.raises(UserError, match="choose another --out"), alone(folder, "an attack"):
            raise AssertionError
        (folder / "records.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["records.json"]


def test_work_that_was_refused_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no"), alone(tmp_path / "run", "a training"):
        raise ValueError("no")
    assert not (tmp_path / "run").exists()


def test_clocks_do_not_matter(tmp_path):
    """A lock is held or it is not, whatever the times of its file are."""
    with alone(tmp_path, "an attack"):
        os.utime(tmp_path / LOCK, (0, 0))
        os.utime(tmp_path / OWNER, (time.time() + 86400,) * 2)
        with pytest.raises(Busy), alone(tmp_path, "an attack"):
            raise AssertionError


def test_a_folder_that_cannot_be_written_into_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write into .*file: .*choose another --out"),
        alone(tmp_path / "file", ""),
    ):
        raise AssertionError

    def acquire(self):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(UserError, match="Read-only file system"), alone(tmp_path, "an attack"):
        raise AssertionError


def test_a_lock_that_cannot_be_removed_stays(tmp_path, monkeypatch):
    """As on Windows, where the file is open."""

    def unlink(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "used by another process")

    with alone(tmp_path, "an attack"):
        monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.undo()
    with alone(tmp_path, "an attack"):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_process_that_reads_its_parents_script_is_told_how_to_write_it(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UserError, match="below a line `if __name__"), alone(tmp_path / "run", "an attack"):
        raise AssertionError
    assert not (tmp_path / "run").exists()
