"""The figures of a run that its folder records, as paragraphs and tables of a model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxward.metrics.summary import Summary
from voxward.report.card import escaped
from voxward.report.measured import Measured, measured
from voxward.report.run_source import RunSource
from voxward.report.sources import AttackSource
from voxward.runs.folder import RunSplit
from voxward.systems.evaluate import Evaluation
from voxward.systems.run import RunSystem

_UNMEASURED = (
    "How robust the network is against attacks was not measured: the folder of the training holds no figures of "
    "`voxward attack`."
)
_UNSCORED = "Its Dice on whole validation cases was not measured: the folder of the training holds no figures of it."


def figures(
    run: RunSystem, source: RunSource | None, split: RunSplit | None, attacks: Sequence[AttackSource]
) -> Iterator[str]:
    """Yield what is known of a run in figures, and what is not: training, evaluation, robustness.

    Args:
        run: The run as it is deployed.
        source: What lies in its folder; None where there is none.
        split: Which cases trained, selected and validated; None where that is not known.
        attacks: The attacks that lie in the folder.
    """
    if source is not None:
        yield from _selection(source, split)
    scored = {} if source is None else source.evaluations
    if "" not in scored:
        yield _UNSCORED
    for place, evaluation in scored.items():
        yield from _evaluation(run, place, evaluation)
    found = [(attack, one) for attack in attacks for one in _of(run, attack)]
    for attack, one in found:
        yield from _robustness(run, attack, one)
    if not found:
        yield _UNMEASURED


def _selection(source: RunSource, split: RunSplit | None) -> Iterator[str]:
    rows = [row for row in source.log if "validation_dice" in row]
    if rows and split is not None:
        best = max(row["validation_dice"] for row in rows)
        yield (
            f"During training the highest Dice on patches of the selection cases was {best:.3f}, and the last one "
            f"{rows[-1]['validation_dice']:.3f} (n = {len(split.selection)}). These cases chose the weights, so "
            "that the figure is no estimate for new scans."
        )


def _evaluation(run: RunSystem, place: str, found: Evaluation) -> Iterator[str]:
    origin = found.origin
    what = "the validation cases of the training" if not place else "other cases"
    if origin is not None:
        what += f" (dataset {origin.dataset}, {origin.split})"
    yield escaped(
        f"voxward evaluate on {what}: mean Dice {_interval(found.foreground)}. "
        f"Empty masks: {found.scoring.policy}. {_same(run, None if origin is None else origin.fingerprint)}"
    )
    if origin is not None and origin.seen:
        yield f"**{len(origin.seen)} of these cases were trained on: the figures are too good.**"
    if found.failed:
        yield f"{len(found.failed)} more cases failed and are in no figure."
    rows = [f"| {escaped(name)} | {_interval(metrics['dice'])} |" for name, metrics in found.classes.items()]
    yield "\n".join(["| label | Dice [95 %] |", "| --- | --- |", *rows])


def _of(run: RunSystem, attack: AttackSource) -> Iterator[Measured]:
    """What an attack says of this run: of the same fingerprint, or of a run with the name of its folder."""
    name = "" if run.folder is None else run.folder.root.resolve().name
    for one in measured(attack):
        if isinstance(one, Measured) and one.sizes:
            known = attack.systems.get(one.model, {})
            if one.view.records[0].system == run.fingerprint() or (one.model == name and known.get("kind") == "run"):
                yield one


def _robustness(run: RunSystem, attack: AttackSource, one: Measured) -> Iterator[str]:
    first = next(record for record in one.view.records if record.kind == "attack")
    named = "" if attack.protocol is None else f" by the protocol {attack.protocol.name}"
    judged = "the written file, as the whole pipeline reads it" if one.view.deployed else "the array that was computed"
    yield escaped(
        f"voxward attack{named}: {', '.join(one.attacks)}; mode {first.mode}, norm {first.threat.norm}, eps in the "
        f"unit {first.threat.unit}. The Dice is that of {judged}. Without an attack it is {_interval(one.clean)}. "
        f"{_same(run, first.system)}"
    )
    failed = [f.text for f in attack.findings if f.passed is False and f.text.startswith(f"{one.model}: ")]
    if failed:
        yield f"**Not trustworthy, a check failed: {escaped('; '.join(failed))}**"
    rows = [f"| {escaped(size.text)} | {_interval(size.attack.dice)} |" for size in one.sizes]
    yield "\n".join(["| eps | Dice under the strongest attack [95 %] |", "| --- | --- |", *rows])
    yield "An attack that was not tried may find a lower Dice."


def _same(run: RunSystem, fingerprint: str | None) -> str:
    """Whether figures are of the run as it is exported here."""
    if fingerprint == run.fingerprint():
        return "These figures are of the run as it was exported."
    if not fingerprint:
        return "Which weights and settings they are of is not recorded."
    return (
        f"These figures are of the fingerprint {fingerprint}: of this run with other settings, other weights or "
        "another number type than it was exported with."
    )


def _interval(found: Summary | None) -> str:
    """A mean with its interval and its n; all digits that are told are those of the folder."""
    if found is None:
        return "undefined"
    ends = f" [{found.low:.3f}, {found.high:.3f}]" if found.n > 1 else ""
    return f"{found.mean:.3f}{ends} (n = {found.n})"
