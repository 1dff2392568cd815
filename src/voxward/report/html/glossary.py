"""The words that a reader of the page may not know, with the attacks that stand on it."""

from __future__ import annotations

from voxward.attacks.registry import describe
from voxward.report.html.strings import say
from voxward.report.html.strings.glossary import TERMS
from voxward.report.source_files import sentence
from voxward.report.sources import Sources


def glossary(sources: Sources) -> dict[str, str]:
    """Return each word with a line that says what it means; none where no attack was measured.

    Args:
        sources: What the page is written from.
    """
    run = {record.attack for one in sources.attacks for record in one.records if record.kind == "attack"}
    if not run:
        return {}
    known = describe()
    attacks = {say("glossary", "attack", name=name): sentence(known[name]) for name in sorted(run) if name in known}
    return {**TERMS, **attacks}
