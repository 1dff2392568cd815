"""Attacks that are run with several budgets: which of a protocol's attacks differ in their budget only."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxward.attacks.budget import BUDGETED
from voxward.robustness.protocol import Protocol
from voxward.robustness.trials.attack import members

_SPENT = (*BUDGETED, "restarts")


@dataclass(frozen=True)
class Sweep:
    """One attack with several budgets.

    Attributes:
        attack: The attack.
        members: The options that differ, by the name that each member has in records, the smallest budget first.
    """

    attack: str
    members: Mapping[str, Mapping[str, Any]]


def sweeps(protocol: Protocol, classes: int) -> tuple[Sweep, ...]:
    """Return the attacks of a protocol that it runs with several budgets, also where an ensemble holds one of them.

    Args:
        protocol: The protocol.
        classes: The number of classes that an attack chooses between; 2 for regions.

    Raises:
        UserError: An attack is unknown, or an option does not fit it.
    """
    alike: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a budget is small is said where it is spent
        for entry in protocol.entries:
            for name, attack in members(entry, classes, protocol.budget).items():
                options = attack.options()
                varied = {key: options.pop(key) for key in (*_SPENT, *entry.sweep) if key in options}
                rest = json.dumps(options, sort_keys=True, default=str)
                alike.setdefault((attack.name, rest), {})[entry.name or name] = varied
    return tuple(_sweep(attack, found) for (attack, _), found in alike.items() if len(found) > 1)


def _sweep(attack: str, found: Mapping[str, Mapping[str, Any]]) -> Sweep:
    """The members in order, with the options in which they differ."""
    keys = [key for key in next(iter(found.values())) if len({str(one.get(key)) for one in found.values()}) > 1]
    differing = {name: {key: one.get(key) for key in keys} for name, one in found.items()}
    return Sweep(
        attack, dict(sorted(differing.items(), key=lambda item: [_place(value) for value in item[1].values()]))
    )


def _place(value: Any) -> tuple[bool, float, str]:
    """Numbers by their size, everything else by its text."""
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)
