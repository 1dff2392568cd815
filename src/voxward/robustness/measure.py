"""A benchmark from its units to its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.invocation import Invocation
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.engine.engine import Engine
from voxward.engine.settings import settle
from voxward.robustness.asked import (
    GROWS,
    SEVERITIES,
    SIZES,
    asked_for,
    drop_lost,
    drop_outdated,
    drop_uncounted,
    refuse_other_sizes,
)
from voxward.robustness.bench import Bench, Worker
from voxward.robustness.course import BenchCourse
from voxward.robustness.description import CASES, DESCRIPTION, PROTOCOL, described_by
from voxward.robustness.doer import BenchDoer
from voxward.robustness.keep import keep_worst, keep_worst_so_far
from voxward.robustness.provenance import noted
from voxward.robustness.record import Record
from voxward.robustness.setup import settings_of
from voxward.robustness.store import RecordStore, StoredWork
from voxward.robustness.unit import Unit


def measure(
    worker: Worker, folder: Path, engine: Engine, progress: Progress = silent, call: Invocation = Invocation("")
) -> tuple[Record, ...]:
    """Do all units that nobody has done yet, and return those records of the folder that are asked for.

    An earlier call may have asked for other cases, or other sizes of the perturbation; see `robustness.asked`.

    A case that fails in one unit does not stop the others: the worker keeps the failure and leaves the case out, and
    none of its records is returned, so that all figures are over the same cases.

    The clean cases come first: half of a system's mean clean Dice is the threshold below which a case counts as broken.
    Noise as strong as the worst attack comes last.

    Args:
        worker: What does the units.
        folder: Where the records lie; settings.json there says what they are records of.
        engine: What runs the units.
        progress: Told about units and attacks.
        call: The command line, or call, that is written down beside the protocol.

    Raises:
        UserError: The folder holds records of other settings, or of other files of a case, or a cases.json or
            protocol.json that is not voxward's.
        CasesFailed: No case is left.
    """
    store, outputs = RecordStore(folder), Outputs(folder, DESCRIPTION, worker.bench.overwrite)
    outputs.check([CASES, PROTOCOL])
    settings = settings_of(worker)
    channels = {name: tuple(worker.system(name).channels) for name in worker.bench.sources}
    refuse_other_sizes(folder / "settings.json", worker.bench, [one for names in channels.values() for one in names])
    settle(folder / "settings.json", settings, "records", grows=GROWS, free=(SIZES, *SEVERITIES))
    described_by(outputs, worker.bench, channels, call)
    cases, failures = worker.bench.cases, worker.failures
    course, doer = BenchCourse(worker.bench, progress, channels), BenchDoer(worker, settings)
    stored = StoredWork(
        store, doer, cases, failures, course.found, lambda unit: keep_worst_so_far(worker.bench, store, unit)
    )
    with noted(folder, call, worker, settings, done=store.count):
        _rounds(worker, engine, stored, course)
    return _left(worker.bench, store)


def _rounds(worker: Worker, engine: Engine, stored: StoredWork, course: BenchCourse) -> None:
    """All units, those first whose results others need."""
    store = stored.store

    def do(units: Sequence[Unit]) -> None:
        bench = worker.bench
        course.plan((*bench.first_units(), *bench.units(), *bench.last_units()), stored)
        engine.run(units, stored, course)
        worker.leave_out_failed()

    do(tuple(worker.bench.first_units()))
    units = tuple(worker.bench.units(worker.bench.thresholds(_left(worker.bench, store))))
    drop_outdated(worker.bench, store, units)
    drop_uncounted(worker.bench, store, units)
    course.note(_left(worker.bench, store))
    touched = {stored.group(unit) for unit in units if not stored.finished(unit)}
    do(units)
    drop_lost(worker.bench, store, [one for one in units if stored.group(one) in touched], _left(worker.bench, store))
    do(units)
    attacked = _left(worker.bench, store)
    keep_worst(worker.bench, attacked)
    last = tuple(worker.bench.last_units(attacked))
    drop_outdated(worker.bench, store, last)
    do(last)
    course.close()


def _left(bench: Bench, store: RecordStore) -> tuple[Record, ...]:
    """The records that are asked for, of the cases that have not failed."""
    return asked_for(store.read_all(), bench.cases, bench.protocol)
