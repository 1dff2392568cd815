"""What a killed process left is removed; what a living one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from voxward.core.files import atomic_write, write_text
from voxward.core.leftovers import DAY, remove_leftovers, unfinished_name


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def of_process(number: int) -> str:
    return unfinished_name("case").replace(f".{os.getpid()}.", f".{number}.")


def test_the_leftovers_of_a_dead_process_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    mine, theirs, dead = unfinished_name("a"), of_process(os.getppid()), of_process(dead_process())
    for name in (mine, theirs, dead):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.b2nd").write_bytes(bytes(9))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine, theirs}


def test_another_hosts_go_after_a_day(tmp_path: Path) -> None:
    fresh, old = tmp_path / ".unfinished-00000000.7.12345678-a", tmp_path / ".unfinished-00000000.7.12345679-a"
    for path in (fresh, old):
        path.write_text("half")
    os.utime(old, (time.time() - 2 * DAY,) * 2)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh]


def test_only_names_of_voxward_go(tmp_path: Path) -> None:
    kept = [".unfinished-thesis", ".unfinished", "unfinished-deadbeef-a", ".tmpAbCdEf", ".unfinished-deadbeef"]
    for name in kept:
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept}


def test_an_older_versions_and_the_librarys_go(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (".unfinished-deadbeef-best.safetensors", ".tmpAbCdEf"):
        (folder / name).write_text("half")
        os.utime(folder / name, (0, 0))
    remove_leftovers(folder)
    assert not list(folder.iterdir())


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "thesis.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".unfinished-deadbeef-a").symlink_to(tmp_path / "target")
    remove_leftovers(tmp_path / "out")
    assert (tmp_path / "target" / "thesis.txt").exists()
    assert not list((tmp_path / "out").iterdir())


def test_the_first_file_that_a_process_writes_cleans_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-deadbeef-a").write_text("half")
    write_text(tmp_path / "b", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_name_inside_another_one_is_not_longer(tmp_path: Path) -> None:
    name = "n" * 213
    once = unfinished_name(name)
    assert len(once) <= 255
    assert len(unfinished_name(once)) == len(once)
    assert once != unfinished_name(once)
    with atomic_write(tmp_path / name) as outer, atomic_write(outer) as inner:
        inner.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"
