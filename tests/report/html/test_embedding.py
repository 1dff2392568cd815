"""Volumes are inside the page while they fit, and beside it otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.report.html.folders import attacked
from voxward.core.choices import Look
from voxward.core.errors import UserError
from voxward.report.html import embedding
from voxward.report.html.case_rows import case_rows
from voxward.report.html.embedding import LADDER, embed
from voxward.report.html.kept import read_kept
from voxward.report.html.page import Setting
from voxward.report.html.sections.cases import job_of


def jobs(folder):
    source = folder.source()
    rows = case_rows(source)
    return [job_of(0, source, read_kept(source.folder), row.case, rows) for row in rows]


def setting(tmp_path, how="auto"):
    return Setting(Look(embed=how), tmp_path / "page-files")


def test_all_are_inside_where_they_fit(tmp_path):
    found = embed(jobs(attacked(tmp_path).add("a").add("b", dice=0.1)), setting(tmp_path), 100_000)
    assert list(found.inside) == ["0-b", "0-a"]
    assert not (tmp_path / "page-files").exists()
    assert json.loads(found.inside["0-b"])["notes"] == []


def test_quality_falls_before_cases_leave_the_page(tmp_path):
    change = np.random.default_rng(0).integers(-10, 11, (24, 24, 24))
    made = jobs(attacked(tmp_path, shape=(24, 24, 24)).add("a", change=change).add("b", change=change))
    sizes = [sum(len(job.content(quality)) for job in made) for quality in LADDER]
    assert min(sizes[:3]) > sizes[3] > sizes[4]
    found = embed(made, setting(tmp_path), sizes[3])
    assert list(found.inside) == ["0-a", "0-b"]
    assert sum(map(len, found.inside.values())) <= sizes[3]
    assert any("keep this page small" in note for note in json.loads(found.inside["0-a"])["notes"])


def test_the_worst_cases_are_inside_and_the_others_beside(tmp_path):
    made = jobs(attacked(tmp_path).add("a", dice=0.3).add("b", dice=0.1).add("c", dice=0.2))
    room = len(made[0].content(LADDER[0])) + 10
    found = embed(made, setting(tmp_path), room)
    assert list(found.inside) == ["0-b"]
    assert found.beside == {"0-c": "page-files/c.js", "0-a": "page-files/a.js"}
    text = (tmp_path / "page-files" / "c.js").read_text()
    assert text.startswith('voxwardVolumes("0-c",{')
    assert "image" in json.loads(text[len('voxwardVolumes("0-c",') : -len(");\n")])


def test_none_is_whole_and_beside(tmp_path):
    found = embed(jobs(attacked(tmp_path).add("a")), setting(tmp_path, "none"), 10**9)
    assert found.inside == {}
    assert found.beside == {"0-a": "page-files/a.js"}


def test_all_is_inside_whatever_its_size(tmp_path):
    found = embed(jobs(attacked(tmp_path).add("a").add("b")), setting(tmp_path, "all"), 0)
    assert len(found.inside) == 2


def test_what_lies_beside_is_written_again_only_where_it_changed(tmp_path):
    folder = attacked(tmp_path).add("a")
    path = tmp_path / "page-files" / "a.js"
    embed(jobs(folder), setting(tmp_path, "none"), 0)
    before = path.stat().st_mtime_ns
    embed(jobs(folder), setting(tmp_path, "none"), 0)
    assert path.stat().st_mtime_ns == before
    (folder.folder / "volumes/m/pgd/0.10000/a.nii.gz").unlink()
    embed(jobs(folder), setting(tmp_path, "none"), 0)
    assert "was not kept" in path.read_text()


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "page-files").mkdir()
    (tmp_path / "page-files" / "a.js").write_text("mine")
    with pytest.raises(UserError, match="not a file that voxward wrote"):
        embed(jobs(attacked(tmp_path).add("a")), setting(tmp_path, "none"), 0)
    assert (tmp_path / "page-files" / "a.js").read_text() == "mine"


def test_only_so_many_are_put_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "MOST_BESIDE", 1)
    found = embed(jobs(attacked(tmp_path).add("a").add("b")), setting(tmp_path), 0)
    assert list(found.beside) == ["0-a"]
    assert "Only the 1 scans" in found.why["0-b"]


def test_a_case_without_its_image_says_why_and_the_others_are_shown(tmp_path):
    folder = attacked(tmp_path).add("a").add("b")
    made = jobs(folder)
    for path in (tmp_path / "data").glob("a-image*"):
        path.unlink()
    found = embed(made, setting(tmp_path), 100_000)
    assert list(found.inside) == ["0-b"]
    assert "--data" in found.why["0-a"]


def test_without_a_place_beside_the_page_it_says_so(tmp_path):
    found = embed(jobs(attacked(tmp_path).add("a")), Setting(), 0)
    assert "do not fit" in found.why["0-a"]
