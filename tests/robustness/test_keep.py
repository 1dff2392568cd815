"""Of each case and eps the files of the worst attack stay, whoever finishes first; no other file is touched."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from tests.robustness.books import record
from voxward.core.case import Case
from voxward.core.outputs import Outputs
from voxward.robustness.bench import Bench, Source
from voxward.robustness.keep import keep_worst, keep_worst_so_far, unit_of
from voxward.robustness.protocol import load_protocol
from voxward.robustness.stand import SEGMENTATION, VOLUME
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit

SIZES = (4 / 255, 8 / 255)


@pytest.fixture
def bench(two_organs, tmp_path):
    protocol = load_protocol("quick", ["attacks=[apgd-ce, apgd-dice, fab-dice]", "seeds=[0,1]"])
    cases = {id: Case(id, (tmp_path / f"{id}.nii.gz",), tmp_path / "label.nii.gz") for id in "xy"}
    places = {"volumes": tmp_path / "volumes", "segmentations": tmp_path / "segmentations"}
    return Bench({"m": Source("run")}, {"m": two_organs}, cases, protocol, "0", **places)


def made(bench, attack, eps, dice, case="x", seed=0):
    """A record, whose volume and segmentation lie where a benchmark puts them."""
    found = record(attack, case, (dice, dice), eps, deployed=(dice, dice), seed=seed, mode="volume")
    for path, kind in zip(files(bench, found), (VOLUME, SEGMENTATION), strict=True):
        with Outputs(path.parent, kind).write(path.name) as unfinished:
            unfinished.write_text(f"{attack} {eps} {seed}")
    return found


def files(bench, found):
    return bench.volume_path(unit_of(found)), bench.segmentation_path(unit_of(found))


def kept(bench, records):
    states = {(r.attack, r.eps, r.case, r.seed): [path.is_file() for path in files(bench, r)] for r in records}
    assert all(len(set(state)) == 1 for state in states.values())  # the segmentation goes with its volume
    return {key for key, (there, _) in states.items() if there}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_worst_of_each_size_stays_in_any_order(bench, tmp_path, order):
    store = RecordStore(tmp_path)
    rows = [made(bench, "apgd-ce", SIZES[0], 0.5), made(bench, "apgd-ce", SIZES[0], 0.4, seed=1)]
    units = [([rows[0]], unit_of(rows[0])), ([rows[1]], unit_of(rows[1]))]
    # One unit of a minimum-norm attack holds a record for each size.
    fab = [made(bench, "fab-dice", SIZES[0], 0.6), made(bench, "fab-dice", SIZES[1], 0.3)]
    units.append((fab, Unit("m", "fab-dice", "x", None, 0)))
    for n in order:
        records, unit = units[n]
        store.write(unit, records)
        keep_worst_so_far(bench, store, unit)
    assert kept(bench, [*rows, *fab]) == {("apgd-ce", SIZES[0], "x", 1), ("fab-dice", SIZES[1], "x", 0)}


def test_what_another_process_has_not_recorded_yet_stays(bench, tmp_path):
    store = RecordStore(tmp_path)
    mine, theirs = made(bench, "apgd-ce", SIZES[0], 0.3), made(bench, "apgd-dice", SIZES[0], 0.5)
    store.write(unit_of(mine), [mine])
    keep_worst_so_far(bench, store, unit_of(mine))
    assert len(kept(bench, [mine, theirs])) == 2
    store.write(unit_of(theirs), [theirs])
    keep_worst_so_far(bench, store, unit_of(theirs))
    assert kept(bench, [mine, theirs]) == {("apgd-ce", SIZES[0], "x", 0)}


def test_of_equal_attacks_one_stays(bench):
    rows = [made(bench, attack, SIZES[0], 0.3) for attack in ("apgd-ce", "apgd-dice")]
    for records in (rows, rows[::-1]):
        keep_worst(bench, records)
    assert kept(bench, rows) == {("apgd-ce", SIZES[0], "x", 0)}


def test_other_cases_and_the_user_s_files_stay(bench):
    rows = [made(bench, "apgd-ce", SIZES[0], 0.3), made(bench, "apgd-dice", SIZES[0], 0.5)]
    other = made(bench, "apgd-dice", SIZES[0], 0.9, case="y")
    clean = bench.segmentation_path(Unit("m", "clean", "x", None, 0))
    clean.parent.mkdir(parents=True)
    clean.touch()
    for path in files(bench, rows[1]):
        path.write_text("edited")
    keep_worst(bench, [*rows, other])
    assert all(path.is_file() for row in (*rows, other) for path in files(bench, row))
    assert clean.is_file()


@pytest.mark.parametrize("keep", ["all", "first", "none"])
def test_other_choices_remove_nothing(bench, keep):
    rows = [made(bench, "apgd-ce", SIZES[0], 0.3), made(bench, "apgd-dice", SIZES[0], 0.5)]
    keep_worst(replace(bench, protocol=replace(bench.protocol, keep=keep)), rows)
    assert len(kept(bench, rows)) == 2


def test_segmentations_lie_beside_the_volumes(bench):
    unit = Unit("m", "apgd-ce", "x", SIZES[1], 1)
    volume, found = bench.volume_path(unit), bench.segmentation_path(unit)
    assert volume.relative_to(bench.volumes) == found.relative_to(bench.segmentations)
    clean = Unit("m", "clean", "y", None, 0)
    none = replace(bench, protocol=replace(bench.protocol, keep="none"))
    for one in (bench, none):
        assert one.segmentation_path(clean) == bench.segmentations / "m" / "clean" / "y.nii.gz"
    assert none.segmentation_path(unit) is none.volume_path(unit) is None
