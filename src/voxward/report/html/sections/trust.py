"""The section that says whether the figures can be trusted: checks, threat model, cost, and what was not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxward.core.structure import to_data
from voxward.core.yaml import dump_yaml
from voxward.report.benchmark import computers, mixed
from voxward.report.html.light import Light, light
from voxward.report.html.origin import origin_facts
from voxward.report.html.page import Setting
from voxward.report.html.strings import STRINGS, count, listed, say
from voxward.report.html.threat import threat_lines
from voxward.report.html.unmeasured import Gap, gaps
from voxward.report.measured import Measured, measured
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Column, Row, Table
from voxward.report.text import UNDEFINED, number_text
from voxward.robustness.finding import Finding
from voxward.robustness.record import CONTROLS, EQUAL_NOISE, Record

_CONTROLS = (*CONTROLS, *EQUAL_NOISE)


@dataclass(frozen=True)
class Check:
    """A check of the figures: whether it passed, why it exists, and what it found."""

    light: Light
    title: str
    why: str
    found: str


@dataclass(frozen=True)
class Fact:
    """Something that is needed to repeat the measurement."""

    label: str
    value: str


@dataclass(frozen=True)
class FolderTrust:
    """What a reader must know to trust, or to repeat, the figures of one attack folder.

    Attributes:
        name: The folder.
        checks: The checks, those that failed first.
        controls: The Dice of each control; None where there are none.
        threat: The threat model, one sentence each.
        attacks: The attacks, what they may spend and what they cost.
        cost: What all of it cost, in a sentence.
        facts: Versions, hardware, seeds, fingerprints.
        mixed: A sentence where the results are of different kinds of machines; empty otherwise.
        command: The command that wrote the folder; empty where it is not known.
        partial: Which parts of the protocol are not known; empty where all are.
        protocol: The protocol as YAML; empty where it is not known.
        fingerprints: The fingerprint of each case.
        gaps: What was not measured.
    """

    name: str
    checks: tuple[Check, ...]
    controls: Table | None
    threat: tuple[str, ...]
    attacks: Table | None
    cost: str
    facts: tuple[Fact, ...]
    mixed: str
    command: str
    partial: str
    protocol: str
    fingerprints: tuple[Fact, ...]
    gaps: tuple[Gap, ...]


def trust(sources: Sources, setting: Setting) -> tuple[FolderTrust, ...] | None:
    """Return what is to be known of each attack folder; None where there is none with records."""
    return tuple(_folder(one) for one in sources.attacks if one.records) or None


def _folder(source: AttackSource) -> FolderTrust:
    order = {False: 0, None: 1, True: 2}
    findings = sorted(source.findings, key=lambda one: order[one.passed])
    return FolderTrust(
        name=source.name,
        checks=tuple(_check(source, one) for one in findings),
        controls=_controls(source),
        threat=threat_lines(source),
        attacks=_attacks(source),
        cost=_cost(source.records),
        facts=(*_facts(source), *(Fact(*fact) for fact in origin_facts(source.work))),
        mixed="".join(mixed(source.records)),
        command=source.command,
        # A folder of before has only a part of its protocol, without a name.
        partial="" if source.protocol is None or source.protocol.name else say("trust", "protocol_partial"),
        protocol=dump_yaml({"format": 1, **to_data(source.protocol)}) if source.protocol is not None else "",
        fingerprints=tuple(Fact(case, digest) for case, digest in source.digests.items()),
        gaps=gaps(source),
    )


def _check(source: AttackSource, one: Finding) -> Check:
    texts = STRINGS["checks"]
    found = one.text
    for model in source.models if len(source.models) == 1 else ():
        found = found.removeprefix(f"{model}: ")
    found = found.replace("not testable: ", "")
    return Check(
        light(one.passed, "trust"), texts.get(f"{one.name}_title", one.name), texts.get(f"{one.name}_why", ""),
        say("trust", "untold" if one.passed is None and "not testable" in one.text else "found", text=found),
    )  # fmt: skip


def _controls(source: AttackSource) -> Table | None:
    systems = [one for one in measured(source) if isinstance(one, Measured)]
    sizes = {size.eps: size.text for one in systems for size in one.sizes}
    rows = [row for one in systems for row in _control_rows(one, sorted(sizes), len(systems) > 1)]
    head = [say("trust", "control"), say("trust", "control_is")]
    columns = (*(Column(text, "left") for text in head), *(Column(sizes[eps]) for eps in sorted(sizes)))
    what = say("trust", "of_file" if all(one.view.deployed for one in systems) else "of_array")
    return Table(columns, tuple(rows), caption=say("trust", "controls_of", what=what)) if rows and sizes else None


def _control_rows(one: Measured, sizes: Sequence[float], several: bool) -> list[Row]:
    rows = []
    for name in _CONTROLS:
        mine = [r for r in one.view.records if r.kind == "control" and r.attack == name]
        if mine:
            cells = [_mean([r for r in mine if r.eps in (0.0, eps)], one) for eps in sizes]
            title = f"{one.model}: {name}" if several else name
            norm = mine[0].threat.norm
            key = f"control_{name}_{norm}" if f"control_{name}_{norm}" in STRINGS["trust"] else f"control_{name}"
            rows.append(Row((title, say("trust", key), *cells)))
    return rows


def _mean(records: Sequence[Record], one: Measured) -> str:
    """The mean Dice, and over how many scans it is where it is not over all."""
    if not records:
        return UNDEFINED
    dice = [record.dice(one.view.deployed, one.view.policy) for record in records]
    n = len({record.case for record in records})
    over = f" ({count('verdict', 'scans', n)})" if n < len(one.cases) else ""
    return f"{number_text(math.fsum(dice) / len(dice))}{over}"


def _attacks(source: AttackSource) -> Table | None:
    rows = [record for record in source.records if record.kind == "attack"]
    names = sorted({record.attack for record in rows})
    heads = ("name", "knows", "options", "gradients", "forwards", "time")
    headings = [say("trust", f"attack_{name}") for name in heads]
    columns = (*(Column(text, "left") for text in headings[:3]), *map(Column, headings[3:]))
    table = tuple(Row(_attack([record for record in rows if record.attack == name])) for name in names)
    return Table(columns, table) if table else None


def _attack(rows: Sequence[Record]) -> tuple[str, ...]:
    knows = "yes" if all(record.white_box for record in rows) else "no"
    cases = {record.case_key for record in rows}
    spent = (sum(r.gradients for r in rows), sum(r.forwards for r in rows), math.fsum(r.seconds for r in rows))
    each = [number / len(cases) for number in spent]
    return (
        rows[0].attack, say("trust", knows), _options(rows), f"{each[0]:.0f}", f"{each[1]:.0f}", f"{each[2]:.1f}",
    )  # fmt: skip


def _options(rows: Sequence[Record]) -> str:
    """The options that are the same for all cases, as "steps 20, restarts 1"."""
    first = rows[0].options
    same = {key: value for key, value in first.items() if all(row.options.get(key) == value for row in rows)}
    return ", ".join(f"{key} {_shown(value)}" for key, value in same.items() if value not in (None, (), [], "", {}))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)


def _cost(records: Sequence[Record]) -> str:
    seconds = math.fsum(record.seconds for record in records)
    return say(
        "trust", "cost_text", gradients=f"{sum(r.gradients for r in records):,}",
        forwards=f"{sum(r.forwards for r in records):,}", time=_time(seconds),
    )  # fmt: skip


def _time(seconds: float) -> str:
    if seconds < 120:
        return say("trust", "seconds", n=f"{seconds:.1f}")
    return say("trust", "hours", n=f"{seconds / 3600:.2f}")


def _facts(source: AttackSource) -> list[Fact]:
    records = source.records
    ends = [end for r in records if r.kind == "attack" for pair in r.threat.bounds or () for end in pair]
    found = {
        "versions": {f"voxward {record.version}, PyTorch {record.torch}" for record in records},
        "devices": {*computers(records)},
        "precisions": {record.precision for record in records},
        "seeds": {str(record.seed) for record in records if record.kind == "attack"},
    }
    facts = [Fact(say("trust", name), listed(sorted(values))) for name, values in found.items() if values]
    if ends:
        text = say("trust", "ranges_text", low=f"{min(ends):.4g}", high=f"{max(ends):.4g}")
        facts.append(Fact(say("trust", "ranges"), text))
    for model in source.models:
        prints = sorted({record.system for record in records if record.model == model and record.system})
        facts.append(Fact(say("trust", "system", system=model), _system(source, model, prints)))
    return facts


def _system(source: AttackSource, model: str, prints: Sequence[str]) -> str:
    known = {"kind": "", "precision": "", **source.systems.get(model, {})}
    fingerprint = say("trust", "fingerprint", value=listed(prints)) if prints else say("trust", "no_fingerprint")
    changed = count("trust", "changed", len(prints)) if len(prints) > 1 else ""
    kind = f" ({known['kind']})" if known["kind"] else ""
    return f"{fingerprint}{kind}." + (f" {changed}" if changed else "")
