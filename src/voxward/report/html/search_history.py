"""What the page says about one architecture search: its course, and the networks that it found."""

from __future__ import annotations

import base64

from voxward.report.architecture_figures import architecture_svg
from voxward.report.architectures import Architecture, architectures_table
from voxward.report.html.run_history import History, Titled, minutes_text
from voxward.report.html.strings import say
from voxward.report.run_source import SearchSource
from voxward.report.training_charts import search_charts


def search_history(search: SearchSource, number: int) -> History:
    """Return what the page says about a search.

    Args:
        search: The search.
        number: The number of the search on the page, from 1, which makes the names of its charts unique.
    """
    found = search.architectures
    tables = [Titled(say("histories", "networks"), architectures_table(found, search.patch))] if found else []
    return History(
        say("histories", "search", name=search.name),
        () if found else (say("histories", "search_unfinished"),),
        tuple(_facts(search)), search_charts(search.log, f"search-{number}", search.name), tuple(tables),
        # What the super-net decodes to before it has learnt anything has no Dice: it is there to compare with.
        tuple(_drawing(one) for one in found if one.dice is not None),
    )  # fmt: skip


def _facts(search: SearchSource) -> list[str]:
    if not search.log:
        return [say("histories", "no_search_log")]
    last, minutes = search.log[-1], minutes_text(search.seconds)
    if minutes is None or "epoch" not in last:
        return []
    return [say("histories", "search_length", minutes=minutes, epochs=f"{last['epoch']:.0f}")]


def _drawing(architecture: Architecture) -> tuple[str, str]:
    """An address that holds the picture itself, and what it shows. Nothing in such a picture can run or load."""
    genotype = architecture.genotype
    svg = architecture_svg(genotype, say("histories", "drawing_title", name=architecture.name))
    text = say(
        "histories", "drawing", name=architecture.name, paths=len(genotype.paths), layers=genotype.layers,
        scales=genotype.scales,
    )  # fmt: skip
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}", text
