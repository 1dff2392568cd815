"""Names of channels: which mean the same, and what a model makes of a file's."""

from __future__ import annotations

from itertools import permutations

import pytest

from voxward.core.channels import SYNONYMS, are_declared, kind_of, order_of, same_channels

# The four sequences as the challenges and tools write them.
BRATS_TO_2021 = ("t1", "t1ce", "t2", "flair")
BRATS_SINCE = ("t1n", "t1c", "t2w", "t2f")
DECATHLON = ("FLAIR", "T1w", "t1gd", "T2w")


def test_every_synonym_means_one_kind():
    names = [name for names in SYNONYMS.values() for name in names]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(kind_of(name) == kind for kind, names in SYNONYMS.items() for name in names)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("T1-CE", "T1ce"), ("t1_ce", "T1ce"), ("T1+C", "T1ce"), ("T1w post-contrast", "T1ce"), ("T2*", "T2*"),
        ("T1 (native)", "T1"), ("T1w (Gd)", "T1ce"), ("MR T1w (N4, fat-normalised)", "T1"), ("MRI-T2", "T2"),
        ("ct", "CT"), ("CT (HU)", "CT"), ("PT", "PET"), ("\uff341", "T1"),
    ],
)  # fmt: skip
def test_spelling_does_not_matter(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize("name", ["T1 (with contrast)", "T1 map", "CTA", "prior", "PET SUV x100", "MRI 2"])
def test_what_the_table_does_not_know_is_not_guessed(name):
    assert kind_of(name) not in SYNONYMS


@pytest.mark.parametrize("wanted", list(permutations(BRATS_TO_2021)))
@pytest.mark.parametrize("given", [BRATS_SINCE, DECATHLON])
def test_a_model_gets_its_order_whatever_the_file_has(given, wanted):
    found = order_of(given, wanted, "data").channels or tuple(range(4))
    assert [kind_of(given[n]) for n in found] == [kind_of(name) for name in wanted]


def test_the_same_order_is_not_worth_a_word():
    found = order_of(BRATS_SINCE, BRATS_TO_2021, "data")
    assert (found.channels, found.notice) == (None, "")
    assert same_channels(BRATS_SINCE, BRATS_TO_2021)
    assert not same_channels(DECATHLON, BRATS_TO_2021)


def test_a_model_takes_its_channels_out_of_more():
    found = order_of(DECATHLON, ("T2", "FLAIR"), "data")
    assert found.channels == (3, 0)
    assert "of its channels FLAIR, T1w, t1gd, T2w the model takes T2w, FLAIR" in found.notice


@pytest.mark.parametrize(
    ("given", "wanted", "lacking"),
    [
        (("T1", "T2", "FLAIR"), DECATHLON, "t1gd"),
        (("T1", "T2"), ("T1", "FLAIR"), "FLAIR"),
        (("a", "b"), ("c", "d"), "c, d"),
        (("CT",), ("MRI",), "MRI"),
        (("MRI",), ("CT",), "CT"),
        (("abdomen",), ("CT",), "CT"),
        (("PET",), ("MRI",), "MRI"),
        (("T1",), ("T2",), "T2"),
    ],
)
def test_other_channels_are_refused_with_both_lists(given, wanted, lacking):
    with pytest.raises(ValueError, match=rf"data has the channels {given[0]}.*the model takes.*there is no {lacking};"):
        order_of(given, wanted, "data")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(("T1",), ("MRI",)), (("MRI",), ("FLAIR",)), (("prior",), ("MRI",)), (("PET", "MRI"), ("T1", "PET"))],
)
def test_one_channel_of_an_unclear_name_is_taken_and_said(given, wanted):
    found = order_of(given, wanted, "data")
    taken = given if found.channels is None else [given[n] for n in found.channels]
    assert ("PET" in given) == ("PET" in taken)
    assert f"{next(n for n in given if n != 'PET')!r} is taken for the model's channel" in found.notice


@pytest.mark.parametrize("given", [(), ("channel 0", "channel 1"), ("0", "1"), ("MRI", "MRI")])
def test_where_the_file_has_no_names_its_order_is_assumed_and_said(given):
    found = order_of(given, ("T1", "T2"), "data")
    assert found.channels is None
    assert "taken to be T1, T2, in this order" in found.notice


def test_where_the_model_has_no_names_the_order_is_assumed_and_said():
    found = order_of(("T1", "T2"), ("channel 0", "channel 1"), "data")
    assert found.channels is None
    assert "T1, T2 of data are taken in this order" in found.notice


@pytest.mark.parametrize("names", [("0", "1"), ("channel 0", "channel 1"), ("MRI", "mri"), ("CT",)])
def test_nothing_is_said_where_neither_side_tells_channels_apart(names):
    assert order_of(names, names, "data").notice == ""
    assert order_of((), names, "data").notice == ""
    assert are_declared(names) == (names == ("CT",))


def test_names_of_one_kind_are_told_apart_by_their_spelling():
    found = order_of(("T1 (water)", "T1 (fat)"), ("T1 (fat)", "T1 (water)"), "data")
    assert found.channels == (1, 0)


def test_what_the_user_says_decides():
    assert order_of(("T2", "T1"), ("T1", "T2"), "data", forced=True).channels == (1, 0)
