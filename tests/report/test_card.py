"""A model card: fields that YAML reads back, text that Markdown shows as it is, figures of the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

import voxward
from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness.books import book
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.report.card import card_text, escaped
from voxward.report.sources import Sources
from voxward.robustness.record import Record


def whole() -> list[Record]:
    return [replace(one, mode="volume") for one in book()]


def fields_of(text: str) -> dict:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_the_fields_are_those_of_hugging_face() -> None:
    fields = fields_of(card_text(sources_of(replace(attack_source(whole()), dataset="Task03: Liver"))))
    assert (fields["library_name"], fields["pipeline_tag"]) == ("voxward", "image-segmentation")
    assert "license" not in fields
    assert fields["metrics"] == ["dice"]
    (entry,) = fields["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "m"
    assert result["dataset"] == {"type": "Task03-Liver", "name": "Task03: Liver"}
    assert result["task"]["type"] == "image-segmentation"
    # Clean 0.8 and 0.7; worst at 0.1: 0.3 and 0.4; at 0.2: 0.2 and 0.
    assert [metric["value"] for metric in result["metrics"]] == [0.75, 0.35, 0.749, 0.1]
    assert all(set(metric) == {"type", "name", "value"} for metric in result["metrics"])


def test_figures_that_a_check_doubts_say_so() -> None:
    noisy = [replace(one, adversarial=(0.2, 0.2)) if one.attack == "noise" else one for one in whole()]
    text = card_text(sources_of(attack_source(noisy)))
    metrics = fields_of(text)["model-index"][0]["results"][0]["metrics"]
    assert all(metric["name"].endswith("(not trustworthy: a check failed)") for metric in metrics)
    assert "**Do not rely on the figures of m: a check failed.**" in text


def test_all_sections_are_there() -> None:
    text = card_text(sources_of(attack_source(whole(), require=("clean_dice >= 0.7",))))
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Model description", "Intended use", "Evaluation data", "Robustness",
                        "Limits: what was not measured", "How to repeat it"]  # fmt: skip
    assert "- passed: Mean Dice without an attack at least 0.7" in text


def test_one_model_in_two_folders_has_two_results() -> None:
    fields = fields_of(card_text(sources_of(attack_source(whole()), attack_source(whole(), "two"))))
    assert [len(entry["results"]) for entry in fields["model-index"]] == [2]


@pytest.mark.parametrize(
    "text", ["a_b_c *d* <script>x</script> [l](u) `c` # | & &amp; ~~s~~ $x$ \\", "- item", "1. item", "+ item", "# h"]
)
def test_text_is_shown_as_it_is(text: str) -> None:
    parsed = MarkdownIt().parse(escaped(text))
    assert [token.type for token in parsed] == ["paragraph_open", "inline", "paragraph_close"]
    assert "".join(token.content for token in parsed[1].children or []) == text


def test_a_hostile_name_stays_a_name() -> None:
    name = "x: [y]\n- *z* --- #"
    text = card_text(sources_of(attack_source([replace(one, model=name) for one in whole()])))
    assert fields_of(text)["model-index"][0]["name"] == name


def test_a_command_with_backticks_stays_in_its_block() -> None:
    text = card_text(sources_of(replace(attack_source(whole()), command="voxward attack '```'")))
    assert "````\nvoxward attack '```'\n````" in text


def test_without_an_attack_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="results of voxward attack"):
        card_text(Sources())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="leave out the card"):
        voxward.write_report(tmp_path / "empty", out=tmp_path / "page.html", card=tmp_path / "card.md")
    with pytest.raises(UserError, match=r"ends with \.md, got card\.txt"):
        voxward.write_report(tmp_path / "empty", out=tmp_path / "page.html", card="card.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_page_and_card_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "attack"
    write_json(folder / "settings.json", {"format": 1, "protocol": {}, "cases": {"a": "01", "b": "02"}})
    write_json(folder / "records" / "r.json", {"format": 1, "records": [one.to_data() for one in whole()]})
    write_json(folder / "cases.json", {"format": 1, "dataset": "/data/Task03_Liver"})
    write_json(folder / "sanity.json", {"format": 1, "findings": [], "seen": ["a"], "left_out": ["q", "r"]})
    with pytest.warns(UserWarning, match="has no results of"):
        page = voxward.write_report(folder, out=tmp_path / "page.html", card=tmp_path / "card.md").path
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "- Scans: 2 of Task03\\_Liver." in card
    assert "trained on 1 of these scans, so its Dice is better than on new ones: a." in card
    assert "2 scans of the dataset, because the system was trained on them" in page.read_text(encoding="utf-8")
    (tmp_path / "card.md").write_text("mine")
    with pytest.raises(UserError, match=r"card\.md"):
        voxward.write_report(folder, out=tmp_path / "page.html", card=tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == "mine"
