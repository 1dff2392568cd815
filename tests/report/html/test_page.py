"""The page as a whole: well formed, text stays text, and one bad section costs no other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.folders import metrics_data
from tests.report.html.attack_source import attack_source
from tests.report.html.markup import Markup, parsed
from tests.robustness.books import book
from voxward.architecture_search.cost import Cost
from voxward.core.choices import Look
from voxward.core.document import without_format
from voxward.core.errors import Failure, UserError
from voxward.core.genotype import CellGenes, Gene, Genotype
from voxward.core.recipe import Defence, load_recipe
from voxward.report.architectures import Architecture
from voxward.report.html import sections
from voxward.report.html.page import Section, Setting, render, script_json
from voxward.report.run_source import RunSource, SearchSource, ValidationSource
from voxward.report.sources import AttackSource, Sources
from voxward.runs.folder import RunFolder, RunSettings
from voxward.systems.evaluate import Evaluation

LOG = tuple(
    {"step": 10.0 * n, "epoch": float(n), "training_loss": 2.0 / n, "validation_loss": math.nan if n == 2 else 1.0 / n,
     "validation_dice": 0.2 * n, "learning_rate": 0.001 / n, "seconds": 6.0 * n, "weight_loss": 1.0 / n}
    for n in (1, 2, 3)
)  # fmt: skip


def _evaluation(name: str) -> Evaluation:
    data = without_format(json.loads(json.dumps(metrics_data({name: 0.5, "b": 0.7})).replace("liver", "LIVER")), "m")
    data["cases"] = [{**case, "classes": {name: case["classes"]["LIVER"]}} for case in data["cases"]]
    return Evaluation.from_data(data, "m")


def _attack(name: str) -> AttackSource:
    """Two systems, a case and a class of this name, a failed case, a requirement, and a check that fails."""
    records = [
        replace(one, model=model, case=name if one.case == "a" else "b", classes=(name, "tumour"), warnings=(name,),
                attack=name if one.attack == "x" else one.attack, deployed_clean=None)
        for one in book() for model in (name, "other")
    ]  # fmt: skip
    source = attack_source(records, "folder", [Failure("c", name)], require=("robust_dice@0.1 >= 0.9",))
    return replace(source, name=name, command=name, systems={name: {"fingerprint": name}, "other": {"kind": name}})


def _sources(name: str) -> Sources:
    """Everything that a page can show, with one name wherever a user chooses one."""
    recipe = replace(load_recipe("dynunet"), name=name, description=name, defence=Defence())
    settings = RunSettings(f"/data/{name}", 0, 0, 1.0, "0", start=f"/runs/{name}")
    run = RunSource(RunFolder(Path("/runs/first")), LOG, name, None, recipe, settings, name, {name: _evaluation(name)})
    gene = (Gene(0, "sep3"), Gene(1, "skip"))
    found = Genotype(3, 2, 2, CellGenes(gene, gene, gene), (("same", "same"), ("down", "up")))
    networks = (Architecture(name, found, Cost(10, 20, 30), 0.5),)
    search = SearchSource(RunFolder(Path("/search")), LOG, name, networks)
    validation = ValidationSource(Path("/cv"), (run,), None, name, (name, "fold-1/x"), _evaluation(name))
    return Sources((_attack(name),), (run,), (search,), (validation,), (name,))


PLAIN = "plain"
HOSTILE = (
    "<img src=x onerror=alert(1)>\"'></script><script>alert(2)</script><!--{{7*7}}{% raw %}{0}%s$x$"
    "\u2028\u202e\u00e9\u809d&lt;&amp;\\u003c\\"
)


@pytest.fixture(scope="module")
def pages() -> Mapping[str, str]:
    return {name: render(_sources(name)) for name in (PLAIN, HOSTILE)}


@pytest.fixture(scope="module")
def taken_apart(pages: Mapping[str, str]) -> Mapping[str, Markup]:
    return {name: parsed(text) for name, text in pages.items()}


def test_every_section_is_there(taken_apart: Mapping[str, Markup]) -> None:
    ids = [one.attributes["id"] for one in taken_apart[PLAIN].of("section")]
    assert ids[0] == "problems"
    assert set(ids[1:]) >= {"verdict", "leaderboard", "curves", "histories", "trust"}


@pytest.mark.parametrize("name", [PLAIN, HOSTILE], ids=["plain", "hostile"])
def test_the_page_is_well_formed(taken_apart: Mapping[str, Markup], name: str) -> None:
    page = taken_apart[name]
    assert page.faults == []
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(set(ids)) == len(ids)
    for one in page.elements:
        for reference in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
            assert {*one.attributes.get(reference, "").split()} <= {*ids}
        assert not one.attributes.get("href", "").startswith("#") or one.attributes["href"][1:] in ids
    levels = [int(one.tag[1]) for one in page.of("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(one.attributes.get("alt", "").strip() for one in page.of("img"))
    assert all(one.text.strip() for one in page.of("h1", "h2", "h3", "h4", "th", "caption", "button", "a"))


def test_text_stays_text(taken_apart: Mapping[str, Markup]) -> None:
    """Names from folders add no element and no attribute, whatever they are."""
    shapes = {
        name: {(one.tag, frozenset(one.attributes), one.inside) for one in page.elements}
        for name, page in taken_apart.items()
    }
    assert shapes[HOSTILE] == shapes[PLAIN]
    counts = {name: len([*page.of("script", "style", "img", "iframe", "object")]) for name, page in taken_apart.items()}
    assert counts[HOSTILE] == counts[PLAIN]
    assert not [one for one in taken_apart[HOSTILE].elements if any(name.startswith("on") for name in one.attributes)]


def test_nothing_is_loaded_from_elsewhere(taken_apart: Mapping[str, Markup]) -> None:
    allowed = ("#", "data:image/", "data:,")
    for page in taken_apart.values():
        for one in page.elements:
            for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert one.attributes.get(name, "#").startswith(allowed), one


def test_names_are_shown_as_they_are(taken_apart: Mapping[str, Markup]) -> None:
    texts = {one.text for one in taken_apart[HOSTILE].of("h3", "th", "td", "li", "code", "h1")}
    assert HOSTILE in texts
    assert not [text for text in texts if "49" in text and "7*7" not in text and "alert" in text]


def test_data_in_scripts_are_what_was_put_in(taken_apart: Mapping[str, Markup]) -> None:
    found = [one for one in taken_apart[HOSTILE].of("script") if one.attributes.get("type") == "application/json"]
    assert len(found) >= 3
    for one in found:
        json.loads(one.text)
        assert not {"<", ">", "\u2028"} & {*one.text}
    data = json.loads(next(one.text for one in found if one.attributes.get("id") == "data"))
    records = data["attacks"][0]["records"]
    assert data["problems"] == [HOSTILE]
    # Only two things differ in no record: the classes, and what stands with them in `common`.
    assert records["common"]["classes"] == [HOSTILE, "tumour"]
    rows = [dict(zip(records["columns"], row, strict=True)) | records["common"] for row in records["rows"]]
    expected = [one.to_data() for one in _attack(HOSTILE).records]
    assert rows == [{name: value for name, value in one.items() if name not in records["left_out"]} for one in expected]
    assert data["runs"][0]["log"][1]["validation_loss"] is None


def test_what_no_json_can_hold_is_null() -> None:
    assert script_json({"a": [math.nan, math.inf, -math.inf, 1.5]}) == '{"a":[null,null,null,1.5]}'


def test_a_name_with_control_characters() -> None:
    """XML has no such characters, and charts are XML."""
    page = parsed(render(Sources(attacks=(_attack("a\x07b\x1b[31m\x00"),))))
    assert page.faults == []
    assert "verdict" in [one.attributes["id"] for one in page.of("section")]


def test_a_page_of_nothing_says_so() -> None:
    page = parsed(render(Sources(problems=("/a is empty: there is nothing to report on.",))))
    assert page.faults == []
    assert next(page.of("section")).attributes["id"] == "problems"
    assert "/a is empty: there is nothing to report on." in [one.text for one in page.of("li")]


def test_a_title_of_ones_own() -> None:
    page = parsed(render(Sources(), Setting(Look(title="Two <models>"))))
    assert [one.text for one in page.of("title", "h1")] == ["Two <models>"] * 2


def _refused(sources: Sources, setting: Setting) -> None:
    raise UserError("the <records> do not fit together")


def _wrong(sources: Sources, setting: Setting) -> None:
    raise KeyError("a bug")


def test_a_section_that_cannot_be_made_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tuple(Section(one.name, _refused) if one.name == "trust" else one for one in sections.SECTIONS)
    monkeypatch.setattr(sections, "SECTIONS", changed)
    page = parsed(render(Sources(attacks=(_attack(PLAIN),))))
    texts = {one.attributes["id"]: one.text for one in page.of("section")}
    assert "This part cannot be shown: the <records> do not fit together." in texts["trust"]
    assert "verdict" in texts


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "SECTIONS", (Section("trust", _wrong),))
    with pytest.raises(KeyError, match="a bug"):
        render(Sources())


MIXED = {
    "two modes": lambda one: replace(one, mode="volume" if one.case == "a" else "patch"),
    "two policies": lambda one: replace(one, policy="one" if one.case == "a" else "ignore"),
    "two sets of classes": lambda one: replace(one, classes=("x", "y")) if one.case == "a" else one,
    "no clean control": lambda one: replace(one, attack="clip") if one.attack == "clean" else one,
}


@pytest.mark.parametrize("change", MIXED.values(), ids=MIXED)
def test_records_that_cannot_stand_in_one_table_cost_no_page(change) -> None:
    source = replace(attack_source(book()), records=tuple(map(change, book())))
    page = parsed(render(Sources(attacks=(source,))))
    assert page.faults == []
    assert "trust" in [one.attributes["id"] for one in page.of("section")]


def test_records_of_one_kind_alone_cost_no_page() -> None:
    for kind in ("clean", "noise", "x"):
        source = replace(attack_source(book()), records=tuple(one for one in book() if one.attack == kind))
        assert parsed(render(Sources(attacks=(source,)))).faults == []
