"""Certificates as tables: what no change up to a size can do to a system that is run under noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from voxward.certificates.binomial import smallest_samples
from voxward.certificates.changes import CHANGES
from voxward.metrics.summary import Summary, summarise
from voxward.report.html.strings import count, say
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, interval_text, mean_text
from voxward.robustness.case_certificate import CaseCertificate
from voxward.robustness.noisy_runs import VOXELS

_FIELDS = (
    "model", "noise", "sigma", "case", "runs", "alpha", "voxels", "figure", "tau", "radius_sigma", "class", "dice",
)  # fmt: skip
_EIGHT = 8 / 255


@dataclass(frozen=True)
class Certified:
    """The certificates of one system under one noise, over its cases.

    Attributes:
        model: The system.
        noise: `voxels`, or the change whose parameters are random.
        sigma: The standard deviation.
        cases: A certificate per case.
    """

    model: str
    noise: str
    sigma: float
    cases: tuple[CaseCertificate, ...]

    @property
    def title(self) -> str:
        """The noise in words, such as `voxels, sigma 0.25`."""
        return say("certificate", "noise", noise=say("certificate", f"noise_{self.noise}"), sigma=f"{self.sigma:g}")

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii of the certified medians, in units of sigma."""
        return tuple(one.radius for one in self.cases[0].medians)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds of the certified masks."""
        return tuple(one.tau for one in self.cases[0].masks)

    def mean(self, figure: Callable[[CaseCertificate], float | None]) -> Summary | None:
        """Return the mean of a figure over the cases; None where one of them has none."""
        values = [figure(one) for one in self.cases]
        known = [value for value in values if value is not None]
        return summarise(known) if len(known) == len(values) else None

    def certified(self, radius: float) -> Summary | None:
        """Return the mean certified median within a radius; None where there are too few runs."""
        return self.mean(lambda one: next((m.mean for m in one.medians if m.radius == radius), None))

    def masked(self, tau: float) -> Summary | None:
        """Return the mean lower bound of the Dice of the certified mask; None where there are too few runs for it."""
        return self.mean(lambda one: next((m.mean for m in one.masks if m.tau == tau and m.enough is not None), None))

    def reading(self, radius: float) -> str:
        """Return what a radius in units of sigma means.

        In voxels: over how many of them the radius allows changes of 8/255 of the window, and what it allows each of
        all voxels of a case, the mean over the cases. In parameters: which changes these are.
        """
        if self.noise != VOXELS:
            return CHANGES[self.noise].reading(radius * self.sigma, self.cases[0].channels)
        size = radius * self.sigma
        voxels = sum(one.voxels for one in self.cases) / len(self.cases)
        return say(
            "certificate", "reading", count=f"{(size / _EIGHT) ** 2:.3g}", voxels=f"{voxels:,.0f}",
            each=f"{255 * size / math.sqrt(max(voxels, 1)):.2g}", size=f"{size:.3g}",
        )  # fmt: skip


def certified(certificates: Sequence[CaseCertificate]) -> tuple[Certified, ...]:
    """Return certificates by system and noise, in the order in which they are there."""
    groups: dict[tuple[str, str, float], list[CaseCertificate]] = {}
    for one in certificates:
        groups.setdefault((one.model, one.noise, one.sigma), []).append(one)
    return tuple(Certified(*key, tuple(found)) for key, found in groups.items())


def certificate_table(certificates: Sequence[CaseCertificate]) -> Table:
    """The certificates of all systems: a row per system and noise, with means over the cases.

    Args:
        certificates: The certificates of all cases, of one protocol.

    Returns:
        The table; its data has a row per case, figure and class.
    """
    groups = certified(certificates)
    radii = dict.fromkeys(radius for group in groups for radius in group.radii)
    thresholds = dict.fromkeys(mask for group in groups for mask in ((m.tau, m.radius) for m in group.cases[0].masks))
    columns = (
        *(Column(say("certificate", name), "left") for name in ("system", "noise_column")),
        *(Column(say("certificate", name)) for name in ("runs", "clean", "median")),
        *(_column("at", radius=f"{radius:g}") for radius in radii),
        *(_column("mask_at", tau=f"{tau:g}", radius=f"{r:.2f}") for tau, r in thresholds),
    )
    rows = tuple(_row(group, list(radii), [tau for tau, _ in thresholds]) for group in groups)
    data = tuple(row for one in certificates for row in _data(one))
    title = say("certificate", "title")
    return Table(
        columns, rows, title, notes=tuple(_notes(groups)), warnings=tuple(broken(certificates)), fields=_FIELDS,
        data=data,
    )  # fmt: skip


def broken(certificates: Sequence[CaseCertificate]) -> Iterator[str]:
    """Yield a sentence per attack that got below a certificate, which must not be, and on runs that do not belong."""
    mixed = {one.machines: one for one in certificates if len(one.machines) > 1}
    for machines, one in mixed.items():
        yield say("certificate", "mixed", system=one.model, case=one.case, machines="; ".join(machines))
    for one in certificates:
        for attack in one.attacks:
            if not attack.holds:
                yield say(
                    "certificate", "broken", system=one.model, case=one.case, radius=f"{attack.radius:g}",
                    found=f"{attack.median:.3f}", bound="" if attack.certified is None else f"{attack.certified:.3f}",
                )  # fmt: skip


def _column(name: str, **values: str) -> Column:
    return Column(say("certificate", name, **values), short=say("certificate", f"{name}_short", **values))


def _row(group: Certified, radii: Sequence[float], thresholds: Sequence[float]) -> Row:
    medians = [group.certified(radius) for radius in radii]
    masks = [group.masked(tau) for tau in thresholds]
    few = say("certificate", "too_few")
    asked = [few if tau in group.thresholds else UNDEFINED for tau in thresholds]
    lead = (
        group.model, group.title, str(group.cases[0].runs), mean_text(group.mean(lambda one: one.clean)),
        mean_text(group.mean(lambda one: one.median)),
    )  # fmt: skip
    wide = [few if one is None else interval_text(one) for one in medians]
    wide += [text if one is None else interval_text(one) for one, text in zip(masks, asked, strict=True)]
    return Row((*lead, *wide), narrow=(*lead, *map(mean_text, medians), *map(mean_text, masks)))


def _notes(groups: Sequence[Certified]) -> Iterator[str]:
    """How the figures are read, with what the specification wants said beside them."""
    first = groups[0].cases[0]
    yield say("certificate", "median_note", alpha=f"{first.alpha:g}", sure=f"{1 - first.alpha:.10g}")
    yield say("certificate", "mask_note", sure=f"{1 - first.alpha:.10g}")
    yield from dict.fromkeys(
        say("certificate", "means", noise=group.title, radius="1", reading=group.reading(1.0)) for group in groups
    )
    if any(group.noise == VOXELS for group in groups):
        yield say("certificate", "not_linf")
    if any(group.noise != VOXELS for group in groups):
        yield say("certificate", "alone")
    yield from dict.fromkeys(
        say("certificate", "needs", tau=f"{tau:g}", n=f"{runs:,}") for group in groups for tau, runs in _needed(group)
    )
    yield say("certificate", "tolerates")
    attacks = [attack for group in groups for one in group.cases for attack in one.attacks]
    if attacks and all(attack.holds for attack in attacks):
        spans = [attack.median - attack.certified for attack in attacks if attack.certified is not None]
        if spans:
            yield count("certificate", "holds", len(attacks), least=f"{min(spans):.3f}")
    if not attacks:
        yield say("certificate", "not_attacked")


def _needed(group: Certified) -> Iterator[tuple[float, int]]:
    """For each threshold at which the runs of a case are too few: how many would be enough for all cases."""
    for tau in group.thresholds:
        masks = [(one, mask) for one in group.cases for mask in one.masks if mask.tau == tau]
        if any(mask.enough is None for _, mask in masks):
            yield tau, max(smallest_samples(mask.tests(len(one.parts)), tau, one.alpha) for one, mask in masks)


def _data(one: CaseCertificate) -> Iterator[tuple[Value, ...]]:
    lead = one.model, one.noise, one.sigma, one.case, one.runs, one.alpha, one.voxels
    yield (*lead, "clean", None, None, "mean", one.clean)
    yield (*lead, "median", None, None, "mean", one.median)
    for median in one.medians:
        yield (*lead, "certified median", None, median.radius, "mean", median.mean)
        named = zip(one.parts, median.dice, strict=False)
        yield from ((*lead, "certified median", None, median.radius, name, dice) for name, dice in named)
    for mask in one.masks:
        yield (*lead, "certified mask", mask.tau, mask.radius, "mean", mask.mean)
        parts = zip(one.parts, mask.dice, strict=True)
        yield from ((*lead, "certified mask", mask.tau, mask.radius, name, dice) for name, dice in parts)
        for name in ("decided", "coarser", "open"):
            yield (*lead, f"voxels {name}", mask.tau, mask.radius, None, getattr(mask, name))
    for attack in one.attacks:
        yield (*lead, "median under attack", None, attack.radius, "mean", attack.median)
