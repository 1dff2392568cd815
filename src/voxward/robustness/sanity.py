"""Checks of a benchmark: what holds if the attacks work and the set-up is right (after Carlini et al. 2019).

Attacks that are too weak make a model look robust. Each check below finds one way in which that happens; some of them
use controls, which are no attacks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from voxward.attacks.base import NOT_WRITABLE
from voxward.core.errors import UserError
from voxward.core.wording import counted
from voxward.robustness.converged import convergence
from voxward.robustness.corruption_checks import corruption_findings
from voxward.robustness.corruption_figures import without_corruptions
from voxward.robustness.eps import eps_texts
from voxward.robustness.finding import Finding
from voxward.robustness.record import CLEAN, CLIP, CONTROLS, EQUAL_NOISE, NOISE, PROBE, Record, without_noisy
from voxward.robustness.summary import View

# Two Dice of 0.8 and 0.79 are a little more than 0.01 apart.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Thresholds:
    """The limits of the checks, and the fixed limit of the robust accuracy. All are Dice in [0, 1].

    Attributes:
        tolerance: A difference in mean Dice up to which nothing is said to have changed.
        absolute: A case with at least this Dice is not broken, whatever the model's clean Dice. Tables show the
            robust accuracy for it beside the one for mu / 2.
        gone: A mean Dice below this means that nothing is found.

    Raises:
        UserError: A limit is not in [0, 1].
    """

    tolerance: float = 0.01
    absolute: float = 0.5
    gone: float = 0.05

    def moved(self, change: float) -> bool:
        """Return whether a change of the Dice is larger than the tolerance, apart from the rounding of the two Dice."""
        return abs(change) > self.tolerance + _ROUNDING

    def figure(self, change: float) -> str:
        """Return the size of a change with so many decimals that it stands on its side of the tolerance."""
        for digits in range(3, 9):
            text = f"{abs(change):.{digits}f}"
            if self.moved(float(text)) == self.moved(change):
                return text
        return f"{abs(change):.9f}"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} must be in [0, 1], got {value}")


STANDARD = Thresholds()
"""A tolerance of 0.01, robust accuracy at 0.5, and nothing found below 0.05."""

GRADIENTLESS = (
    "attacked without a gradient only: these attacks are weak, so assume that stronger ones exist. The figures say how "
    "far the Dice falls at least, and not that it falls no further"
)
"""What is said of a system that no white-box attack was run on."""

_DISTANCE = 1e-5
"""The share of eps that rounding may add to the size of a perturbation."""


def sanity(records: Sequence[Record], thresholds: Thresholds = STANDARD) -> tuple[Finding, ...]:
    """Check whether the records of a benchmark can be trusted.

    Args:
        records: The records of one or several models.
        thresholds: The limits of the checks.

    Returns:
        One finding per check, model after model.
    """
    found = list[Finding]()
    for model in View(records).models:
        mine = [record for record in records if record.model == model]
        attacked = without_noisy(without_corruptions(mine))
        corrupted = any(record.corruption is not None for record in mine)
        # Where nothing was attacked, and something else was asked for, only that the clean cases are sound is of use.
        only = len(attacked) < len(mine) and not any(record.kind == "attack" for record in attacked)
        found += [check(model, attacked, thresholds) for check in (_OF_CLEAN if only else _CHECKS)]
        found += corruption_findings(model, mine, thresholds.tolerance) if corrupted else ()
    return tuple(found)


_Check = Callable[[str, Sequence[Record], Thresholds], Finding]


def _verdict(name: str, model: str, tested: bool, faults: Sequence[str], promise: str) -> Finding:
    if not tested:
        return Finding(name, None, f"{model}: not testable: {promise}")
    return Finding(name, not faults, f"{model}: {'; '.join(faults) if faults else promise}")


def _by_case(records: Iterable[Record]) -> dict[str, float]:
    """Return the lowest Dice of each case over these records."""
    found: dict[str, float] = {}
    for record in records:
        found[record.case] = min(found.get(record.case, math.inf), record.dice())
    return found


def _rise(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return by how much the mean rose over the cases that both have; None where they have no common case."""
    common = sorted({*before} & {*after})
    return math.fsum(after[c] - before[c] for c in common) / len(common) if common else None


def _ruins(record: Record) -> bool:
    """Return whether eps is as wide as the intensity range, so that nothing of the image need be left."""
    return record.threat.unit == "range" and record.threat.norm == "linf" and record.eps >= 1


