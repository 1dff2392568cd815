"""Requirements on a system's robustness, so that a program can let a model pass or stop it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.core.wording import eps_text
from voxward.metrics.summary import Summary, summarise
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.eps import SAME_EPS
from voxward.robustness.record import EQUAL_NOISE, NOISE, Record
from voxward.robustness.summary import View

_FORM = re.compile(r"^\s*(\w+)\s*(?:@\s*([\d./eE+-]+))?\s*(>=|<=|>|<)\s*([\d./eE+-]+)\s*$")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def _clean(view: View, model: str, eps: float) -> Summary | None:
    return summarise(list(view.clean_dice(model).values()))


def _robust(view: View, model: str, eps: float) -> Summary | None:
    return view.robust_dice(model, eps)


def _accuracy(view: View, model: str, eps: float) -> Summary | None:
    return view.robust_accuracy(model, eps)


def _corrupted(view: View, model: str, eps: float) -> Summary | None:
    found = CorruptionView(view.records)
    return summarise([*found.corrupted(model).values()]) if model in found.models else None


def _control(name: str) -> Callable[[View, str, float], Summary | None]:
    """The mean Dice under a kind of noise."""

    def figure(view: View, model: str, eps: float) -> Summary | None:
        rows = [r for r in view.records if (r.model, r.attack, r.eps) == (model, name, eps)]
        return summarise([record.dice(view.deployed, view.policy) for record in rows])

    return figure


FIGURES: Registry[Callable[[View, str, float], Summary | None]] = Registry(
    "figure of a requirement",
    {
        "clean_dice": _clean,
        "robust_dice": _robust,
        "robust_accuracy": _accuracy,
        "noise_dice": _control(NOISE),
        "gaussian_dice": _control(EQUAL_NOISE[0]),
        "corrupted_dice": _corrupted,
    },
)
"""What a requirement may ask for; with `_low` behind the name the lower end of the 95 % interval."""
_NEEDS_EPS = ("robust_dice", "robust_accuracy", "noise_dice", "gaussian_dice")


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        text: What the protocol says.
        figure: A name of FIGURES.
        low: Whether the lower end of the 95 % interval must hold it, and not the mean.
        eps: The size of the perturbation, in the unit of the threat; 0 for the clean cases.
        sign: `>=`, `<=`, `>` or `<`.
        limit: The number it is compared with.
    """

    text: str
    figure: str
    low: bool
    eps: float
    sign: str
    limit: float

    def asks(self, eps: float) -> bool:
        """Return whether it is about perturbations of this size."""
        return abs(eps - self.eps) < SAME_EPS

    def check(self, sizes: Sequence[float], unit: str = "range") -> None:
        """Refuse a requirement that could not be judged.

        Args:
            sizes: The sizes of the perturbation at which attacks are run.
            unit: The unit of the sizes, `range` or `native`.

        Raises:
            UserError: Its eps is none of them, or its limit is no share from 0 to 1.
        """
        if not 0 <= self.limit <= 1:
            raise UserError(f"the number of a requirement must be in [0, 1], got {self.limit} in {self.text!r}")
        if self.eps and not any(map(self.asks, sizes)):
            listed = ", ".join(eps_text(size, unit) for size in sizes)
            raise UserError(f"eps of a requirement must be one of threat.eps ({listed}), got {self.text!r}")


@dataclass(frozen=True)
class Verdict:
    """Whether a system meets a requirement.

    Attributes:
        system: The system's name.
        requirement: What the protocol says.
        value: The figure that was measured; None where there are no records of it, or of too few cases for an
            interval.
        met: Whether it holds; a figure that was not measured does not, nor one that is not over all cases.
        failed: The number of cases that failed, which the figure is not over.
        unfinished: Whether it would be met, but results are missing that the figure is to be over.
    """

    system: str
    requirement: str
    value: float | None
    met: bool
    failed: int = 0
    unfinished: bool = False


def parse_requirement(text: str) -> Requirement:
    """Read a requirement such as `robust_dice@8/255 >= 0.8` or `clean_dice_low >= 0.85`.

    Raises:
        UserError: It has another form, or asks for an unknown figure.
    """
    found = _FORM.match(text)
    if found is None:
        raise UserError(f"a requirement is FIGURE@EPS >= NUMBER, such as robust_dice@8/255 >= 0.8, got {text!r}")
    name, eps, sign, limit = found.groups()
    low = name.endswith("_low")
    figure = name.removesuffix("_low")
    FIGURES[figure]  # an unknown one is refused
    if (eps is None) == (figure in _NEEDS_EPS):
        raise UserError(f"{figure} {'needs an' if eps is None else 'has no'} eps in {text!r}")
    size = 0.0 if eps is None else _number(eps, text)
    if eps is not None and size <= 0:
        raise UserError(f"eps must be above 0 in {text!r}: without an attack it is clean_dice")
    return Requirement(text, figure, low, size, sign, _number(limit, text))


def judge_requirements(
    requirements: Sequence[str], records: Sequence[Record], systems: Sequence[str], deployed: bool, failed: int = 0
) -> tuple[Verdict, ...]:
    """Compare what was measured with what a protocol requires of every system.

    Args:
        requirements: The requirements, as in a protocol.
        records: All records.
        systems: The names of the systems.
        deployed: Whether the Dice is that of written files.
        failed: The number of cases that failed. Where there are any, no requirement is met: they might be the worst.
    """
    view = View(tuple(records), deployed=deployed)
    found = [_judged(parse_requirement(text), view, system) for system in systems for text in requirements]
    return tuple(replace(verdict, failed=failed, met=verdict.met and not failed) for verdict in found)


def _judged(requirement: Requirement, view: View, system: str) -> Verdict:
    sizes = {record.eps for record in view.records}
    eps = min(sizes, key=lambda size: abs(size - requirement.eps), default=0.0)
    near = requirement.eps == 0 or requirement.asks(eps)
    found = FIGURES[requirement.figure](view, system, eps) if near else None
    # One case has no interval, however high its figure is.
    if found is None or (requirement.low and found.n == 1):
        return Verdict(system, requirement.text, None, False)
    value = found.low if requirement.low else found.mean
    holds = _SIGNS[requirement.sign](value, requirement.limit)
    short = found.n < len({record.case for record in view.records if record.model == system})
    return Verdict(system, requirement.text, value, holds and not short, unfinished=holds and short)


def _number(text: str, whole: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"{text!r} in {whole!r} must be a number or a fraction such as 8/255") from error
