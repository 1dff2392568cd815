"""Folders as they lie there: whole, old, damaged, foreign. Each fault is a sentence, and the rest is read."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.folders import LOG, attack_folder, metrics_data, run_folder, write_json
from tests.robustness.books import book, clean, record
from voxward.core.document import FORMAT
from voxward.core.wording import eps_text
from voxward.report.sources import Sources, read_sources

ROOT = Path(__file__).parents[2]


def whole(tmp_path: Path) -> Path:
    return attack_folder(tmp_path / "found", book())


def problems(*folders: Path) -> list[str]:
    return list(read_sources(folders).problems)


def test_a_whole_folder_is_read_without_a_problem(tmp_path: Path) -> None:
    found = read_sources([whole(tmp_path)])
    (source,) = found.attacks
    assert found.problems == ()
    assert (source.name, source.models, source.case_ids) == ("found", ("m",), ("a", "b"))
    assert sorted(source.records, key=repr) == sorted(book(), key=repr)
    assert source.protocol is not None
    assert source.protocol.threat.eps == (0.1, 0.2)
    assert {finding.name for finding in source.findings} >= {"complete", "noise control"}


def test_lists_of_records_without_a_format_are_read(tmp_path: Path) -> None:
    """Version 0.1 wrote the list alone, and no field that came later."""
    folder = attack_folder(tmp_path / "old", book(), wrapped=False)
    for path in folder.rglob("records/**/*.json"):
        (entry,) = json.loads(path.read_text())
        for name in ("deployed_clean", "policy", "written", "system", "warnings"):
            entry.pop(name, None)
        write_json(path, [entry])
    found = read_sources([folder])
    assert found.problems == ()
    assert len(found.attacks[0].records) == len(book())


DAMAGES = {
    "no JSON": "{",
    "empty": "",
    "cut short": '{"format": 1, "records": [{"model": "m", "ca',
    "newer": f'{{"format": {FORMAT + 1}, "records": []}}',
    "no records": '{"format": 1}',
    "an unknown field": '{"format": 1, "records": [{"model": "m", "colour": "red"}]}',
    "another type": '{"format": 1, "records": [3]}',
    "a number without end": '{"format": 1, "records": [{"seconds": 1' + "0" * 400 + "}]}",
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_costs_only_itself(tmp_path: Path, damage: str | bytes) -> None:
    folder = whole(tmp_path)
    path = folder / "records" / "model" / "00013.json"
    path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    found = read_sources([folder])
    assert len(found.attacks[0].records) == len(book()) - 1
    unread, missing = found.problems
    assert unread.startswith(f"1 file of results in {folder} cannot be read")
    assert str(path) in unread
    assert missing == f"1 result of {folder} is missing: y on b at eps {eps_text(0.2, 'range')} (m)."


def test_thousands_of_damaged_records_are_one_sentence(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    for path in sorted(folder.rglob("records/**/*.json"))[4:]:
        path.write_text("{")
    first = problems(folder)[0]
    assert first.startswith(f"10 files of results in {folder} cannot be read")
    assert first.count(".json") == 2
    assert len(first) < 800


@pytest.mark.parametrize("name", ["records/model", "records/model/00013.json", "settings.json", "."])
def test_what_may_not_be_read_is_a_sentence(tmp_path: Path, name: str) -> None:
    folder = whole(tmp_path)
    path = folder / name
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        assert any("Permission denied" in problem for problem in problems(folder))
    finally:
        path.chmod(0o755)


def test_a_folder_of_records_that_cannot_be_listed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, also for root: results that are missing in silence would make a system look robust."""
    folder, scandir = whole(tmp_path), os.scandir

    def refused(path: str | Path) -> object:
        if str(path).endswith("model"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert any("model: Permission denied" in problem for problem in problems(folder))


def test_a_folder_without_finished_units_says_so(tmp_path: Path) -> None:
    found = read_sources([attack_folder(tmp_path / "begun", [])])
    assert found.attacks[0].records == ()
    assert [problem for problem in found.problems if "no finished unit of work yet" in problem]


def test_records_without_settings(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    (folder / "settings.json").unlink()
    found = read_sources([folder])
    assert len(found.attacks[0].records) == len(book())
    assert found.attacks[0].protocol is None
    assert found.problems == (
        f"{folder} has no settings.json: what was attacked, and on which cases, is not known.",
    )  # fmt: skip


@pytest.mark.parametrize("settings", [{"protocol": 3}, {"systems": ["m"]}, {"cases": "ab"}], ids=str)
def test_settings_of_another_form_are_left_out(tmp_path: Path, settings: dict[str, object]) -> None:
    folder = attack_folder(tmp_path / "found", book(), settings)
    found = read_sources([folder])
    assert len(found.attacks[0].records) == len(book())
    assert f"{next(iter(settings))} is left out" in found.problems[0]


def test_settings_of_another_kind_of_folder(tmp_path: Path) -> None:
    """The results of a search that lie in the repository have a settings.json, too."""
    folder = tmp_path / "registered"
    shutil.copytree(ROOT / "results" / "msnas" / "registered", folder)
    (problem,) = problems(folder)
    assert problem.startswith(f"{folder} holds nothing that a report can show (results.json, ")


def test_models_of_other_tools_and_empty_folders_say_what_they_are(tmp_path: Path) -> None:
    results, empty, data = tmp_path / "nnunet", tmp_path / "empty", tmp_path / "data"
    (results / "fold_0").mkdir(parents=True)
    for name in ("dataset.json", "plans.json"):
        (results / name).write_text("{}")
    (results / "fold_0" / "checkpoint_final.pth").write_text("")
    empty.mkdir()
    data.mkdir()
    for name in "bcda":
        (data / name).mkdir()
    found = problems(results, empty, data)
    assert found[0].startswith(f"{results} holds a model, and nothing that was measured on it.")
    assert found[1] == f"{empty} is empty: there is nothing to report on."
    assert found[2].startswith(f"{data} holds nothing that a report can show (a, b, c and 1 more).")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone is no folder"):
        read_sources([whole(tmp_path), tmp_path / "gone"])


def test_one_folder_under_several_names_is_read_once(tmp_path: Path) -> None:
    folder, link = whole(tmp_path), tmp_path / "link"
    link.symlink_to(folder)
    found = read_sources([folder, folder / ".." / "found", link, tmp_path])
    assert [source.name for source in found.attacks] == ["found"]
    assert found.problems == ()


def test_a_folder_stands_for_those_inside_it(tmp_path: Path) -> None:
    """As that of `voxward demo`; a run also for the attack that lies in it."""
    attack_folder(tmp_path / "demo" / "attack-x", book())
    run = run_folder(tmp_path / "demo" / "run-x")
    attack_folder(run / "attack", book())
    (tmp_path / "demo" / "phantoms").mkdir()
    (tmp_path / "demo" / ".hidden").mkdir()
    both, alone = read_sources([tmp_path / "demo"]), read_sources([run])
    assert ([one.name for one in both.attacks], [one.name for one in both.runs]) == (["attack-x"], ["run-x"])
    assert ([one.name for one in alone.attacks], [one.name for one in alone.runs]) == (["run-x/attack"], ["run-x"])
    assert both.problems == alone.problems == ()


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [attack_folder(tmp_path / name, book()) for name in ("a/x/found", "b/x/found", "other")]
    assert [one.name for one in read_sources(folders).attacks] == ["a/x/found", "b/x/found", "other"]


HOSTILE = ["<script>alert(1)</script>", 'a"b', "a'b", "{{7*7}}", "肝臓", "\u202eabc", "a b\u2028c", "%s{0}"]


@pytest.mark.parametrize("name", [name.replace("/", "-") for name in HOSTILE])
def test_any_name_of_a_folder_is_read(tmp_path: Path, name: str) -> None:
    found = read_sources([attack_folder(tmp_path / name, book())])
    assert (found.attacks[0].name, found.problems) == (name, ())


# What is written beside the records.


def _with_protocol(tmp_path: Path, content: object) -> Sources:
    folder = whole(tmp_path)
    write_json(folder / "protocol.json", content)
    return read_sources([folder])


def test_the_protocol_and_the_command_of_a_folder(tmp_path: Path) -> None:
    protocol = {
        "name": "mine",
        "threat": {"eps": [0.1, 0.2]},
        "require": ["robust_dice@0.1 >= 0.3", "clean_dice > 0.9"],
    }
    content = {
        "format": 1,
        "protocol": protocol,
        "command": "voxward attack run data",
        "ensembles": {"both": ["x", "y"]},
    }
    found = _with_protocol(tmp_path, content)
    (source,) = found.attacks
    assert source.command == "voxward attack run data"
    # Worked out by hand in books.py: the worst case at 0.1 is 0.35, the clean Dice 0.75.
    assert [(v.value, v.met) for v in source.verdicts] == [(pytest.approx(0.35), True), (pytest.approx(0.75), False)]


def test_a_call_that_is_no_python_code_is_not_shown(tmp_path: Path) -> None:
    """Versions before this one wrote what an open system holds."""
    for text, shown in (
        ("voxward.attack(systems=[voxward.BlackBoxSystem(function=<function>)], dataset='data')", ""),
        ("# mine: an object\nvoxward.attack(systems=mine, dataset='data')", "# mine: an object\nvoxward.attack("),
    ):
        description = {"format": 1, "protocol": {"name": "mine"}, "command": text, "python": True}
        folder = tmp_path / ("code" if shown else "dump")
        folder.mkdir()
        command = _with_protocol(folder, description).attacks[0].command
        assert command.startswith(shown)
        assert bool(command) == bool(shown)


PROTOCOLS = {
    "newer": {"format": FORMAT + 1, "protocol": {}},
    "an unknown key": {"format": 1, "protocol": {"name": "x", "colour": "red"}},
    "another type": {"format": 1, "protocol": [1]},
    "an unknown attack": {"format": 1, "protocol": {"name": "x", "attacks": ["magic"]}},
    "a list": [1],
}


@pytest.mark.parametrize("content", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_protocol_that_cannot_be_read_is_taken_from_the_settings(tmp_path: Path, content: object) -> None:
    found = _with_protocol(tmp_path, content)
    (problem,) = found.problems
    assert "protocol.json" in problem
    assert found.attacks[0].protocol is not None
    assert found.attacks[0].protocol.threat.eps == (0.1, 0.2)


def test_the_groups_of_attacks_are_those_that_the_folder_lists(tmp_path: Path) -> None:
    protocol = {"name": "mine", "threat": {"eps": [0.1, 0.2]}, "attacks": ["apgd-ce"]}
    found = _with_protocol(tmp_path, {"format": 1, "protocol": protocol, "ensembles": {"both": ["x", "z"]}})
    (source,) = found.attacks
    assert source.ensembles == {"both": ("x", "z")}
    assert found.problems == (f"{source.folder} has no results of these attacks of the group both: z.",)


def test_a_requirement_that_cannot_be_judged_is_not_measured(tmp_path: Path) -> None:
    folder = attack_folder(tmp_path / "found", [one for one in book() if one.attack != "clean"])
    protocol = {"name": "x", "threat": {"eps": [0.1, 0.2]}, "require": ["clean_dice >= 0.5"]}
    write_json(folder / "protocol.json", {"format": 1, "protocol": protocol})
    (verdict,) = read_sources([folder]).attacks[0].verdicts
    assert (verdict.value, verdict.met) == (None, False)


def test_nothing_is_met_while_an_attack_is_missing(tmp_path: Path) -> None:
    """Its protocol asks for apgd-ce, which might be the worst one."""
    folder = whole(tmp_path)
    protocol = {"name": "x", "attacks": ["apgd-ce"], "threat": {"eps": [0.1, 0.2]}, "require": ["clean_dice >= 0.5"]}
    content = {"format": 1, "protocol": protocol, "ensembles": {"both": ["x", "z"]}}
    write_json(folder / "protocol.json", content)
    (verdict,) = read_sources([folder]).attacks[0].verdicts
    assert (verdict.value, verdict.met, verdict.unfinished) == (pytest.approx(0.75), False, True)


def test_failed_cases_are_in_no_figure(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    write_json(folder / "sanity.json", {"format": 1, "findings": [], "failed": [{"id": "b", "reason": "no header"}]})
    (source,) = read_sources([folder]).attacks
    assert [(failure.case, failure.reason) for failure in source.failed] == [("b", "no header")]
    assert {one.case for one in source.records} == {"a"}


@pytest.mark.parametrize("failed", [[{"id": "b"}], "b", [3]], ids=str)
def test_failed_cases_of_another_form(tmp_path: Path, failed: object) -> None:
    folder = whole(tmp_path)
    write_json(folder / "sanity.json", {"format": 1, "failed": failed})
    found = read_sources([folder])
    assert len(found.attacks[0].records) == len(book())
    assert found.problems[0].startswith("Which cases failed is not known: ")


# What is missing.


def test_cases_systems_and_results_that_are_missing_are_named(tmp_path: Path) -> None:
    records = [one for one in book() if (one.attack, one.case, one.eps) != ("x", "b", 0.2)]
    more = [clean("c", dice=(0.5, 0.5)), record("x", "c", (0.5, 0.5), 0.1, clean=(0.5, 0.5))]
    other = [replace(one, model="stranger") for one in book()]
    settings = {
        "cases": {"a": "1", "b": "2", "d": "3"}, "systems": {"m": {}, "late": {}},
        "protocol": {"threat": {"eps": [0.1, 0.2, 0.5]}, "attacks": ["autoattack"]},
    }  # fmt: skip
    folder = attack_folder(tmp_path / "found", [*records, *more, *other], settings)
    low, high = eps_text(0.1, "range"), eps_text(0.2, "range")
    assert problems(folder) == [
        f"{folder} has no results for 1 of 3 cases: d.",
        f"{folder} has results for cases that its settings do not name: c.",
        f"{folder} has results of systems that its settings do not name: stranger.",
        f"{folder} has no results of late, which were to be attacked, too.",
        f"{folder} has no results of these attacks of the group autoattack: apgd-ce, apgd-dlr, fab-t and 1 more.",
        f"{folder} has no results of an attack at eps {eps_text(0.5, 'range')}.",
        # On c neither m nor stranger is complete.
        f"9 results of {folder} are missing: x on b at eps {high} (m), x on c at eps {high} (m), y on c at eps {low} "
        "(m) and 6 more.",
    ]  # fmt: skip


def test_a_case_without_its_clean_control_is_named(tmp_path: Path) -> None:
    folder = attack_folder(tmp_path / "found", [one for one in book() if (one.attack, one.case) != ("clean", "b")])
    assert problems(folder) == [f"1 result of {folder} is missing: clean on b (m)."]


def test_a_probe_without_its_options_is_not_testable(tmp_path: Path) -> None:
    probe = record("probe", "a", (0.9, 0.7), kind="control")
    (source,) = read_sources([attack_folder(tmp_path / "found", [*book(), probe])]).attacks
    assert [finding.passed for finding in source.findings if finding.name == "model"] == [None]


# Trainings.


def test_a_run_and_its_scores(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    write_json(run / "metrics.json", metrics_data({"a": 0.5, "b": 0.7}))
    write_json(run / "on-other" / "metrics.json", metrics_data({"c": 0.9}))
    found = read_sources([run])
    (source,) = found.runs
    assert found.problems == ()
    assert (source.name, source.seconds, source.progress) == ("run", 30.0, None)
    assert source.recipe is not None
    assert source.settings is not None
    assert (source.recipe.name, source.settings.minutes) == ("dynunet", 0.5)
    means = {name: one.foreground.mean for name, one in source.evaluations.items() if one.foreground is not None}
    assert means == {"": pytest.approx(0.6), "on-other": pytest.approx(0.9)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("logs/training.csv", "step,training_loss\n1,two\n"),
        ("logs/training.csv", "no log"),
        ("metrics.json", "{"),
        ("metrics.json", '{"format": 1, "cases": []}'),
        ("metrics.json", '{"format": 9, "cases": []}'),
        ("run.json", '{"format": 1}'),
        ("recipe.yaml", "name: [\n"),
        ("recipe.yaml", "colour: red\n"),
    ],
)
def test_a_damaged_file_of_a_run_costs_only_itself(tmp_path: Path, name: str, content: str) -> None:
    run = run_folder(tmp_path / "run")
    (run / name).write_text(content + ("" if content != "no log" else "\n"))
    found = read_sources([run])
    assert [one.name for one in found.runs] == ["run"]
    (problem,) = found.problems
    assert name in problem


def test_a_log_that_is_missing_or_empty(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", log=None)
    empty = run_folder(tmp_path / "b", log=LOG.split("\n")[0] + "\n")
    found = read_sources([run, empty])
    assert [one.log for one in found.runs] == [(), ()]
    assert found.problems == (f"{run} has no log of its training yet.",)


def test_a_cross_validation_knows_what_is_still_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "cv"
    run_folder(folder / "fold-0" / "dynunet")
    write_json(folder / "cv.json", {"format": 1, "recipes": ["dynunet", "some/mine.yaml"], "folds": 2})
    (source,) = read_sources([folder]).validations
    assert [run.name for run in source.runs] == ["fold-0/dynunet"]
    assert source.planned == ("fold-0/dynunet", "fold-0/mine", "fold-1/dynunet", "fold-1/mine")
    assert source.evaluation is None
