"""What random noise does to a system, in sentences: noise must not harm where only chosen changes may."""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxward.report.html.scope import named_few
from voxward.report.html.strings import count, listed, say
from voxward.report.measured import AtSize, CaseChange, Change
from voxward.report.text import number_text
from voxward.robustness.record import NOISE
from voxward.robustness.sanity import Thresholds

# Noise that leaves at least this share of the Dice lowers it a little.
_LITTLE = 0.9
# The least change that a figure shows, and what is the rounding of two means.
_LEAST, _ROUNDING = "0.001", 1e-9
# An attack that takes so many times the tolerance does harm that noise does not.
_MUCH = 10


def noise_text(sizes: Sequence[AtSize], limits: Thresholds) -> str:
    """Return what noise does, and whether the system is safe against it, at the largest size of noise.

    Args:
        sizes: What was measured at each size, the smallest first.
        limits: When a change of the Dice counts, and when nothing is found.
    """
    noisy = [size for size in sizes if size.noise]
    if not noisy:
        return say("verdict", "noise_none")
    found = _at(noisy[-1], limits)
    return found if noisy[-1] is sizes[-1] else f"{say('verdict', 'noise_up_to', size=noisy[-1].text)} {found}"


def _at(size: AtSize, limits: Thresholds) -> str:
    kinds = {name: _kind(change, limits) for name, change in size.noise.items()}
    cases = {len(change.cases) for change in size.noise.values()}
    if len(kinds) > 1 and {*kinds.values()} == {"noise_safe"} and cases == {len(size.attack.cases)}:
        parts = [
            say("verdict", f"stable_{name}", dice=_dice(change), side=_side(change, limits))
            for name, change in size.noise.items()
        ]
        sentences = [say("verdict", "stable", parts=listed(parts), limit=f"{limits.tolerance:g}")]
    else:
        sentences = [_sentence(name, size, kind, limits) for name, kind in kinds.items()]
    calm = {*kinds.values()} <= {"noise_safe", "noise_rise"}
    if calm and size.attack.clean - size.attack.dice.mean > _MUCH * limits.tolerance:
        sentences.append(say("verdict", "noise_choice"))
    if "noise_little" in kinds.values() and size.attack.clean - size.attack.dice.mean > limits.tolerance:
        sentences.append(say("verdict", "noise_part"))
    if _is_weak(size, limits):
        sentences.append(say("verdict", "noise_stronger"))
    return " ".join(sentences)


def _is_weak(size: AtSize, limits: Thresholds) -> bool:
    """Whether noise that an attack might have chosen harms more than all attacks did.

    Noise as strong in all as an attack may be larger than its size in single voxels, and tells nothing here.
    """
    attacked = {one.case: one.dice for one in size.attack.cases}
    both = [(one.dice, attacked[one.case]) for one in _cases(size, NOISE) if one.case in attacked]
    return bool(both) and math.fsum(struck - noisy for noisy, struck in both) / len(both) > limits.tolerance


def _cases(size: AtSize, name: str) -> Sequence[CaseChange]:
    return size.noise[name].cases if name in size.noise else ()


def _kind(change: Change, limits: Thresholds) -> str:
    """The sentence that is true of what a kind of noise does."""
    dice = change.dice.mean
    if change.clean < limits.gone:
        return "noise_nothing"
    # The same comparison as in the check of the control, so that both say the same.
    if dice < change.clean and limits.moved(change.clean - dice):
        return "noise_little" if dice >= change.clean * _LITTLE and not change.lost else "noise_harm"
    if change.lost:
        return "noise_scans"
    return "noise_rise" if limits.moved(dice - change.clean) else "noise_safe"


def _side(change: Change, limits: Thresholds) -> str:
    """How far the Dice moved: "0.004 lower"."""
    moved = change.dice.mean - change.clean
    if abs(moved) < _ROUNDING:
        return say("verdict", "noise_same")
    figure = limits.figure(moved)
    by = figure if float(figure) else say("verdict", "noise_hardly", by=_LEAST)
    return say("verdict", "noise_lower" if moved < 0 else "noise_higher", by=by)


def _sentence(name: str, size: AtSize, kind: str, limits: Thresholds) -> str:
    change = size.noise[name]
    values = {
        "noise": say("verdict", name), "dice": _dice(change), "clean": number_text(change.clean),
        "side": _side(change, limits), "limit": f"{limits.tolerance:g}",
    }  # fmt: skip
    if kind == "noise_scans":
        cases = named_few([one.case for one in change.lost])
        sentence = count("verdict", kind, len(change.lost), cases=cases, **values)
    else:
        sentence = say("verdict", kind, **values)
    left = len(change.cases) < len(size.attack.cases)
    of = len(size.attack.cases)
    return f"{sentence} {count('verdict', 'fewer_noise', len(change.cases), of=of)}" if left else sentence


def _dice(change: Change) -> str:
    return number_text(change.dice.mean)
