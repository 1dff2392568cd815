"""Two ways to do the same work, timed by turns: machines are shared and noisy, so only their ratio is worth keeping."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Duel:
    """One comparison. ours, peer: the same work, each warmed up once before it is timed.

    peer_name: whose, and which of its routines. at_least: the ratio that is required of it, None where none is.
    quality: how far apart the two results are, or how good each is; shown beside the ratio.
    """

    name: str
    ours: Work
    peer: Work
    peer_name: str
    at_least: float | None = None
    quality: str = ""


@dataclass(frozen=True)
class Outcome:
    """ours, peer: the seconds of every round. It holds no side of the duel, whose tensors may be large."""

    name: str
    peer_name: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    at_least: float | None = None
    quality: str = ""

    @property
    def ratios(self) -> tuple[float, ...]:
        """peer / ours of every round, above 1 where ours is faster."""
        return tuple(peer / ours for ours, peer in zip(self.ours, self.peer, strict=True))

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    def joined(self, other: Outcome) -> Outcome:
        """The rounds of both."""
        return replace(self, ours=self.ours + other.ours, peer=self.peer + other.peer)


Group = Callable[[], Iterator[Duel]]
"""Makes its duels one by one, so that each one's tensors are gone before the next one's are made."""


def settle(duel: Duel, rounds: int) -> Outcome:
    """Both sides `rounds` times by turns, the one that begins changing from round to round."""
    sides = (duel.ours, duel.peer)
    for side in sides:
        side()
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            seconds[which].append(_timed(sides[which]))
    ours, peer = (tuple(values) for values in seconds)
    return Outcome(duel.name, duel.peer_name, ours, peer, duel.at_least, duel.quality)


def _timed(work: Work) -> float:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
