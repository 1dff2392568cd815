"""What a metric is: a function of one class of one case, and how its values are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxward.metrics.comparison import Comparison
from voxward.metrics.nsd import NSD_DEFINITIONS
from voxward.metrics.policies import Scoring


@dataclass(frozen=True)
class Metric:
    """One metric of a class in a case. Its name is its key in `metrics.registry.METRICS`.

    Attributes:
        measure: Takes a `Comparison` and returns the value, or None where it is undefined and must be left out of
            means. It says itself what empty masks count, by `Comparison.policy`.
        heading: Its column in tables. It may name options of the `Scoring` in braces, such as
            "{nsd_label} {nsd_tolerance_mm:g} mm".
        digits: Decimals that tables show.
        larger_is_better: Whether a larger value is a better one.
        short: A heading for terminals, which are narrow; it may hold a line break. Empty: the same heading.
    """

    measure: Callable[[Comparison], float | None]
    heading: str
    digits: int = 3
    larger_is_better: bool = True
    short: str = ""

    def title(self, scoring: Scoring, short: bool = False) -> str:
        """The heading with the options filled in; the one for terminals if `short`."""
        return (self.short if short and self.short else self.heading).format(
            **vars(scoring), nsd_label=NSD_DEFINITIONS[scoring.nsd].label
        )
