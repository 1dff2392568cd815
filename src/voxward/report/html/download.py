"""All figures of the page as plain data, which a reader can download from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import voxward
from voxward.core.structure import to_data
from voxward.report.attack_source import AttackSource
from voxward.report.run_source import RunSource, SearchSource
from voxward.report.sources import Sources
from voxward.report.suite.tables import suite_tables
from voxward.robustness.record import Record

FORMAT = 1
_LEFT_OUT = ("history",)


def page_data(sources: Sources) -> dict[str, Any]:
    """Return the figures that a page is made of.

    Records are a table of `columns` and `rows`; what all of them have in common stands in `common` once. The course of
    each attack (`history`) is left out: it is longer than all other figures together, and lies in the folder.

    Args:
        sources: What was read from the folders.
    """
    return {
        "format": FORMAT,
        "voxward": voxward.__version__,
        "problems": list(sources.problems),
        "attacks": [_attack(one) for one in sources.attacks],
        "runs": [_run(one) for one in sources.runs],
        "searches": [_search(one) for one in sources.searches],
        "cross_validations": [
            {"folder": one.name, "metrics": to_data(one.metrics), "runs": [_run(run) for run in one.runs]}
            for one in sources.validations
        ],
        "suites": [
            {
                "folder": one.name,
                "failed": to_data(one.failed),
                "missing": list(one.missing),
                "tables": {
                    name: [dict(zip(table.fields, row, strict=True)) for row in table.data]
                    for name, table in suite_tables(one).items()
                },
            }
            for one in sources.suites
        ],
    }


def finite(value: Any) -> Any:
    """Return plain data in which NaN and infinity, which JSON does not know, are None.

    Args:
        value: Plain data.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list) else value


def _attack(source: AttackSource) -> dict[str, Any]:
    return {
        "folder": source.name, "command": source.command, "protocol": to_data(source.protocol),
        "systems": to_data(source.systems), "cases": list(source.case_ids), "findings": to_data(source.findings),
        "requirements": to_data(source.verdicts),
        "failed": [{"id": failure.case, "reason": failure.reason} for failure in source.failed],
        "records": records_data(source.records),
        "certificates": to_data(source.certificates),
    }  # fmt: skip


def records_data(records: Sequence[Record]) -> dict[str, Any]:
    """Return records as a table, with what all of them have in common apart; see `page_data`.

    Args:
        records: The records.
    """
    entries = [record.to_data() for record in records]
    names = [name for name in (entries[0] if entries else ()) if name not in _LEFT_OUT]
    common = {name: entries[0][name] for name in names if all(entry[name] == entries[0][name] for entry in entries)}
    columns = [name for name in names if name not in common]
    rows = [[entry[name] for name in columns] for entry in entries]
    return {"common": common, "columns": columns, "rows": rows, "left_out": list(_LEFT_OUT)}


def _run(run: RunSource) -> dict[str, Any]:
    return {"folder": run.name, "log": to_data(run.log), "metrics": to_data(run.metrics)}


def _search(search: SearchSource) -> dict[str, Any]:
    return {
        "folder": search.name, "log": to_data(search.log), "architectures": to_data(search.architectures),
    }  # fmt: skip
