"""The same work for many cases in threads, with bounded memory, and with all failures reported together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from voxward.core.case import Case
from voxward.core.errors import UserError

T = TypeVar("T")

Progress = Callable[[int, int], None]


def for_each_case(
    work: Callable[[Case], T], cases: Sequence[Case], workers: int, progress: Progress | None = None
) -> list[T]:
    """Do the same work for every case, in threads.

    A case that fails does not stop the others.

    Args:
        work: The function that is called with each case.
        cases: The cases.
        workers: How many cases are worked on at once.
        progress: A function that is told, in this thread, after each case how many are done, and of how many.

    Returns:
        The results in the order of the cases.

    Raises:
        UserError: `workers` is below 1, or cases failed; the message names every such case with its reason.
    """
    if workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}")
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = {pool.submit(work, case): case for case in cases}
            for done, _ in enumerate(as_completed(futures), start=1):
                if progress is not None:
                    progress(done, len(cases))
        except BaseException:
            # Ctrl-C: finish the cases in hand, start no other.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failures = [(case.id, error) for future, case in futures.items() if (error := future.exception()) is not None]
    if failures:
        lines = "\n".join(f"  {id}: {error}" for id, error in failures)
        raise UserError(f"{len(failures)} of {len(cases)} cases failed:\n{lines}") from failures[0][1]
    return [future.result() for future in futures]
