"""The threat model spelt out: what an attack may change, what it knows, and how its result is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxward.metrics.policies import POLICIES
from voxward.report.html.scope import change_text, shares_text
from voxward.report.html.strings import say
from voxward.report.sources import AttackSource
from voxward.robustness.record import Record


def threat_lines(source: AttackSource) -> tuple[str, ...]:
    """Return the threat model of a folder, one sentence each; none where no attack has finished."""
    rows = [record for record in source.records if record.kind == "attack"]
    if not rows:
        return ()
    return (*_sizes(rows), *_limits(rows), *_knowledge(source, rows))


def _sizes(rows: Sequence[Record]) -> Iterator[str]:
    change = change_text(rows, max(record.eps for record in rows))
    yield say("trust", "threat_change", change=change)
    yield say("trust", "threat_sizes", sizes=shares_text(rows))


def _limits(rows: Sequence[Record]) -> Iterator[str]:
    threat = rows[0].threat
    bounds = {pair for record in rows for pair in record.threat.bounds or ()}
    if bounds:
        low, high = min(pair[0] for pair in bounds), max(pair[1] for pair in bounds)
        key = "threat_range" if len(bounds) == 1 else "threat_ranges"
        yield say("trust", key, low=f"{low:.4g}", high=f"{high:.4g}")
    yield say("trust", f"threat_{threat.reference}")
    if threat.limits is not None:
        yield say("trust", "threat_limits", low=f"{threat.limits[0]:g}", high=f"{threat.limits[1]:g}")
    if any(any(record.threat.zeros) for record in rows):
        yield say("trust", "threat_zeros")


def _knowledge(source: AttackSource, rows: Sequence[Record]) -> Iterator[str]:
    yield say("trust", "threat_knows" if any(record.white_box for record in rows) else "threat_blind")
    protocol = source.protocol
    if protocol is not None and rows[0].mode == "volume":
        yield say("trust", f"threat_{protocol.statistics}")
        if any(record.white_box for record in rows):
            yield say("trust", f"threat_{protocol.gradient}")
    yield say("trust", f"threat_mode_{rows[0].mode}")
    yield _policy(rows[0].policy)


def _policy(name: str) -> str:
    policy = POLICIES[name]
    if policy.lesions is not None:
        return say("trust", "threat_policy_lesions", policy=name)
    if policy.both_score is None:
        return say("trust", "threat_policy_left_out", policy=name)
    return say("trust", "threat_policy_counts", policy=name, score=f"{policy.both_score:g}")
