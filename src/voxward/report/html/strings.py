"""Every word that a reader of the page sees, so that the page can be translated in one place.

Templates have these texts as `t`, and scripts have those of `script` as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGE = "en"

STRINGS: Mapping[str, Mapping[str, str]] = {
    "page": {
        "title": "How robust is the segmentation? {names}",
        "empty_title": "How robust is the segmentation?",
        "skip": "Skip to the content",
        "contents": "Contents",
        "problems": "What is missing on this page",
        "problems_text": "These files or folders could not be shown. No figure on this page is over them.",
        "download": "Download all figures (JSON)",
        "written": "Written by voxward {version} on {date} (UTC).",
        "offline": "This file needs no network. Nothing on it leaves your computer.",
    },
    "verdict": {"heading": "What was found"},
    "leaderboard": {"heading": "The systems compared"},
    "curves": {"heading": "How the segmentation gets worse"},
    "visibility": {"heading": "How visible is the change?"},
    "cases": {"heading": "The scans, worst first"},
    "histories": {"heading": "Training and search"},
    "trust": {"heading": "Can these figures be trusted?"},
    "script": {},
}