def _by_attack(records: Iterable[Record]) -> dict[tuple[str, float], dict[str, float]]:
    """Return the lowest Dice of each case per (attack, eps), sorted."""
    groups: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.attack, record.eps].append(record)
    return {name: _by_case(group) for name, group in sorted(groups.items(), key=lambda item: item[0])}


def _moved(record: Record, deployed: bool) -> float:
    """Return by how much the mean Dice moved over the classes that are defined both before and after.

    A single voxel of a class that neither truth nor the clean mask holds costs that class all its Dice, and says
    nothing about the set-up.
    """
    pairs = zip(record.clean_scores(deployed), record.scores(deployed), strict=True)
    changes = [after - before for before, after in pairs if before is not None and after is not None]
    return math.fsum(changes) / len(changes) if changes else 0.0


def _control(name: str) -> _Check:
    """Return the check that a control, which is no attack, leaves the Dice as it is."""

    def check(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
        tolerance = thresholds.tolerance
        rows = [r for r in records if r.attack == name and not _ruins(r)]
        # The written file is checked, too: its crop box and statistics are taken from it, and must not be attacked.
        written = [r for r in rows if r.deployed is not None and r.deployed_clean is not None]
        faults, text, most = dict[tuple[float, str], str](), eps_texts(records), 0.0
        for chosen, deployed, what in ((rows, False, ""), (written, True, " of the written file")):
            for eps in sorted({r.eps for r in chosen}):
                moved = [_moved(r, deployed) for r in chosen if r.eps == eps]
                rise = math.fsum(moved) / len(moved)
                most = max(most, abs(rise))
                if thresholds.moved(rise):
                    size = f"{'-' if rise < 0 else '+'}{thresholds.figure(rise)}"
                    faults.setdefault(  # what moves both alike is said once
                        (eps, size),
                        f"{name} at eps {text(eps)} moves the mean Dice{what} by {size} without an attack, "
                        f"more than {tolerance:g}",
                    )
        moves = f", and moves the mean Dice by {thresholds.figure(most)} at most" if rows else ""
        promise = f"{name} stays within {tolerance:g} of clean{moves}"
        return _verdict(f"{name} control", model, bool(rows), [*faults.values()], promise)

    return check


def _falls_with_eps(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the Dice falls as eps grows, because a larger perturbation may do all that a smaller one may."""
    groups = _by_attack(r for r in records if r.kind == "attack")
    faults, tested, text = [], False, eps_texts(records)
    for (low, before), (high, after) in pairwise(groups.items()):
        rise = _rise(before, after) if low[0] == high[0] else None
        tested |= rise is not None
        if rise is not None and rise > thresholds.tolerance:
            faults.append(f"{low[0]}: Dice rises by {rise:.3f} from eps {text(low[1])} to {text(high[1])}")
    return _verdict("larger eps", model, tested, faults, "Dice falls as eps grows")


def _reaches_zero(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that an attack leaves nothing of the segmentation where nothing of the image need be left."""
    # A check of the set-up at eps 1 counts, too: it is run as an attack, though the report does not list it as one.
    rows = [r for r in records if r.white_box and _ruins(r)]
    worst = _by_case(rows)
    mean = math.fsum(worst.values()) / max(len(worst), 1)
    gone = thresholds.gone
    faults = [f"white-box attacks leave Dice {mean:.3f} at eps 1"] if mean >= gone else []
    if not rows:
        return _looks_at_the_volume(model, records, thresholds)
    return _verdict("eps 1", model, bool(rows), faults, f"white-box attacks reach Dice below {gone:g} at eps 1")


def _looks_at_the_volume(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the Dice falls where nothing of the image need be left; a function may look at something else."""
    rows = [r for r in records if _ruins(r) and r.attack not in (*CONTROLS, *EQUAL_NOISE)]
    fall = math.fsum(r.clean_dice() - r.dice() for r in rows) / max(len(rows), 1)
    stays = "at eps 1, where nothing of the image need be left, the Dice stays as it is: is the given volume segmented?"
    faults = [stays] if fall <= thresholds.tolerance else []
    return _verdict("eps 1", model, bool(rows), faults, "attacks without a gradient lower the Dice at eps 1")


def _white_box(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Say whether an attack that knows the gradients was run; without one, stronger attacks must be assumed."""
    rows = [r for r in records if r.kind == "attack"]
    known = any(r.white_box for r in rows)
    text = "attacks that know the gradients were run" if known or not rows else GRADIENTLESS
    return Finding("white-box", True if known else None, f"{model}: {text}")


def _black_box(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that an attack that knows the gradients is at least as strong as one that does not."""
    attacks, text = [r for r in records if r.kind == "attack"], eps_texts(records)
    faults, tested = [], False
    for eps in View(attacks).eps:
        white, black = (_by_case(r for r in attacks if r.eps == eps and r.white_box is box) for box in (True, False))
        rise = _rise(black, white)
        tested |= rise is not None
        if rise is not None and rise > thresholds.tolerance:
            faults.append(f"at eps {text(eps)} black-box attacks are {rise:.3f} stronger: gradients may be masked")
    return _verdict("black-box", model, tested, faults, "black-box attacks are not stronger than white-box ones")


def _in_the_ball(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that no perturbation is larger than its eps; noise as strong as an attack is as a whole, not in voxels."""
    rows, text = [r for r in records if r.attack not in (CLEAN, CLIP, *EQUAL_NOISE)], eps_texts(records)
    found = [(r, distance) for r in rows for distance in (r.distance, r.written) if distance is not None]
    outside = [(r, distance) for r, distance in found if distance > r.eps * (1 + _DISTANCE) + _slack(r)]
    faults = [
        f"{r.attack} on {r.case}: distance {text(distance)}, which is {_beyond(distance, r.eps)} eps {text(r.eps)}"
        for r, distance in outside[:3]
    ]
    return _verdict("in the ball", model, bool(rows), faults, "every perturbation, found and written, is within eps")


def _beyond(distance: float, eps: float) -> str:
    """By how much a distance is above eps, which its text may not show."""
    return f"{distance / eps - 1:.2g} of eps beyond" if eps else "beyond"


def _slack(record: Record) -> float:
    """Return a rounding of the intensities (one float32 ulp of a raw value) in the unit of eps."""
    if record.threat.unit == "range" or record.threat.bounds is None:
        return _DISTANCE
    return _DISTANCE * max(high - low for low, high in record.threat.bounds)


def _complete(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that every attack was run on all cases, because means over different cases cannot be compared."""
    cases = {r.case for r in records}
    # Rician noise is left out where there are intensities below 0.
    groups = _by_attack(r for r in records if r.kind == "attack" or r.attack in (*CONTROLS, EQUAL_NOISE[0]))
    short = {name: len(dice) for name, dice in groups.items() if len(dice) < len(cases)}
    text = eps_texts(records)
    faults = [
        f"{attack} at eps {text(eps)} has {n} of {len(cases)} cases" for (attack, eps), n in list(short.items())[:3]
    ]
    every = "the only case" if len(cases) == 1 else f"all {len(cases)} cases"
    return _verdict("complete", model, bool(cases), faults, f"every attack was run on {every}")


def _deployed(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the attacked model and the deployed model have the same Dice on clean cases."""
    rows = [r for r in records if (r.deployed if r.attack == CLEAN else r.deployed_clean) is not None]
    # Where the coarse stage of a cascade is attacked alone, it is not what is deployed.
    rows = [r for r in rows if r.options.get("stage") != "coarse"]
    rise = _rise({r.case: r.clean_dice() for r in rows}, {r.case: r.clean_dice(deployed=True) for r in rows})
    faults = []
    if rise is not None and thresholds.moved(rise):
        size = f"{'-' if rise < 0 else '+'}{thresholds.figure(rise)}"
        faults = [f"the predictor's clean Dice differs by {size} from the attacked model's"]
    return _verdict("deployed", model, bool(rows), faults, "the attacked model is the deployed one on clean cases")


def _finds_something(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the model finds every class without an attack, because what is not found cannot be attacked."""
    rows = [r for r in records if r.attack == CLEAN]
    clean = _by_case(rows)
    mean, gone = math.fsum(clean.values()) / max(len(clean), 1), thresholds.gone
    if any(r.phantom is not None for r in records):
        return _verdict(
            "clean", model, tested=False, faults=(), promise="a class is invented, so nothing need be found"
        )
    faults = [f"clean Dice is {mean:.3f}: where nothing is found nothing can be attacked"] if mean < gone else []
    if not faults and (missed := _missed(rows, gone)):
        faults = [f"clean Dice of {', '.join(missed)} is below {gone:g}: a class that is not found cannot be attacked"]
    return _verdict(
        "clean", model, bool(clean), faults, f"clean Dice is at least {gone:g}, also of every class that occurs"
    )


def _missed(rows: Sequence[Record], gone: float) -> list[str]:
    """Name the classes that are as good as never found in the cases in which they occur, and their mean Dice there."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        # Records of older versions do not say which classes the truth holds.
        volumes = row.truth_mm3 if len(row.truth_mm3) == len(row.classes) else (math.inf,) * len(row.classes)
        for name, dice, volume in zip(row.classes, row.clean_scores(), volumes, strict=True):
            if dice is not None and volume > 0:
                found[name][row.case] = dice
    means = {name: math.fsum(dice.values()) / len(dice) for name, dice in found.items()}
    return [
        f"{name} ({mean:.3f} in {counted(len(found[name]), 'case')})" for name, mean in means.items() if mean < gone
    ]


def _sees_the_model(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the model answers the same each time, and that its gradient reaches the image."""
    rows = [r for r in records if r.attack == PROBE and "random" in r.options]
    blind = any(r.options.get("gradient") is False for r in rows)
    masked = [r for r in rows if not blind and not r.options.get("reached")]
    faults = [f"no gradient reaches the image of {r.case}: gradients are masked" for r in masked]
    random = "the model answers at random: what was attacked is the mean of several answers"
    faults += [random for r in rows if r.options["random"]]
    arrives = "it has no gradient, which none of the attacks needed" if blind else "its gradient arrives"
    promise = f"the model answers the same each time, and {arrives}"
    return _verdict("model", model, bool(rows), faults, promise)


def _learnt(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the attacks learnt from the model's gradients, as they say themselves (`attacks.masking`)."""
    rows = [r for r in records if r.kind == "attack"]
    cases: dict[str, set[str]] = defaultdict(set)
    for record in rows:
        for text in record.warnings:
            if not text.endswith(NOT_WRITABLE):  # which `_survives_rounding` says
                cases[text.replace(" for 1 of 1 cases", "")].add(record.case)
    total = len({r.case for r in rows})
    faults = [f"{text} ({len(found)} of {total} cases: {_few(sorted(found))})" for text, found in cases.items()]
    tested = bool(faults) or any(r.white_box for r in rows)
    return _verdict("gradients", model, tested, faults, "every attack that uses the model's gradients learnt from them")


def _converged(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the strongest attack with twice its budget does not find much more on a few cases."""
    found, tolerance, text = convergence(model, records), thresholds.tolerance, eps_texts(records)
    if any(r.phantom is not None for r in records):
        unknown = "it is not tested where a class is invented, so that more steps may find more"
        return _verdict("converged", model, tested=False, faults=(), promise=unknown)
    if found is None:
        doubled = "no attack was run again with twice its budget (by the control doubled)"
        unknown = f"{doubled}, so that more steps may lower the figures"
        return _verdict("converged", model, tested=False, faults=(), promise=unknown)
    if found.outdated:
        sizes = ", ".join(map(text, found.missing))
        why = f"but {found.best} is the strongest attack by now" if not sizes else f"but not at eps {sizes}"
        unknown = f"{found.attack} was run again with twice its budget, {why}: give the same command again"
        return _verdict("converged", model, tested=False, faults=(), promise=unknown)
    told = found.text(tolerance, text)
    return _verdict("converged", model, True, [told] if found.unsettled(tolerance) else [], told)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _survives_rounding(model: str, records: Sequence[Record], thresholds: Thresholds) -> Finding:
    """Check that the perturbation is still there in the written file, whose integers may be coarser than eps."""
    tried = [r for r in records if r.kind == "attack" and r.written is not None]
    rows = [r for r in tried if r.distance > 0 or any(text.endswith(NOT_WRITABLE) for text in r.warnings)]
    lost: dict[tuple[str, float], set[str]] = defaultdict(set)
    for record in rows:
        if record.written == 0:
            lost[record.attack, record.eps].add(record.case)
    text = eps_texts(records)
    faults = [
        f"{attack} at eps {text(eps)}: the written file equals the clean one in {counted(len(cases), 'case')} "
        f"({_few(sorted(cases))}), because eps is smaller than one step of the file's numbers: its Dice says nothing"
        for (attack, eps), cases in sorted(lost.items())
    ]
    return _verdict("rounding", model, bool(rows), faults, "the written files still hold the perturbations")


_CHECKS: tuple[_Check, ...] = (
    _complete,
    _control(NOISE),
    _control(CLIP),
    _falls_with_eps,
    _reaches_zero,
    _white_box,
    _black_box,
    _in_the_ball,
    _deployed,
    _sees_the_model,
    _learnt,
    _survives_rounding,
    _converged,
    _finds_something,
)
_OF_CLEAN: tuple[_Check, ...] = (_complete, _deployed, _finds_something)
