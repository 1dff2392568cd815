"""Folders of attacks and trainings as voxward leaves them, made from records and rows by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxward.core.document import with_format
from voxward.core.recipe import dump_recipe, load_recipe
from voxward.core.structure import to_data
from voxward.robustness.record import Record
from voxward.runs.folder import RunSettings

LOG = (
    "step,epoch,training_loss,validation_loss,validation_dice,learning_rate,seconds\n"
    "10,1,2.0,1.9,0.2,0.001,6.0\n"
    "20,2,1.5,nan,0.8,0.0005,12.0\n"
    "30,3,1.2,1.3,0.7,0.0001,30.0\n"
)
"""Three validations; the best one is the second, and one loss is no number."""


def write_json(path: Path, value: Any) -> Path:
    """Write plain data, NaN too, as a damaged or foreign program may have done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def attack_folder(
    folder: Path, records: Sequence[Record], settings: Mapping[str, Any] | None = None, wrapped: bool = True
) -> Path:
    """Write records, one file each, and settings.json; without `wrapped` in the form of version 0.1."""
    for number, record in enumerate(records):
        path = folder / "records" / "model" / f"{number:05d}.json"
        entries = [record.to_data()]
        write_json(path, with_format({"records": entries}) if wrapped else entries)
    found = {
        "protocol": {"threat": {"eps": sorted({r.eps for r in records if r.kind == "attack"}) or [0.1]},
                     "attacks": ["apgd-ce"]},
        "systems": {name: {"fingerprint": "abc"} for name in sorted({record.model for record in records})},
        "cases": dict.fromkeys(sorted({record.case for record in records}), "digest"),
    }  # fmt: skip
    write_json(folder / "settings.json", with_format(found | dict(settings or {})))
    return folder


def run_folder(folder: Path, log: str | None = LOG, recipe: str = "dynunet", **settings: Any) -> Path:
    """Write what a report reads of a training: recipe, settings and log."""
    (folder / "logs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump_recipe(load_recipe(recipe)), encoding="utf-8")
    found = RunSettings(
        **({"dataset": "/data/Task04", "fold": 0, "seed": 0, "minutes": 0.5, "version": "0"} | settings)
    )
    write_json(folder / "run.json", with_format(to_data(found)))
    if log is not None:
        (folder / "logs" / "training.csv").write_text(log, encoding="utf-8")
    return folder


def metrics_data(dice: Mapping[str, float | None]) -> dict[str, Any]:
    """What metrics.json holds of cases with one class."""
    figures = {"iou": 0.5, "sensitivity": 0.5, "specificity": 0.9, "hd95_mm": 3.0, "nsd": 0.8,
               "truth_voxels": 10, "predicted_voxels": 10}  # fmt: skip
    cases = [{"id": id, "classes": {"liver": {"dice": value, **figures}}} for id, value in dice.items()]
    return with_format({"policy": "ignore", "nsd_tolerance_mm": 2.0, "cases": cases})
