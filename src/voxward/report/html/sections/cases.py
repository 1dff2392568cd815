"""The section `cases` of the page."""

from __future__ import annotations

from typing import Any

from voxward.report.html.page import Setting
from voxward.report.sources import Sources


def cases(sources: Sources, setting: Setting) -> Any:
    """Return what the section shows; None where there is nothing of this kind."""
    return None
