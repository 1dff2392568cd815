"""The section that says in plain words what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from voxward.report.html.about import about_lines
from voxward.report.html.compared import compared_lines
from voxward.report.html.headline import Headline, Judged, headlines
from voxward.report.html.invented import (
    phantom_name,
    phantom_notes,
    phantom_sentences,
    phantom_sizes,
    phantom_tiles,
)
from voxward.report.html.light import light
from voxward.report.html.noise import noise_text
from voxward.report.html.page import Setting
from voxward.report.html.scope import (
    change_text,
    chooser_text,
    classes_text,
    left_out_lines,
    measured_lines,
    named_few,
    scans_text,
    share_text,
)
from voxward.report.html.strings import STRINGS, count, listed, say
from voxward.report.html.unmeasured import FEW, Gap, falls_text, gaps, still_falling, tested_convergence
from voxward.report.measured import NOISES, AtSize, Change, Measured, Unmeasurable, measured
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Column, Row, Table
from voxward.report.text import UNDEFINED, interval_text, number_text
from voxward.robustness.converged import unconverged
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.record import NOISE
from voxward.robustness.require import Requirement, Verdict, parse_requirement
from voxward.robustness.sanity import STANDARD, Thresholds

_NAMED = 5


@dataclass(frozen=True)
class Tile:
    """A figure that is seen first, and what it is of."""

    value: str
    label: str


@dataclass(frozen=True)
class Fault:
    """A check that failed: what was found, and what that means for the reader."""

    found: str
    means: str


@dataclass(frozen=True)
class SystemVerdict:
    """What was found on one system.

    Attributes:
        name: The system.
        alarm: That checks failed; empty where none did.
        faults: The checks that failed.
        tiles: The figures that are seen first.
        sentences: What was found, in words.
        cautions: Why the figures in these words are not certain.
        table: The same for each size of the change; None where no attack has finished.
        failing: What stands before the scans that break; empty where none does.
        scans: These scans, the worst first.
        notes: What a reader must know besides.
    """

    name: str
    alarm: str
    faults: tuple[Fault, ...]
    tiles: tuple[Tile, ...] = ()
    sentences: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    table: Table | None = None
    failing: str = ""
    scans: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderVerdict:
    """What was found in one attack folder.

    Attributes:
        name: The folder.
        headlines: What a reader must see first: requirements and checks, each in a line.
        compared: What sets its systems apart, one sentence each; empty where there is one.
        left_out: Which scans no figure is over; empty where there are none.
        systems: What was found on each system.
        judged: What the protocol requires.
        unjudged: Why nothing was judged; empty where something was.
        measured: What was measured, one sentence each.
        gaps: What was not measured.
    """

    name: str
    headlines: tuple[Headline, ...] = ()
    compared: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    systems: tuple[SystemVerdict, ...] = ()
    judged: tuple[Judged, ...] = ()
    unjudged: str = ""
    measured: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()


def verdict(sources: Sources, setting: Setting) -> tuple[FolderVerdict, ...]:
    """Return what was found in each attack folder; without one, the page says that no attack was measured."""
    lines = compared_lines(sources)
    return tuple(_folder(one, sources, said) for one, said in zip(sources.attacks, lines, strict=True))


def _folder(source: AttackSource, sources: Sources, compared: tuple[str, ...]) -> FolderVerdict:
    required = () if source.protocol is None else source.protocol.require
    # A folder without records has nothing that could be judged.
    verdicts = source.verdicts or tuple(Verdict("", text, None, met=False) for text in required)
    judged = tuple(_judged(source, one) for one in verdicts)
    key = "require_unknown" if source.protocol is None else "require_none"
    return FolderVerdict(
        name=source.name,
        headlines=headlines(source, judged),
        compared=compared,
        left_out=left_out_lines(source),
        systems=tuple(_system(source, one) for one in measured(source)),
        judged=judged,
        unjudged="" if judged else say("verdict", key),
        measured=(*about_lines(source, sources), *measured_lines(source)),
        gaps=gaps(source),
    )


def _system(source: AttackSource, one: Measured | Unmeasurable) -> SystemVerdict:
    faults = _faults(source, one.model)
    alarm = count("verdict", "banner", len(faults), system=one.model) if faults else ""
    if isinstance(one, Unmeasurable):
        why = say("verdict", "no_figures", system=one.model, why=one.why)
        return SystemVerdict(one.model, alarm, faults, sentences=(why,))
    if (name := phantom_name(one)) is not None:
        return _phantom(source, one, name, alarm, faults)
    tiles, notes = _tiles(one), _notes(source, one)
    last = one.sizes[-1] if one.sizes else None
    if last is None:
        return SystemVerdict(one.model, alarm, faults, tiles, _sentences(source, one), notes=notes)
    lost = last.attack.broken
    return SystemVerdict(
        one.model, alarm, faults, tiles, _sentences(source, one), _cautions(source, one), _table(source, one),
        failing=count("verdict", "failing", len(lost), size=last.text) if lost else "",
        scans=_scans(one), notes=notes,
    )  # fmt: skip


def _phantom(source: AttackSource, one: Measured, name: str, alarm: str, faults: tuple[Fault, ...]) -> SystemVerdict:
    """Where a class is invented, volumes say what was found, and a Dice does not."""
    chooser = chooser_text(one.attacks, _planned_attacks(source, one))
    sentences = phantom_sentences(
        one, name, scans_text(source, one.clean.n), lambda eps: change_text(one.view.records, eps), chooser
    )
    return SystemVerdict(
        one.model, alarm, faults, tuple(Tile(*tile) for tile in phantom_tiles(one, name)), sentences,
        _cautions(source, one) if one.sizes else (), phantom_sizes(one, name) if one.sizes else None,
        notes=(*phantom_notes(name), *_setting_notes(one)),
    )  # fmt: skip


def _faults(source: AttackSource, model: str) -> tuple[Fault, ...]:
    failed = [one for one in source.findings if one.passed is False and one.text.startswith(f"{model}: ")]
    return tuple(
        Fault(
            say("verdict", "banner_found", text=one.text.removeprefix(f"{model}: ")),
            STRINGS["checks"].get(f"{one.name}_means", say("checks", "other_means")),
        )
        for one in failed
    )


def _tiles(one: Measured) -> tuple[Tile, ...]:
    last = one.sizes[-1] if one.sizes else None
    changes = [] if last is None else [last.attack, *(last.noise[name] for name in (NOISE,) if name in last.noise)]
    # Figures that stand side by side are taken for figures of the same scans.
    alike = all(len(change.cases) == one.clean.n for change in changes)

    def tile(value: str, label: str, n: int) -> Tile:
        over = label if alike else say("verdict", "tile_over", label=label, scans=count("verdict", "scans", n))
        return Tile(value, over)

    tiles = [tile(number_text(one.clean.mean), say("verdict", "tile_clean"), one.clean.n)]
    if last is None:
        return tuple(tiles)
    size, attack = share_text(one.view.records, last.eps), last.attack
    labels = (say("verdict", "tile_attack", size=size), say("verdict", "tile_noise", size=last.text))
    tiles += [
        tile(number_text(change.dice.mean), label, len(change.cases))
        for change, label in zip(changes, labels, strict=False)
    ]
    lost = say("verdict", "tile_of", k=len(attack.broken), n=len(attack.cases))
    label = say("verdict", "tile_lost", size=last.text, limit=number_text(attack.limit))
    return (*tiles, Tile(lost, label))


def _sentences(source: AttackSource, one: Measured) -> tuple[str, ...]:
    key = "clean_patch" if one.view.records[0].mode == "patch" else "clean"
    scans, classes = scans_text(source, one.clean.n), classes_text(one.classes)
    first = say("verdict", key, scans=scans, system=one.model, classes=classes, dice=number_text(one.clean.mean))
    if not one.sizes:
        return first, _not_attacked(source, one.model)
    last = one.sizes[-1]
    return f"{first} {_attacked(source, one, last)}", noise_text(one.sizes, _limits(source))


def _not_attacked(source: AttackSource, model: str) -> str:
    view = CorruptionView(source.records)
    worst = view.worst(model) if model in view.models else None
    certified = any(one.model == model for one in source.certificates)
    if worst is None:
        return say("verdict", "no_attack_certified" if certified else "no_attack")
    return say("verdict", "no_attack_corrupted", name=worst[0], dice=number_text(worst[1].mean))


def _attacked(source: AttackSource, one: Measured, last: AtSize) -> str:
    change, dice = last.attack, last.attack.dice
    clean = number_text(change.clean)
    fell = number_text(dice.mean) != clean
    fewer = count("verdict", "fewer", dice.n, size=last.text, clean=clean) if dice.n < one.clean.n else ""
    sentence = say(
        "verdict", "attacked" if fell else "unharmed", change=change_text(one.view.records, last.eps),
        chooser=chooser_text(one.attacks, _planned_attacks(source, one)), dice=number_text(dice.mean),
        interval=_interval(change),
    )  # fmt: skip
    return " ".join(filter(None, (fewer, sentence, _lost(change))))


def _planned_attacks(source: AttackSource, one: Measured) -> int:
    """How many attacks were to be run on a system; 0 where that is not known."""
    return 0 if source.plan is None else source.plan.attacks.get(one.model, 0)


def _interval(change: Change) -> str:
    """The interval of a mean; a single scan has none."""
    dice = change.dice
    ends = {"low": number_text(dice.low), "high": number_text(dice.high)}
    return say("verdict", "interval", **ends) if dice.n > 1 else ""


def _lost(change: Change) -> str:
    broken, n, limit = len(change.broken), len(change.cases), number_text(change.limit)
    if not broken:
        return say("verdict", "lost_none", limit=limit)
    if n == 1:
        return say("verdict", "lost_single", limit=limit)
    before = broken - len(change.lost)
    already = [count("verdict", "lost_before", before)] if before else []
    return " ".join([count("verdict", "lost", broken, k=broken, of=n, limit=limit), *already])


def _cautions(source: AttackSource, one: Measured) -> tuple[str, ...]:
    found = [*_rest(source, one)]
    if source.plan is not None and source.plan.lacking:
        found.insert(0, say("verdict", "not_ended", finished=source.plan.finished, total=source.plan.total))
    return (*found, *([count("verdict", "few", one.clean.n)] if one.clean.n < FEW else []))


def _rest(source: AttackSource, one: Measured) -> Iterator[str]:
    """That more steps lower the figures: as twice the budget of an attack shows, or else the ends of their courses."""
    tested = tested_convergence(source).get(one.model)
    if tested is None:
        rows = [record for record in one.view.records if record.kind == "attack"]
        if falling := still_falling(rows, _limits(source)):
            yield say("verdict", "falling", k=len(falling), n=len(one.attacks))
    elif tested.unsettled(_limits(source).tolerance):
        falls, scans = falls_text(source, tested), count("verdict", "scans", len(tested.cases))
        yield say("verdict", "unconverged", attack=tested.attack, falls=falls, scans=scans)


def _table(source: AttackSource, one: Measured) -> Table:
    noises = [name for name in NOISES if any(name in size.noise for size in one.sizes)]
    limits = {number_text(size.attack.limit) for size in one.sizes}
    names = ("size", "dice", "lost", *noises)
    headings = [say("verdict", f"column_{name}", limit=listed(sorted(limits))) for name in names]
    columns = (Column(headings[0], "left"), *map(Column, headings[1:]))
    clean = (say("verdict", "unchanged"), interval_text(one.clean, 3), "", *("" for _ in noises))
    _, open_ = unconverged(one.model, one.view.records, _limits(source).tolerance)
    rows = [Row(clean), *(Row(_row(size, noises, one.clean.n, size.eps in open_)) for size in one.sizes)]
    return Table(columns, tuple(rows))


def _row(size: AtSize, noises: Sequence[str], clean: int, unsettled: bool) -> tuple[str, ...]:
    attack, dice = size.attack, interval_text(size.attack.dice, 3)
    dice = say("verdict", "cell_unconverged", value=dice) if unsettled else dice
    found = [size.noise.get(name) for name in noises]
    return (
        size.text, _over(dice, attack, clean),
        say("verdict", "tile_of", k=len(attack.broken), n=len(attack.cases)),
        *(UNDEFINED if change is None else _over(number_text(change.dice.mean), change, clean) for change in found),
    )  # fmt: skip


def _over(value: str, change: Change, clean: int) -> str:
    """A figure, and over how many scans it is where that is not over all that were measured without a change."""
    n = len(change.cases)
    return say("verdict", "cell_over", value=value, scans=count("verdict", "scans", n)) if n < clean else value


def _scans(system: Measured) -> str:
    """The scans that break at the largest size, the worst first, in the order of the table of all scans."""
    at_sizes = [{one.case: one.dice for one in size.attack.cases} for size in reversed(system.sizes)]
    broken = sorted(
        system.sizes[-1].attack.broken,
        key=lambda one: ([round(dice.get(one.case, math.inf), 2) for dice in at_sizes], one.case),
    )
    shown = [
        say("verdict", "failing_case", case=one.case, clean=number_text(one.clean), dice=number_text(one.dice))
        for one in broken[:_NAMED]
    ]
    more = len(broken) - _NAMED
    return ", ".join(shown) + (f" {count('verdict', 'failing_more', more)}" if more > 0 else "")


def _notes(source: AttackSource, one: Measured) -> tuple[str, ...]:
    limits = _limits(source)
    empty = sorted(case for case, dice in one.cases.items() if dice < limits.gone)
    notes = [say("verdict", "poor")] if limits.gone <= one.clean.mean < limits.absolute else []
    notes += [count("verdict", "empty", len(empty), cases=named_few(empty))] if empty else []
    if source.protocol is not None and source.protocol.erase is not None:
        notes.append(say("verdict", "erase", name=source.protocol.erase))
    return (*notes, *_setting_notes(one))


def _setting_notes(one: Measured) -> Iterator[str]:
    if one.view.records[0].mode == "patch":
        yield say("verdict", "patch")
    if one.attacks and not one.white_box:
        yield say("verdict", "gradientless")


def _limits(source: AttackSource) -> Thresholds:
    return source.protocol.sanity if source.protocol is not None else STANDARD


def _judged(source: AttackSource, one: Verdict) -> Judged:
    requirement = parse_requirement(one.requirement)
    short = _required(requirement, _size(source, requirement))
    if len(source.models) > 1:
        sentence = short = say("verdict", "require_system", system=one.system, sentence=short)
    else:
        sentence = short[:1].upper() + short[1:]
    key = "require_value" if one.value is not None else "require_single" if requirement.low else "require_missing"
    value = say("verdict", key, value=number_text(one.value))
    left = count("verdict", "require_left", one.failed) if one.failed else ""
    doubt = say("verdict", "require_doubt") if one.value is not None and _faults(source, one.system) else ""
    absent = 0 if one.value is None else _absent(source, one, requirement)
    waits = say("verdict", "require_unfinished") if one.unfinished else ""
    wait = count("verdict", "require_open", absent) if absent else waits
    known = one.value is not None and not one.unfinished and not (one.met and absent)
    return Judged(
        light(one.met if known else None), sentence, one.requirement,
        " ".join(filter(None, (value, left, wait, doubt))),
        say("verdict", "required_which", sentence=short, value=number_text(one.value)),
    )  # fmt: skip


def _absent(source: AttackSource, one: Verdict, requirement: Requirement) -> int:
    """The number of scans that a requirement is not judged on, because their results are not there yet."""
    wanted = {*source.case_ids, *(record.case for record in source.records)} - {one.case for one in source.failed}
    if requirement.at in ("radius", "tau"):
        return len(wanted - {found.case for found in source.certificates if found.model == one.system})
    kind = "attack" if requirement.size else "control"
    rows = (record for record in source.records if record.model == one.system and record.kind == kind)
    return len(wanted - {record.case for record in rows if requirement.asks(record.eps)})


def _size(source: AttackSource, requirement: Requirement) -> str:
    """What a requirement is about besides its figure, in words."""
    if requirement.at == "radius":
        return f"{requirement.size:g} sigma"
    if requirement.at == "eps" and source.records:
        return share_text(source.records, requirement.size)
    return requirement.text.partition("@")[2].partition(requirement.sign)[0].strip()


def _required(requirement: Requirement, size: str) -> str:
    figure = say("verdict", f"figure_{requirement.figure}", size=size)
    if requirement.low:
        figure = say("verdict", "figure_low", figure=figure)
    return say("verdict", f"sign_{requirement.sign}", figure=figure, limit=f"{requirement.limit:g}")
