"""What an attack folder does not tell, computed from its records: a reader must not take it for measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from voxward.report.html.scope import size_text
from voxward.report.html.strings import STRINGS, count, listed, say
from voxward.report.measured import NOISES
from voxward.report.sources import AttackSource
from voxward.robustness.converged import Convergence, convergence
from voxward.robustness.eps import eps_texts
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.sanity import STANDARD, Thresholds
from voxward.robustness.summary import View
from voxward.robustness.trials.transfer import TRANSFER

FEW = 20
"""Under so many cases the interval itself is unsure."""
# A history must have so many values before its end can be told from its beginning.
_SHORTEST = 5


@dataclass(frozen=True)
class Gap:
    """Something that was not measured.

    Attributes:
        title: What it is.
        why: Why that matters, in a sentence.
    """

    title: str
    why: str


def gaps(source: AttackSource) -> tuple[Gap, ...]:
    """Return what was not measured; none where nothing was measured at all."""
    rows = [record for record in source.records if record.kind == "attack"]
    return tuple(gap for find in _FINDERS for gap in find(source, rows)) if source.records else ()


def _gap(key: str, **values: object) -> Gap:
    return Gap(say("gaps", key, **values), say("gaps", f"{key}_why", **values))


def _counted(key: str, n: int, **values: object) -> Gap:
    title = count("gaps", key, n, **values) if f"{key}_one" in STRINGS["gaps"] else say("gaps", key, n=n, **values)
    return Gap(title, count("gaps", f"{key}_why", n, **values))


def _cases(source: AttackSource, rows: Sequence[Record]) -> Iterator[Gap]:
    measured = {record.case for record in source.records}
    failed = {one.case for one in source.failed}
    if failed:
        yield _counted("failed", len(failed))
    if missing := {*source.case_ids} - measured - failed:
        yield _counted("missing", len(missing))
    if source.left_out:
        by = say("gaps", "left_out_by" if len(source.models) == 1 else "left_out_by_any")
        yield _counted("left_out", len(source.left_out), system=by)
    yield _counted("other_data", len(measured))
    if len(measured) < FEW:
        yield _counted("few", len(measured))


def _changes(source: AttackSource, rows: Sequence[Record]) -> Iterator[Gap]:
    if not rows:
        asked = source.protocol is None or source.protocol.asks_attacks
        yield _gap("no_attack" if asked else "no_attack_asked")
        return
    threat = rows[0].threat
    if not (threat.unit == "range" and threat.norm == "linf" and max(record.eps for record in rows) >= 1):
        yield _gap("larger", size=size_text(rows[0], max(record.eps for record in rows)))
    yield _gap(f"norm_{threat.norm}")
    if not any(record.corruption is not None for record in source.records):
        yield _gap("corruptions")
    if not any(record.attack in NOISES for record in source.records):
        yield _gap("noise")
    if (erase := source.protocol.erase if source.protocol else None) is not None:
        yield _gap("erase", name=erase)
    if (invent := source.protocol.invent if source.protocol else None) is not None:
        yield _gap("invent", name=invent)


def _attacks(source: AttackSource, rows: Sequence[Record]) -> Iterator[Gap]:
    if not rows:
        return
    if not all(any(r.white_box for r in rows if r.model == model) for model in {r.model for r in rows}):
        yield _gap("white_box")
    if all(record.white_box for record in rows):
        yield _gap("black_box")
    if not any(record.attack == TRANSFER for record in rows):
        yield _gap("transfer")
    yield from _rest(source, rows)
    if len({record.seed for record in rows}) == 1 and all(r.options.get("restarts") in (None, 0, 1) for r in rows):
        yield _gap("restarts")
    yield _gap("certificate")


def _rest(source: AttackSource, rows: Sequence[Record]) -> Iterator[Gap]:
    """Whether more steps would lower the figures; where that was tested, the ends of the courses say nothing more."""
    tested, limits = tested_convergence(source), _limits(source)
    for found in tested.values():
        if found.unsettled(limits.tolerance):
            yield _gap(
                "doubled", attack=found.attack, falls=falls_text(source, found), tolerance=f"{limits.tolerance:g}"
            )
    left = [record for record in rows if record.model not in tested]
    if not left:
        return
    yield _gap("untested")
    if falling := still_falling(left, limits):
        yield _gap("converged", attacks=listed(falling), tolerance=f"{limits.tolerance:g}")
    elif not any(len(record.history) >= _SHORTEST for record in left):
        yield _gap("no_history")


def tested_convergence(source: AttackSource) -> dict[str, Convergence]:
    """Return what twice the budget of the strongest attack changed, for each system where that was tested."""
    found = {model: convergence(model, source.records) for model in source.models}
    return {model: one for model, one in found.items() if one is not None and not one.outdated}


def falls_text(source: AttackSource, found: Convergence) -> str:
    """Return by how much twice the budget lowered the Dice at each size where it did, as "0.060 at 8/255"."""
    text = eps_texts(source.records, alone=True)
    return listed([f"{found.falls[eps]:.3f} at {text(eps)}" for eps in found.unsettled(_limits(source).tolerance)])


def still_falling(rows: Sequence[Record], limits: Thresholds) -> list[str]:
    """Return the attacks whose mean Dice fell by more than the tolerance in the last fifth of their evaluations.

    Args:
        rows: Records of attacks.
        limits: The tolerance, with other limits.
    """
    view, found = View(tuple(rows)), set[str]()
    for model, attack, eps in sorted({(record.model, record.attack, record.eps) for record in rows}):
        history = view.history(model, attack, eps)
        if len(history) >= _SHORTEST and history[-1 - len(history) // 5] - history[-1] > limits.tolerance:
            found.add(attack)
    return sorted(found)


def _limits(source: AttackSource) -> Thresholds:
    return source.protocol.sanity if source.protocol is not None else STANDARD


def _setting(source: AttackSource, rows: Sequence[Record]) -> Iterator[Gap]:
    records = source.records
    if any(record.mode == "patch" for record in records):
        yield _gap("patch")
    elif any(r.deployed is None for r in records if r.kind == "attack" or r.attack == CLEAN):
        yield _gap("file")
    devices = {record.device.partition(":")[0] for record in records}
    if devices == {"cpu"}:
        yield _gap("gpu")
    elif "cpu" not in devices:
        yield _gap("cpu", devices=listed(sorted(devices)))
    precisions = sorted({record.precision for record in records})
    unknown = "unknown" in precisions
    yield _gap("precision_unknown") if unknown else _gap("precision", precisions=listed(precisions))
    yield _gap("clinic")


_Finder = Callable[[AttackSource, Sequence[Record]], Iterator[Gap]]
_FINDERS: tuple[_Finder, ...] = (_cases, _changes, _attacks, _setting)
