"""A folder that grows by cases, or by sizes of the perturbation, is what one call would have made of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.robustness.books import clean, record
from tests.robustness.build import a_bench
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.budget import Budget
from voxward.core.errors import UserError
from voxward.core.invocation import Invocation
from voxward.core.provenance import read_provenance
from voxward.data.io import read_label, write_label
from voxward.engine.engine import InProcess
from voxward.engine.settings import settle
from voxward.report.attack_source import read_attack
from voxward.robustness.asked import Aside, asked_for, records_asked_for, refuse_other_sizes
from voxward.robustness.measure import measure
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.store import RecordStore
from voxward.robustness.trials import attack
from voxward.robustness.trials.attack import AttackTrial
from voxward.robustness.trials.breaking import smallest_broken_file
from voxward.robustness.unit import Unit
from voxward.systems.run import RunSystem

SMALL, LARGE = 48 / 255, 96 / 255
PROTOCOL = Protocol(
    "small", attacks=("fgsm-ce", "fab-dice"), threat=Threat((LARGE,)), budget=Budget(2, 1, 1, 2),
    controls=("noise", "probe", "gaussian"),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _arrays_alone():
    """The size that breaks a case is the array's: to judge files is slow, and not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            attack, "smallest_broken_file", lambda judge, ball, least: smallest_broken_file(None, ball, least)
        )
        yield


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two cases; half of the second one's lesion is said to be none, so that its clean Dice is lower."""
    found = []
    for id in ("a", "b"):
        folder = tmp_path_factory.mktemp(id)
        found.append(replace(lesion_case(folder), id=id))
    label = read_label(found[1].label)
    halved = label.array * (np.arange(label.array.shape[0]) < 12)[:, None, None]
    write_label(found[1].label, halved.astype(np.uint8), label.affine)
    return found


def run(folder, cases, protocol=PROTOCOL, call=Invocation("")):
    bench = {"volumes": folder / "volumes", "segmentations": folder / "segmentations"}
    worker = a_bench({"m": RunSystem(lesion_predictor())}, cases, protocol, **bench)
    return measure(worker, folder, InProcess(folder), call=call)


def figures(records):
    """All but the times."""
    return [replace(one, seconds=0.0) for one in records]


def volumes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in (folder / "volumes").rglob("*.nii")}


