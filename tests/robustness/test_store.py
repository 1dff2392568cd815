"""Work that is shared, killed and resumed gives the same books as work that was not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.names import Heard
from tests.robustness.books import By, record
from voxward.engine.engine import InProcess
from voxward.engine.settings import settle
from voxward.robustness.record import Record
from voxward.robustness.skipped import NotApplicable, Skipped, skipped_notes
from voxward.robustness.store import RecordStore, StoredWork
from voxward.robustness.unit import Unit, safe_name

FORK = multiprocessing.get_context("fork")
UNITS = tuple(Unit("m", attack, case, 0.1, 0) for attack in ("x", "y") for case in "abcdef")


def result(unit: Unit) -> tuple[Record, ...]:
    dice = 0.01 * (ord(unit.case) - ord("a")) + (0.5 if unit.attack == "y" else 0.0)
    return (record(unit.attack, unit.case, (dice, None), unit.eps or 0.0),)


def labour(folder: Path, name: str, seconds: float = 0.01) -> None:
    """Work on all units, writing down each that is begun."""

    def run(unit: Unit) -> Sequence[Record]:
        with (folder / f"log-{name}").open("a") as file:
            file.write(f"{unit.attack}{unit.case}\n")
        time.sleep(seconds)
        return result(unit)

    do(RecordStore(folder), UNITS, run)


def do(store, units, run, watch=None) -> None:
    """Do units as a benchmark does."""
    InProcess(store.folder).run(units, StoredWork(store, By(run)), watch or Heard())


def begun(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("log-*")) for line in path.read_text().split()]


def expected(tmp_path: Path) -> tuple[Record, ...]:
    store = RecordStore(tmp_path / "undisturbed")
    do(store, UNITS, result)
    return store.read_all()


def test_records_come_back_in_order(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    do(store, UNITS[::-1], result)
    found = store.read_all()
    assert [(r.attack, r.case) for r in found] == [(unit.attack, unit.case) for unit in UNITS]
    assert found == tuple(made for unit in UNITS for made in result(unit))


def test_killed_work_resumes(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    process = FORK.Process(target=labour, args=(tmp_path, "1", 0.1))
    process.start()
    while len(begun(tmp_path)) < 5:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    finished = sum(store.has(unit) for unit in UNITS)
    assert 0 < finished < len(UNITS)
    labour(tmp_path, "2")
    assert store.read_all() == expected(tmp_path)
    assert len(begun(tmp_path)) <= len(UNITS) + 1
    assert len((tmp_path / "log-2").read_text().split()) == len(UNITS) - finished


def test_an_error_ends_the_work_and_frees_the_unit(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)

    def fail(unit: Unit) -> Sequence[Record]:
        if unit.case == "c":
            raise RuntimeError("no memory")
        return result(unit)

    with pytest.raises(RuntimeError, match="no memory"):
        do(store, UNITS, fail)
    assert [store.has(unit) for unit in UNITS[:4]] == [True, True, False, False]
    do(store, UNITS, result)
    assert store.read_all() == expected(tmp_path)


def test_units_have_places_of_their_own(tmp_path: Path) -> None:
    names = [
        "a",
        "A",
        "a/b",
        "a%2Fb",
        "..",
        ".",
        ".hidden",
        "a b",
        "é",
        "a~b",
        "x" * 300,
        "x" * 299 + "y",
        "a\\b",
        "a:b",
    ]
    assert len({safe_name(name) for name in names}) == len(names)
    assert all(not name.startswith(".") and "/" not in name and len(name) < 160 for name in map(safe_name, names))
    others = [Unit("m", "x", "a", eps, seed) for eps in (None, 0.0, 0.1, 8 / 255) for seed in (0, 1)]
    assert len({RecordStore(tmp_path).path(unit) for unit in others}) == len(others)
    with pytest.raises(ValueError, match="needs a name"):
        safe_name("")


def test_a_record_of_another_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold a record of"):
        RecordStore(tmp_path).write(UNITS[0], result(UNITS[1]))


def test_damaged_and_unfinished_files(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    do(store, UNITS[:1], result)
    path = store.path(UNITS[0])
    path.with_name(f".unfinished-12-{path.name}").write_text("[{")
    assert len(store.read_all()) == 1
    path.write_text("[{")
    with pytest.raises(ValueError, match="is not JSON"):
        store.read_all()
    path.write_text("{}")
    with pytest.raises(ValueError, match="must hold a list of records, got NoneType"):
        store.read_all()


def test_books_of_version_0_1_are_read(tmp_path: Path) -> None:
    """They hold the list of records alone, without a format and without the system's fingerprint."""
    store = RecordStore(tmp_path)
    do(store, UNITS[:1], result)
    path = store.path(UNITS[0])
    found = json.loads(path.read_text())
    assert found["format"] == 1
    old = [{key: value for key, value in entry.items() if key != "system"} for entry in found["records"]]
    path.write_text(json.dumps(old))
    assert store.read_all() == result(UNITS[0])
    path.write_text(json.dumps({**found, "format": 2}))
    with pytest.raises(ValueError, match="update voxward"):
        store.read_all()


