"""What a reader must see before any figure: whether what must hold does, and whether the figures can be relied on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from voxward.report.html.light import Light, light
from voxward.report.html.strings import say
from voxward.report.sources import AttackSource

_NAMED = 3


@dataclass(frozen=True)
class Headline:
    """A line with a light.

    Attributes:
        light: Its light.
        text: What it says.
        section: The section of the page that says more; empty: none.
    """

    light: Light
    text: str
    section: str = ""


@dataclass(frozen=True)
class Judged:
    """A line of what the protocol requires.

    Attributes:
        light: Whether it holds.
        sentence: What is required, in words.
        written: What is required, as the protocol has it.
        measured: What was measured, and what makes that doubtful.
        short: What is required and what was measured, as a part of a sentence.
    """

    light: Light
    sentence: str
    written: str
    measured: str
    short: str


def headlines(source: AttackSource, judged: Sequence[Judged]) -> tuple[Headline, ...]:
    """Return a line on all requirements, and one on all checks of the figures.

    Args:
        source: The folder.
        judged: What its protocol requires; none where it requires nothing.
    """
    return (*_required(judged), *_checked(source))


def _required(judged: Sequence[Judged]) -> Iterator[Headline]:
    failed = [line for line in judged if line.light.kind == "bad"]
    left = [line for line in judged if line.light.kind == "open"]
    passed = False if failed else None if left else True
    if judged:
        key = {False: "required_failed", None: "required_open", True: "required_passed"}[passed]
        which = "; ".join(line.short for line in failed[:_NAMED]) + ("; ..." if len(failed) > _NAMED else "")
        only = "_only" if len(judged) == 1 else ""
        text = say("verdict", f"{key}{only}", k=len(failed or left), n=len(judged), which=which)
        yield Headline(light(passed), text)


def _checked(source: AttackSource) -> Iterator[Headline]:
    failed = sum(one.passed is False for one in source.findings)
    left = sum(one.passed is None for one in source.findings)
    passed = False if failed else None if left else True
    if source.findings:
        key = {False: "checks_failed", None: "checks_open", True: "checks_passed"}[passed]
        text = say("verdict", key, k=failed or left, n=len(source.findings))
        yield Headline(light(passed, "trust"), text, "trust")
