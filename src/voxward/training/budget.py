"""Rules that keep a time budget whatever else the machine does: the length of a run is corrected while it goes on."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable

from voxward.core.errors import UserError

Clock = Callable[[], float]
"""A function that returns the seconds since any fixed moment."""
CLOCK: Clock = time.perf_counter

# The first steps of a run are slower and not counted. Its length is told after so many others, or earlier where they
# take more than this share of the budget.
WARM_UP_STEPS, FIRST_STEPS, FIRST_SHARE = 3, 10, 0.1
# The pace is that of so many steps: the median of the means of five parts of them, so that one slow step says nothing
# and many do, also where only some of the steps are slow. Near the end, where there is no time to wait, a quarter of
# the steps that are left tell the pace.
_RECENT, _FEWEST, _PARTS = 25, 3, 5
_VALIDATIONS = 5
# A correction after every hundredth of the steps that are left: a load that comes at once costs that much at most.
_CORRECTIONS = 100


def check_minutes(minutes: float | None) -> None:
    """Refuse a time budget that is no positive number of minutes; None stands for no budget.

    Raises:
        UserError: The number is not positive or not finite.
    """
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise UserError(f"minutes must be positive, got {minutes}")


def noted(recent: tuple[float, ...], step: int, seconds: float) -> tuple[float, ...]:
    """Return the seconds of the last steps, with those of one more step.

    Args:
        recent: The seconds of the last steps so far.
        step: The number of the new step, counted from 1. A step of the warm-up counts only until there is a later one.
        seconds: The seconds of the new step.
    """
    kept = recent if step > WARM_UP_STEPS + 1 else ()
    return (*kept, seconds)[-_RECENT:]


def pace(recent: tuple[float, ...], left: int | None) -> float:
    """Return the seconds that a step takes at present.

    Args:
        recent: The seconds of the last steps.
        left: The number of steps that are left, or None if it is not known.
    """
    count = _RECENT if left is None else max(left // 4, _FEWEST)
    last = recent[-count:]
    size = max(len(last) // _PARTS, 1)
    return statistics.median(statistics.fmean(last[end - size : end]) for end in range(len(last), size - 1, -size))


def cost_noted(costs: tuple[float, ...], cost: float) -> tuple[float, ...]:
    """Return the costs of the last validations, with one more.

    A cost is a number of steps that would have taken as long, because a load on the machine slows both down alike.
    """
    return (*costs, cost)[-_VALIDATIONS:]


def may_plan(step: int, spent: float, budget: float) -> bool:
    """Return whether the length of a run can be decided.

    The first step alone tells nothing, because it may wait for the start of everything, unless the time is up after it.

    Args:
        step: The number of steps that are done.
        spent: The seconds that have passed.
        budget: The seconds of the whole run.
    """
    early = spent > FIRST_SHARE * budget if step > 1 else spent > budget
    return step >= WARM_UP_STEPS + FIRST_STEPS or early


def steps_for(seconds: float, per_step: float) -> int:
    """Return how many steps of `per_step` seconds fill `seconds` best; 0 if not even half a step fits."""
    return max(0, int(seconds / per_step + 0.5))


def next_correction(step: int, left: int) -> int:
    """Return the step at which a run that has `left` steps to go is to be corrected next."""
    return step + max(1, left // _CORRECTIONS)


def warn_of_few_steps(steps: int, least: int, ended: bool) -> None:
    """Warn that a time budget has room for fewer updates of the weights than the `least` that the recipe names."""
    if steps < least:
        found = f"the time budget was enough for {steps}" if ended else f"at this speed there is time for {steps}"
        warnings.warn(
            f"{found} updates of the weights; with fewer than {least} the result is poor: give it more minutes",
            stacklevel=2,
        )
