"""Pieces of sentences: numbers with nouns, and sizes of perturbations."""

from __future__ import annotations

import pytest

from voxward.core.errors import UserError
from voxward.core.wording import counted, eps_number, eps_text


def test_a_number_and_its_noun_agree():
    assert [counted(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (0.0, "0"),
        (8 / 255, "8/255"),
        (1.0, "255/255"),
        (0.03, "7.65/255"),
        (0.5 / 255, "0.5/255"),
        (0.1, "25.5/255"),
        (1 / 3 / 255, "0.333/255"),
        (0.001 / 255, "0.001/255"),
        (250 / 255, "250/255"),
    ],
)
def test_a_share_of_the_range_is_in_255ths(eps, text):
    assert eps_text(eps, "range") == eps_text(eps, "range", ("CT",), alone=True) == text


def test_a_native_size_has_its_unit():
    assert eps_text(20.0, "native", ("CT",)) == eps_text(20.0, "native", ("ct", " CT")) == "20 HU"
    for channels in ((), ("T1",), ("CT", "PET")):
        assert eps_text(12.5, "native", channels) == "12.5"
        assert eps_text(12.5, "native", channels, alone=True) == "12.5 raw"
    assert eps_text(0.0, "native", ("CT",)) == "0"


def test_a_norm_over_all_voxels_may_be_larger_than_the_range():
    assert eps_text(20.0, "range", alone=True) == "20"


@pytest.mark.parametrize(
    ("text", "size"), [("8/255", 8 / 255), ("25.5/255", 0.1), ("0.03", 0.03), ("20 HU", 20.0), ("20", 20.0), (0.1, 0.1)]
)
def test_a_size_is_read_as_it_is_written(text, size):
    assert eps_number(text) == size


@pytest.mark.parametrize("text", ["", "8/0", "large", "0", "-8/255", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match="eps must be"):
        eps_number(text)