def test_settings_must_stay(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    first = {"mode": "patch", "threat": {"norm": "linf", "eps": (0.1, 0.2)}, "models": {"m": "12ab"}, "seed": 0}
    settle(path, first, "records")
    settle(path, first, "records")
    changed = {"mode": "volume", "threat": {"norm": "linf", "eps": (0.1,)}, "models": {"m": "12ab"}, "budget": 1}
    with pytest.raises(ValueError, match=r"holds records of other settings .* another --out") as error:
        settle(path, changed, "records")
    for part in ("budget: 1, was nothing", "mode: volume, was patch", "threat.eps", "seed: nothing, was 0"):
        assert part in str(error.value)
    assert "norm" not in str(error.value)
    assert "models" not in str(error.value)


def test_what_means_nothing_on_a_case_is_finished_and_has_no_record(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    units = [Unit("m", name, case, 0.1, 0) for name in ("gaussian", "rician") for case in "ab"]

    def run(unit: Unit) -> Sequence[Record]:
        if (unit.attack, unit.case) == ("rician", "b"):
            raise NotApplicable("it has intensities below 0")
        return result(unit)

    do(store, units, run)
    do(store, units, lambda unit: pytest.fail("a unit that was left out is finished"))
    assert [(r.attack, r.case) for r in store.read_all()] == [("gaussian", "a"), ("gaussian", "b"), ("rician", "a")]
    (skipped,) = store.skipped()
    assert skipped == Skipped("m", "b", "rician", 0.1, "it has intensities below 0")
    assert skipped_notes([skipped, replace(skipped, case="gone")], "abc") == (
        "rician of m is not over 1 case of 3 (b): it has intensities below 0",
    )


def test_records_of_one_case_are_found(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    do(store, UNITS, result)
    assert store.of_case("m", "b") == tuple(r for r in store.read_all() if r.case == "b")
    assert store.of_case("m", "[b]") == store.of_case("n", "b") == ()


def test_another_system_is_told_by_its_name_alone(tmp_path):
    """Each of its settings differs from nothing; a person only needs to know that it is another one."""
    path = tmp_path / "settings.json"
    settle(path, {"systems": {"first": {"kind": "run", "tta": {"mirrors": True}}, "both": {"tta": 1}}}, "records")
    with pytest.raises(ValueError, match="another --out") as error:
        settle(path, {"systems": {"second": {"kind": "run", "tta": {}}, "both": {"tta": 2}}}, "records")
    listed = "systems.both.tta: 2, was 1; systems.first is left out; systems.second is new"
    assert f"(settings.json; {listed}): use another --out" in str(error.value)
