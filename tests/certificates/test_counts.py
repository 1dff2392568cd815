"""Counts of noisy runs: order and batches do not matter, files keep them, and nothing is lost in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxward.certificates import Votes
from voxward.certificates.counts import MOST
from voxward.core.errors import UserError

SHAPE = (3, 4, 2)


def _labels(number: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (number, *SHAPE)).astype(np.uint8)


def test_counts_are_those_of_every_class() -> None:
    votes, labels = Votes.none(3, SHAPE), _labels(7)
    for label in labels:
        votes.add(label)
    assert votes.runs == 7
    assert votes.counts.dtype == np.uint16
    for klass in (1, 2):
        assert np.array_equal(votes.counts[klass - 1], (labels == klass).sum(0))
    assert np.array_equal(votes.of((1, 2)), (labels > 0).sum(0))


def test_merged_batches_are_one_count() -> None:
    labels, whole, parts = _labels(6), Votes.none(3, SHAPE), [Votes.none(3, SHAPE) for _ in range(3)]
    for n, label in enumerate(labels):
        whole.add(label)
        parts[n % 3].add(label)
    merged = Votes.none(3, SHAPE)
    for part in reversed(parts):
        merged.merge(part)
    assert merged.digest == whole.digest


def test_a_file_holds_what_was_counted(tmp_path: Path) -> None:
    votes = Votes.none(3, SHAPE)
    votes.add(_labels(1)[0])
    votes.save(tmp_path / "counts.npz")
    found = Votes.load(tmp_path / "counts.npz")
    assert (found.runs, found.digest) == (1, votes.digest)
    found.counts[0, 0, 0, 0] += 1
    assert found.digest != votes.digest


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "counts.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"counts\.npz"):
        Votes.load(path)


def test_what_does_not_fit_is_refused() -> None:
    votes = Votes.none(3, SHAPE)
    with pytest.raises(UserError, match="shape"):
        votes.add(np.zeros((1, 1, 1), np.uint8))
    with pytest.raises(UserError, match="classes 0 to 2"):
        votes.add(np.full(SHAPE, 3, np.uint8))
    with pytest.raises(UserError, match="shape"):
        votes.merge(Votes.none(2, SHAPE))
    votes.runs = MOST
    with pytest.raises(UserError, match=str(MOST)):
        votes.add(np.zeros(SHAPE, np.uint8))
    assert not votes.counts.any()
