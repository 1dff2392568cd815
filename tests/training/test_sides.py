"""What a recipe does with classes that differ in left and right."""

from dataclasses import replace

import pytest

import voxward
from tests.end_to_end.conftest import TINY
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import dump_recipe, load_recipe
from voxward.phantoms.write import write_phantoms
from voxward.training.sides import settled_sides, sides_notice, training_swaps

KIDNEYS = LabelSet(("background", "kidney_left", "liver", "kidney_right"), (0, 1, 2, 3))
ONE = LabelSet(("background", "kidney_left", "liver"), (0, 1, 2))
NEITHER = LabelSet(("background", "ventricle", "lesion"), (0, 1, 2))
TURNING = ("augmentation.quarter_turns=[0,1,2]", "augmentation.rotation_degrees=180", "inference.mirror_axes=[0,2]")
PAIR = (("kidney_left", "kidney_right"),)


def settled(labels, *overrides):
    recipe = load_recipe("rog", overrides)
    return recipe, settled_sides(recipe, labels)


@pytest.mark.parametrize("labels", [KIDNEYS, ONE])
def test_nothing_exchanges_left_and_right_in_training_or_deployment(labels):
    before, found = settled(labels, *TURNING)
    assert found.augmentation.mirror_axes == (1, 2)
    assert found.augmentation.quarter_turns == (0,)
    assert found.augmentation.rotation_degrees == 45
    assert found.inference.mirror_axes == (2,)
    assert found.inference.sides == tuple(name for name in ("kidney_left", "kidney_right") if name in labels.names)
    assert training_swaps(found, labels) == ()
    assert settled_sides(found, labels) == found  # a run is settled once
    notice = sides_notice(before, found)
    for part in ("kidney_left", "axis 0", "quarter turns", "45 degrees", "sides=none"):
        assert part in notice
    assert ("mirror_pairs=auto" in notice) == (labels is KIDNEYS)  # one class alone has no partner


@pytest.mark.parametrize("labels", [KIDNEYS, NEITHER])
def test_a_recipe_stays_as_it_is_where_there_are_no_sides_or_the_user_says_so(labels):
    recipe, found = settled(labels, *TURNING, "augmentation.sides=none")
    assert found == recipe
    plain = load_recipe("dynunet")
    assert (settled_sides(plain, labels) == plain) == (labels is NEITHER)
    assert sides_notice(recipe, found) is None


@pytest.mark.parametrize("pairs", ["auto", "[[kidney_left, kidney_right]]"])
def test_with_the_classes_exchanged_the_axis_is_mirrored(pairs):
    recipe, found = settled(KIDNEYS, f"augmentation.mirror_pairs={pairs}", "inference.mirror_axes=[0]")
    assert found.augmentation == recipe.augmentation
    assert found.inference.mirror_axes == (0,)
    assert found.inference.mirror_pairs == PAIR
    assert training_swaps(found, KIDNEYS) == ((1, 3),)
    assert settled_sides(found, KIDNEYS) == found
    assert sides_notice(recipe, found) is None


def test_a_class_without_a_partner_keeps_the_axis_off():
    labels = replace(KIDNEYS, names=("background", "kidney_left", "lobe_right", "kidney_right"))
    _, found = settled(labels, "augmentation.mirror_pairs=auto")
    assert found.augmentation.mirror_axes == (1, 2)
    assert found.inference.mirror_pairs == ()
    assert training_swaps(found, labels) == ()


def test_sides_and_pairs_may_be_declared():
    _, declared = settled(NEITHER, "augmentation.sides=[lesion]")
    assert (declared.augmentation.mirror_axes, declared.inference.sides) == ((1, 2), ("lesion",))
    _, paired = settled(NEITHER, "augmentation.mirror_pairs=[[ventricle, lesion]]")
    assert (paired.augmentation.mirror_axes, training_swaps(paired, NEITHER)) == ((0, 1, 2), ((1, 2),))


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("augmentation.sides=[kidny]", "augmentation.sides: 'kidny' is no class or region; there are kidney_left"),
        ("augmentation.mirror_pairs=[[kidney_left, left]]", "mirror_pairs: 'left' is no foreground class"),
    ],
)
def test_names_that_do_not_exist_are_refused(override, fault):
    with pytest.raises(UserError, match=fault):
        settled(KIDNEYS, override)


def test_the_recipe_of_an_older_run_exchanges_nothing():
    """Its file has none of the keys: what was trained with mirroring is deployed and resumed with it."""
    recipe = load_recipe("dynunet")
    assert (recipe.inference.sides, recipe.inference.mirror_pairs) == ((), ())
    assert training_swaps(recipe, KIDNEYS) == ()


def renamed(root):
    """Phantoms whose two organs are called as a pair."""
    write_phantoms(root, 6, size=24)
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace("organ a", "kidney_left").replace("organ b", "kidney_right"))
    return root


def test_a_run_says_and_keeps_what_was_decided_and_can_be_resumed(tmp_path):
    data, out = renamed(tmp_path / "d"), tmp_path / "run"
    overrides = [*TINY, "augmentation.mirror_axes=[0,1,2]"]
    with pytest.warns(UserWarning, match=r"kidney_left, kidney_right.*axis 0 \(left-right\) is not mirrored"):
        voxward.train(data, out=out, recipe="dynunet", overrides=overrides)
    kept = load_recipe(out / "recipe.yaml")
    assert (kept.augmentation.mirror_axes, kept.inference.sides) == ((1, 2), ("kidney_left", "kidney_right"))
    voxward.train(data, out=out, overrides=overrides, resume=True)  # a script may be repeated as it is
    mirrored = voxward.open_system(out, ["tta=mirrors"])
    assert mirrored.predictor.mirrors == (1, 2)
    with pytest.warns(UserWarning, match="axis 0"):
        voxward.plan(data, recipe="dynunet")


def test_a_run_of_an_older_version_resumes_and_mirrors_as_it_was_trained(tmp_path):
    data, out = renamed(tmp_path / "d"), tmp_path / "run"
    with pytest.warns(UserWarning, match="axis 0"):
        voxward.train(data, out=out, recipe="dynunet", overrides=TINY)
    old = load_recipe("dynunet", TINY)
    text = dump_recipe(replace(old, network=load_recipe(out / "recipe.yaml").network))
    newer = ("  sides:", "  mirror_pairs:")
    (out / "recipe.yaml").write_text("\n".join(line for line in text.splitlines() if not line.startswith(newer)))
    voxward.train(data, out=out, overrides=TINY, resume=True)
    system = voxward.open_system(out, ["tta=mirrors"])
    assert system.predictor.mirrors == (0, 1, 2)
    assert not {"sides", "mirror_pairs"} & set(system.options()["inference"])  # fingerprints stay what they were
