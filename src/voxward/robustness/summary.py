"""What can be read off records: the worst case over attacks, robust Dice and accuracy, curves, and what is not sane.

Pure functions. A case in which no class is defined counts 1 (see record.mean_dice), so that every mean is over the same
cases and a set of attacks is never above one of its members. `deployed` and `policy` are those of Record.dice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.robustness.record import CLEAN, CLIP, CONTROLS, NOISE, PROBE, Record, Scores

ABSOLUTE = 0.5
"""The threshold that is the same for every model, beside mu / 2."""


class Key(NamedTuple):
    """What a worst case is of."""

    model: str
    case: str
    eps: float


class Worst(NamedTuple):
    """The lowest mean Dice found and the Dice of each class there."""

    dice: float
    scores: Scores


def mu(records: Iterable[Record], model: str, deployed: bool = False, policy: str | None = None) -> float:
    """Mean clean Dice over the cases of the clean control. Raises ValueError where the model has none."""
    values = clean_dice(records, model, deployed, policy)
    return math.fsum(values.values()) / len(values)


def clean_dice(
    records: Iterable[Record], model: str, deployed: bool = False, policy: str | None = None
) -> Mapping[str, float]:
    """Clean Dice per case, from the clean control. Raises ValueError where the model has none."""
    found = {r.case: r.clean_dice(deployed, policy) for r in records if r.model == model and r.attack == CLEAN}
    if not found:
        raise UserError(f"there is no clean control of model {model!r}: run the control {CLEAN!r} first")
    return found


def worst_scores(
    records: Iterable[Record], attacks: Collection[str] | None = None, deployed: bool = False, policy: str | None = None
) -> dict[Key, Worst]:
    """The perturbation with the lowest mean Dice per model, case and eps.

    attacks: names to take the lowest over, by default all (controls are never among them). The clean case is always
    one of the candidates: no perturbation is a legal one.
    """
    records = tuple(records)
    clean = {
        r.case_key: Worst(r.clean_dice(deployed, policy), r.clean_scores(deployed))
        for r in records
        if r.attack == CLEAN
    }
    found: dict[Key, Worst] = {}
    for record in records:
        if record.kind != "attack" or (attacks is not None and record.attack not in attacks):
            continue
        key = Key(record.model, record.case, record.eps)
        candidates = [Worst(record.dice(deployed, policy), record.scores(deployed))]
        if not deployed or record.deployed_clean is not None:
            candidates.append(Worst(record.clean_dice(deployed, policy), record.clean_scores(deployed)))
        candidates += [known for known in (found.get(key), clean.get(record.case_key)) if known is not None]
        found[key] = min(candidates, key=lambda candidate: candidate.dice)
    return found


def worst_case(
    records: Iterable[Record], attacks: Collection[str] | None = None, deployed: bool = False, policy: str | None = None
) -> dict[Key, float]:
    """The lowest mean Dice per model, case and eps, see `worst_scores`."""
    return {key: worst.dice for key, worst in worst_scores(records, attacks, deployed, policy).items()}


def case_dice(
    records: Iterable[Record],
    model: str,
    eps: float,
    attacks: Collection[str] | None = None,
    deployed: bool = False,
    policy: str | None = None,
) -> dict[str, float]:
    """Worst-case Dice per case of one model at one eps."""
    chosen = (r for r in records if r.model == model and (r.eps == eps or r.attack == CLEAN))
    return {key.case: dice for key, dice in worst_case(chosen, attacks, deployed, policy).items()}


def robust_dice(
    records: Iterable[Record],
    model: str,
    eps: float,
    attacks: Collection[str] | None = None,
    deployed: bool = False,
    policy: str | None = None,
) -> Summary | None:
    """Worst-case Dice over cases with its bootstrap interval; None where nothing was run."""
    return summarise(list(case_dice(records, model, eps, attacks, deployed, policy).values()))


def robust_accuracy(
    records: Sequence[Record],
    model: str,
    eps: float,
    attacks: Collection[str] | None = None,
    threshold: float | None = None,
    deployed: bool = False,
    policy: str | None = None,
) -> Summary | None:
    """Share of cases not broken, in [0, 1]: worst-case Dice of at least `threshold`, by default mu / 2."""
    limit = mu(records, model, deployed, policy) / 2 if threshold is None else threshold
    dice = case_dice(records, model, eps, attacks, deployed, policy).values()
    return summarise([float(value >= limit) for value in dice])


def eps_values(records: Iterable[Record]) -> tuple[float, ...]:
    """The sizes at which there are attacks, ascending."""
    return tuple(sorted({record.eps for record in records if record.kind == "attack"}))


def curve_over_eps(
    records: Sequence[Record],
    model: str,
    attacks: Collection[str] | None = None,
    deployed: bool = False,
    policy: str | None = None,
) -> tuple[tuple[float, Summary], ...]:
    """(eps, worst-case Dice over cases), from (0, clean) upwards."""
    clean = summarise(list(clean_dice(records, model, deployed, policy).values()))
    assert clean is not None
    values = ((eps, robust_dice(records, model, eps, attacks, deployed, policy)) for eps in eps_values(records) if eps)
    return ((0.0, clean), *((eps, summary) for eps, summary in values if summary is not None))


def curve_over_iterations(records: Iterable[Record], model: str, attack: str, eps: float) -> tuple[float, ...]:
    """Mean over cases of the lowest Dice after each evaluation; a search that ended early keeps its last value."""
    chosen = [r for r in records if (r.model, r.attack, r.eps) == (model, attack, eps) and r.history]
    length = max((len(record.history) for record in chosen), default=0)
    rows = [(*r.history, *(r.history[-1],) * (length - len(r.history))) for r in chosen]
    return tuple(math.fsum(values) / len(values) for values in zip(*rows, strict=True))


def area_under_curve(points: Sequence[tuple[float, float]]) -> float:
    """Trapezoid area under (eps, Dice) divided by the span of eps: a mean Dice in [0, 1].

    Raises ValueError for fewer than two points, and eps that do not increase.
    """
    if len(points) < 2:
        raise UserError(f"an area needs at least two points (eps, Dice), got {len(points)}")
    pairs = list(pairwise(points))
    if not all(a[0] < b[0] for a, b in pairs):
        raise UserError(f"eps must increase, got {[eps for eps, _ in points]}")
    area = math.fsum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
    return area / (points[-1][0] - points[0][0])


def smallest_breaking_eps(
    records: Iterable[Record], model: str, attacks: Collection[str] | None = None
) -> Mapping[str, float | None]:
    """Per attacked case the smallest eps that a minimum-norm attack broke it with; None where none did."""
    found: dict[str, float | None] = {}
    for record in records:
        if record.model != model or record.kind != "attack" or (attacks is not None and record.attack not in attacks):
            continue
        known = [value for value in (found.get(record.case), record.breaking_eps) if value is not None]
        found[record.case] = min(known, default=None)
    return found


def paired_difference(
    records: Sequence[Record],
    first: str,
    second: str,
    eps: float,
    attacks: Collection[str] | None = None,
    deployed: bool = False,
    policy: str | None = None,
) -> Summary | None:
    """Worst-case Dice of model `first` minus that of `second`, over the cases that both have; None without any."""
    a, b = (case_dice(records, model, eps, attacks, deployed, policy) for model in (first, second))
    return summarise([a[case] - b[case] for case in sorted({*a} & {*b})])


@dataclass(frozen=True)
class Finding:
    """One check of a benchmark's sanity; `passed` is None where the records cannot tell."""

    name: str
    passed: bool | None
    text: str


