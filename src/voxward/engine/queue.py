"""Which unit a worker does next: one of the case and system that it holds, as long as there is one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

U = TypeVar("U")


class UnitQueue(Generic[U]):
    """The units that nobody does yet, by what they have in common.

    Args:
        units: The units, in the order in which one process would do them.
        group: Returns what a unit has in common with others that one worker had better do.
    """

    def __init__(self, units: Iterable[U], group: Callable[[U], Hashable]) -> None:
        self._group = group
        self._waiting: dict[Hashable, deque[U]] = {}
        self._held: dict[str, Hashable] = {}
        for unit in units:
            self._waiting.setdefault(group(unit), deque()).append(unit)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, worker: str) -> U | None:
        """Return the next unit for a worker, and take it out; None where no unit waits.

        A worker stays with its group. Then it begins one that no other worker holds; where there is none, it helps with
        the group of which most is left.

        Args:
            worker: The name of the worker.
        """
        group = self._held.get(worker)
        if not self._waiting.get(group):
            left = [each for each, units in self._waiting.items() if units]
            if not left:
                return None
            held = {own for other, own in self._held.items() if other != worker}
            free = [each for each in left if each not in held]
            group = free[0] if free else max(left, key=lambda each: len(self._waiting[each]))
        self._held[worker] = group
        return self._waiting[group].popleft()

    def put_back(self, unit: U) -> None:
        """Put a unit back that was taken and not done; it comes first in its group."""
        self._waiting.setdefault(self._group(unit), deque()).appendleft(unit)

    def forget(self, worker: str) -> None:
        """Let others have the group of a worker that is gone."""
        self._held.pop(worker, None)
