"""The same work for many cases in threads, with bounded memory, and with all failures reported together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.failures import Failures

T = TypeVar("T")

Progress = Callable[[int, int], None]


def for_each_case(
    work: Callable[[Case], T],
    cases: Sequence[Case],
    workers: int,
    progress: Progress | None = None,
    failures: Failures | None = None,
) -> list[T]:
    """Do the same work for every case, in threads.

    A case that fails does not stop the others.

    Args:
        work: The function that is called with each case.
        cases: The cases.
        workers: How many cases are worked on at once.
        progress: A function that is told how many cases are done, and of how many, before the first case and after each
            one, in this thread.
        failures: Gets the cases that failed; None raises them all together.

    Returns:
        The results of the cases that did not fail, in the order of the cases.

    Raises:
        UserError: `workers` is below 1, or `failures` is set to stop at the first failure.
        CasesFailed: Cases failed, and `failures` is None; the message names every such case with its reason.
    """
    if workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}")
    kept = Failures() if failures is None else failures
    if progress is not None:
        progress(0, len(cases))
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = {pool.submit(work, case): case for case in cases}
            for done, future in enumerate(as_completed(futures), start=1):
                with kept.of(futures[future]):
                    future.result()
                if progress is not None:
                    progress(done, len(cases))
        except BaseException:
            # Ctrl-C, a bug, or the first failure: finish the cases in hand, start no other.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    kept.found[:] = kept.ordered(cases)
    if failures is None:
        kept.raise_any(len(cases))
    return [future.result() for future in futures if future.exception() is None]
