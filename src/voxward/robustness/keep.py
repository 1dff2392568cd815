"""Which adversarial volumes stay on the disk: of each case and eps those of the attack that hurt most."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.outputs import Outputs
from voxward.robustness.bench import Bench
from voxward.robustness.record import Record
from voxward.robustness.stand import SEGMENTATION, VOLUME
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit
from voxward.robustness.worst import worst_attacks


def keep_worst_so_far(bench: Bench, store: RecordStore, unit: Unit) -> None:
    """Remove what a finished unit, or an earlier one on its case, has made needless; see `keep_worst`."""
    keep_worst(bench, store.of_case(unit.model, unit.case))


def keep_worst(bench: Bench, records: Sequence[Record]) -> None:
    """Remove volumes and segmentations under attacks that others were worse than, with `keep: worst`.

    Only what has a record is removed, and only if another record is worse. So several processes may work on one case:
    the worst of all its attacks is never removed, whoever finishes first.

    Args:
        bench: The benchmark, whose protocol says what is kept.
        records: All records that are there of some cases.
    """
    if bench.protocol.keep != "worst" or bench.protocol.mode != "volume":
        return
    mine = [record for record in records if record.model in bench.sources and record.case in bench.cases]
    worst = [unit_of(record) for record in worst_attacks(mine).values()]
    others = {unit_of(record) for record in mine if record.kind == "attack"} - {*worst}
    for path_of, kind in ((bench.volume_path, VOLUME), (bench.segmentation_path, SEGMENTATION)):
        for path in {*map(path_of, others)} - {*map(path_of, worst)}:
            if path is not None and path.exists():
                Outputs(path.parent, kind).remove(path.name)


def unit_of(record: Record) -> Unit:
    """Return the unit of one size that a record belongs to, whose files are named after it."""
    return Unit(record.model, record.attack, record.case, record.eps, record.seed)
