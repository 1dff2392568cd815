import os
from pathlib import Path

import pytest
import torch

from voxward.core.errors import UserError
from voxward.core.files import (
    append_text,
    atomic_write,
    inside,
    name_fault,
    refuse_unwritable,
    telling_of_a_full_disk,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_write(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_target_appears_only_at_the_end(tmp_path):
    target = tmp_path / "deep" / "a.nii.gz"
    with atomic_write(target) as path:
        path.write_text("x")
        assert path.name.endswith(".nii.gz")
        assert not target.exists()
    assert target.read_text() == "x"


def test_folders_are_replaced_as_a_whole_where_nothing_is_lost(tmp_path):
    target = tmp_path / "case"
    for content in ("first", "second"):
        with atomic_write(target, lambda folder: (folder / "first").is_file()) as path:
            path.mkdir()
            (path / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["second"]
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "case") as path:
        path.mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "case"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def failing(path, to):
        if path.name.startswith(".unfinished") and to == target and not (path / "old").exists():
            raise OSError("disk error")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk error"), atomic_write(target, lambda folder: True) as path:
        path.mkdir()
        (path / "new").write_text("new")
    assert (target / "old").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_every_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_ino))
    with atomic_write(tmp_path / "case") as path:
        (path / "deep").mkdir(parents=True)
        files = [path / "a", path / "deep" / "b"]
        for file in files:
            file.write_text("x")
        expected = sorted(file.stat().st_ino for file in files)
    assert sorted(flushed) == expected


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_append_creates_and_appends(tmp_path):
    append_text(tmp_path / "logs" / "a.csv", "1\n")
    append_text(tmp_path / "logs" / "a.csv", "2\n")
    assert (tmp_path / "logs" / "a.csv").read_text() == "1\n2\n"


BAD_NAMES = {
    "": "empty", ".": "begins with a dot", "..": "begins with a dot", "...": "begins with a dot",
    ".hidden": "begins with a dot", "/abs": "path separator", "a/b": "path separator", "../../victim": "path separator",
    "..\\victim": "path separator", "C:\\x": "path separator", "C:x": "path separator", "a.": "ends with a dot",
    "a ": "ends with a dot or a blank", "a\nb": "control character", "a\x00": "control character",
    "\x7f": "control character", "a\x85b": "control character", "a\u2028b": "control character", "NUL": "reserved",
    "nul.nii.gz": "reserved", "com1": "reserved", "x" * 201: "longer than 200 bytes", "ä" * 101: "longer than 200",
}  # fmt: skip
GOOD_NAMES = [
    "case_1", "with space", "a.b", "phantom;$(x)", "-leading", "[bold]x", 'quo"te', "ä", "lone \udce9", "x" * 200,
    "a..b", "console", "community1",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_plain_name_is_refused(tmp_path, name):
    assert BAD_NAMES[name] in name_fault(name)
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        inside(tmp_path, 2 * name if len(name) > 100 else name)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_plain_name_stays_in_its_folder(tmp_path, name):
    assert name_fault(name) is None
    assert inside(tmp_path, name).parent == tmp_path


@pytest.mark.parametrize("content", ["thesis.txt", ".git/config", "a/b/c"])
def test_a_folder_of_others_is_not_replaced(tmp_path, content):
    kept = tmp_path / "case" / content
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    began = False
    with pytest.raises(FileExistsError, match="holds other files"), atomic_write(tmp_path / "case") as path:
        began = True
        path.mkdir()
    assert not began
    assert kept.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_folder_that_was_filled_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsError, match="holds other files"), atomic_write(tmp_path / "case") as path:
        path.mkdir()
        (tmp_path / "case").mkdir()
        (tmp_path / "case" / "mine").write_text("mine")
    assert (tmp_path / "case" / "mine").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_link_to_a_folder_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old").write_text("old")
    (tmp_path / "case").symlink_to(tmp_path / "elsewhere")
    with atomic_write(tmp_path / "case", lambda folder: True) as path:
        path.mkdir()
        (path / "new").write_text("new")
    assert not (tmp_path / "case").is_symlink()
    assert (tmp_path / "elsewhere" / "old").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "elsewhere"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file of Linux on a disk that is full")
def test_a_library_does_not_hide_that_the_disk_is_full():
    full = Path("/dev/full")
    with pytest.raises(OSError, match="No space left"), telling_of_a_full_disk(full), full.open("wb") as file:
        torch.save({"weight": torch.zeros(100_000)}, file)


def test_an_error_is_the_disks_where_there_is_too_little_room(tmp_path):
    with pytest.raises(OSError, match="No space left"), telling_of_a_full_disk(tmp_path / "image", needed=2**70):
        raise RuntimeError("error while creating the array")
    with pytest.raises(RuntimeError, match="creating"), telling_of_a_full_disk(tmp_path / "image", needed=1):
        raise RuntimeError("error while creating the array")


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_stays(tmp_path):
    refuse_unwritable(tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"/proc/out cannot be written to \(.*\): choose another --out"):
        refuse_unwritable("/proc/out")
