import os
from pathlib import Path

import pytest

from voxward.core.files import append_text, atomic_write, write_json, write_text


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
