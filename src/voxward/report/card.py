"""A model card: what was measured, as Markdown with the fields that Hugging Face reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import voxward
from voxward.core.errors import UserError
from voxward.core.yaml import dump_yaml
from voxward.report.html.page import Setting
from voxward.report.html.scope import classes_text
from voxward.report.html.sections.trust import FolderTrust, trust
from voxward.report.html.sections.verdict import FolderVerdict, SystemVerdict, verdict
from voxward.report.html.strings import listed, say
from voxward.report.measured import Measured, measured
from voxward.report.sources import AttackSource, Sources
from voxward.robustness.record import NOISE

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$!])")
# What would begin a list at the start of a paragraph.
_START = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))")
_DIGITS = 4


def refuse_card(sources: Sources) -> None:
    """Refuse to write a card about nothing.

    Raises:
        UserError: No attack folder has records.
    """
    if not any(source.records for source in sources.attacks):
        raise UserError(say("card", "no_attack"))


def card_text(sources: Sources) -> str:
    """Return the model card of the systems that were attacked.

    Args:
        sources: What was read from the folders; at least one attack folder has records.

    Returns:
        Markdown with YAML front matter.

    Raises:
        UserError: No attack folder has records.
    """
    refuse_card(sources)
    found = [source for source in sources.attacks if source.records]
    chosen = Sources(attacks=tuple(found))
    names = list(dict.fromkeys(model for source in found for model in source.models))
    about = say("card", "about", version=voxward.__version__, date=f"{datetime.now(UTC):%Y-%m-%d %H:%M}")
    parts = [
        f"# {escaped(say('card', 'title', names=listed(names)))}", escaped(about),
        *(f"> {escaped(problem)}" for problem in sources.problems),
        f"## {say('card', 'description')}", *_description(found),
        f"## {say('card', 'use')}", escaped(say("card", "use_text")), escaped(say("card", "licence")),
        *_measurements(verdict(chosen, Setting()), trust(chosen, Setting()) or ()),
    ]  # fmt: skip
    return f"---\n{dump_yaml(_fields(found))}---\n\n" + "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is."""
    found = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    start = _START.match(found)
    if start is None:
        return found
    return found[: start.end()] + "\\" + found[start.end() :] if start[2].isdigit() else f"\\{found}"


def _fields(sources: Sequence[AttackSource]) -> dict[str, Any]:
    """The fields in front; the licence is left out, because nobody told it."""
    results: dict[str, list[Any]] = {}
    for source in sources:
        for one in measured(source):
            if isinstance(one, Measured):
                results.setdefault(one.model, []).append(_result(source, one))
    index = [{"name": model, "results": found} for model, found in results.items()]
    return {
        "library_name": "voxward",
        "tags": ["image-segmentation", "medical", "3d", "robustness", "adversarial-attacks"],
        "pipeline_tag": "image-segmentation",
        "metrics": ["dice"],
        **({"model-index": index} if index else {}),
    }


def _result(source: AttackSource, one: Measured) -> dict[str, Any]:
    name = source.dataset or say("card", "dataset_unknown")
    return {
        "task": {"type": "image-segmentation", "name": say("card", "task")},
        "dataset": {"type": re.sub(r"[^A-Za-z0-9._-]+", "-", name), "name": name},
        "metrics": list(_metrics(source, one)),
    }


def _metrics(source: AttackSource, one: Measured) -> Iterator[dict[str, Any]]:
    found = {say("card", "metric_clean"): one.clean.mean}
    for size in one.sizes:
        found[say("card", "metric_robust", size=size.text)] = size.attack.dice.mean
        if NOISE in size.noise:
            found[say("card", "metric_noise", size=size.text)] = size.noise[NOISE].dice.mean
    doubtful = any(f.passed is False and f.text.startswith(f"{one.model}: ") for f in source.findings)
    for name, value in found.items():
        shown = say("card", "metric_failed", name=name) if doubtful else name
        yield {"type": "dice", "name": shown, "value": round(value, _DIGITS)}


def _description(sources: Sequence[AttackSource]) -> Iterator[str]:
    for source in sources:
        for model in source.models:
            mine = next(record for record in source.records if record.model == model)
            kind = source.systems.get(model, {}).get("kind", "")
            key = "description_kind" if kind else "description_unknown"
            about = say("card", key, kind=kind, fingerprint=mine.system) if mine.system else ""
            what = say("card", "description_system", system=model, classes=classes_text(mine.classes))
            yield escaped(f"{what} {about}")


def _measurements(found: Sequence[FolderVerdict], trusted: Sequence[FolderTrust]) -> Iterator[str]:
    yield f"## {say('card', 'data')}"
    for folder in found:
        yield _items(folder.measured)
    yield f"## {say('card', 'robustness')}"
    yield escaped(say("verdict", "dice"))
    for folder in found:
        yield from map(escaped, folder.compared)
        for system in folder.systems:
            yield from _system(system)
        yield from _judged(folder)
    yield f"## {say('card', 'limits')}"
    yield _items(list(dict.fromkeys(f"{gap.title}. {gap.why}" for folder in found for gap in folder.gaps)))
    yield f"## {say('card', 'repeat')}"
    for one in trusted:
        yield from _repeat(one)


def _system(system: SystemVerdict) -> Iterator[str]:
    yield f"### {escaped(system.name)}"
    if system.alarm:
        yield f"**{escaped(system.alarm)}**"
        yield _items([f"{fault.found} {fault.means}" for fault in system.faults])
    yield from (escaped(text) for text in (*system.sentences, *system.cautions, *system.notes))
    if system.failing:
        yield escaped(f"{system.failing} {system.scans}.")
    if system.table is not None:
        yield system.table.markdown().rstrip("\n")


def _judged(folder: FolderVerdict) -> Iterator[str]:
    yield f"### {say('card', 'require')}"
    if folder.unjudged:
        yield escaped(folder.unjudged)
    if folder.judged:
        yield _items([f"{one.light.word}: {one.sentence} ({one.written}). {one.measured}" for one in folder.judged])


def _repeat(one: FolderTrust) -> Iterator[str]:
    if one.command:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", one.command)), default=0))
        yield f"{fence}\n{one.command}\n{fence}"
    else:
        yield escaped(say("trust", "command_none"))
    yield _items([f"{fact.label}: {fact.value}" for fact in one.facts])
    if one.partial:
        yield escaped(one.partial)
    if one.protocol:
        yield f"```yaml\n{one.protocol.rstrip()}\n```"


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)
