"""voxward attack: measure the robustness of one or several systems by a protocol."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxward.core.alone import alone
from voxward.core.case import Dataset
from voxward.core.choices import Cases, Cluster, Output, Reading
from voxward.core.errors import UserError
from voxward.core.invocation import Invocation, invocation
from voxward.core.outputs import Outputs
from voxward.data.dicom.classes import common_labels
from voxward.data.dicom.door import Converted, Wanted, converted, is_dicom_folder, named_out
from voxward.data.formats import open_dataset, refuse_own_folder
from voxward.engine.choose import engine_for, local_workers
from voxward.report.attack import KIND, AttackReport, check_reports, write_reports
from voxward.report.html.write import check_page, page_of
from voxward.robustness.bench import Source, Worker
from voxward.robustness.changes import sorted_changes
from voxward.robustness.cost import STAGE as SHORT_TRIALS
from voxward.robustness.cost import estimate as estimated
from voxward.robustness.measure import measure
from voxward.robustness.protocol import Protocol, load_protocol
from voxward.robustness.setup import set_up
from voxward.systems.open import Given, path_of
from voxward.systems.system import System
from voxward.systems.unseen import needed_for


def attack(
    systems: Sequence[Given] | Given,
    dataset: Path | str | Cases,
    *,
    out: Path | str | Output | None = None,
    protocol: Path | str = "autoattack",
    overrides: Sequence[str] = (),
    reading: Reading = Reading(),
    device: str = "auto",
    estimate: bool = False,
    cluster: Cluster | str | None = None,
) -> AttackReport:
    """Attack one or several systems through their whole pipelines, and write tables, checks and figures.

    A call that was interrupted goes on where it stopped. One process at a time works on an `out`, which keeps its
    settings.

    Args:
        systems: Run folders, models of other tools, `system.yaml` files, `voxward.Trusted` of one, or open systems.
        dataset: The dataset, whose labelled cases that no system has seen are attacked; or `voxward.Cases`. Or a folder
            of DICOM files, whose volumes OUT/from-dicom keeps; see docs/dicom.md.
        out: The folder of the results; by default RUN/attack, where there is one system that is a single run. It gets
            records/, robustness.md and .csv, classes.md, areas.md, iterations.md, sanity.json, figures, volumes/,
            segmentations/, cases.json, protocol.json, report.html; if they apply leaderboard.md, budgets.md,
            hardening-NAME.md, requirements.json. Or a `voxward.Output`, with `progress=voxward.ShowProgress()`.
        protocol: A packaged protocol, such as `quick`, `fast`, `autoattack` or `strong`, or the path of a .yaml file.
        overrides: Changes of the protocol's entries, such as `threat.eps=[4/255,8/255]` or `budget.steps=50`, and of
            every system's, such as `tta=mirrors`.
        reading: What the channels are, what is done about NaN, and whether the first failed case stops the others.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.
        estimate: Only estimate the hours.
        cluster: The cluster whose workers do the units, or its address, such as `local:4`; None: this process. That
            workers see the same systems and dataset under the same paths is checked.

    Returns:
        Records, checks, tables and the verdicts on the protocol's requirements.

    Raises:
        UserError: Something cannot be attacked so, or a file would be replaced; before any work.
        CasesFailed: Cases failed. Its `result` is the report on the others, which says so; no requirement is met then.
        FileNotFoundError: A system or the dataset is missing.

    Example:
        >>> found = voxward.attack("run", "Task04_Hippocampus", protocol="quick", overrides=["cases=3"])
    """
    call = invocation(attack, locals())
    given = list(systems) if isinstance(systems, Sequence) and not isinstance(systems, str) else [systems]
    if not given:
        raise UserError("systems must name at least one run folder or system.yaml")
    of_protocol, of_systems = sorted_changes(overrides)
    chosen = load_protocol(protocol, of_protocol)
    output = Output.of(out)
    sources = [Source.of(system, of_systems, device) for system in given]
    cases, scans = _cases(dataset)
    output = replace(output, folder=_folder(given, output, cases, scans and not estimate))
    with _worker(sources, cases, chosen, output, reading=reading, scans=scans, estimate=estimate) as worker:
        if estimate:
            return _estimated(worker, output, cluster)
        with alone(output.root, "an attack"):
            return _measured(worker, output, call, cluster)


def _estimated(worker: Worker, output: Output, cluster: Cluster | str | None) -> AttackReport:
    costs = estimated(worker, local_workers(cluster), progress=output.progress)
    return AttackReport((), (), None, output.root, costs=costs)


def _measured(worker: Worker, output: Output, call: Invocation, cluster: Cluster | str | None) -> AttackReport:
    """All units are done, and the reports are written, before it is said that cases failed."""
    outputs = Outputs(output.root, KIND, output.overwrite)
    check_reports(outputs, worker)
    check_page(output)
    with engine_for(outputs.folder, cluster, output.overwrite) as engine:
        records = measure(worker, outputs.folder, engine, output.progress, call)
    result = write_reports(outputs, worker, records)
    page_of(output)
    worker.failures.raise_any(worker.total, result)
    return result


def benchmark(systems: Sequence[Given] | Given, dataset: Path | str | Cases, **options: Any) -> AttackReport:
    """Call `attack`, whose former name for several systems this is; it will be removed."""
    warnings.warn("voxward benchmark is now voxward attack, which takes several systems", stacklevel=2)
    return attack(systems, dataset, **options)


def _cases(dataset: Path | str | Cases) -> tuple[Cases, bool]:
    """What is attacked, and whether it is a folder of DICOM files."""
    cases = dataset if isinstance(dataset, Cases) else Cases(dataset)
    if cases.dataset is None:
        raise UserError("dataset must be given: an attack needs volumes and their labels")
    return cases, is_dicom_folder(cases.dataset)


@contextmanager
def _worker(
    sources: Sequence[Source], cases: Cases, protocol: Protocol, output: Output, *, reading: Reading, scans: bool,
    estimate: bool,
) -> Iterator[Worker]:  # fmt: skip
    """What does the units; the volumes of an estimate are gone after the block, where they were made of DICOM files."""
    if estimate:
        output.progress(SHORT_TRIALS, 0, None, running="systems and cases are read")
    wanted = Wanted(None if estimate else output.root, reading=reading, progress=output.progress)
    with _volumes(cases, sources, wanted, scans, protocol.cases) as found:
        source, opened, made = found
        refuse_own_folder(output.root, source)
        cases = cases if made is None else made.asked(cases)
        place = output.root / "volumes"
        worker = set_up(sources, source, protocol, place, output.overwrite, cases, reading, systems=opened)
        if made is not None:
            worker.failures.found[:0] = made.failures
            made.renamed(worker.failures)
        yield worker


@contextmanager
def _volumes(
    cases: Cases, sources: Sequence[Source], wanted: Wanted, scans: bool, count: int | None
) -> Iterator[tuple[Dataset, list[System], Converted | None]]:
    """The dataset; where it is made of DICOM files, also the systems, whose classes it has, and what was made."""
    place = cases.dataset
    assert place is not None
    if not scans:
        yield open_dataset(place, wanted.reading.follow_links), [], None
        return
    systems = [source.open() for source in sources]
    labels = common_labels([(system.name, system.labels) for system in systems])
    names = " and ".join(system.name for system in systems)

    def choose(dataset: Dataset, absent: Collection[str], ids: Sequence[str]) -> list[str]:
        return needed_for(systems, dataset, replace(cases, ids=ids), count, absent)

    with converted([place], replace(wanted, labels=labels, system=names, ids=cases.ids, choose=choose)) as made:
        yield made.labelled(), systems, made


def _folder(systems: Sequence[Given], output: Output, cases: Cases, keeps: bool) -> Path:
    if output.folder is not None:
        return output.root
    if keeps:
        named_out(None, cases.dataset or "")
    first = path_of(systems[0])
    if len(systems) > 1 or first is None or not first.is_dir():
        raise UserError("out must be given where several runs are attacked, or a system.yaml")
    return first / "attack"
