"""What a table says about cases that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxward.core.wording import counted
from voxward.runs.cases import listed


def seen_notes(cases: Sequence[str], seen: Sequence[str], left_out: Sequence[str]) -> Iterator[str]:
    """Yield a sentence about the cases that were seen in training, and one about those that were left out for it.

    Args:
        cases: The ids of all cases of the table.
        seen: Those of them that a model was trained on.
        left_out: The ids of other cases, left out because a model was trained on them.
    """
    if seen:
        yield (
            f"{len(seen)} of {len(cases)} cases were seen in training, so that these scores are better than for new "
            f"cases: {listed(seen)}"
        )
    if left_out:
        yield f"left out, because they were seen in training: {counted(len(left_out), 'case')} ({listed(left_out)})"
