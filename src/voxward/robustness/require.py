"""Requirements on a system's robustness, so that a program can let a model pass or stop it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Literal

from voxward.certificates.plan import CertificatePlan
from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.core.wording import eps_text
from voxward.metrics.summary import Summary, summarise
from voxward.robustness.case_certificate import CaseCertificate
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.eps import SAME_EPS
from voxward.robustness.record import EQUAL_NOISE, NOISE
from voxward.robustness.summary import View

_FORM = re.compile(r"^\s*(\w+)\s*(?:@\s*([\d./eE+-]+))?\s*(>=|<=|>|<)\s*([\d./eE+-]+)\s*$")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What requirements are judged on.

    Attributes:
        view: The records, and how their Dice is read.
        certificates: The certificates, of one kind of noise.
    """

    view: View
    certificates: Sequence[CaseCertificate] = ()

    def cases(self, system: str) -> int:
        """Return the number of cases that anything was measured of."""
        records = {record.case for record in self.view.records if record.model == system}
        return len(records | {one.case for one in self.certificates if one.model == system})


_Measure = Callable[[Measured, str, float], Summary | None]


def _clean(found: Measured, model: str, size: float) -> Summary | None:
    return summarise(list(found.view.clean_dice(model).values()))


def _robust(found: Measured, model: str, size: float) -> Summary | None:
    return found.view.robust_dice(model, size)


def _accuracy(found: Measured, model: str, size: float) -> Summary | None:
    return found.view.robust_accuracy(model, size)


def _corrupted(found: Measured, model: str, size: float) -> Summary | None:
    corrupted = CorruptionView(found.view.records)
    return summarise([*corrupted.corrupted(model).values()]) if model in corrupted.models else None


def _control(name: str) -> _Measure:
    """The mean Dice under a kind of noise."""

    def figure(found: Measured, model: str, size: float) -> Summary | None:
        view = found.view
        rows = [r for r in view.records if (r.model, r.attack) == (model, name) and abs(r.eps - size) < SAME_EPS]
        return summarise([record.dice(view.deployed, view.policy) for record in rows])

    return figure


def _median(found: Measured, model: str, size: float) -> Summary | None:
    return _certified(found, model, lambda one: [(each.radius, each.mean) for each in one.medians], size)


def _mask(found: Measured, model: str, size: float) -> Summary | None:
    return _certified(found, model, lambda one: [(each.tau, each.mean) for each in one.masks], size)


def _certified(
    found: Measured, model: str, pairs: Callable[[CaseCertificate], list[tuple[float, float | None]]], size: float
) -> Summary | None:
    """The summary over cases of what is certified at a size.

    None where of a case there are too few runs, or where they were made on several kinds of machines: these round
    differently, so that there is not one system that the certificate is of.
    """
    every = [one for one in found.certificates if one.model == model]
    values = [next((mean for at, mean in pairs(one) if abs(at - size) < SAME_EPS), None) for one in every]
    known = [value for value in values if value is not None]
    mixed = any(len(one.machines) > 1 for one in every)
    return summarise(known) if len(known) == len(every) and not mixed else None


@dataclass(frozen=True)
class Figure:
    """A figure that a requirement may ask for.

    Attributes:
        measure: Returns its summary over the cases of a system at a size, or None where it was not measured.
        at: What the size behind its name is: the `eps` of an attack, the `radius` of a certificate in sigma, or its
            threshold `tau`; empty where it has none.
    """

    measure: _Measure
    at: Literal["", "eps", "radius", "tau"] = ""


FIGURES: Registry[Figure] = Registry(
    "figure of a requirement",
    {
        "clean_dice": Figure(_clean),
        "robust_dice": Figure(_robust, "eps"),
        "robust_accuracy": Figure(_accuracy, "eps"),
        "noise_dice": Figure(_control(NOISE), "eps"),
        "gaussian_dice": Figure(_control(EQUAL_NOISE[0]), "eps"),
        "corrupted_dice": Figure(_corrupted),
        "certified_dice": Figure(_median, "radius"),
        "certified_mask": Figure(_mask, "tau"),
    },
)
"""What a requirement may ask for; with `_low` behind the name the lower end of the 95 % interval."""
_NEEDS = {"": "has no eps", "eps": "needs an eps", "radius": "needs a radius in sigma", "tau": "needs a tau"}


