"""Every word that a reader of the page sees, so that the page can be translated in one place.

Templates have these texts as `t`, and scripts have those of `script` as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from voxward.report.html.strings.card import CARD
from voxward.report.html.strings.cases import CASES, VIEWER, VIEWER_SCRIPT, VOLUMES
from voxward.report.html.strings.certificate import CERTIFICATE
from voxward.report.html.strings.charts import CHART_SCRIPT, CHARTS, CURVES
from voxward.report.html.strings.corruptions import CORRUPTIONS
from voxward.report.html.strings.glossary import GLOSSARY
from voxward.report.html.strings.histories import HISTORIES
from voxward.report.html.strings.leaderboard import LEADERBOARD
from voxward.report.html.strings.suite import SUITE
from voxward.report.html.strings.trust import CHECKS, GAPS, TRUST
from voxward.report.html.strings.verdict import ABOUT, THREAT, VERDICT
from voxward.report.html.strings.visibility import VISIBILITY

LANGUAGE = "en"

STRINGS: Mapping[str, Mapping[str, str]] = {
    "page": {
        "title": "How robust is the segmentation? {names}",
        "empty_title": "How robust is the segmentation?",
        "skip": "Skip to the content",
        "contents": "Contents",
        "problems": "What is missing on this page",
        "problems_text": "These files or results are missing or cannot be read. No figure on this page is over them.",
        "section_failed": "This part cannot be shown: {reason}",
        "download": "Download all figures (JSON)",
        "licences": "Licences of the libraries in this page",
        "written": "Written by voxward {version} on {date} (UTC).",
        "offline": "This file needs no network. Nothing on it leaves your computer.",
    },
    "verdict": VERDICT,
    "threat": THREAT,
    "about": ABOUT,
    "glossary": GLOSSARY,
    "suites": SUITE,
    "leaderboard": LEADERBOARD,
    "curves": CURVES,
    "charts": CHARTS,
    "visibility": VISIBILITY,
    "corruptions": CORRUPTIONS,
    "certificate": CERTIFICATE,
    "cases": CASES,
    "volumes": VOLUMES,
    "viewer": VIEWER,
    "histories": HISTORIES,
    "trust": TRUST,
    "checks": CHECKS,
    "gaps": GAPS,
    "card": CARD,
    "words": {"list": "{first} and {last}"},
    "script": {**CHART_SCRIPT, **VIEWER_SCRIPT},
}


def say(section: str, key: str, **values: object) -> str:
    """Return a text with values put in.

    Args:
        section: The section of `STRINGS`.
        key: The text's key there.
        values: What the text names in braces.
    """
    return STRINGS[section][key].format(**values)


def count(section: str, key: str, n: int, **values: object) -> str:
    """Return the text for one thing, whose key ends with `_one`, or for any other number, `_many`.

    Args:
        section: The section of `STRINGS`.
        key: The key without its ending.
        n: The number, which the text may name, too.
        values: What the text names in braces.
    """
    return say(section, f"{key}_one" if n == 1 else f"{key}_many", n=n, **values)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: "liver", "liver and tumour", "liver, tumour and cyst"."""
    if len(names) < 2:
        return "".join(names)
    return say("words", "list", first=", ".join(names[:-1]), last=names[-1])
