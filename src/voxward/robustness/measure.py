"""A benchmark from its units to its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.progress import Progress, silent
from voxward.engine.engine import Engine
from voxward.engine.settings import settle
from voxward.robustness.bench import Worker
from voxward.robustness.record import Record
from voxward.robustness.setup import settings_of
from voxward.robustness.store import RecordStore, StoredWork
from voxward.robustness.unit import Unit

STAGE = "benchmark"


def measure(worker: Worker, folder: Path, engine: Engine, progress: Progress = silent) -> tuple[Record, ...]:
    """Do all units that nobody has done yet, and return the records of the folder.

    The clean cases come first: half of a system's mean clean Dice is the threshold below which a case counts as broken.

    Args:
        worker: What does the units.
        folder: Where the records lie; settings.json there says what they are records of.
        engine: What runs the units.
        progress: Told about units and attacks.

    Raises:
        UserError: The folder holds records of other settings, or a system cannot be run on a case.
    """
    store, bench = RecordStore(folder), worker.bench
    settle(folder / "settings.json", settings_of(worker), "records")
    engine.run(tuple(bench.first_units()), StoredWork(store, worker.work), STAGE)

    def work(unit: Unit) -> Sequence[Record]:
        return worker.work(unit, progress)

    units = tuple(bench.units(bench.thresholds(store.read_all())))
    engine.run(units, StoredWork(store, work), STAGE, progress)
    return store.read_all()