TOLERANCE = 0.01
"""Of mean Dice: less than this is noise."""

_DISTANCE = 1e-5
_GONE = 0.05


def sanity(records: Sequence[Record]) -> tuple[Finding, ...]:
    """Per model, what must hold if the attacks work and the set-up is right (Carlini et al. 2019, and controls)."""
    findings = []
    for model in sorted({record.model for record in records}):
        mine = [record for record in records if record.model == model]
        findings += [check(model, mine) for check in _CHECKS]
    return tuple(findings)


def _verdict(name: str, model: str, tested: bool, faults: Sequence[str], promise: str) -> Finding:
    if not tested:
        return Finding(name, None, f"{model}: not testable: {promise}")
    return Finding(name, not faults, f"{model}: {'; '.join(faults) if faults else promise}")


def _by_case(records: Iterable[Record], deployed: bool = False) -> dict[str, float]:
    """The lowest Dice of each case over these records."""
    found: dict[str, float] = {}
    for record in records:
        found[record.case] = min(found.get(record.case, math.inf), record.dice(deployed))
    return found


def _rise(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """How much the mean rose over the cases that both have."""
    common = sorted({*before} & {*after})
    return math.fsum(after[c] - before[c] for c in common) / len(common) if common else None


def _ruins(record: Record) -> bool:
    """Whether the ball is as wide as the intensity window: nothing of the image need be left."""
    return record.threat.unit == "range" and record.threat.norm == "linf" and record.eps >= 1


def _grouped(
    records: Iterable[Record], key: Callable[[Record], tuple[object, ...]]
) -> dict[tuple[Any, ...], dict[str, float]]:
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return {name: _by_case(group) for name, group in sorted(groups.items(), key=lambda item: item[0])}


def _moved(record: Record, deployed: bool) -> float:
    """How far the mean Dice moved over the classes that count in both: a voxel of a class that neither truth nor the
    clean mask holds costs that class all its Dice, and says nothing of the set-up.
    """
    pairs = zip(record.clean_scores(deployed), record.scores(deployed), strict=True)
    changes = [after - before for before, after in pairs if before is not None and after is not None]
    return math.fsum(changes) / len(changes) if changes else 0.0


def _control(name: str) -> Callable[[str, Sequence[Record]], Finding]:
    def check(model: str, records: Sequence[Record]) -> Finding:
        rows = [r for r in records if r.attack == name and not _ruins(r)]
        # The written file, too: there crop box and statistics are taken anew, and must not be what was attacked.
        written = [r for r in rows if r.deployed is not None and r.deployed_clean is not None]
        faults = []
        for chosen, deployed, what in ((rows, False, ""), (written, True, " of the written file")):
            for eps in sorted({r.eps for r in chosen}):
                moved = [_moved(r, deployed) for r in chosen if r.eps == eps]
                rise = math.fsum(moved) / len(moved)
                if abs(rise) > TOLERANCE:
                    faults.append(f"{name} at eps {eps:g} moves the mean Dice{what} by {rise:+.3f} without an attack")
        return _verdict(f"{name} control", model, bool(rows), faults, f"{name} stays within {TOLERANCE:g} of clean")

    return check


def _falls_with_eps(model: str, records: Sequence[Record]) -> Finding:
    groups = _grouped((r for r in records if r.kind == "attack"), lambda r: (r.attack, r.eps))
    faults, tested = [], False
    for (low, before), (high, after) in pairwise(groups.items()):
        rise = _rise(before, after) if low[0] == high[0] else None
        tested |= rise is not None
        if rise is not None and rise > TOLERANCE:
            faults.append(f"{low[0]}: Dice rises by {rise:.3f} from eps {low[1]:g} to {high[1]:g}")
    return _verdict("larger eps", model, tested, faults, "Dice falls as eps grows")


def _reaches_zero(model: str, records: Sequence[Record]) -> Finding:
    # A check of the set-up at eps 1 is no attack of the report's, but it is one.
    rows = [r for r in records if r.white_box and _ruins(r)]
    worst = _by_case(rows)
    mean = math.fsum(worst.values()) / max(len(worst), 1)
    faults = [f"white-box attacks leave Dice {mean:.3f} at eps 1"] if mean >= _GONE else []
    return _verdict("eps 1", model, bool(rows), faults, f"white-box attacks reach Dice below {_GONE:g} at eps 1")


def _black_box(model: str, records: Sequence[Record]) -> Finding:
    attacks = [r for r in records if r.kind == "attack"]
    faults, tested = [], False
    for eps in eps_values(attacks):
        white, black = (_by_case(r for r in attacks if r.eps == eps and r.white_box is box) for box in (True, False))
        rise = _rise(black, white)
        tested |= rise is not None
        if rise is not None and rise > TOLERANCE:
            faults.append(f"at eps {eps:g} black-box attacks are {rise:.3f} stronger: gradients may be masked")
    return _verdict("black-box", model, tested, faults, "black-box attacks are not stronger than white-box ones")


def _in_the_ball(model: str, records: Sequence[Record]) -> Finding:
    rows = [r for r in records if r.attack not in (CLEAN, CLIP)]
    found = [(r, distance) for r in rows for distance in (r.distance, r.written) if distance is not None]
    outside = [(r, distance) for r, distance in found if distance > r.eps * (1 + _DISTANCE) + _slack(r)]
    faults = [f"{r.attack} on {r.case}: distance {distance:g} at eps {r.eps:g}" for r, distance in outside[:3]]
    return _verdict("in the ball", model, bool(rows), faults, "every perturbation, found and written, is within eps")


def _slack(record: Record) -> float:
    """A rounding of the intensities (one float32 ulp of a raw value) in the unit of eps."""
    if record.threat.unit == "range" or record.threat.bounds is None:
        return _DISTANCE
    return _DISTANCE * max(high - low for low, high in record.threat.bounds)


def _complete(model: str, records: Sequence[Record]) -> Finding:
    """Means over different cases cannot be compared."""
    cases = {r.case for r in records}
    groups = _grouped((r for r in records if r.kind == "attack" or r.attack in CONTROLS), lambda r: (r.attack, r.eps))
    short = {name: len(dice) for name, dice in groups.items() if len(dice) < len(cases)}
    faults = [f"{attack} at eps {eps:g} has {n} of {len(cases)} cases" for (attack, eps), n in list(short.items())[:3]]
    return _verdict("complete", model, bool(cases), faults, f"every attack was run on all {len(cases)} cases")


def _deployed(model: str, records: Sequence[Record]) -> Finding:
    rows = [r for r in records if (r.deployed if r.attack == CLEAN else r.deployed_clean) is not None]
    # Where the coarse stage of a cascade is attacked alone, it is not what is deployed.
    rows = [r for r in rows if r.options.get("stage") != "coarse"]
    rise = _rise({r.case: r.clean_dice() for r in rows}, {r.case: r.clean_dice(deployed=True) for r in rows})
    off = rise is not None and abs(rise) > TOLERANCE
    faults = [f"the predictor's clean Dice differs by {rise:+.3f} from the attacked model's"] if off else []
    return _verdict("deployed", model, bool(rows), faults, "the attacked model is the deployed one on clean cases")


def _finds_something(model: str, records: Sequence[Record]) -> Finding:
    clean = _by_case(r for r in records if r.attack == CLEAN)
    mean = math.fsum(clean.values()) / max(len(clean), 1)
    faults = [f"clean Dice is {mean:.3f}: where nothing is found nothing can be attacked"] if mean < _GONE else []
    return _verdict("clean", model, bool(clean), faults, f"clean Dice is at least {_GONE:g}")


def _sees_the_model(model: str, records: Sequence[Record]) -> Finding:
    rows = [r for r in records if r.attack == PROBE]
    faults = [
        f"no gradient reaches the image of {r.case}: gradients are masked" for r in rows if not r.options["reached"]
    ]
    faults += [
        "the model answers at random: what was attacked is the mean of several answers"
        for r in rows
        if r.options["random"]
    ]
    return _verdict(
        "model", model, bool(rows), faults, "the model answers the same each time, and its gradient arrives"
    )


_CHECKS: tuple[Callable[[str, Sequence[Record]], Finding], ...] = (
    _complete,
    _control(NOISE),
    _control(CLIP),
    _falls_with_eps,
    _reaches_zero,
    _black_box,
    _in_the_ball,
    _deployed,
    _sees_the_model,
    _finds_something,
)
