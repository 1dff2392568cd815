"""A benchmark from its units to its records."""

from __future__ import annotations

from pathlib import Path

from voxward.core.failures import Failures
from voxward.core.invocation import Invocation
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.engine.engine import Engine
from voxward.engine.settings import settle
from voxward.robustness.bench import Worker
from voxward.robustness.course import BenchCourse
from voxward.robustness.description import CASES, DESCRIPTION, PROTOCOL, described_by
from voxward.robustness.doer import BenchDoer
from voxward.robustness.keep import keep_worst, keep_worst_so_far
from voxward.robustness.provenance import noted
from voxward.robustness.record import Record
from voxward.robustness.setup import settings_of
from voxward.robustness.store import RecordStore, StoredWork


def measure(
    worker: Worker, folder: Path, engine: Engine, progress: Progress = silent, call: Invocation = Invocation("")
) -> tuple[Record, ...]:
    """Do all units that nobody has done yet, and return the records of the folder.

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
        UserError: The folder holds records of other settings, or a cases.json or protocol.json that is not voxward's.
        CasesFailed: No case is left.
    """
    store, outputs = RecordStore(folder), Outputs(folder, DESCRIPTION, worker.bench.overwrite)
    outputs.check([CASES, PROTOCOL])
    settings = settings_of(worker)
    settle(folder / "settings.json", settings, "records")
    channels = {name: tuple(worker.system(name).channels) for name in worker.bench.sources}
    described_by(outputs, worker.bench, channels, call)
    cases, failures = worker.bench.cases, worker.failures
    course, doer = BenchCourse(worker.bench, progress, channels), BenchDoer(worker, settings)
    stored = StoredWork(
        store, doer, cases, failures, course.found, lambda unit: keep_worst_so_far(worker.bench, store, unit)
    )
    with noted(folder, call, worker, settings, done=store.count):
        _rounds(worker, engine, stored, course)
    return _left(store, failures)


def _rounds(worker: Worker, engine: Engine, stored: StoredWork, course: BenchCourse) -> None:
    """All units, those first whose results others need."""
    store, failures = stored.store, worker.failures
    first = tuple(worker.bench.first_units())
    course.plan((*first, *worker.bench.units(), *worker.bench.last_units()), stored)
    engine.run(first, stored, course)
    worker.leave_out_failed()

    earlier = _left(store, failures)
    course.note(earlier)
    units = tuple(worker.bench.units(worker.bench.thresholds(earlier)))
    course.plan((*worker.bench.first_units(), *units, *worker.bench.last_units()), stored)
    engine.run(units, stored, course)
    worker.leave_out_failed()

    attacked = _left(store, failures)
    keep_worst(worker.bench, attacked)
    last = tuple(worker.bench.last_units(attacked))
    course.plan((*worker.bench.first_units(), *worker.bench.units(), *last), stored)
    engine.run(last, stored, course)
    course.close()
    worker.leave_out_failed()


def _left(store: RecordStore, failures: Failures) -> tuple[Record, ...]:
    """The records of the cases that have not failed."""
    return tuple(record for record in store.read_all() if record.case not in failures.cases)
