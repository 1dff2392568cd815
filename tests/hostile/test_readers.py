"""Every reader, given damaged and hostile files: it reads them, or raises what is documented and names the file.

VOXWARD_FUZZ sets the number of files for each reader; `python -m tests.hostile.campaign` gives many more, quicker.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.campaign import campaign, made, shown
from tests.hostile.reader import BAD, Files, Outcome, Reader, judged
from tests.hostile.registry import READERS
from voxward.core.errors import CasesFailed, UserError

SLOW = frozenset(("folder", "predictions", "recipe", "run", "weights", "results", "system"))
"""Readers that take some milliseconds for a file."""
COUNT = int(os.environ.get("VOXWARD_FUZZ", "0"))
CHECKED = settings(
    derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)  # fmt: skip


def examples(name: str, few: int) -> int:
    return COUNT or (few // 3 if name in SLOW else few)


def outcome(reader: Reader, files: Files) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="voxward-hostile-") as place:
        return judged(reader, files, Path(place))


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name: str):
    """What only ever refuses would pass every other test."""
    found = [outcome(READERS[name], files) for files in READERS[name].sound()]
    assert [each for each in found if each.bad] == []
    kinds = [each.kind for each in found]
    if name == "system":  # the systems that it names are not there, or are programs
        assert set(kinds) <= {"FileNotFoundError", "UserError"}
    else:
        assert set(kinds) == {"read"}


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(name: str):
    reader = READERS[name]

    @settings(CHECKED, max_examples=examples(name, 30))
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        found = outcome(reader, reader.change(random, random.choice(reader.sound())))
        assert not found.bad, f"{found.kind}: {found.text}"

    check()


@pytest.mark.parametrize("name", READERS)
def test_arbitrary_bytes_are_read_or_refused(name: str):
    reader = READERS[name]

    @settings(CHECKED, max_examples=examples(name, 15))
    @given(st.binary(max_size=600))
    def check(content: bytes) -> None:
        found = outcome(reader, {**reader.sound()[0], reader.target: content})
        assert not found.bad, f"{found.kind}: {found.text}"

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_campaign_finds_nothing_undocumented(name: str, tmp_path: Path):
    found = campaign(READERS[name], COUNT or 2000, 1, tmp_path / "found.json")
    assert found["inputs"] >= (COUNT or 2000)
    bad = [kind for kind in found["outcomes"] if kind.startswith(BAD)]
    assert not bad, shown(found)


# The campaign itself.


def _given(folder: Path) -> bytes:
    return (folder / "a").read_bytes()


def _odd(folder: Path) -> str:
    """A reader with one fault of each kind, by the first byte."""
    kind = _given(folder)[:1]
    if kind == b"k":
        raise KeyError("a")
    if kind == b"n":
        raise UserError("it is wrong")
    if kind == b"m":
        try:
            bytearray(1 << 40)
        except MemoryError as error:
            raise UserError(f"{folder}: no memory") from error
    if kind == b"d":
        faulthandler.disable()  # it dies on purpose, and pytest would print where
        os.kill(os.getpid(), 11)
    if kind == b"u":
        raise CasesFailed([], 1) if _given(folder)[1:] else UserError(f"{folder / 'a'} is wrong")
    return "fine"


def _odd_reader() -> Reader:
    letters = b"knmdufff"
    return Reader("odd", lambda: ({"a": b"f"},), lambda random, _: {"a": bytes([random.choice(letters)])}, _odd, "a")


def test_a_campaign_counts_every_kind_of_fault_and_goes_on_after_a_dead_process(tmp_path: Path):
    reader, limits = _odd_reader(), resource.getrlimit(resource.RLIMIT_AS)
    found = campaign(reader, 80, 0, tmp_path / "found.json")
    assert found["inputs"] == found["next"] == 80
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    kinds = {kind.partition(" in ")[0].rstrip(",") for kind in found["outcomes"]}
    assert kinds == {
        "read", "UserError", "undocumented KeyError", "names no file: UserError", "too little memory",
        "undocumented end of the process (-11)",
    }  # fmt: skip
    letters = [made(reader, 0, number)["a"] for number in range(80)]
    assert found["outcomes"]["undocumented end of the process (-11)"] == letters.count(b"d")
    assert found["outcomes"]["UserError"] == letters.count(b"u")


def test_a_campaign_that_was_stopped_goes_on(tmp_path: Path):
    whole = campaign(_odd_reader(), 40, 3, tmp_path / "whole.json")
    campaign(_odd_reader(), 17, 3, tmp_path / "parts.json")
    parts = campaign(_odd_reader(), 40, 3, tmp_path / "parts.json")
    assert (parts["outcomes"], parts["inputs"]) == (whole["outcomes"], whole["inputs"])
    with pytest.raises(SystemExit, match="seed 3"):
        campaign(_odd_reader(), 40, 4, tmp_path / "parts.json")
