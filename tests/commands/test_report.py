"""voxward report, by itself and at the end of other commands."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

import voxward
from tests.report.folders import attack_folder, run_folder, write_json
from tests.report.html.markup import parsed
from tests.robustness.books import book
from voxward.cli import main
from voxward.core.document import with_format
from voxward.core.errors import CasesFailed, Failure, UserError
from voxward.report.html import write
from voxward.report.html.strings import STRINGS
from voxward.report.html.write import check_page, page_after, page_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return attack_folder(tmp_path / "found", book())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says is tested elsewhere."""
    monkeypatch.setattr(write, "render", lambda *_: "<h1>a page</h1>")


def headings(page: Path) -> list[str]:
    return [one.text for one in parsed(page.read_text(encoding="utf-8")).of("h1", "h2", "h3")]


def test_folders_in_any_mix_become_one_page(folder: Path, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    page = voxward.write_report([folder, str(run)], out=tmp_path / "page.html").path
    assert page == tmp_path / "page.html"
    assert {"Training: run", STRINGS["trust"]["heading"]} <= {*headings(page)}


def test_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.htm"
    assert main(["report", str(folder), "--out", str(out), "--title", "Mine & yours", "--embed", "none"]) == 0
    assert capsys.readouterr().out.strip() == f"report: {out}"
    assert headings(out)[0] == "Mine & yours"
    assert main(["report", str(tmp_path / "gone"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "gone is no folder" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("default")
def test_what_is_missing_reaches_the_terminal(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    empty = [tmp_path / f"empty-{n}" for n in range(7)]
    for one in empty:
        one.mkdir()
    out = tmp_path / "page.html"
    words = ["report", "--out", str(out), *map(str, empty)]
    assert main(words) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"warning: {empty[0]} is empty: there is nothing to report on."
    assert len(told) == 6
    assert told[5].startswith("warning: 2 more on the page")
    assert out.is_file()
    assert main([*words, str(folder)]) == 0


@pytest.mark.usefixtures("quick")
def test_python_is_warned_of_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="empty is empty") as told:
        voxward.write_report(tmp_path / "empty", out=tmp_path / "page.html")
    assert len(told) == 1


@pytest.mark.usefixtures("quick")
def test_a_dataset_that_is_gone_is_said(folder: Path, tmp_path: Path) -> None:
    files = {"images": [str(tmp_path / "a.nii.gz")], "label": str(tmp_path / "label.nii.gz"), "order": None}
    write_json(folder / "cases.json", with_format({"dataset": "", "cases": {"a": files}, "systems": {}}))
    with pytest.warns(UserWarning, match=r"files of 1 of 1 cases .*a\.nii\.gz.*with --data"):
        voxward.write_report(folder, out=tmp_path / "page.html")
    for name in ("a", "label"):
        (tmp_path / f"{name}.nii.gz").touch()
    voxward.write_report(folder, out=tmp_path / "page.html")


@pytest.mark.usefixtures("quick")
def test_the_page_lies_in_the_working_folder_by_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert voxward.write_report("found").path == Path("report.html")
    assert (tmp_path / "report.html").is_file()


@pytest.mark.usefixtures("quick")
def test_a_page_is_written_again_and_what_others_wrote_is_kept(folder: Path, tmp_path: Path) -> None:
    page = voxward.write_report(folder, out=tmp_path / "page.html").path
    voxward.write_report(folder, out=page)
    page.write_text("mine")
    with pytest.raises(UserError, match="not a file that voxward wrote as a report page"):
        voxward.write_report(folder, out=page)
    assert page.read_text() == "mine"
    voxward.write_report(folder, out=page, overwrite=True)
    assert headings(page)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("page.txt", r"out must be a file that ends with \.html, got .*page\.txt"),
        ("found", r"out must be a file that ends with \.html"),
        ("folder.html", "not a file that voxward wrote"),
        ("file/page.html", "file is a file, and must be a folder"),
    ],
)
def test_where_no_page_can_lie(folder: Path, tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message):
        voxward.write_report(folder, out=tmp_path / out)


def test_no_folders_are_refused() -> None:
    with pytest.raises(UserError, match="folders must name at least one folder"):
        voxward.write_report([])


@pytest.mark.usefixtures("quick")
def test_a_folder_that_may_not_be_written_to(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert main(["report", str(folder), "--out", str(locked / "page.html")]) == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_folder_in_which_no_file_can_be_made_is_named(folder: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / ".voxward-hidden"))

    monkeypatch.setattr(write.Outputs, "text", full)
    with pytest.raises(
        UserError, match=r"cannot be written to \(No space left on device\): choose another --out"
    ) as got:
        voxward.write_report(folder, out=tmp_path / "new" / "page.html")
    assert "hidden" not in str(got.value)
    monkeypatch.setattr("voxward.core.files.tempfile.TemporaryFile", full)
    monkeypatch.setattr(write, "render", lambda *_: pytest.fail("refused only after the page was drawn"))
    with pytest.raises(UserError, match=r"new cannot be written to .*: choose another --out"):
        voxward.write_report(folder, out=tmp_path / "new" / "page.html")


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_a_moved_dataset_that_is_none_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "empty").mkdir()
    out, data = tmp_path / "page.html", tmp_path / name
    assert main(["report", str(folder), "--out", str(out), "--data", str(data)]) == 2
    assert f"{data} is no dataset that can be read" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UserError, match="is no dataset that can be read"):
        voxward.write_report(folder, out=out, look=voxward.Look(data=data))
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_courses_are_drawn_at_the_size_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [replace(one, history=(0.8, 0.5)) if one.kind == "attack" else one for one in book()]
    folder, out, drawn = attack_folder(tmp_path / "found", records), tmp_path / "page.html", tmp_path / "figures"

    def first(*changes: str) -> tuple[str, str]:
        assert main(["report", str(folder), "--out", str(out), "--figures", str(drawn), *changes]) == 0
        capsys.readouterr()
        panels = re.findall(r"m, eps (?:25\.5|51)/255", out.read_text(encoding="utf-8"))
        figure = (drawn / "found-dice-over-evaluations.svg").read_text(encoding="utf-8")
        return panels[0], next(text for text in ("eps 25.5/255", "eps 51/255") if text in figure)

    assert first() == ("m, eps 51/255", "eps 51/255")
    assert first("--eps", "25.5/255") == ("m, eps 25.5/255", "eps 25.5/255")
    before = out.read_text(encoding="utf-8")
    for wrong, told in (("8/255", "(25.5/255, 51/255), got 8/255"), ("large", "a number or a fraction such as 8/255")):
        assert main(["report", str(folder), "--out", str(out), "--eps", wrong]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert out.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("wrong", ["Hippo", None])
def test_a_wrong_look_is_told_how_it_is_given(folder: Path, tmp_path: Path, wrong: object) -> None:
    unchecked = inspect.unwrap(voxward.write_report)  # as users call it, without the tests' check of types
    with pytest.raises(UserError, match=r"voxward\.Look\(title=\.\.\., embed=\.\.\., data=\.\.\., eps=\.\.\.\)"):
        unchecked(folder, out=tmp_path / "page.html", look=wrong)
    assert not (tmp_path / "page.html").exists()


# At the end of other commands.


@pytest.mark.parametrize("options", [[], ["--no-report"]])
def test_a_demo_names_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (tmp_path / "report.html").write_text("a page of this call, or with --no-report of an earlier one")
    monkeypatch.setattr("voxward.commands.demo.demo", lambda **_: Mock())
    monkeypatch.setattr("voxward.report.metrics.metrics_table", lambda _: Mock())
    monkeypatch.setattr("voxward.cli.robustness.show", lambda *_, **__: 0)
    assert main(["demo", "--out", str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    assert (f"page:    {tmp_path / 'report.html'}" in printed) == (not options)


@pytest.mark.usefixtures("quick")
def test_the_page_of_finished_work(folder: Path) -> None:
    page_of(voxward.Output(folder))
    assert headings(folder / "report.html") == ["a page"]


def test_no_page_is_written_where_none_is_wanted(folder: Path) -> None:
    output = voxward.Output(folder, report=False)
    (folder / "report.html").write_text("mine")
    check_page(output)
    page_of(output)
    assert (folder / "report.html").read_text() == "mine"


def test_work_whose_page_would_replace_a_file_is_not_begun(folder: Path) -> None:
    (folder / "report.html").write_text("mine")
    with pytest.raises(UserError, match="not a file that voxward wrote"):
        check_page(voxward.Output(folder))
    check_page(voxward.Output(folder, overwrite=True))


@pytest.mark.parametrize(
    "error", [UserError("edited meanwhile"), OSError(28, "No space left on device", "report.html")]
)
def test_a_page_that_cannot_be_written_costs_no_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(write, "write_page", fail)
    with pytest.warns(UserWarning, match=r"report\.html was not written: .* `voxward report .*` writes the page later"):
        page_of(voxward.Output(folder))


@pytest.mark.usefixtures("quick")
def test_a_page_is_also_written_where_some_cases_failed(folder: Path) -> None:
    with pytest.raises(CasesFailed), page_after(voxward.Output(folder)):
        raise CasesFailed([Failure("c", "no header")], 3, result="of the others")
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("error", [CasesFailed([Failure("c", "no header")], 1), UserError("nothing was done")])
def test_no_page_is_written_where_nothing_was_done(folder: Path, error: UserError) -> None:
    with pytest.raises(UserError), page_after(voxward.Output(folder)):
        raise error
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("command", ["attack", "harden", "search", "cv", "demo"])
def test_commands_that_measure_can_be_told_to_write_no_page(command: str) -> None:
    from voxward.cli import parser

    commands = next(action for action in parser()._actions if action.dest == "command")
    assert "--no-report" in commands.choices[command]._option_string_actions
