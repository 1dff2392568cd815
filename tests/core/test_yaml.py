import datetime

import pytest

from voxward.core.errors import UserError
from voxward.core.yaml import dump_yaml, override, packaged, packaged_names, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4/255", 4 / 255),
        ("-1/3", -1 / 3),
        ("[4/255, 8/255]", [4 / 255, 8 / 255]),
        ("a: {eps: [8/255, 0.5]}", {"a": {"eps": [8 / 255, 0.5]}}),
        ("- 4/255\n- 1", [4 / 255, 1]),
        ("1e-4", 1e-4),
        ("[1E3, 2.5e+2, .5e1]", [1000.0, 250.0, 5.0]),
        ("1.0e-4", 1e-4),
        ("1/0", "1/0"),
        ("'4/255'", "4/255"),
        ("runs/4", "runs/4"),
        ("1/2/3", "1/2/3"),
        ("", None),
        ("2024-03-01", datetime.date(2024, 3, 1)),
        ("x: &a {p: 1, q: 2}\ny: {<<: *a, q: 3}", {"x": {"p": 1, "q": 2}, "y": {"p": 1, "q": 3}}),
    ],
)
def test_values_are_read_as_people_write_them(text, value):
    found = read_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "expected the node content"),
        ("2024-13-45", "month must be in 1..12"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: 1\n--- \nb: 2", "but found another document"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is there twice.*line 3"),
        ("a: {b: {c: 1, c: 1}}", "the key 'c' is there twice"),
        ("[{1: 2, 1: 3}]", "the key '1' is there twice"),
        ("{[1]: 2}", "unhashable key"),
        ("[" * 10_000, "recursion"),
    ],
)
def test_faults_name_the_file_and_the_fault(text, fault):
    with pytest.raises(UserError, match=rf"(?s)^recipe.yaml is not valid YAML: .*{fault}"):
        read_yaml(text, "recipe.yaml")


def test_what_is_written_is_read_back_in_its_order():
    data = {"format": 1, "b": [1e-4, 4 / 255, True, None], "a": {"text": "4/255", "e": "1e-4", "empty": {}}}
    text = dump_yaml(data)
    assert read_yaml(text, "here") == data
    assert list(read_yaml(text, "here")) == ["format", "b", "a"]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ("a.b=2", {"a": {"b": 2}, "n": None}),
        ("a=4/255", {"a": 4 / 255, "n": None}),
        ("a.eps=[4/255,8/255]", {"a": {"b": 1, "eps": [4 / 255, 8 / 255]}, "n": None}),
        ("n.c.d=x", {"a": {"b": 1}, "n": {"c": {"d": "x"}}}),
        ("new.key=null", {"a": {"b": 1}, "n": None, "new": {"key": None}}),
        (" a.b =x=y", {"a": {"b": "x=y"}, "n": None}),
        ("a.b=", {"a": {"b": None}, "n": None}),
    ],
)
def test_an_override_changes_what_it_names(change, result):
    data = {"a": {"b": 1}, "n": None}
    override(data, change)
    assert data == result


@pytest.mark.parametrize(
    ("data", "change", "fault"),
    [
        ({"a": 1}, "a", "an override is dotted.key=value, got 'a'"),
        ({"a": 1}, "a.b=2", "'b' lies inside a plain value"),
        ({"a": 1}, "a.b.c=2", "'b' lies inside a plain value"),
        ([1], "a=2", "'a' lies inside a plain value"),
        ({"a": 1}, "a=[", "override 'a=\\[' is not valid YAML"),
        ({"a": 1}, "a={b: 1, b: 2}", "the key 'b' is there twice"),
    ],
)
def test_an_override_that_cannot_be_is_refused(data, change, fault):
    with pytest.raises(UserError, match=fault):
        override(data, change)


def test_packaged_files_are_found_by_name():
    assert "rog" in packaged_names("recipes")
    assert packaged("recipes", "rog", "recipe").startswith("#")
    with pytest.raises(UserError, match=r"unknown recipe '\.\./recipes/rog'"):
        packaged("recipes", "../recipes/rog", "recipe")


@pytest.mark.parametrize("text", ["a: !!timestamp 1", "a: !!float x", "a: !!binary 1", "a: !!omap 1", "[" * 5000])
def test_tags_that_do_not_fit_and_deep_nesting_are_named(text):
    with pytest.raises(ValueError, match=r"r\.yaml is not valid YAML"):
        read_yaml(text, "r.yaml")


def test_what_was_read_may_be_changed():
    """The same text is parsed once, and says the same afterwards."""
    text = "part: {list: [1, 2]}"
    read_yaml(text, "here")["part"]["list"].append(3)
    assert read_yaml(text, "here") == {"part": {"list": [1, 2]}}
