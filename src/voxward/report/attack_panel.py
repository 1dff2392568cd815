"""The picture of an attack: what it changed, and what the model then saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.outputs import Outputs
from voxward.data.io import read_case, read_image, read_label
from voxward.data.orient import orient, orientation
from voxward.report.robustness_figures import panel_figure
from voxward.report.slices import Picture
from voxward.robustness.bench import Bench, Worker
from voxward.robustness.eps import record_eps_text
from voxward.robustness.keep import unit_of
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.unit import Unit
from voxward.robustness.worst import worst_attacks


def attack_panel(worker: Worker, records: Sequence[Record], outputs: Outputs, name: str) -> None:
    """Draw the first case under the attack that hurt it most at the greatest eps; nothing where no volume was kept.

    Args:
        worker: What did the units.
        records: The records of one system.
        outputs: The folder of the picture.
        name: The name of the picture.
    """
    bench, first = worker.bench, next(iter(worker.bench.cases))
    found = worst_attacks(record for record in records if record.case == first)
    if not found:
        return
    worst = found[max(found, key=lambda key: key.eps)]
    kept = _kept(bench, worst)
    if not all(path is not None and path.is_file() for path in kept):
        return
    case, system = bench.case(worst.model, first), worker.system(worst.model)
    assert case.label is not None
    volume, truth = read_case(case), read_label(case.label)
    adversarial, before, after = (path for path in kept if path is not None)
    axes, flips = orientation(volume.affine)
    labels = system.labels.ignoring(bench.ignore)
    i, j, k = (volume.spacing[axis] for axis in axes)
    image, struck = (
        orient(array[0].astype(float), axes, flips) for array in (volume.array, read_image([adversarial]).array)
    )
    true, healthy, fooled = (
        orient(labels.to_index(label.array), axes, flips) for label in (truth, read_label(before), read_label(after))
    )
    title = f"{first}: {worst.attack}, eps {record_eps_text(worst, alone=True)}, Dice {worst.dice(deployed=True):.3f}"
    with outputs.write(name) as path:
        before_it = Picture(image, true, healthy, (i, j, k), labels)
        under_it = Picture(struck, true, fooled, (i, j, k), labels)
        panel_figure(path, before_it, under_it, title)


def _kept(bench: Bench, worst: Record) -> tuple[Path | None, Path | None, Path | None]:
    """The adversarial volume, and the segmentations without and under attack."""
    clean = Unit(worst.model, CLEAN, worst.case, None, bench.protocol.seeds[0])
    unit = unit_of(worst)
    return bench.volume_path(unit), bench.segmentation_path(clean), bench.segmentation_path(unit)
