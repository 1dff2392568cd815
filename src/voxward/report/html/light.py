"""Traffic lights: a word, a colour and a shape, so that nobody needs the colour."""

from __future__ import annotations

from dataclasses import dataclass

from voxward.report.html.strings import say


@dataclass(frozen=True)
class Light:
    """A traffic light.

    Attributes:
        kind: `good`, `bad` or `open`, which gives it its colour and its shape.
        word: The word on it.
    """

    kind: str
    word: str


def light(passed: bool | None, section: str = "verdict") -> Light:
    """Return the light of what passed, failed, or could not be told.

    Args:
        passed: Whether it passed; None where that is not known.
        section: The section of the strings that has the words `passed`, `failed` and `open`.
    """
    kind, word = {True: ("good", "passed"), False: ("bad", "failed"), None: ("open", "open")}[passed]
    return Light(kind, say(section, word))