@dataclass(frozen=True)
class Asked:
    """At which sizes a protocol measures anything.

    Attributes:
        eps: The sizes of the perturbations of attacks.
        unit: Their unit, `range` or `native`.
        certificate: How certificates are made; None where there are none.
    """

    eps: Sequence[float]
    unit: str = "range"
    certificate: CertificatePlan | None = None

    def sizes(self, at: str) -> Sequence[float]:
        """Return the sizes of one kind of `Figure.at`."""
        if at == "eps" or self.certificate is None:
            return self.eps if at == "eps" else ()
        return self.certificate.radii if at == "radius" else self.certificate.tau

    def text(self, at: str) -> str:
        """Return the sizes of one kind as a list in words."""
        return ", ".join(eps_text(size, self.unit) if at == "eps" else f"{size:g}" for size in self.sizes(at))


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        text: What the protocol says.
        figure: A name of FIGURES.
        low: Whether the lower end of the 95 % interval must hold it, and not the mean.
        size: What stands behind the @, as the figure's `at` says; 0 where nothing does.
        sign: `>=`, `<=`, `>` or `<`.
        limit: The number it is compared with.
    """

    text: str
    figure: str
    low: bool
    size: float
    sign: str
    limit: float

    @property
    def at(self) -> str:
        """Return what its size is; see `Figure.at`."""
        return FIGURES[self.figure].at

    def asks(self, size: float) -> bool:
        """Return whether it is about this size."""
        return abs(size - self.size) < SAME_EPS

    def check(self, asked: Asked) -> None:
        """Refuse a requirement that could not be judged.

        Args:
            asked: At which sizes the protocol measures anything.

        Raises:
            UserError: Its size is none of them, its limit is no share from 0 to 1, or it is of a certificate that the
                protocol does not make, or makes of several kinds of noise.
        """
        if not 0 <= self.limit <= 1:
            raise UserError(f"the number of a requirement must be in [0, 1], got {self.limit} in {self.text!r}")
        if self.at in ("radius", "tau"):
            self._check_certificate(asked.certificate)
        if self.at and not any(map(self.asks, asked.sizes(self.at))):
            entry = {"eps": "threat.eps", "radius": "certificate.radii", "tau": "certificate.tau"}[self.at]
            raise UserError(
                f"{self.at} of a requirement must be one of {entry} ({asked.text(self.at)}), got {self.text!r}"
            )

    def _check_certificate(self, plan: CertificatePlan | None) -> None:
        if plan is None:
            raise UserError(f"{self.figure} needs the entry `certificate` in the protocol, for {self.text!r}")
        if len(plan.sigma) + len(plan.changes) != 1:
            raise UserError(
                f"{self.figure} needs a certificate of one kind of noise, so that it is clear which one {self.text!r} "
                f"is about, got sigma {[*plan.sigma]} and changes {dict(plan.changes)}"
            )
        if self.at == "tau" and not plan.sigma:
            raise UserError(f"{self.figure} needs noise in voxels (certificate.sigma), for {self.text!r}")


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
        raise UserError(f"a requirement is FIGURE@SIZE >= NUMBER, such as robust_dice@8/255 >= 0.8, got {text!r}")
    name, eps, sign, limit = found.groups()
    low = name.endswith("_low")
    figure = name.removesuffix("_low")
    FIGURES[figure]  # an unknown one is refused
    at = FIGURES[figure].at
    if (eps is None) == bool(at):
        raise UserError(f"{figure} {_NEEDS[at]} in {text!r}")
    size = 0.0 if eps is None else _number(eps, text)
    if at == "eps" and size <= 0:
        raise UserError(f"eps must be above 0 in {text!r}: without an attack it is clean_dice")
    return Requirement(text, figure, low, size, sign, _number(limit, text))


def judge_requirements(
    requirements: Sequence[str], found: Measured, systems: Sequence[str], failed: int = 0
) -> tuple[Verdict, ...]:
    """Compare what was measured with what a protocol requires of every system.

    Args:
        requirements: The requirements, as in a protocol.
        found: All records and certificates.
        systems: The names of the systems.
        failed: The number of cases that failed. Where there are any, no requirement is met: they might be the worst.
    """
    verdicts = [_judged(parse_requirement(text), found, system) for system in systems for text in requirements]
    return tuple(replace(verdict, failed=failed, met=verdict.met and not failed) for verdict in verdicts)


def judge_what_is_there(
    requirements: Sequence[str], found: Measured, systems: Sequence[str], failed: int = 0
) -> tuple[Verdict, ...]:
    """Judge requirements as `judge_requirements` does; what the records cannot tell is not measured.

    Args:
        requirements: The requirements, as in a protocol.
        found: Records and certificates that may be incomplete, as without a clean control.
        systems: The names of the systems.
        failed: The number of cases that failed.
    """
    verdicts = list[Verdict]()
    for system, text in product(systems, requirements):
        try:
            verdicts += judge_requirements([text], found, [system], failed)
        except UserError:
            verdicts.append(Verdict(system, text, None, met=False, failed=failed))
    return tuple(verdicts)


def _judged(requirement: Requirement, measured: Measured, system: str) -> Verdict:
    found = FIGURES[requirement.figure].measure(measured, system, _recorded(requirement, measured))
    # One case has no interval, however high its figure is.
    if found is None or (requirement.low and found.n == 1):
        return Verdict(system, requirement.text, None, False)
    value = found.low if requirement.low else found.mean
    holds = _SIGNS[requirement.sign](value, requirement.limit)
    short = found.n < measured.cases(system)
    return Verdict(system, requirement.text, value, holds and not short, unfinished=holds and short)


def _recorded(requirement: Requirement, found: Measured) -> float:
    """The size of a requirement as the records hold it, which may differ from it by rounding."""
    sizes = {record.eps for record in found.view.records} if requirement.at == "eps" else set()
    return next((size for size in sizes if requirement.asks(size)), requirement.size)


def _number(text: str, whole: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"{text!r} in {whole!r} must be a number or a fraction such as 8/255") from error
