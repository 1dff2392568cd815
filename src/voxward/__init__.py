"""voxward: train, attack and harden 3D medical image segmentation, and know how robust a model is.

The public surface is the table below; each name is imported when it is first used, so `import voxward` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOMES = {
    # Commands: the functions behind the command line, with the same names and arguments.
    "check": "voxward.commands.check",
    "check_system": "voxward.commands.check_system",
    "from_masks": "voxward.commands.from_masks",
    "from_dicom": "voxward.commands.from_dicom",
    "to_dicom": "voxward.commands.to_dicom",
    "plan": "voxward.commands.plan",
    "prepare": "voxward.commands.prepare",
    "train": "voxward.commands.train",
    "predict": "voxward.commands.predict",
    "evaluate": "voxward.commands.evaluate",
    "evaluate_segmentations": "voxward.commands.evaluate_segmentations",
    "suspects": "voxward.commands.suspects",
    "cv": "voxward.commands.cv",
    "suite": "voxward.commands.suite",
    "merge": "voxward.commands.merge",
    "harden": "voxward.commands.harden",
    "reproduce": "voxward.commands.reproduce",
    "search": "voxward.commands.search",
    "attack": "voxward.commands.attack",
    "corrupt": "voxward.commands.corrupt",
    "benchmark": "voxward.commands.attack",
    "compose": "voxward.commands.compose",
    "export": "voxward.commands.export",
    "write_report": "voxward.commands.report",
    "serve": "voxward.commands.serve",
    "doctor": "voxward.commands.doctor",
    "worker": "voxward.commands.worker",
    "slurm": "voxward.commands.slurm",
    "demo": "voxward.commands.demo",
    # Parts.
    "open_system": "voxward.systems.open",
    "Freeze": "voxward.systems.system",
    "blackbox_system": "voxward.systems.blackbox",
    "network_system": "voxward.systems.network.system",
    "load_protocol": "voxward.robustness.protocol",
    "load_corruption_set": "voxward.corruptions.corruption_set",
    "Cases": "voxward.core.choices",
    "Compute": "voxward.core.choices",
    "DicomSeries": "voxward.core.choices",
    "Fold": "voxward.core.choices",
    "Job": "voxward.core.job",
    "Look": "voxward.core.choices",
    "Cluster": "voxward.core.choices",
    "Output": "voxward.core.choices",
    "Reading": "voxward.core.choices",
    "Reuse": "voxward.core.choices",
    "Strategy": "voxward.core.strategy",
    "Trusted": "voxward.core.choices",
    "CasesFailed": "voxward.core.errors",
    "Scoring": "voxward.metrics.policies",
    "ShowProgress": "voxward.report.progress",
    "create_network": "voxward.nets.registry",
    "load_recipe": "voxward.core.recipe",
    "load_run": "voxward.runs.folder",
    "open_dataset": "voxward.data.formats",
    "Predictor": "voxward.pipeline.predictor",
    "PatchModel": "voxward.core.model",
    "PipelineModel": "voxward.pipeline.model",
    "ThreatModel": "voxward.attacks.threat",
    "Volume": "voxward.core.case",
    "read_image": "voxward.data.io",
    "read_label": "voxward.data.io",
    "write_phantoms": "voxward.phantoms.write",
    "write_brain_phantoms": "voxward.phantoms.write",
    "write_abdomen_phantoms": "voxward.phantoms.write",
}

# Rooms with a surface of their own: voxward.attacks.create("apgd-dice").
_ROOMS = ("attacks", "certificates", "corruptions")

__all__ = ["__version__", *_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"voxward.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'voxward' has no attribute {name!r}; it has: {', '.join(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
