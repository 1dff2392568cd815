"""The table of cases: worst first, with the figures of the records."""

from __future__ import annotations

import base64
import gzip
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

import voxward.report.html
from tests.report.html.folders import attacked
from voxward.report.html.case_rows import case_rows, size_groups
from voxward.report.html.page import Setting, render
from voxward.report.html.sections.cases import cases
from voxward.report.sources import Sources, read_sources
from voxward.robustness.record import Surface


def section(folder, **setting):
    return section_of(folder.source(), **setting)


def section_of(source, **setting):
    return cases(Sources(attacks=(source,)), Setting(**setting))


def test_the_worst_case_is_first(tmp_path):
    rows = case_rows(attacked(tmp_path).add("a", dice=0.3).add("b", dice=0.1).add("c", dice=0.2).source())
    assert [row.case for row in rows] == ["b", "c", "a"]
    assert [row.struck[0].dice for row in rows] == [0.1, 0.2, 0.3]
    assert rows[0].clean_dice == 0.75
    assert rows[0].attack == "pgd"


def test_a_case_that_no_attack_lowered_keeps_its_clean_dice(tmp_path):
    (row,) = case_rows(attacked(tmp_path).add("a", dice=0.9).source())
    assert row.struck[0].dice == 0.75
    assert row.attack == "none lowered it"


def test_sizes_that_were_not_run_on_a_case_are_empty(tmp_path):
    rows = case_rows(attacked(tmp_path).add("a").add("b").add("b", eps=0.2, dice=0.05).source())
    assert [row.case for row in rows] == ["b", "a"]
    assert [one.eps for one in rows[1].struck] == [0.1, 0.2]
    assert math.isnan(rows[1].struck[1].dice)


def test_cases_are_ordered_over_all_systems(tmp_path):
    folder = attacked(tmp_path).add("a", dice=0.3).add("a", dice=0.1, model="n")
    rows = case_rows(folder.source())
    assert [(row.case, row.system) for row in rows] == [("a", "n"), ("a", "m")]
    assert section(folder).tables[0].several


def test_without_attacks_there_is_no_section(tmp_path):
    folder = attacked(tmp_path).add("a")
    folder.records = [record for record in folder.records if record.kind != "attack"]
    assert section(folder) is None


def test_an_old_folder_has_a_table_without_viewer_and_says_why(tmp_path):
    folder = attacked(tmp_path).add("a")
    source = folder.source()
    (folder.folder / "cases.json").unlink()
    found = cases(Sources(attacks=(source,)), Setting())
    assert found.viewer is None
    assert found.tables[0].keys == ("",)
    ((reason, count),) = found.tables[0].reasons
    assert "earlier version" in reason
    assert count == 1


def test_mode_patch_says_that_there_are_no_volumes(tmp_path):
    folder = attacked(tmp_path).add("a")
    folder.records = [replace(record, mode="patch") for record in folder.records]
    assert "mode patch" in section(folder).tables[0].reasons[0][0]


def test_the_page_has_a_button_and_the_volumes_of_each_case(tmp_path):
    folder = attacked(tmp_path).add("a").add("b")
    text = render(Sources(attacks=(folder.source(),)))
    for case in ("a", "b"):
        assert f'data-open-case="0-{case}"' in text
        assert f'data-volumes="0-{case}"' in text
    assert text.index('data-open-case="0-a"') < text.index('data-open-case="0-b"')


def test_names_cannot_break_the_page(tmp_path):
    folder = attacked(tmp_path).add("a").add("b")
    folder.records = [replace(record, model="</script><b>") for record in folder.records]
    text = render(Sources(attacks=(folder.source(),)))
    assert "<b>" not in text


def test_groups_are_thirds_of_the_cases_by_the_smallest_structure(tmp_path):
    source = attacked(tmp_path).add("a").source()
    assert size_groups(case_rows(source)) == ()
    # The sizes of two classes, clean Dice 0.75 everywhere, and the Dice under attack.
    made = {"p": ((0.0, 9.0), 0.1), "q": ((5.0, 70.0), 0.2), "r": ((900.0, 30.0), 0.4), "s": ((2000.0, 60.0), 0.5)}
    source = replace(source, records=tuple(
        replace(r, case=case, truth_mm3=sizes, deployed=r.deployed if r.kind == "control" else (dice, dice))
        for case, (sizes, dice) in made.items() for r in source.records
    ))  # fmt: skip
    rows = case_rows(source)
    assert {row.case: row.group for row in rows} == {"q": "small", "p": "small", "r": "medium", "s": "large"}
    small, medium, large = size_groups(rows)
    assert (small.cases, small.largest_mm3, medium.largest_mm3, large.largest_mm3) == (2, 9.0, 30.0, 60.0)
    assert small.attacked == pytest.approx((0.15,))
    assert (medium.attacked, large.attacked, large.clean) == ((0.4,), (0.5,), 0.75)
    said = cases(Sources(attacks=(source,)), Setting()).tables[0].said_of_groups
    assert "cannot be told" in said
    assert "1 scan" in said


