"""Checks of corruptions: severity 0 changes nothing, and larger severities harm more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from voxward.metrics.summary import summarise
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.finding import Finding
from voxward.robustness.record import Record

_SHARE = 0.8
"""So many of the corruptions must harm more with their severity."""
_FEWEST = 5
"""Each case has draws of its own: over fewer of them a mean may rise by chance."""


def corruption_findings(model: str, records: Sequence[Record], tolerance: float) -> tuple[Finding, ...]:
    """Check the records of corruptions of one system.

    Args:
        model: The name of the system.
        records: Its records, those of the clean cases among them.
        tolerance: A difference in mean Dice up to which nothing is said to have changed.
    """
    return _untouched(model, records), _falls(model, records, tolerance)


def _untouched(model: str, records: Sequence[Record]) -> Finding:
    """Check that severity 0 leaves the file and its segmentation as they are, to the bit."""
    rows = [record for record in records if record.corruption is not None and not record.eps]
    faults = [
        f"{record.attack} of severity 0 changes {record.case}"
        for record in rows
        if record.corruption is not None
        and (record.corruption.changed > 0 or record.scores(deployed=True) != record.clean_scores(deployed=True))
    ]
    name, promise = "severity 0", "corruptions of severity 0 change no file and no Dice"
    if not rows:
        return Finding(name, None, f"{model}: not testable: {promise}")
    return Finding(name, not faults, f"{model}: {'; '.join(faults[:3]) if faults else promise}")


def _falls(model: str, records: Sequence[Record], tolerance: float) -> Finding:
    """Check that the Dice does not rise with the severity for most of the corruptions."""
    view = CorruptionView(records)
    cases = len(view.clean(model))
    rising = [name for name in view.corruptions if _rises(view, model, name, tolerance)]
    total = len(view.corruptions)
    promise = f"the mean Dice falls, or stays, with the severity of {total - len(rising)} of {total} corruptions"
    name = "severity"
    if cases < _FEWEST or len(view.severities) < 2:
        return Finding(name, None, f"{model}: not testable with {cases} cases and {len(view.severities)} severities")
    enough = total - len(rising) >= _SHARE * total
    but = f"; not of {', '.join(rising)}" if rising else ""
    return Finding(name, enough, f"{model}: {promise}{but}")


def _rises(view: CorruptionView, model: str, name: str, tolerance: float) -> bool:
    """Whether the Dice rises from one severity to the next, by more than chance and the tolerance."""
    for low, high in pairwise(view.severities):
        before, after = view.dice(model, name, low), view.dice(model, name, high)
        change = summarise([after[case] - before[case] for case in sorted({*before} & {*after})])
        if change is not None and change.low > 0 and change.mean > tolerance:
            return True
    return False
