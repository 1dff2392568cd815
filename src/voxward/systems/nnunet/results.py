"""A results folder of nnU-Net, read: its plan, the networks of its folds, and its post-processing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from voxward.core.errors import UserError
from voxward.nets.nnunet import NnUNet
from voxward.systems.nnunet.architecture import refuse_unfit
from voxward.systems.nnunet.plans import NnPlan, read_plan
from voxward.systems.nnunet.weights import folds_in, network_of, read_checkpoint

CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True, eq=False)
class NnResults:
    """What is deployed of a results folder.

    Attributes:
        folder: The results folder.
        plan: What the plan decides.
        networks: The network of each fold.
        files: The checkpoint of each fold.
        mirrors: The axes of the transposed array along which copies are averaged.
        trainer: The name of the trainer.
    """

    folder: Path
    plan: NnPlan
    networks: tuple[NnUNet, ...]
    files: tuple[Path, ...]
    mirrors: tuple[int, ...]
    trainer: str

    @property
    def folds(self) -> tuple[str, ...]:
        """Return the names of the folds that predict together."""
        return tuple(path.parent.name.removeprefix("fold_") for path in self.files)


def is_results(path: Path) -> bool:
    """Return whether a path is a results folder: the plans, the dataset and at least one fold lie in it."""
    if not path.is_dir() or not all((path / name).is_file() for name in ("plans.json", "dataset.json")):
        return False
    return any(folder.is_dir() for folder in path.glob("fold_*"))


def read_results(
    folder: Path,
    folds: Sequence[str | int] | None = None,
    checkpoint: str = CHECKPOINT,
    device: torch.device | None = None,
) -> NnResults:
    """Read a results folder.

    Args:
        folder: The folder that holds plans.json, dataset.json and fold_0 to fold_4.
        folds: The folds that predict together; None takes every numbered fold that is there, or else `fold_all`.
        checkpoint: The name of the checkpoint file in each fold.
        device: Where the networks go; None for the CPU.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
        UserError: Something in the folder cannot be reproduced or read safely; the message says what and where.
    """
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no results folder of nnU-Net: it has no {name}")
    files = folds_in(folder, checkpoint, folds)
    read = [read_checkpoint(path) for path in files]
    first = read[0]
    for what in ("configuration", "mirrors"):
        if len({getattr(each, what) for each in read}) > 1:
            raise UserError(f"{folder}: the folds differ in their {what}: {[getattr(each, what) for each in read]}")
    plan = read_plan(folder, first.configuration)
    refuse_unfit(plan.architecture, plan.patch, folder / "plans.json")
    channels, outputs = len(plan.channels), len(plan.heads)
    networks = tuple(network_of(each, plan.architecture, channels, outputs) for each in read)
    if device is not None:
        networks = tuple(network.to(device) for network in networks)
    axes = plan.architecture.axes
    if any(axis >= axes for axis in first.mirrors):
        raise UserError(f"{first.path}: it mirrors the axes {first.mirrors}, but the network has {axes}")
    mirrors = tuple(axis + 3 - axes for axis in first.mirrors)  # a slice's axes are the last two
    return NnResults(folder, plan, networks, files, mirrors, first.trainer)
