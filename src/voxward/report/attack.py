"""All that is written about a benchmark: tables, checks, requirements, figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from voxward.core.document import with_checksum
from voxward.core.errors import Failure
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json
from voxward.core.structure import to_data
from voxward.report.attack_panel import attack_panel
from voxward.report.budgets import budgets_table
from voxward.report.certificate import certificate_table
from voxward.report.classes import classes_table
from voxward.report.corruptions import corruption_summary, corruption_table, distance_table
from voxward.report.curves import areas_table
from voxward.report.hardening import Hardening, hardening_table
from voxward.report.iterations import iterations_table
from voxward.report.leaderboard import leaderboard_table
from voxward.report.robustness import robustness_table, with_all_attacks
from voxward.report.robustness_figures import curves_figure, iterations_figure
from voxward.report.seen import seen_notes
from voxward.report.table import Table
from voxward.report.text import failed_note
from voxward.robustness.asked import Aside
from voxward.robustness.bench import Bench, Worker
from voxward.robustness.case_certificate import CaseCertificate
from voxward.robustness.certified import CERTIFICATES, certificates_data, certify, findings_of
from voxward.robustness.corruption_figures import without_corruptions
from voxward.robustness.cost import Estimate
from voxward.robustness.finding import Finding
from voxward.robustness.record import Record, without_noisy
from voxward.robustness.require import Measured, Verdict, judge_requirements
from voxward.robustness.sanity import sanity
from voxward.robustness.skipped import skipped_notes
from voxward.robustness.store import RecordStore
from voxward.robustness.summary import View
from voxward.robustness.sweep import sweeps
from voxward.robustness.trials.attack import ensembles
from voxward.runs.folder import RunSettings
from voxward.systems.system import System
from voxward.training.log import read_log

_REPORTS = (
    "sanity.json", "robustness.md", "robustness.csv", "classes.md", "areas.md", "leaderboard.md", "leaderboard.csv",
    "curves.png", "iterations.png", "iterations.md", "requirements.json", "budgets.md", "budgets.csv",
    "corruptions.md", "corruptions.csv", "corruption-summary.csv",
    CERTIFICATES, "certificate.md", "certificate.csv",
)  # fmt: skip
KIND = "part of a robustness report"


@dataclass(frozen=True)
class AttackReport:
    """What a benchmark found, and where all of it lies.

    Attributes:
        records: Every record.
        findings: The checks on them.
        report: A row per system and attack; None where only the hours were estimated, or nothing was attacked.
        out: The folder.
        leaderboard: A row per system, where there are several.
        verdicts: Whether each system meets each requirement of the protocol.
        failed: The cases that failed; no figure is over them.
        costs: The estimate that was asked for instead of the work; then there is nothing else.
        corruptions: Where there are corruptions, a row per system, and Dice and HD95 by corruption and severity.
        certificates: What is certified of each case, where the protocol asks for it.
        certificate: A row per system and noise, where something is certified.
    """

    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    report: Table | None
    out: Path
    leaderboard: Table | None = None
    verdicts: tuple[Verdict, ...] = ()
    failed: tuple[Failure, ...] = ()
    costs: Estimate | None = None
    corruptions: tuple[Table, ...] = ()
    certificates: tuple[CaseCertificate, ...] = ()
    certificate: Table | None = None

    @property
    def hours(self) -> float | None:
        """The hours that one process needs for all units, where an estimate was asked for."""
        return None if self.costs is None else self.costs.hours

    @property
    def trustworthy(self) -> bool:
        """Whether no check failed."""
        return all(finding.passed is not False for finding in self.findings)

    @property
    def met(self) -> bool:
        """Whether every system meets every requirement."""
        return all(verdict.met for verdict in self.verdicts)


def check_reports(outputs: Outputs, worker: Worker) -> None:
    """Refuse to begin where a report would replace another file.

    Raises:
        UserError: Such a file lies in the folder; the message names it.
    """
    panels = map(_panel, worker.bench.sources)
    outputs.check([*_REPORTS, *panels, *(_hardening_file(one) for one in _hardenings(worker))])


def write_reports(outputs: Outputs, worker: Worker, records: Sequence[Record]) -> AttackReport:
    """Write tables, checks, requirements and figures of a benchmark.

    Args:
        outputs: The folder.
        worker: What did the units.
        records: All records.

    Raises:
        UserError: A report would replace another file.
    """
    protocol, failures = worker.bench.protocol, worker.failures
    certificates = certify(worker.bench, records)
    findings = (*sanity(records, protocol.sanity), *findings_of(certificates))
    measured = without_noisy(records)
    attacked = without_corruptions(measured)
    aside = Aside.of(without_noisy(RecordStore(outputs.folder).read_all()), measured, failures.cases)
    failed = [{"id": failure.case, "reason": failure.reason} for failure in failures.found]
    kept = {"findings": to_data(findings), **({"failed": failed} if failed else {}), **_known(worker.bench)}
    outputs.json("sanity.json", with_checksum(kept))
    report, board = None, None
    if protocol.asks_attacks:
        report, board = _of_attacks(outputs, worker, attacked, findings, aside)
    corrupted = _of_corruptions(outputs, worker, measured, findings, aside) if len(attacked) < len(measured) else ()
    certain = _certificate(outputs, worker, certificates, aside) if certificates else None
    found = Measured(View(measured, deployed=protocol.mode == "volume"), certificates)
    verdicts = judge_requirements(protocol.require, found, tuple(worker.bench.sources), len(failed))
    if verdicts or (outputs.folder / "requirements.json").exists():
        outputs.json("requirements.json", with_checksum({"requirements": to_data(verdicts)}))
    return AttackReport(
        tuple(records), findings, report, outputs.folder, board, verdicts, tuple(failures.found), corruptions=corrupted,
        certificates=certificates, certificate=certain,
    )  # fmt: skip


def _of_attacks(
    outputs: Outputs, worker: Worker, records: Sequence[Record], findings: Sequence[Finding], aside: Aside
) -> tuple[Table, Table | None]:
    """Write all that is about attacks, and return the table of attacks and the leaderboard."""
    bench, protocol = worker.bench, worker.bench.protocol
    volume, targets = protocol.mode == "volume", [bench.target(model) for model in bench.sources]
    groups = ensembles(protocol, max(target.classes for target in targets), bench.surrogate is not None)
    said = partial(_saying, failed_note(worker.failures.found, worker.total))
    report = said(robustness_table(records, with_all_attacks(records, groups), findings, thresholds=protocol.sanity))
    skipped = skipped_notes(RecordStore(outputs.folder).skipped(), bench.cases)
    seen = seen_notes(tuple(bench.cases), bench.seen, bench.left_out)
    told = partial(said, notes=tuple(aside.notes()))
    report = replace(report, notes=(*report.notes, *skipped, *seen, *aside.notes()))
    outputs.text("robustness.md", report.markdown())
    outputs.text("robustness.csv", report.csv())
    outputs.text("classes.md", told(classes_table(records, volume)).markdown())
    outputs.text("areas.md", told(areas_table(records, groups, volume)).markdown())
    swept = budgets_table(records, sweeps(protocol, max(target.classes for target in targets)), volume)
    if swept is not None:
        outputs.text("budgets.md", told(swept).markdown())
        outputs.text("budgets.csv", swept.csv())
    for model in bench.sources:
        attack_panel(worker, [record for record in records if record.model == model], outputs, _panel(model))
    board = (
        said(leaderboard_table(records, None, findings, thresholds=protocol.sanity)) if len(bench.sources) > 1 else None
    )
    if board is not None:
        board = replace(board, notes=(*board.notes, *_asked_for_less(bench), *aside.notes()))
        outputs.text("leaderboard.md", board.markdown())
        outputs.text("leaderboard.csv", board.csv())
    with outputs.write("curves.png") as path:
        curves_figure(path, records, groups, volume)
    with outputs.write("iterations.png") as path:
        iterations_figure(path, records)
    outputs.text("iterations.md", told(iterations_table(records)).markdown())
    for hardening in _hardenings(worker):
        outputs.text(_hardening_file(hardening), said(hardening_table(records, hardening, volume)).markdown())
    return report, board


def _of_corruptions(
    outputs: Outputs, worker: Worker, records: Sequence[Record], findings: Sequence[Finding], aside: Aside
) -> tuple[Table, ...]:
    """Write all that is about corruptions, and return the summary and the tables of Dice and HD95."""
    bench, section = worker.bench, worker.bench.protocol.corruptions
    assert section is not None
    skipped = RecordStore(outputs.folder).skipped([name for _, name in section.chosen()])
    seen = seen_notes(tuple(bench.cases), bench.seen, bench.left_out)
    summary = corruption_summary(records, findings, section.reference)
    summary = replace(summary, notes=(*summary.notes, *skipped_notes(skipped, bench.cases), *seen))
    told = partial(_saying, failed_note(worker.failures.found, worker.total), notes=tuple(aside.notes()))
    tables = told(summary), told(corruption_table(records)), told(distance_table(records))
    outputs.text("corruptions.md", "\n\n".join(table.markdown().strip() for table in tables) + "\n")
    outputs.text("corruptions.csv", tables[1].csv())
    outputs.text("corruption-summary.csv", tables[0].csv())
    return tables


def _certificate(outputs: Outputs, worker: Worker, certificates: Sequence[CaseCertificate], aside: Aside) -> Table:
    """Write what is certified, and return the table."""
    bench, failed = worker.bench, failed_note(worker.failures.found, worker.total)
    seen = seen_notes(tuple(bench.cases), bench.seen, bench.left_out)
    table = _saying(failed, certificate_table(certificates), (*seen, *aside.notes()))
    outputs.json(CERTIFICATES, with_checksum(certificates_data(certificates)))
    outputs.text("certificate.md", table.markdown())
    outputs.text("certificate.csv", table.csv())
    return table


def _known(bench: Bench) -> dict[str, list[str]]:
    """Which cases a system knows from its training, and which systems say so, where there are any."""
    found = {"seen": list(bench.seen), "left_out": list(bench.left_out), "known": list(bench.known)}
    return {name: ids for name, ids in found.items() if ids}


def _saying(warnings: Sequence[str], table: Table, notes: Sequence[str] = ()) -> Table:
    """A table that says first which cases no figure is over, and last what else the folder holds."""
    return replace(table, warnings=(*warnings, *table.warnings), notes=(*table.notes, *notes))


def _asked_for_less(bench: Bench) -> tuple[str, ...]:
    """Who cannot be ranked against whom, because one system answers with masks and another one with scores."""
    masks = [name for name in bench.sources if name in bench.masks]
    others = [name for name in bench.sources if name not in bench.masks]
    if not masks or not others:
        return ()
    return (
        f"answers with masks: {', '.join(masks)}; with scores: {', '.join(others)}. A search learns less from a mask, "
        "so that the same network looks more robust behind masks. Only their transfer attack compares them fairly",
    )


def _panel(model: str) -> str:
    return f"panel-{model}.png"


def _hardening_file(hardening: Hardening) -> str:
    return f"hardening-{hardening.after}.md"


def _hardenings(worker: Worker) -> Iterable[Hardening]:
    """Which of the runs began with the weights of which other one."""
    systems = {name: worker.system(name) for name in worker.bench.sources}
    places = {system.runs[0].root.resolve(): name for name, system in systems.items() if len(system.runs) == 1}
    for name, system in systems.items():
        start = _start(system)
        before = None if start is None else places.get(Path(start))
        if before is not None and before != name:
            seconds = [read_log(systems[key].runs[0].log)[-1]["seconds"] for key in (before, name)]
            yield Hardening(before, name, *seconds)


def _start(system: System) -> str | None:
    if len(system.runs) != 1 or not system.runs[0].settings.is_file():
        return None
    return load_json(RunSettings, system.runs[0].settings).start
