from importlib.resources import files

import pytest

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import dump_recipe, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_load_and_survive_a_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


def test_all_problems_are_reported_at_once():
    wrong = [
        "netwrk=2",
        "augmentation.mirror_axes=[0,3]",
        "training.epochs=0.5",
        "inference.overlap=1",
        "sampling.foreground=2",
    ]
    with pytest.raises(ValueError, match="netwrk") as error:
        load_recipe("rog", wrong)
    message = str(error.value)
    for part in (
        "Did you mean 'network'",
        "mirror_axes",
        "training.epochs",
        "inference.overlap",
        "sampling.foreground",
    ):
        assert part in message


@pytest.mark.parametrize("name", ["resdsn-c2f-coarse", "resdsn-c2f-fine", "resdsn-c2f-hardened"])
def test_resdsn_is_the_papers(name):
    """Section 4.1 of the paper; of the defence, eps 10.2 HU, alpha 3.4 HU, N 5, adversarial patches only."""
    recipe = load_recipe(name)
    scale = 8 if name.endswith("hardened") else 1
    fine = name.endswith("fine")
    assert recipe.preparation.batch_size == 16 * scale
    assert recipe.optimizer.options == {"lr": 0.01 * scale, "momentum": 0.9, "weight_decay": 0.0005}
    assert (recipe.schedule.name, recipe.schedule.options) == ("poly", {"power": 0.9})
    assert recipe.training.auxiliary == (0.2, 0.4)
    assert recipe.sampling.region == ("truth" if fine else "case")
    assert recipe.inference.extra_windows == (12 if fine else 6)
    assert recipe.postprocessing.fraction == 0.2
    if scale == 1:
        assert recipe.defence is None
    else:
        low, high = recipe.preparation.clip
        eps = recipe.defence.eps * (high - low)
        assert eps == pytest.approx(10.2)
        assert recipe.defence.length * eps == pytest.approx(3.4)
        assert (recipe.defence.steps, recipe.defence.clean) == (5, 0.0)
        assert (recipe.defence.objective, recipe.postprocessing.fraction_of) == ("dice-ce", "largest")


def test_what_the_hardened_resdsn_does_otherwise_than_the_paper_can_be_undone():
    """By the line in its comment."""
    text = (files("voxward") / "recipes" / "resdsn-c2f-hardened.yaml").read_text()
    (line,) = (line for line in text.splitlines() if "objective=ce" in line)
    recipe = load_recipe("resdsn-c2f-hardened", [word for word in line.split() if "=" in word])
    assert (recipe.defence.objective, recipe.postprocessing.fraction_of) == ("ce", "mask")


def test_a_clip_and_a_patch_that_cannot_be_are_refused():
    wrong = ["preparation.clip=[3, 3]", "preparation.patch_size=[8, 0, 8]", "augmentation.quarter_turns=[1, 1]",
             "postprocessing.fraction=2"]  # fmt: skip
    with pytest.raises(ValueError, match="clip must be low < high") as error:
        load_recipe("resdsn-c2f-coarse", wrong)
    for part in ("patch_size must be positive", "quarter_turns may only hold", "fraction must be"):
        assert part in str(error.value)


def test_overrides_change_what_they_name():
    recipe = load_recipe("rog", ["training.epochs=3", "optimizer.options.lr=5e-4", "augmentation.scale=[1, 1]"])
    assert recipe.training.epochs == 3
    assert recipe.optimizer.options["lr"] == 5e-4
    assert recipe.optimizer.options["weight_decay"] == 1e-5
    assert recipe.augmentation.scale == (1.0, 1.0)


@pytest.mark.parametrize("override", ["training.epochs", "name.part=1"])
def test_malformed_overrides_are_refused(override):
    with pytest.raises(ValueError, match="override"):
        load_recipe("rog", [override])


def test_unknown_recipes_name_the_known_ones():
    with pytest.raises(ValueError, match=r"Did you mean 'rog'.*dynunet"):
        load_recipe("rogg")


def test_broken_yaml_is_a_value_error(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_recipe(path)
    with pytest.raises(FileNotFoundError):
        load_recipe(tmp_path / "absent.yaml")


def test_classes_may_have_their_own_post_processing(tmp_path):
    recipe = load_recipe("rog", ["postprocessing.classes={liver tumour: lesion}"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    labels = LabelSet(("background", "liver", "liver tumour"), (0, 1, 2))
    assert recipe.postprocessing.kinds(labels) == ("organ", "lesion")
    assert load_recipe("rog").postprocessing.kinds(labels) == ("organ", "organ")
    with pytest.raises(ValueError, match=r"unknown class 'liver tumour'.* Known: kidney"):
        recipe.postprocessing.kinds(LabelSet(("background", "kidney"), (0, 1)))


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("{1: lesion}", "postprocessing.classes.1 must be a str, got 1"),
        ("lesion", "postprocessing.classes must be a mapping, got 'lesion'"),
    ],
)
def test_wrong_classes_are_refused(classes, problem):
    with pytest.raises(ValueError, match=problem):
        load_recipe("rog", [f"postprocessing.classes={classes}"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("preparation.memory_gib=0", r"preparation.memory_gib must be positive, got 0.0"),
        ("preparation.batch_size=0", "preparation.batch_size must be at least 1, got 0"),
        ("sampling.foreground=.nan", r"sampling.foreground must be in \[0, 1\], got nan"),
        ("augmentation.noise_std=-1", "augmentation.noise_std must be at least 0, got -1.0"),
        ("augmentation.noise_probability=2", r"augmentation.noise_probability must be in \[0, 1\], got 2.0"),
        ("augmentation.gamma=[2, 1]", r"augmentation.gamma must be 0 < low <= high, got \(2.0, 1.0\)"),
        ("training.epochs=0", "training.epochs must be at least 1, got 0"),
        ("training.min_steps=-1", "training.min_steps must be at least 0, got -1"),
        ("training.workers=-1", "training.workers must be at least 0, got -1"),
        ("training.clip_gradient_norm=0", "training.clip_gradient_norm must be positive, got 0.0"),
        ("defence.replays=0", "defence.replays must be at least 1, got 0"),
        ("defence.step=0", "defence.step must be positive, got 0.0"),
        ("defence.beta=-1", "defence.beta must be at least 0, got -1.0"),
        ("defence.eps=2", r"defence.eps must be in \[0, 1\], got 2.0"),
        ("inference.extra_windows=0", "inference.extra_windows must be at least 1, got 0"),
        ("inference.mirror_axes=[3]", r"inference.mirror_axes may only hold 0, 1, 2, each once, got \(3,\)"),
    ],
)
def test_values_out_of_range_are_named_with_what_is_legal(change, problem):
    with pytest.raises(UserError, match=problem):
        load_recipe("rog", [change])


def test_a_recipe_begins_with_the_number_of_its_format():
    assert dump_recipe(load_recipe("rog")).splitlines()[:2] == ["format: 1", "name: rog"]


@pytest.mark.parametrize(("line", "fault"), [("format: 99", "update voxward"), ("format: one", "whole number from 1")])
def test_a_recipe_of_an_unknown_format_is_refused(tmp_path, line, fault):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(load_recipe("rog")).replace("format: 1", line))
    with pytest.raises(UserError, match=f"{path}.*{fault}"):
        load_recipe(path)


def test_a_recipe_without_a_format_is_one_of_the_first_version(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(load_recipe("rog")).removeprefix("format: 1\n"))
    assert load_recipe(path) == load_recipe("rog")
