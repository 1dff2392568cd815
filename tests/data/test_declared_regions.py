"""Regions as dataset.json, labels.json and recipes declare them."""

import json

import pytest

from voxward.core.labels import LabelSet
from voxward.core.recipe import load_recipe
from voxward.data.formats.description import declared_labels

NNUNET = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "cavity": [4]},
    "regions_class_order": [1, 2, 3, 4],
}


def declared(description, tmp_path):
    return declared_labels(json.loads(json.dumps(description)), tmp_path / "dataset.json")


def test_nnunet_s_order_and_the_names_of_its_classes(tmp_path):
    labels = declared(NNUNET, tmp_path)
    assert labels.names == ("background", "whole without core", "core without enhancing", "enhancing", "cavity")
    assert labels.values == (0, 1, 2, 3, 4)
    assert [(region.name, region.written) for region in labels.regions] == [
        ("cavity", 4), ("enhancing", 3), ("core", 2), ("whole", 1),
    ]  # fmt: skip


def test_values_that_are_never_alone_are_named_by_number(tmp_path):
    description = {"labels": {"background": 0, "a": [1, 2], "b": [3, 4]}, "regions_class_order": [1, 3]}
    assert declared(description, tmp_path).names == ("background", "value 1", "value 2", "value 3", "value 4")


def test_a_region_without_two_others_is_named_so(tmp_path):
    description = {
        "labels": {"background": 0, "organ": [1, 2, 3], "cyst": [2], "tumour": [3]},
        "regions_class_order": [1, 2, 3],
    }
    assert declared(description, tmp_path).names[1] == "organ without cyst and tumour"


def test_lists_of_one_value_are_classes_as_in_nnunet(tmp_path):
    labels = declared({"labels": {"background": [0], "a": [1], "b": [2]}}, tmp_path)
    assert (labels.names, labels.regions) == (("background", "a", "b"), ())


def test_decathlon_labels_with_regions_and_order(tmp_path):
    description = {
        "labels": {"0": "background", "1": "left", "2": "right", "3": "cyst"},
        "regions": {"kidneys": [1, 2, 3], "cyst": [3]},
        "regions_class_order": [1, 3],
    }
    labels = declared(description, tmp_path)
    assert labels.scored == ("cyst", "kidneys")
    assert labels.names == ("background", "left", "right", "cyst")


def test_missing_order_and_lossy_order(tmp_path):
    lists = {"background": 0, "a": [1, 3], "b": [2, 3]}
    with pytest.raises(ValueError, match=r"dataset.json: regions must be nested.*regions_class_order"):
        declared({"labels": lists}, tmp_path)
    with pytest.warns(UserWarning, match=r"dataset.json.*3 as 2"):
        declared({"labels": lists, "regions_class_order": [1, 2]}, tmp_path)
    with pytest.raises(ValueError, match="regions_class_order must be a list of integers"):
        declared({"labels": lists, "regions_class_order": "1, 2"}, tmp_path)


def test_a_recipe_s_regions_with_an_order():
    given = ["regions={all: [1, 2, 3], b: [2]}", "regions_class_order=[1, 2]"]
    recipe = load_recipe("dynunet", given)
    labels = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3))
    assert labels.with_regions(recipe.regions, recipe.regions_class_order).scored == ("b", "all")
    with pytest.raises(ValueError, match="regions_class_order says nothing without regions"):
        load_recipe("dynunet", given[1:])
