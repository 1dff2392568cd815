"""An attack that was interrupted: what is missing is planned from what the folder says, and not from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.folders import attack_folder, write_json
from tests.robustness.books import book, clean, record
from voxward.core.document import with_format
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.structure import to_data
from voxward.core.wording import eps_text
from voxward.report.html.page import render
from voxward.report.sources import read_sources
from voxward.robustness.noisy_runs import NoisyRuns
from voxward.robustness.record import Record
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit

PROTOCOL = {
    "name": "two", "threat": {"eps": [0.1, 0.2]}, "attacks": ["apgd-ce", "apgd-dice"],
    "controls": ["clean", "clip", "noise", "probe", "gaussian"], "seeds": [0],
}  # fmt: skip
"""On two cases: 2 x (clean, clip), 2 x 2 x (noise, gaussian, apgd-ce, apgd-dice), and one probe: 21 units."""


def interrupted(tmp_path: Path, records: Sequence[Record], **protocol: object) -> Path:
    settings = {"protocol": PROTOCOL, "cases": {"a": "1", "b": "2"}, "systems": {"m": {}}}
    folder = attack_folder(tmp_path / "found", records, settings)
    labels = LabelSet(("background", "liver", "tumour"), (0, 1, 2))
    systems = {"m": {"labels": to_data(labels), "channels": ["CT"], "orders": {}}}
    write_json(folder / "cases.json", with_format({"dataset": "", "cases": {}, "systems": systems}))
    write_json(folder / "protocol.json", with_format({"protocol": {**PROTOCOL, **protocol}, "ensembles": {}}))
    return folder


def begun() -> list[Record]:
    """Clean, clip and noise of both cases, and one attack on one of them: 9 units with the probe."""
    shared = [one for one in book() if one.kind == "control" and one.attack != "noise"]
    noise = [record("noise", case, (0.8, 0.6), eps) for case in "ab" for eps in (0.1,)]
    struck = [record("apgd-ce", "a", (0.4, 0.2), eps) for eps in (0.1, 0.2)]
    probe = record("probe", "a", (0.9, 0.7), kind="control", options={"random": False, "reached": 1.0})
    return [*shared, *noise, *struck, probe]


def test_units_that_no_record_speaks_of_are_counted(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, begun())
    (problem,) = read_sources([folder]).problems
    assert problem == (
        f"9 of 21 units of work in {folder} are finished: give the same command again to go on. Not finished: noise, "
        "apgd-dice, gaussian on 2 cases (a, b); apgd-ce on 1 case (b)."
    )


def test_a_folder_of_the_time_when_strong_was_an_ensemble_lacks_no_ladder(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, begun())
    groups = {"strong": ["apgd-ce", "apgd-dice", "transfer"]}
    write_json(
        folder / "protocol.json", with_format({"protocol": {**PROTOCOL, "attacks": ["strong"]}, "ensembles": groups})
    )
    (problem,) = read_sources([folder]).problems
    assert problem.startswith("9 of 21 units of work")
    assert "strong" not in problem.partition("Not finished")[2]


def test_a_unit_that_means_nothing_on_its_case_is_finished(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, begun())
    for case in "ab":
        for eps in (0.1, 0.2):
            skipped = {"model": "m", "case": case, "attack": "gaussian", "eps": eps, "reason": "why"}
            write_json(
                folder / f"records/m/gaussian/{case}/{eps}.json", with_format({"records": [], "skipped": skipped})
            )
    (problem,) = read_sources([folder]).problems
    assert problem.startswith("13 of 21 units of work")
    assert "gaussian" not in problem


def test_failed_cases_are_not_waited_for(tmp_path: Path) -> None:
    """The probe was made on the first case, which failed later; it is not waited for on another one."""
    folder = interrupted(tmp_path, [one for one in begun() if one.case == "a"])
    write_json(folder / "sanity.json", with_format({"failed": [{"id": "b", "reason": "no header"}]}))
    assert read_sources([folder]).problems[0].startswith("6 of 11 units of work")


def test_the_verdict_says_what_was_planned_and_over_which_scans_each_figure_is(tmp_path: Path) -> None:
    page = render(read_sources([interrupted(tmp_path, begun())]))
    assert "chosen by one attack (apgd-ce) of the 2 that were planned" in page
    assert "9 of 21 units of work are finished" in page.split('id="verdict"')[1].split("<table")[0]
    # Without a change over two scans, under attack over one: worked out by hand, (0.8 + 0.7) / 2 and (0.4 + 0.2) / 2.
    assert "<strong>0.750</strong> <span>unchanged scans, over 2 scans</span>" in page
    size = eps_text(0.2, "range")
    assert "<strong>0.300</strong>" in page
    assert f"under attack, {size}" in page
    assert "over 1 scan</span>" in page
    assert "0.300 (1 scan)" in page


def test_volumes_that_are_gone_are_told_apart_from_those_that_were_not_kept(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, begun(), keep="worst")
    assert f"{folder / 'volumes'} is missing" in read_sources([folder]).problems[0]
    (folder / "volumes").mkdir()
    assert "volumes is missing" not in read_sources([folder]).problems[0]


def test_a_folder_of_results_that_is_gone_is_called_a_folder(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, [])
    first, second = read_sources([folder]).problems
    assert first.startswith(f"{folder} has no folder of results (records)")
    assert second == (
        f"{folder} has no finished unit of work yet (of 21): there is nothing to report on. Give the same command "
        "again."
    )


def test_a_damaged_result_says_what_to_do(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, [clean("a")])
    (folder / "records" / "model" / "00000.json").write_text("{")
    assert read_sources([folder]).problems[0].endswith("delete that file and give the same command again.")


def test_an_attack_that_meets_a_damaged_result_says_what_to_do(tmp_path: Path) -> None:
    folder = interrupted(tmp_path, [clean("a")])
    (folder / "records" / "model" / "00000.json").write_text("{")
    with pytest.raises(UserError, match=r"00000\.json .*delete it and give the same command again"):
        RecordStore(folder).read_all()


def test_runs_under_noise_are_units_by_their_numbers(tmp_path: Path) -> None:
    """Two of four batches of one case: the others are missing, and a sum of all would not tell."""
    plan = {"samples": 20, "batch": 5, "sigma": [0.25]}
    folder = interrupted(tmp_path, [clean(case) for case in "ab"], attacks=[], controls=[], certificate=plan)
    for first in (0, 10):
        noisy = NoisyRuns("voxels", 0.25, first, ((0.5, 0.5),) * 5)
        one = replace(record("certificate", "a", (0.5, 0.5), 0.25), kind="certificate", noisy=noisy)
        RecordStore(folder).write(Unit("m", "certificate", "a", 0.25, 0, samples=noisy.samples), [one])
    (source,) = read_sources([folder]).attacks
    assert source.plan is not None
    assert (source.plan.finished, source.plan.total) == (4, 10)
    assert [unit.samples for unit in source.plan.lacking if unit.case == "a"] == [(5, 10), (15, 20)]
    assert all(one.noisy is None for one in source.records)
