"""Each of several processes on a machine sees one GPU."""

from __future__ import annotations

import os

import pytest

from voxward.engine.gpus import VISIBLE, see_one, visible_gpus


@pytest.mark.parametrize(
    ("visible", "count", "number", "seen"),
    [
        (None, 4, 1, "1"),
        (None, 4, 6, "2"),  # more processes than GPUs take them in turn
        ("3,5", 4, 1, "5"),
        ("GPU-aa, GPU-bb", 2, 0, "GPU-aa"),
        ("7", 4, 3, "7"),
        ("", 4, 3, ""),  # none is to be used
        (None, 1, 0, None),
        (None, 0, 2, None),
    ],
)
def test_a_process_sees_one_gpu_of_those_that_are_visible(monkeypatch, visible, count, number, seen):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    see_one(number)
    assert os.environ.get(VISIBLE) == seen
    if seen and count > 1:
        assert visible_gpus() == [seen]
