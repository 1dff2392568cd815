"""A prepared case that was damaged since is prepared again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.test_store import PLAN, make_dataset
from voxward.data.store import open_case, prepare_dataset


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "garbage": lambda path: path.write_bytes(b"x" * 100),
    "gone": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one bit": flipped,
}


@pytest.mark.parametrize("damage", list(DAMAGES))
@pytest.mark.parametrize("name", ["image.b2nd", "label.b2nd", "locations.npz", "case.json"])
def test_damage_is_noticed_and_mended(tmp_path: Path, name: str, damage: str) -> None:
    dataset, out = make_dataset(tmp_path, 2), tmp_path / "out"
    prepare_dataset(dataset, PLAN, out)
    path, other = out / "c0" / name, out / "c1" / "image.b2nd"
    image, untouched = open_case(out / "c0", "c0").load().image, other.stat().st_mtime_ns
    written = path.stat().st_mtime_ns
    DAMAGES[damage](path)
    if name == "case.json" and damage == "gone":
        path.write_text("")  # without a case.json the folder is not voxward's to replace
    if name == "case.json" and damage == "one bit":
        path.write_text(path.read_text().replace('"labelled": true', '"labelled": truw'))
    prepare_dataset(dataset, PLAN, out)
    assert path.stat().st_mtime_ns != written
    assert (open_case(out / "c0", "c0").load().image == image).all()
    assert other.stat().st_mtime_ns == untouched


def test_a_case_of_an_older_version_has_no_checksums_and_is_kept(tmp_path: Path) -> None:
    dataset, out = make_dataset(tmp_path, 1), tmp_path / "out"
    prepare_dataset(dataset, PLAN, out)
    path = out / "c0" / "case.json"
    record = json.loads(path.read_text())
    assert sorted(record.pop("files")) == ["image.b2nd", "label.b2nd", "locations.npz"]
    del record["checksum"]
    path.write_text(json.dumps(record))
    written = path.stat().st_mtime_ns
    prepare_dataset(dataset, PLAN, out)
    assert path.stat().st_mtime_ns == written
    (out / "c0" / "label.b2nd").unlink()
    prepare_dataset(dataset, PLAN, out)
    assert (out / "c0" / "label.b2nd").is_file()


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    dataset, out = make_dataset(tmp_path, 1), tmp_path / "out"
    prepare_dataset(dataset, PLAN, out)
    (out / ".unfinished-deadbeef-c0").mkdir()
    (out / ".unfinished-deadbeef-c0" / "image.b2nd").write_bytes(bytes(1000))
    prepare_dataset(dataset, PLAN, out)
    assert sorted(path.name for path in out.iterdir()) == ["c0", "plan.json"]
