"""The number of the format: what writes it, and how files without it, or of a newer version, are read."""

import json
from dataclasses import dataclass

import pytest
import torch

from tests.data.volumes import make_plan
from voxward.core.document import CHECKSUM, FORMAT, with_checksum, with_format, without_format
from voxward.core.errors import UserError
from voxward.core.files import write_json, write_text
from voxward.core.plan import load_json
from voxward.core.recipe import dump_recipe, load_recipe, load_run_recipe
from voxward.core.structure import to_data
from voxward.core.yaml import dump_yaml, read_yaml
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, load_run, save_weights
from voxward.runs.postprocess import PostProcess
from voxward.systems.open import open_system


@dataclass(frozen=True)
class Note:
    """A small document."""

    text: str
    number: int = 0


def test_the_number_stands_in_front():
    assert list(with_format({"b": 1, "a": 2}).items()) == [("format", FORMAT), ("b", 1), ("a", 2)]


def test_what_was_written_is_read_without_it():
    assert without_format(with_format({"a": 1}), "here") == {"a": 1}


@pytest.mark.parametrize("data", [{"a": 1}, {}, [1, 2], None, "text"])
def test_a_file_without_the_number_is_one_of_the_first_version(data):
    assert without_format(data, "here") == data


@pytest.mark.parametrize("number", [0, -1, "1", 1.0, True, None, [1]])
def test_a_number_that_is_none_is_refused(number):
    with pytest.raises(UserError, match=r"^plan.json: format must be a whole number from 1 to \d+, got "):
        without_format({"format": number}, "plan.json")


def test_a_newer_format_says_what_to_do():
    with pytest.raises(UserError, match=f"^plan.json has format {FORMAT + 1}, .* up to {FORMAT}: update voxward"):
        without_format({"format": FORMAT + 1, "a": 1}, "plan.json")


def test_a_dataclass_survives_a_round_trip_with_and_without_the_number(tmp_path):
    for data in (to_data(Note("a", 2)), with_format(to_data(Note("a", 2)))):
        write_json(tmp_path / "note.json", data)
        assert load_json(Note, tmp_path / "note.json") == Note("a", 2)


def test_a_checksum_is_of_the_contents_not_of_their_layout(tmp_path):
    data = {"b": 1.5, "a": {"2": (1, 2)}, "c": "ä"}
    wrote = with_checksum(data)
    assert list(wrote) == ["format", CHECKSUM, "b", "a", "c"]
    (tmp_path / "note.json").write_text(json.dumps(dict(reversed(wrote.items())), indent=4))
    assert without_format(json.loads((tmp_path / "note.json").read_text()), "note.json") == json.loads(json.dumps(data))


@pytest.mark.parametrize("change", [{"number": 3}, {"text": "b"}, {"number": 2.0}, {CHECKSUM: "0"}, {CHECKSUM: None}])
def test_a_document_with_a_changed_value_is_refused_until_its_checksum_is_gone(tmp_path, change):
    path, data = tmp_path / "note.json", with_checksum(to_data(Note("a", 2))) | change
    write_json(path, data)
    with pytest.raises(UserError, match=r"note\.json is damaged, or was edited: .* delete its entry 'checksum'"):
        load_json(Note, path)
    del data[CHECKSUM]
    write_json(path, data | {"number": 2})
    load_json(Note, path)


def test_an_edited_copy_of_the_recipe_of_a_run_is_read_with_a_warning(tmp_path):
    recipe, path = load_recipe("dynunet"), tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe, checksum=True))
    assert load_run_recipe(path) == load_recipe(path) == recipe
    path.write_text(path.read_text().replace("workers: ", "workers: 1"))
    with pytest.warns(UserWarning, match=r"recipe\.yaml is damaged, or was edited since"):
        assert load_recipe(path) != recipe
    with pytest.raises(UserError, match=r"recipe\.yaml is damaged, or was edited: "):
        load_run_recipe(path)


@pytest.mark.parametrize("content", ['["a"]', '{"format": 2, "text": "a"}', '{"format": 1, "text": 3}', "{"])
def test_a_wrong_document_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"note\.json"):
        load_json(Note, path)


@pytest.fixture
def first_version(tmp_path):
    """A run folder as version 0.1 wrote it: no file has the number of a format."""
    folder, plan = RunFolder(tmp_path / "run"), make_plan(strides=((2, 2, 2),) * 2, kernel_sizes=((3, 3, 3),) * 3)
    recipe = load_recipe("dynunet", ["network.options={filters: [2, 4, 4]}"])
    split, settings = RunSplit(("a",), ("b",), ("c",)), RunSettings("data", 0, 0, None, "0.1.0")
    post = PostProcess(("organ", "none"), (0.0, 0.0))
    for path, value in (
        (folder.plan, plan), (folder.splits, split), (folder.settings, settings), (folder.postprocess, post)
    ):  # fmt: skip
        write_json(path, to_data(value))
    write_text(folder.recipe, dump_yaml(to_data(recipe)))
    save_weights(network_for_plan("dynunet", plan, recipe.network.options), folder.weights("best"))
    return folder, {"plan": plan, "recipe": recipe, "split": split, "settings": settings, "post": post}


def test_a_run_of_the_first_version_is_read(first_version):
    folder, wrote = first_version
    texts = [path.read_text() for path in folder.root.iterdir() if path.suffix in (".json", ".yaml")]
    assert len(texts) == 5
    assert not any("format" in text for text in texts)
    run = load_run(folder.root)
    assert (run.plan, run.inference, run.postprocess) == (wrote["plan"], wrote["recipe"].inference, wrote["post"])
    assert load_recipe(folder.recipe) == wrote["recipe"]
    assert load_json(RunSplit, folder.splits) == wrote["split"]
    assert load_json(RunSettings, folder.settings) == wrote["settings"]
    assert run.network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_a_system_of_the_first_version_is_opened(first_version, tmp_path):
    folder, wrote = first_version
    (tmp_path / "system.yaml").write_text("kind: run\nrun: run\n")
    for path in (folder.root, tmp_path / "system.yaml"):
        assert open_system(path, device="cpu").labels == wrote["plan"].labels


@pytest.mark.parametrize("name", ["recipe.yaml", "plan.json", "postprocess.json"])
def test_a_run_of_a_newer_version_is_refused_by_the_name_of_the_file(first_version, name):
    path = first_version[0].root / name
    newer = {"format": FORMAT + 1, **read_yaml(path.read_text(), name)}
    path.write_text(json.dumps(newer) if path.suffix == ".json" else dump_yaml(newer))
    with pytest.raises(UserError, match=f"{name} has format {FORMAT + 1}, .*update voxward"):
        load_run(path.parent)


def test_a_recipe_that_was_written_begins_with_the_number(tmp_path):
    recipe = load_recipe("brats-a")
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert path.read_text().startswith(f"format: {FORMAT}\nname: brats-a\n")
    assert load_recipe(path) == recipe
