"""The section that says whether the figures can be trusted: checks, threat model, cost, and what was not measured."""

from __future__ import annotations

from voxward.report.html.page import Setting
from voxward.report.sources import Sources
from voxward.robustness.sanity import Finding


def trust(sources: Sources, setting: Setting) -> tuple[Finding, ...] | None:
    """Return the checks of all attack folders; None where there is none with records."""
    return tuple(finding for one in sources.attacks for finding in one.findings) or None
