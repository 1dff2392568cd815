"""Whether more steps would lower the figures: the strongest attack is run again with twice its budget and compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from voxward.core.wording import counted
from voxward.robustness.record import DOUBLED, DOUBLES, Record
from voxward.robustness.worst import best_attacks


@dataclass(frozen=True)
class Convergence:
    """What twice the budget of an attack changed on a system.

    Attributes:
        model: The system.
        attack: The attack that was run again.
        best: The attack with the lowest mean Dice, which is the one that counts.
        cases: The cases that it was run again on.
        falls: By eps, by how much the mean Dice over these cases fell, of written files where there are any; below 0
            where it rose.
        missing: The sizes of the attack at which it was not run again, as where sizes were added later.
    """

    model: str
    attack: str
    best: str
    cases: tuple[str, ...]
    falls: Mapping[float, float]
    missing: tuple[float, ...] = ()

    @property
    def outdated(self) -> bool:
        """Whether it says nothing of the figures as they are, with another strongest attack or with other sizes."""
        return self.attack != self.best or bool(self.missing)

    def unsettled(self, tolerance: float) -> tuple[float, ...]:
        """Return the sizes at which the Dice fell by at least the tolerance; none where nothing was left to lower."""
        return tuple(eps for eps, fall in self.falls.items() if 0 < fall >= tolerance)

    def text(self, tolerance: float, size: Callable[[float], str]) -> str:
        """Return what was found, as half a sentence.

        Args:
            tolerance: A fall of the mean Dice below which the figures count as converged.
            size: Returns an eps as text.
        """
        lead = f"{self.attack} with twice its budget, on {counted(len(self.cases), 'case')},"
        if found := self.unsettled(tolerance):
            falls = ", ".join(f"{self.falls[eps]:.3f} at eps {size(eps)}" for eps in found)
            return f"not converged: {lead} lowers the mean Dice by {falls}"
        most = max(self.falls, key=lambda eps: self.falls[eps])
        fall = max(0.0, self.falls[most])
        return (
            f"{lead} lowers the mean Dice by less than {tolerance:g} at every eps (at most {fall:.3f}, at {size(most)})"
        )


def convergence(model: str, records: Sequence[Record]) -> Convergence | None:
    """Compare an attack with the same attack of twice the budget: the same cases, sizes and seed.

    Args:
        model: The system.
        records: Records, also of other systems.

    Returns:
        What changed; None where no attack was run again.
    """
    mine = [record for record in records if record.model == model]
    once = {_key(record, record.attack): record for record in mine if record.kind == "attack"}
    pairs = [(once[key], again) for again in mine if again.attack == DOUBLED and (key := _key(again)) in once]
    if not pairs:
        return None
    best = best_attacks(mine)[model]
    # Where cases were added later, the attack that was run again on the first ones may be another one.
    names = sorted({before.attack for before, _ in pairs}, key=lambda name: (name != best, name))
    chosen = [pair for pair in pairs if pair[0].attack == names[0]]
    falls = defaultdict[float, list[float]](list)
    for before, after in sorted(chosen, key=lambda pair: (pair[0].eps, pair[0].case)):
        falls[before.eps].append(_fall(before, after))
    means = {eps: math.fsum(values) / len(values) for eps, values in falls.items()}
    sizes = {record.eps for record in mine if record.kind == "attack" and record.attack == names[0]}
    cases = tuple(sorted({before.case for before, _ in chosen}))
    return Convergence(model, names[0], best, cases, means, tuple(sorted(sizes - {*means})))


def unconverged(model: str, records: Sequence[Record], tolerance: float) -> tuple[str, tuple[float, ...]]:
    """Return the attack that more steps make stronger, and the sizes where; none where none was found or tested."""
    found = convergence(model, records)
    return ("", ()) if found is None or found.outdated else (found.attack, found.unsettled(tolerance))


def _key(record: Record, attack: object = None) -> tuple[object, ...]:
    return attack or record.options.get(DOUBLES), record.case, record.eps, record.seed


def _fall(before: Record, after: Record) -> float:
    deployed = before.deployed is not None and after.deployed is not None
    return before.dice(deployed) - after.dice(deployed)