@pytest.fixture(scope="module")
def whole(cases, tmp_path_factory):
    """Both cases attacked by one call, with both sizes."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, cases, replace(PROTOCOL, threat=Threat((SMALL, LARGE))))


@pytest.fixture(scope="module")
def one_size(cases, tmp_path_factory):
    """Both cases attacked by one call, with one size."""
    folder = tmp_path_factory.mktemp("one-size")
    return folder, run(folder, cases)


@pytest.fixture(scope="module")
def grown(cases, tmp_path_factory):
    """One case was attacked, then both."""
    folder = tmp_path_factory.mktemp("grown")
    first = run(folder, cases[:1], call=Invocation("first", folder="/one", function="attack", arguments={"cases": 1}))
    kept = {path: path.stat().st_mtime_ns for path in (folder / "records").rglob("*.json")}
    second = run(folder, cases, call=Invocation("second", folder="/two", function="attack", arguments={"cases": 2}))
    same = {path.parent.parent.name for path, when in kept.items() if path.stat().st_mtime_ns == when}
    return folder, first, second, same


def test_a_folder_with_more_cases_is_as_if_made_at_once(grown, one_size):
    folder, first, second, same = grown
    assert {one.case for one in first} == {"a"}
    assert figures(second) == figures(one_size[1])
    assert volumes(folder) == volumes(one_size[0])
    # Only what looks for the breaking perturbation is searched again: half of the mean clean Dice has changed.
    assert {"clean", "noise", "probe", "fgsm-ce"} <= same
    assert "fab-dice" not in same


def test_it_says_with_which_threshold_it_searched(grown):
    _, first, second, _ = grown
    for records in (first, second):
        clean = [one.dice() for one in records if one.attack == "clean"]
        limits = {one.options["threshold"] for one in records if one.attack == "fab-dice"}
        assert limits == {sum(clean) / len(clean) / 2}


def test_the_folder_describes_what_the_last_call_asked_for(grown):
    folder, _, second, _ = grown
    work = read_provenance(folder).works["attack"]
    assert set(work.contents) == {"a", "b"} == set(json.loads((folder / "cases.json").read_text())["cases"])
    assert [one.command for one in work.sittings] == ["first", "second"]
    assert (work.arguments, work.started_in) == ({"cases": 2}, "/two")
    assert records_asked_for(folder) == second
    problems = []
    source = read_attack(folder, problems)
    assert source.records == second
    assert source.aside == Aside()
    assert not [text for text in problems if "results" in text]


def test_fewer_cases_are_shown_alone_and_the_others_stay(grown, cases, tmp_path):
    folder = shutil.copytree(grown[0], tmp_path / "again")
    before = RecordStore(folder).count()
    records = run(folder, cases[:1])
    assert figures(records) == figures(grown[1])
    assert RecordStore(folder).count() == before
    aside = Aside.of(RecordStore(folder).read_all(), records)
    assert aside == Aside(("b",))
    (note,) = aside.notes()
    assert note == "an earlier call attacked 1 case (b) that this call does not ask for: no figure here is over it"
    problems = []
    source = read_attack(folder, problems)
    assert (source.records, source.case_ids, source.aside) == (records, ("a",), aside)
    assert not [text for text in problems if "results" in text]


def test_a_case_whose_files_changed_is_refused_by_name(grown, cases, tmp_path):
    folder = shutil.copytree(grown[0], tmp_path / "again")
    other = replace(lesion_case(tmp_path), id="b")
    with pytest.raises(UserError, match=r"the files of case b are others than when it was attacked.*another --out"):
        run(folder, [cases[0], other])
    assert figures(records_asked_for(folder)) == figures(grown[2])


@pytest.mark.slow
def test_a_folder_with_more_sizes_is_as_if_made_at_once(one_size, whole, cases, tmp_path):
    folder = shutil.copytree(one_size[0], tmp_path / "again")
    records = run(folder, cases, replace(PROTOCOL, threat=Threat((SMALL, LARGE))))
    assert figures(records) == figures(whole[1])
    assert volumes(folder) == volumes(whole[0])
    fewer = run(folder, cases)
    assert figures(fewer) == figures(one_size[1])
    assert Aside.of(RecordStore(folder).read_all(), fewer) == Aside((), ("48/255",))
    source = read_attack(folder, [])
    assert (source.records, source.aside.sizes) == (fewer, ("48/255",))


def test_what_searches_all_sizes_in_one_go_takes_no_others(one_size, cases, monkeypatch):
    monkeypatch.setattr(AttackTrial, "sizes", lambda self, number: (None,))
    settings, system = one_size[0] / "settings.json", {"m": RunSystem(lesion_predictor())}
    refuse_other_sizes(settings, a_bench(system, cases, PROTOCOL).bench)
    other = a_bench(system, cases, replace(PROTOCOL, threat=Threat((SMALL, LARGE)))).bench
    with pytest.raises(UserError, match=r"at eps 96/255, and eps 48/255, 96/255 is asked for: fgsm-ce searches"):
        refuse_other_sizes(settings, other)
    only_fab = replace(other, protocol=replace(other.protocol, attacks=("fab-dice",)))
    refuse_other_sizes(settings, only_fab)
    refuse_other_sizes(one_size[0] / "none.json", other)


def test_checks_have_sizes_of_their_own():
    names = ("x", "noise", "gaussian", "doubled", "reach")
    records = [
        record(name, case, (0.5, 0.5), size, kind="attack" if name == "x" else "control")
        for name in names for case in "ab" for size in (SMALL, LARGE)
    ]  # fmt: skip
    found = asked_for([*records, clean("a"), clean("b")], {"a"}, replace(PROTOCOL, threat=Threat((SMALL,))))
    assert {one.case for one in found} == {"a"}
    assert {(one.attack, one.eps) for one in found} == {
        *((name, SMALL) for name in names), ("reach", LARGE), ("clean", 0.0),
    }  # fmt: skip


def test_twice_the_budget_is_that_of_the_strongest_attack_of_now(cases):
    protocol = replace(PROTOCOL, controls=("doubled",))
    trial = a_bench({"m": RunSystem(lesion_predictor())}, cases, protocol).bench.trials("m")["doubled"]
    unit = Unit("m", "doubled", "a", None, 0, threshold=0.4)
    assert trial.follows(replace(unit, doubles="fgsm-ce")) == {"doubles": "fgsm-ce"}
    assert trial.follows(replace(unit, doubles="fab-dice")) == {"doubles": "fab-dice", "threshold": 0.4}


def test_entries_may_be_added_and_not_changed(tmp_path):
    path, grows = tmp_path / "settings.json", {"cases": "case {} changed", "order": "case {} turned"}
    settle(path, {"seed": 0, "cases": {"a": "1"}}, "records", grows=grows)
    settle(path, {"seed": 0, "cases": {"b": "2"}, "order": {"b": [1, 0]}}, "records", grows=grows)
    assert json.loads(path.read_text())["cases"] == {"a": "1", "b": "2"}
    before = path.read_bytes()
    for wrong, message in (
        ({"seed": 0, "cases": {"a": "3", "c": "4"}}, "^case a changed. .*another --out"),
        ({"seed": 0, "cases": {"b": "2"}}, "^case b turned. .*another --out"),
        ({"seed": 0, "cases": {"a": "1"}, "order": {"a": [1, 0]}}, "^case a turned"),
        ({"seed": 1, "cases": {"a": "1"}}, "seed: 1, was 0"),
    ):
        with pytest.raises(UserError, match=message):
            settle(path, wrong, "records", grows=grows)
    assert path.read_bytes() == before
    settle(path, {"seed": 1, "cases": {"a": "1"}}, "records", grows=grows, free=("seed",))
    assert json.loads(path.read_text())["seed"] == 1
