"""Records made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxward.attacks.threat import ThreatModel
from voxward.robustness.doer import Done
from voxward.robustness.record import CONTROLS, Record
from voxward.robustness.skipped import NotApplicable

CLEAN = {"a": (0.9, 0.7), "b": (0.8, 0.6)}
"""Clean Dice of two cases, two classes: means 0.8 and 0.7, mu 0.75."""


def record(
    attack: str,
    case: str,
    dice: Sequence[float | None],
    eps: float = 0.0,
    model: str = "m",
    clean: Sequence[float | None] | None = None,
    **others: Any,
) -> Record:
    values: dict[str, Any] = {
        "seed": 0, "mode": "patch", "classes": ("liver", "tumour"),
        "threat": ThreatModel(eps, bounds=((-100.0, 240.0),)),
        "clean": tuple(CLEAN.get(case, (0.9, 0.7)) if clean is None else clean), "adversarial": tuple(dice),
        "deployed": None, "hd95_mm": 2.5, "distance": eps, "breaking_eps": None, "history": (), "gradients": 3,
        "forwards": 4, "seconds": 2.0, "kind": "control" if attack in CONTROLS else "attack", "white_box": True,
        "options": {}, "version": "0", "torch": "2", "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return Record(model=model, case=case, attack=attack, eps=eps, **(values | others))


def clean(case: str, model: str = "m", dice: Sequence[float | None] | None = None, **others: Any) -> Record:
    scores = tuple(CLEAN[case] if dice is None else dice)
    return record("clean", case, scores, model=model, clean=scores, **others)


def book() -> list[Record]:
    """Two attacks at two eps on two cases, and their controls.

    Mean Dice: x at 0.1: a 0.5, b 0.4; x at 0.2: a 0.2, b 0.1. y at 0.1: a 0.3, b 0.6; y at 0.2: a 0.3, b 0.0.
    Worst case: 0.1: a 0.3, b 0.4; 0.2: a 0.2, b 0.0.
    """
    return [
        clean("a"),
        clean("b"),
        record("noise", "a", (0.9, 0.7), 0.1),
        record("noise", "b", (0.796, 0.6), 0.1),
        record("clip", "a", (0.9, 0.684)),
        record("clip", "b", (0.8, 0.6)),
        record("x", "a", (0.6, 0.4), 0.1, history=(0.8, 0.6, 0.5)),
        record("x", "b", (0.5, 0.3), 0.1, history=(0.7, 0.4)),
        record("x", "a", (0.4, 0.0), 0.2),
        record("x", "b", (0.2, 0.0), 0.2),
        record("y", "a", (0.3, 0.3), 0.1, white_box=True),
        record("y", "b", (0.6, 0.6), 0.1),
        record("y", "a", (0.3, 0.3), 0.2),
        record("y", "b", (0.0, 0.0), 0.2),
    ]


class By:
    """Does units by a function of the unit that returns its records; implements engine.Doer."""

    def __init__(self, records_of):
        self.records_of = records_of

    def do(self, unit, folder, progress):
        try:
            return Done(tuple(self.records_of(unit)))
        except NotApplicable as reason:
            return Done((), str(reason))
