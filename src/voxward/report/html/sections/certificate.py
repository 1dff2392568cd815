"""The section on certificates: what no change up to a size can do to a system that is run under noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxward.report.certificate import Certified, broken, certificate_table, certified
from voxward.report.html.page import Setting
from voxward.report.html.strings import count, say
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Table
from voxward.report.text import number_text


@dataclass(frozen=True)
class Certificate:
    """What the section shows of one attack folder.

    Attributes:
        name: The name of the folder.
        warnings: What makes the certificates unbelievable.
        sentences: What is certain, a paragraph each.
        table: The figures; None where there are none yet.
    """

    name: str
    warnings: tuple[str, ...]
    sentences: tuple[str, ...]
    table: Table | None


def certificate(sources: Sources, setting: Setting) -> tuple[Certificate, ...] | None:
    """Return the certificates of each attack folder that was asked for some; None where none was."""
    return tuple(_of(source) for source in sources.attacks if _asked(source)) or None


def _asked(source: AttackSource) -> bool:
    return bool(source.certificates) or (source.protocol is not None and source.protocol.certificate is not None)


def _of(source: AttackSource) -> Certificate:
    if not source.certificates:
        return Certificate(source.name, (), (say("certificate", "missing", folder=source.name),), None)
    groups = certified(source.certificates)
    sentences = [sentence for group in groups for sentence in _said(group)]
    return Certificate(
        source.name, tuple(broken(source.certificates)), (*sentences, say("certificate", "randomised")),
        certificate_table(source.certificates),
    )  # fmt: skip


def _said(group: Certified) -> Iterator[str]:
    """The largest radius at which something is certain, and the mask."""
    sure = f"{1 - group.cases[0].alpha:.10g}"
    known = [radius for radius in group.radii if group.certified(radius) is not None]
    clean = group.mean(lambda one: one.clean)
    if not known or clean is None:
        yield say("certificate", "nothing", n=group.cases[0].runs, system=group.model)
        return
    nearest = min(known, key=lambda radius: (not radius, abs(radius - 1)))  # one sigma where there is one
    found = group.certified(nearest)
    assert found is not None
    lead = say(
        "certificate", "lead", sure=sure, radius=f"{nearest:g}", system=group.model, dice=number_text(found.mean),
        scans=count("certificate", "scans", found.n), clean=number_text(clean.mean),
    )  # fmt: skip
    means = say("certificate", "means", noise=group.title, radius=f"{nearest:g}", reading=group.reading(nearest))
    yield f"{lead} {means}."
    for mask in group.cases[0].masks[:1]:
        bound = group.masked(mask.tau)
        if bound is not None:
            yield say(
                "certificate", "mask_lead", radius=f"{mask.radius:.2f}", system=group.model,
                dice=number_text(bound.mean), sure=sure,
            )  # fmt: skip