def test_groups_are_compared_at_the_size_at_which_they_differ_most(tmp_path):
    source = attacked(tmp_path).add("a").add("a", eps=16 / 255).add("a", eps=4 / 255).source()
    source = replace(source, records=tuple(
        replace(r, case=f"{n:02.0f}", truth_mm3=(n, 99.0), deployed=r.deployed if r.kind == "control" else (dice, dice))
        for n in map(float, range(1, 31)) for r in source.records
        for dice in [0.0 if r.eps > 5 / 255 else 0.7 if n > 20 else 0.5 if n > 10 else 0.3]
    ))  # fmt: skip
    table = section_of(source).tables[0]
    assert [group.cases for group in table.groups] == [10, 10, 10]
    assert table.said_of_groups == (
        "The groups differ most at 4/255: there the scans with small structures lost the most, and those with large "
        "ones the least."
    )


def test_cases_with_the_same_dice_are_ordered_by_the_next_smaller_size_and_then_by_what_breaks_them(tmp_path):
    folder = attacked(tmp_path)
    for case, small in (("a", 0.5), ("b", 0.3), ("c", 0.5)):
        folder.add(case, eps=0.2, dice=0.001 if case == "b" else 0.0).add(case, dice=small)
    rows = case_rows(folder.source())
    assert [row.case for row in rows] == ["b", "a", "c"]
    nearest = [replace(row, breaking_eps=eps).rank for row, eps in zip(rows[1:], (0.2, 0.1), strict=True)]
    assert nearest[1] < nearest[0]


def test_a_breaking_eps_has_two_digits(tmp_path):
    table = section(attacked(tmp_path).add("a")).tables[0]
    assert [table.eps_of(value / 255) for value in (3.608, 11.043, 0.0512)] == ["3.6/255", "11/255", "0.051/255"]
    assert replace(table, unit="native", channels=("CT",)).eps_of(17.77) == "18 HU"


def test_a_size_that_broke_a_case_is_not_smaller_than_what_is_said_to_break_it(tmp_path):
    """An attack that looks for the smallest change may find a larger one than another attack was run with."""
    source = attacked(tmp_path).add("a", eps=0.1, dice=0.2).add("a", eps=0.2, dice=0.1).source()
    found = {None: None, 0.15: 0.1, 0.05: 0.05}  # half of the clean Dice of 0.75 is more than 0.2
    for searched, said in found.items():
        records = tuple(replace(r, breaking_eps=searched) if r.kind == "attack" else r for r in source.records)
        (row,) = case_rows(replace(source, records=records))
        assert row.breaking_eps == said


def test_surfaces_are_those_of_the_attack_that_hurt_most_at_the_largest_size(tmp_path):
    folder = attacked(tmp_path).add("a").add("a", eps=0.2, dice=0.1)
    assert not section(folder).tables[0].surfaces
    folder.records = [
        replace(r, clean_surface=Surface(1.0, 0.9), surface=Surface(r.eps * 100, None)) for r in folder.records
    ]
    table = section(folder).tables[0]
    assert table.rows[0].surfaces("hd95_mm") == (1.0, 20.0)
    assert table.rows[0].surfaces("nsd") == (0.9, None)
    assert table.surfaces


def test_surfaces_stay_clean_where_no_attack_lowered_the_dice(tmp_path):
    folder = attacked(tmp_path).add("a", dice=0.9)
    folder.records = [replace(r, clean_surface=Surface(1.0, 0.9), surface=Surface(9.0, 0.1)) for r in folder.records]
    (row,) = section(folder).tables[0].rows
    assert (row.attack, row.struck[0].dice) == ("none lowered it", row.clean_dice)
    assert row.surfaces("hd95_mm") == (1.0, 1.0)


def test_the_library_of_the_viewer_is_in_the_page_unmodified_and_only_where_there_is_something_to_see(tmp_path):
    folder = attacked(tmp_path).add("a")
    text = render(Sources(attacks=(folder.source(),)))
    (packed,) = re.findall(r'<script type="text/plain" id="niivue">([^<]+)</script>', text)
    vendored = Path(voxward.report.html.__file__).parent / "vendor" / "niivue.umd.js"
    assert gzip.decompress(base64.b64decode(packed)) == vendored.read_bytes()
    (folder.folder / "cases.json").unlink()
    assert 'id="niivue"' not in render(Sources(attacks=(read_sources([folder.folder]).attacks[0],)))


def test_the_viewer_knows_systems_sizes_and_where_volumes_are(tmp_path):
    folder = attacked(tmp_path).add("a").add("a", eps=0.2, dice=0.1).add("a", model="n")
    (case,) = section(folder).viewer["cases"]
    assert case["classes"] == ["head", "tail"]
    assert case["bounds"] == [0.0, 100.0]
    assert {system["name"]: [one["eps"] for one in system["attacked"]] for system in case["systems"]} == {
        "m": [0.1, 0.2], "n": [0.1],
    }  # fmt: skip
    assert case["file"] is None


def test_a_picture_of_the_worst_case_is_for_print_and_says_what_it_shows(tmp_path):
    found = section(attacked(tmp_path).add("a", dice=0.3).add("b", dice=0.1))
    assert found.still.key == "0-b"
    assert base64.b64decode(found.still.source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert "scan b" in found.still.alt
    assert "0.75 clean and 0.10 under pgd" in found.still.alt


def test_there_is_no_picture_where_no_segmentation_was_kept(tmp_path):
    folder = attacked(tmp_path).add("a")
    for path in (folder.folder / "segmentations").rglob("*.nii.gz"):
        path.unlink()
    assert section(folder).still is None
