"""Which attack hurt a case most, and how strong it was: a pure function of records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from voxward.robustness.record import Record
from voxward.robustness.summary import Key


def harm(record: Record) -> tuple[float, str, int]:
    """Return what attacks on a case are ordered by, the worst one first; of equal Dice the first name, then seed.

    The Dice is that of the written file where there is one.
    """
    return record.dice(deployed=record.deployed is not None), record.attack, record.seed


def worst_attacks(records: Iterable[Record]) -> dict[Key, Record]:
    """Return, for each model, case and eps, the record of the attack that hurt most; see `harm`."""
    found: dict[Key, Record] = {}
    for record in records:
        if record.kind == "attack":
            key = Key(*record.case_key, record.eps)
            found[key] = min(found.get(key, record), record, key=harm)
    return found


def best_attacks(records: Iterable[Record]) -> dict[str, str]:
    """Return, for each model, the attack with the lowest mean Dice over all cases, sizes and seeds; see `harm`."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record.kind == "attack":
            found.setdefault(record.model, {}).setdefault(record.attack, []).append(harm(record)[0])
    means = {model: {name: math.fsum(d) / len(d) for name, d in dice.items()} for model, dice in found.items()}
    return {model: min(dice, key=lambda name: (dice[name], name)) for model, dice in means.items()}


def equal_noise(records: Sequence[Record]) -> dict[Key, float]:
    """Return how strong a noise is to be that is compared with the attacks of each model, case and eps.

    It is the root mean square of the attack that hurt most. Where no attack hurt, or that one changed nothing, it is
    the largest one of all attacks there.
    """
    largest: dict[Key, float] = {}
    for record in records:
        if record.kind == "attack":
            key = Key(*record.case_key, record.eps)
            largest[key] = max(largest.get(key, 0.0), _rms(record))
    return {key: _of_worst(record) or largest[key] for key, record in worst_attacks(records).items()}


def _of_worst(record: Record) -> float:
    deployed = record.deployed is not None and record.deployed_clean is not None
    return _rms(record) if record.dice(deployed) < record.clean_dice(deployed) else 0.0


def _rms(record: Record) -> float:
    return 0.0 if record.visibility is None else record.visibility.rms
