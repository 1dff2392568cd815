"""The picture of an attack: what it changed, and what the model then saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.wording import in_hounsfield
from voxward.data.io import read_case, read_image, read_label
from voxward.data.orient import orient, orientation
from voxward.report.robustness_figures import attack_panel_figure
from voxward.report.slices import Picture
from voxward.report.style import write
from voxward.robustness.bench import Bench, Worker
from voxward.robustness.eps import record_eps_text
from voxward.robustness.keep import unit_of
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.unit import Unit
from voxward.robustness.worst import worst_attacks


@dataclass(frozen=True)
class PanelFiles:
    """All that the picture of an attack is drawn from.

    Attributes:
        record: The attack.
        case: The files of the case, with the channels in the order of the system.
        labels: The classes of the system.
        adversarial: The file of the adversarial volume.
        before: The file of the segmentation without an attack.
        after: The file of the segmentation under attack.
    """

    record: Record
    case: Case
    labels: LabelSet
    adversarial: Path
    before: Path
    after: Path


def panel_of(files: PanelFiles, titled: bool = True) -> Any:
    """Return the picture of an attack as a matplotlib figure.

    Args:
        files: What it is drawn from.
        titled: Whether case, attack and Dice stand above it.

    Raises:
        UserError: A file cannot be read.
    """
    assert files.case.label is not None
    record, labels = files.record, files.labels
    volume, truth = read_case(files.case), read_label(files.case.label)
    axes, flips = orientation(volume.affine)
    i, j, k = (volume.spacing[axis] for axis in axes)
    image, struck = (
        orient(array[0].astype(float), axes, flips) for array in (volume.array, read_image([files.adversarial]).array)
    )
    true, healthy, fooled = (
        orient(labels.to_index(label.array), axes, flips)
        for label in (truth, read_label(files.before), read_label(files.after))
    )
    dice = record.dice(deployed=record.deployed is not None)
    title = f"{record.case}: {record.attack}, eps {record_eps_text(record, alone=True)}, Dice {dice:.3f}"
    return attack_panel_figure(
        Picture(image, true, healthy, (i, j, k), labels), Picture(struck, true, fooled, (i, j, k), labels),
        title if titled else "", "HU" if in_hounsfield(record.channels) else "",
    )  # fmt: skip


def attack_panel(worker: Worker, records: Sequence[Record], outputs: Outputs, name: str) -> None:
    """Draw the first case under the attack that hurt it most at the greatest eps; nothing where no volume was kept.

    Args:
        worker: What did the units.
        records: The records of one system.
        outputs: The folder of the picture.
        name: The name of the picture, a PNG file.
    """
    bench, first = worker.bench, next(iter(worker.bench.cases))
    found = worst_attacks(record for record in records if record.case == first)
    if not found:
        return
    worst = found[max(found, key=lambda key: key.eps)]
    kept = [path for path in _kept(bench, worst) if path is not None and path.is_file()]
    if len(kept) < 3:
        return
    labels = worker.system(worst.model).labels.ignoring(bench.ignore)
    with outputs.write(name) as path:
        write(panel_of(PanelFiles(worst, bench.case(worst.model, first), labels, *kept)), path, "png")


def _kept(bench: Bench, worst: Record) -> tuple[Path | None, Path | None, Path | None]:
    """The adversarial volume, and the segmentations without and under attack."""
    clean = Unit(worst.model, CLEAN, worst.case, None, bench.protocol.seeds[0])
    unit = unit_of(worst)
    return bench.volume_path(unit), bench.segmentation_path(clean), bench.segmentation_path(unit)
