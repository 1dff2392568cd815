"""What is noted of the best weights of a training, where the note of an earlier sitting is missing or damaged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from voxward.runs.folder import RunFolder
from voxward.runs.kept import Kept, PatchScores, read_kept, write_kept
from voxward.training.gain import keep_best
from voxward.training.selection import Validation

START = PatchScores(0.9, 0.1)


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(network=nn.Linear(2, 2), folder=RunFolder(tmp_path), state=SimpleNamespace(step=7))


def test_the_start_is_carried_on(run):
    write_kept(run.folder.kept, Kept(0, START, START))
    keep_best(run, Validation(0.5, 0.8, 0.6, 0.4))
    assert read_kept(run.folder.kept).start == START
    assert read_kept(run.folder.kept).step == 7


def test_a_training_of_an_older_version_has_no_start(run):
    keep_best(run, Validation(0.5, 0.8))
    assert read_kept(run.folder.kept).start is None
    assert run.folder.weights("best").is_file()


def test_a_damaged_note_stops_no_training(run):
    run.folder.kept.parent.mkdir(parents=True)
    run.folder.kept.write_text("{")
    with pytest.warns(UserWarning, match="left out"):
        keep_best(run, Validation(0.5, 0.8))
    assert read_kept(run.folder.kept).step == 7
