"""Figures for a paper: their names say what they are, they are well-formed, and nobody's files are replaced."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

import voxward
from tests.report.folders import attack_folder
from tests.report.html.attack_source import attack_source, sources_of
from tests.report.html.folders import attacked
from tests.robustness.books import book
from voxward.cli import main
from voxward.core.errors import UserError
from voxward.report.attack_panel import panel_of
from voxward.report.chart_figure import figure_svg
from voxward.report.html import paper as paper_module
from voxward.report.html import write
from voxward.report.html.paper import Paper, figures_outputs, paper
from voxward.report.html.write import write_page
from voxward.report.sources import Sources
from voxward.report.style import FORMATS


def test_files_are_called_after_folder_and_figure():
    files = paper(sources_of(attack_source(book(), "run/attack"), attack_source(book(), "other/attack"))).files
    assert files == tuple(
        f"attack-{figure}{number}.{form}"
        for figure, number in (("dice-over-eps", ""), ("dice-over-evaluations", ""), ("dice-over-eps", "-2"),
                               ("dice-over-evaluations", "-2"))
        for form in ("svg", "pdf")
    )  # fmt: skip


def test_any_name_of_a_folder_gives_a_legal_file_name(tmp_path):
    for name in ("a/b c", "..", "脳" * 200, "x:y\\z"):
        found = paper(sources_of(replace(attack_source(book()), name=name)))
        figures_outputs(tmp_path, False).check(found.files)
        assert all("/" not in file for file in found.files)


def test_figures_are_written_and_others_are_left_alone(tmp_path):
    whole = paper(sources_of(attack_source(book(), "attack")))
    name, chart = next(iter(whole.charts.items()))
    one = Paper({name: chart})
    one.write(figures_outputs(tmp_path, False))
    assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    (tmp_path / f"{name}.pdf").write_text("mine")
    with pytest.raises(UserError, match="not a file that voxward wrote"):
        figures_outputs(tmp_path, False).check(one.files)


def test_nothing_to_draw_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="there is no figure to draw"):
        paper(Sources())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no figure to draw"):
        write_page([tmp_path / "empty"], tmp_path / "r.html", figures=tmp_path / "figures")
    assert {path.name for path in tmp_path.iterdir()} == {"empty"}


def test_the_panel_is_of_the_scan_that_lost_most_and_marks_its_scale(tmp_path):
    folder = attacked(tmp_path).add("a", dice=0.3, eps=0.2).add("b", dice=0.2, eps=0.2, change=7).add("b", dice=0.1)
    ((name, files),) = paper(sources_of(folder.source())).panels.items()
    assert name.endswith("attack-panel-m")
    assert (files.record.case, files.record.eps) == ("b", 0.2)
    texts = ElementTree.fromstring(figure_svg(panel_of(files))).itertext()
    said = {text.strip() for text in texts if text.strip()}
    # Each voxel of the file is brighter by 7.
    assert {"-7", "0", "+7", "change of the intensity", "b: pgd, eps 51/255, Dice 0.200"} <= said


def test_a_panel_without_its_files_is_left_out(tmp_path):
    folder = attacked(tmp_path).add("a", eps=0.2, dice=0.1).add("b", eps=0.2, dice=0.2)
    next((folder.folder / "volumes").rglob("a.nii.gz")).unlink()
    sources = sources_of(folder.source())
    (files,) = paper(sources).panels.values()
    assert files.record.case == "b"
    files.adversarial.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="the figure b is left out: .*b.nii.gz"):
        Paper({}, {"b": files}).write(figures_outputs(tmp_path / "figures", False))
    (folder.folder / "cases.json").unlink()
    assert not paper(sources).panels


def test_the_command_writes_what_is_not_there_yet_and_says_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write, "render", lambda *_: "<h1>a page</h1>")
    monkeypatch.setattr(paper_module, "chart_figure", lambda chart, titled: Figure(figsize=(1, 1)))
    folder = attack_folder(tmp_path / "found", book())
    out, figures = tmp_path / "r.html", tmp_path / "new" / "figures"
    assert main(["report", str(folder), "--out", str(out), "--figures", str(figures)]) == 0
    assert f"figures: {figures}" in capsys.readouterr().out
    expected = {f"found-{name}.{form}" for name in ("dice-over-eps", "dice-over-evaluations") for form in FORMATS}
    assert {path.name for path in figures.iterdir() if not path.name.startswith(".")} == expected
    (figures / "found-dice-over-eps.svg").write_text("mine")
    out.unlink()
    assert main(["report", str(folder), "--out", str(out), "--figures", str(figures)]) == 2
    assert not out.exists()
    voxward.write_report(folder, out=out, figures=figures, overwrite=True)
    assert (figures / "found-dice-over-eps.svg").read_text() != "mine"
