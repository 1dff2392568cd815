"""The sections of the page in their order; each is a module here, a template beside it, and its strings."""

from __future__ import annotations

from voxward.report.html.page import Section
from voxward.report.html.sections.cases import cases
from voxward.report.html.sections.certificate import certificate
from voxward.report.html.sections.corruptions import corruptions
from voxward.report.html.sections.curves import curves
from voxward.report.html.sections.histories import histories
from voxward.report.html.sections.leaderboard import leaderboard
from voxward.report.html.sections.suites import suites
from voxward.report.html.sections.trust import trust
from voxward.report.html.sections.verdict import verdict
from voxward.report.html.sections.visibility import visibility

SECTIONS = (
    Section("verdict", verdict),
    Section("suites", suites),
    Section("leaderboard", leaderboard),
    Section("curves", curves),
    Section("visibility", visibility),
    Section("corruptions", corruptions),
    Section("certificate", certificate),
    Section("cases", cases),
    Section("histories", histories),
    Section("trust", trust),
)
