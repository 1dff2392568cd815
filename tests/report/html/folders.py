"""Attack folders of tiny volumes, made without any model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.robustness.books import record
from voxward.attacks.threat import ThreatModel
from voxward.core.document import with_format
from voxward.core.labels import LabelSet
from voxward.core.structure import to_data
from voxward.data.content import digest_of
from voxward.data.io import write_image, write_label
from voxward.report.sources import AttackSource, read_sources
from voxward.robustness.record import Record
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit

LABELS = LabelSet(("background", "head", "tail"), (0, 5, 9))
AFFINE = np.array([[-1.0, 0, 0, 4], [0, 0, 2.0, -3], [0, 1.5, 0, 7], [0, 0, 0, 1]])
"""An axis runs to the left, and two are swapped."""


@dataclass
class Attacked:
    """An attack folder with all files that the page reads.

    truth, clean and struck hold file values; the perturbation is `change` in every voxel of the file.
    """

    folder: Path
    records: list[Record] = field(default_factory=list)
    cases: dict[str, dict] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    orders: dict[str, list[int]] = field(default_factory=dict)
    shape: tuple[int, int, int] = (6, 7, 8)
    bounds: tuple[float, float] = (0.0, 100.0)

    def add(self, case: str, dice: float = 0.25, eps: float = 0.1, model: str = "m", change: float = 10.0, **options):
        """Add a case with one attack; `image` and `truth` replace the volumes."""
        rng = np.random.default_rng(len(self.cases))
        image = options.pop("image", rng.integers(0, 100, self.shape).astype(np.int16))
        truth = options["truth"] if "truth" in options else _block(self.shape, 2, 4)
        image_path, label_path = (self.folder.parent / "data" / f"{case}-{n}.nii.gz" for n in ("image", "label"))
        if not image_path.is_file():
            image_path.parent.mkdir(exist_ok=True)
            write_image(image_path, image, AFFINE)
            write_label(label_path, truth, AFFINE)
        self.cases[case] = {"images": [str(image_path)], "label": str(label_path), "order": None}
        self.digests[case] = digest_of([image_path, label_path])
        threat = ThreatModel(eps, bounds=(self.bounds,))
        common = {"model": model, "mode": "volume", "clean": (1.0, 0.5), "deployed_clean": (1.0, 0.5), "threat": threat}
        self._record("clean", case, (1.0, 0.5), 0.0, kind="control", **common)
        self._record("pgd", case, (dice, dice), eps, written=eps, distance=eps, **common)
        place = f"{model}/pgd/{eps:.5f}/{case}.nii.gz"
        self._write(f"segmentations/{model}/clean/{case}.nii.gz", write_label, truth)
        self._write(f"segmentations/{place}", write_label, np.roll(truth, 1, 0))
        struck = image + np.asarray(change, image.dtype)
        self._write(f"volumes/{place}", write_image, struck)
        return self

    def source(self) -> AttackSource:
        """Write what describes the folder, and read it as the report does."""
        settings = {"protocol": {}, "cases": self.digests}
        (self.folder / "settings.json").write_text(json.dumps(with_format(settings)))
        models = dict.fromkeys(record.model for record in self.records)
        systems = {model: {"labels": to_data(LABELS), "channels": ["T1"], "orders": self.orders} for model in models}
        listed = {"dataset": "", "cases": self.cases, "systems": systems}
        (self.folder / "cases.json").write_text(json.dumps(with_format(listed)))
        store = RecordStore(self.folder)
        for one in self.records:
            store.write(Unit(one.model, one.attack, one.case, one.eps, one.seed), [one])
        return read_sources([self.folder]).attacks[0]

    def _record(self, attack: str, case: str, scores: tuple[float, float], eps: float, **options) -> None:
        made = record(attack, case, scores, eps, deployed=scores, **options)
        self.records = [
            r for r in self.records if (r.model, r.attack, r.case, r.eps) != (made.model, attack, case, eps)
        ]
        self.records.append(made)

    def _write(self, place: str, write, array: np.ndarray) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, array, AFFINE)


def attacked(tmp_path: Path, **options) -> Attacked:
    """An attack folder without cases."""
    folder = tmp_path / "attack"
    folder.mkdir()
    return Attacked(folder, **options)


def _block(shape: tuple[int, int, int], start: int, stop: int) -> np.ndarray:
    """Two classes that share a block."""
    values = np.zeros(shape, np.uint8)
    values[start:stop, start:stop, start:stop] = 5
    values[start:stop, start:stop, start] = 9
    return values
