"""The engine does what is left, shares it, and waits for others."""

from __future__ import annotations

import pytest

from voxward.core.claim import claim
from voxward.engine import engine as module
from voxward.engine.engine import Engine, InProcess, Work


class Files:
    """A unit is a name; done, it is a file."""

    def __init__(self, folder):
        self.folder, self.done = folder, []

    def key(self, unit):
        return unit

    def finished(self, unit):
        return (self.folder / unit).exists()

    def run(self, unit):
        if unit == "bad":
            raise RuntimeError("no memory")
        self.done.append(unit)
        (self.folder / unit).write_text("")


def test_the_protocols(tmp_path):
    assert isinstance(InProcess(tmp_path), Engine)
    assert isinstance(Files(tmp_path), Work)


def test_only_what_is_left_is_done_and_progress_counts_all(tmp_path):
    work, heard = Files(tmp_path), []
    (tmp_path / "b").write_text("")
    InProcess(tmp_path).run(["a", "b", "c"], work, "work", lambda stage, done, total, /: heard.append((done, total)))
    assert work.done == ["a", "c"]
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert list((tmp_path / "claims").iterdir()) == []


def test_an_error_frees_the_unit(tmp_path):
    work, engine = Files(tmp_path), InProcess(tmp_path)
    with pytest.raises(RuntimeError, match="no memory"):
        engine.run(["a", "bad"], work, "work")
    with claim(engine.claim_path("bad")) as ours:
        assert ours


def test_what_another_process_works_on_is_waited_for(tmp_path, monkeypatch):
    work, engine = Files(tmp_path), InProcess(tmp_path, pause=7.0)
    held, pauses = claim(engine.claim_path("a")), []
    assert held.__enter__()

    def pause(seconds):
        pauses.append((seconds, list(work.done)))
        held.__exit__(None, None, None)

    monkeypatch.setattr(module.time, "sleep", pause)
    engine.run(["a", "b"], work, "work")
    assert pauses == [(7.0, ["b"])]
    assert work.done == ["b", "a"]


def test_a_turn_is_one_processs_at_a_time(tmp_path, monkeypatch):
    engine = InProcess(tmp_path)
    held, pauses = claim(engine.claim_path("summary")), []
    assert held.__enter__()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: (pauses.append(seconds), held.__exit__(None, None, None)))
    with engine.turn("summary"):
        assert pauses == [2.0]
        with claim(engine.claim_path("summary")) as ours:
            assert not ours
