"""Which adversarial volumes stay on the disk: of each case and eps those of the attack that hurt most."""

from __future__ import annotations

from voxward.core.outputs import Outputs
from voxward.robustness.bench import Bench
from voxward.robustness.record import Record
from voxward.robustness.stand import SEGMENTATION, VOLUME
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit
from voxward.robustness.worst import worst_attacks


def keep_worst(bench: Bench, store: RecordStore, unit: Unit) -> None:
    """Remove what a finished unit has made needless; see `keep_worst_of`."""
    keep_worst_of(bench, store, unit.model, unit.case)


def keep_worst_of(bench: Bench, store: RecordStore, model: str, case: str) -> None:
    """Remove volumes and segmentations of a case under attacks that others were worse than, with `keep: worst`.

    Only what has a record is removed, and only if another record is worse. So several processes may work on one case:
    the worst of all its attacks is never removed, whoever finishes first.

    Args:
        bench: The benchmark, whose protocol says what is kept.
        store: The records.
        model: The name of the system.
        case: The id of the case.
    """
    if bench.protocol.keep != "worst" or bench.protocol.mode != "volume":
        return
    records = store.of_case(model, case)
    worst = [unit_of(record) for record in worst_attacks(records).values()]
    others = {unit_of(record) for record in records if record.kind == "attack"} - {*worst}
    for path_of, kind in ((bench.volume_path, VOLUME), (bench.segmentation_path, SEGMENTATION)):
        for path in {*map(path_of, others)} - {*map(path_of, worst)}:
            if path is not None and path.exists():
                Outputs(path.parent, kind).remove(path.name)


def unit_of(record: Record) -> Unit:
    """Return the unit of one size that a record belongs to, whose files are named after it."""
    return Unit(record.model, record.attack, record.case, record.eps, record.seed)
