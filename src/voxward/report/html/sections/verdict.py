"""The section that says in plain words what was found."""

from __future__ import annotations

from voxward.report.html.page import Setting
from voxward.report.sources import Sources


def verdict(sources: Sources, setting: Setting) -> tuple[str, ...] | None:
    """Return the sentences of the verdict; None where nothing was measured."""
    return tuple(f"{len({r.case for r in one.records})} scans: {one.name}" for one in sources.attacks if one.records)
