from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from voxward.core.errors import UserError
from voxward.core.structure import from_data, shown, to_data


@dataclass(frozen=True)
class Part:
    size: tuple[int, int]
    kind: Literal["a", "b"] = "a"

    def problems(self):
        return [] if min(self.size) > 0 else [f"size must be positive, got {self.size}"]


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...] = ()
    share: float | None = None
    table: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.name == "bad":
            raise UserError("the name is bad")


WHOLE = Whole("x", (Part((1, 2)), Part((3, 4), "b")), 0.5, {"k": 1})


def test_a_round_trip_keeps_every_value():
    data = to_data(WHOLE)
    assert data["parts"][1] == {"size": [3, 4], "kind": "b"}
    assert from_data(Whole, data, "here") == WHOLE


def test_a_whole_number_is_a_number_and_none_is_kept():
    assert from_data(Whole, {"name": "x", "share": 1}, "here").share == 1.0
    assert from_data(Whole, {"name": "x", "share": None}, "here").share is None


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({}, "name is missing"),
        ([], r"the file must be a mapping, got \[\]"),
        ({"name": "x", "nam": 1}, "unknown key 'nam'. Did you mean 'name'"),
        ({"name": 1}, "name must be a str, got 1"),
        ({"name": "x", "share": True}, "share must be a float, got True"),
        ({"name": "x", "parts": 1}, "parts must be a list, got 1"),
        ({"name": "x", "parts": [{"size": [1]}]}, r"parts\[0\].size must be a list of 2, got \[1\]"),
        ({"name": "x", "parts": [{"size": [1, 2.0]}]}, r"parts\[0\].size\[1\] must be a int, got 2.0"),
        ({"name": "x", "parts": [{"size": [0, 1]}]}, r"parts\[0\].size must be positive, got \(0, 1\)"),
        ({"name": "x", "parts": [{"size": [1, 1], "kind": "c"}]}, r"parts\[0\].kind must be one of a, b, got 'c'"),
        ({"name": "x", "table": {"k": "1"}}, "table.k must be a int, got '1'"),
        ({"name": "bad"}, "the file: the name is bad"),
    ],
)
def test_problems_name_the_file_and_the_place(data, fault):
    with pytest.raises(UserError, match=f"^here.json: .*{fault}"):
        from_data(Whole, data, "here.json")


def test_all_problems_are_listed_at_once():
    with pytest.raises(UserError, match=r"unknown key 'y'.*; share must be .*; name is missing"):
        from_data(Whole, {"y": 1, "share": "z"}, "here")


def test_a_wrong_value_is_shown_by_its_beginning():
    """A billion laughs: ten lines of YAML that stand for 10^9 texts."""
    laughs: list = ["ha"] * 9
    for _ in range(9):
        laughs = [laughs] * 9
    assert len(shown(laughs)) < 310
    assert shown([1, 2.5, "text"]) == "[1, 2.5, 'text']"
    assert shown("t" * 1000) != "t" * 1000


@dataclass(frozen=True)
class _Figures:
    values: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    value: float = 0.0


def test_lists_of_one_type_are_read_entry_by_entry_where_one_is_another() -> None:
    assert from_data(_Figures, {"values": [0.5, 2], "names": ["a"]}, "f") == _Figures((0.5, 2.0), ("a",))
    with pytest.raises(ValueError, match=r"f: values\[1\] must be a float, got True; names\[0\] must be a str, got 3"):
        from_data(_Figures, {"values": [0.5, True], "names": [3]}, "f")


def test_a_whole_number_that_no_float_holds_is_a_problem() -> None:
    with pytest.raises(ValueError, match="f: value must be a number that is not as large, got 1000"):
        from_data(_Figures, {"value": 10**400}, "f")
