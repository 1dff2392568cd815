"""One holder at a time, and never a dead one for long."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from voxward.core.claim import claim

SPAWN = multiprocessing.get_context("fork")


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def write_foreign(path: Path, age_s: float) -> None:
    path.write_text("another host\n1\nabc\n")
    age(path, age_s)


def test_a_claim_is_held_by_one_and_freed_on_exit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "work"
    with claim(path) as first, claim(path) as second:
        assert first
        assert not second
        assert str(os.getpid()) in path.read_text()
    with claim(path) as again:
        assert again
    assert list(path.parent.iterdir()) == []


def test_an_error_frees_the_claim(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claim(tmp_path / "work"):
        raise RuntimeError
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("seconds", "taken"), [(3.0, False), (30.0, True)])
def test_a_claim_of_another_host_is_dead_by_its_age_only(tmp_path: Path, seconds: float, taken: bool) -> None:
    write_foreign(tmp_path / "work", seconds)
    with claim(tmp_path / "work", expires=10.0) as mine:
        assert mine is taken
    assert (tmp_path / "work").exists() is not taken


def _take_and_die(path: Path) -> None:
    with claim(path):
        os._exit(0)


def test_a_claim_of_an_ended_process_is_dead_at_once(tmp_path: Path) -> None:
    path = tmp_path / "work"
    process = SPAWN.Process(target=_take_and_die, args=(path,))
    process.start()
    process.join()
    assert path.exists()
    with claim(path, expires=1000.0) as mine:
        assert mine


def test_who_takes_over_may_die_too(tmp_path: Path) -> None:
    for name in ("work", "work.takeover", "work.takeover.takeover"):
        write_foreign(tmp_path / name, 100.0)
    with claim(tmp_path / "work", expires=10.0) as mine:
        assert mine
    assert list(tmp_path.iterdir()) == []


def test_the_heartbeat_keeps_a_claim_alive(tmp_path: Path) -> None:
    path = tmp_path / "work"
    with claim(path, expires=0.4):
        time.sleep(1.0)
        with claim(path, expires=0.4) as other:
            assert not other


def test_a_lost_claim_is_not_removed_from_its_new_holder(tmp_path: Path) -> None:
    path = tmp_path / "work"
    with claim(path, expires=1000.0):
        age(path, 5000.0)
        with claim(path, expires=1000.0) as taken:
            assert taken
            text = path.read_text()
            threads = threading.active_count()
        path.write_text(text)
    assert threads >= 2
    assert path.read_text() == text


def _count(path: Path, log: Path, rounds: int) -> None:
    for _ in range(rounds):
        with claim(path, expires=5.0) as mine:
            if mine:
                inside = log / "inside"
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails when two are inside
                with (log / "count").open("a") as file:
                    file.write("x")
                inside.unlink()


@pytest.mark.parametrize("dead", [False, True])
def test_processes_exclude_each_other(tmp_path: Path, dead: bool) -> None:
    """Also when all of them find the same dead claim first, again and again."""
    for turn in range(10 if dead else 1):
        path = tmp_path / f"work{turn}"
        if dead:
            write_foreign(path, 100.0)
        log = tmp_path / f"log{turn}"
        log.mkdir()
        crowd = [SPAWN.Process(target=_count, args=(path, log, 3 if dead else 50)) for _ in range(4)]
        for process in crowd:
            process.start()
        for process in crowd:
            process.join()
        assert [process.exitcode for process in crowd] == [0] * 4
        assert (log / "count").read_text()


@pytest.mark.parametrize("expires", [0.0, -1.0, float("nan"), float("inf")])
def test_expires_must_be_positive(tmp_path: Path, expires: float) -> None:
    with pytest.raises(ValueError, match="expires must be a positive number"), claim(tmp_path / "work", expires):
        pass
