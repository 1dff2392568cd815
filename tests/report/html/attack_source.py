"""An attack folder as it is read, made from records by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxward.core.errors import Failure
from voxward.report.benchmark import of_files
from voxward.report.sources import AttackSource, Sources
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.record import Record
from voxward.robustness.require import Measured, judge_requirements
from voxward.robustness.sanity import sanity
from voxward.robustness.summary import View


def attack_source(
    records: Sequence[Record],
    name: str = "folder",
    failed: Sequence[Failure] = (),
    case_ids: Sequence[str] = (),
    **protocol: Any,
) -> AttackSource:
    """Return the source that `read_sources` makes of a folder with these records."""
    chosen = Protocol("p", **({"threat": Threat(eps=(0.1, 0.2)), "attacks": ("apgd-ce",)} | protocol))
    models = sorted({record.model for record in records})
    return AttackSource(
        Path(name), tuple(records), chosen, case_ids=tuple(case_ids or sorted({record.case for record in records})),
        findings=sanity(records, chosen.sanity),
        verdicts=judge_requirements(
            chosen.require, Measured(View(records, deployed=of_files(records))), models, len(failed)
        ),
        failed=tuple(failed),
    )  # fmt: skip


def sources_of(*attacks: AttackSource) -> Sources:
    """Return what a page is written from."""
    return Sources(attacks=attacks)
