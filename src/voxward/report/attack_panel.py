"""The picture of an attack: what it changed, and what the model then saw."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.outputs import Outputs
from voxward.data.io import read_case, read_image, read_label
from voxward.data.orient import orient, orientation
from voxward.report.robustness_figures import panel_figure
from voxward.report.slices import Picture
from voxward.robustness.bench import Worker
from voxward.robustness.record import Record
from voxward.robustness.unit import Unit


def attack_panel(worker: Worker, records: Sequence[Record], outputs: Outputs, name: str) -> None:
    """Draw the first case under the attack that hurt it most at the greatest eps; nothing where no volume was kept.

    records: those of one model. name: of the picture among the outputs.
    """
    bench = worker.bench
    first = next(iter(bench.cases))
    attacked = [record for record in records if record.kind == "attack" and record.case == first]
    if bench.protocol.mode != "volume" or not attacked:
        return
    greatest = max(record.eps for record in attacked)
    largest = [record for record in attacked if record.eps == greatest]
    worst = min(largest, key=lambda record: record.dice(deployed=True))
    stored = bench.volume_path(Unit(worst.model, worst.attack, worst.case, worst.eps, worst.seed))
    if stored is None or not stored.is_file():
        return
    case, system = bench.case(worst.model, first), worker.system(worst.model)
    assert case.label is not None
    volume, adversarial, truth = read_case(case), read_image([stored]), read_label(case.label)
    axes, flips = orientation(volume.affine)
    labels = system.labels.ignoring(bench.ignore)
    i, j, k = (volume.spacing[axis] for axis in axes)
    image, struck, true, before, after = (
        orient(array, axes, flips)
        for array in (
            volume.array[0].astype(float), adversarial.array[0].astype(float), labels.to_index(truth.array),
            system.segment(volume).label, system.segment(adversarial).label,
        )
    )  # fmt: skip
    title = f"{first}: {worst.attack}, eps {worst.eps:.4f}, Dice {worst.dice(deployed=True):.3f}"
    with outputs.write(name) as path:
        before_it = Picture(image, true, before, (i, j, k), labels)
        under_it = Picture(struck, true, after, (i, j, k), labels)
        panel_figure(path, before_it, under_it, title)
