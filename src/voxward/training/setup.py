"""Everything a training needs, put together once."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from itertools import accumulate
from operator import floordiv
from pathlib import Path
from typing import Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import Precision as FullPrecision
from torch.optim import Optimizer

from voxward.attacks.objectives import check_objective, create_objective
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import Plan
from voxward.core.recipe import Recipe
from voxward.data.loader import PatchBatch, validation_patches
from voxward.losses.deep import supervised
from voxward.losses.registry import create_loss
from voxward.losses.types import SupervisedLoss
from voxward.nets.registry import check_network, network_for_plan
from voxward.pipeline.precision import resolve_device, resolve_precision
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.averaging import Restarting, WeightAverage, restart_choice
from voxward.training.defence import DEFENCES
from voxward.training.optim import create_optimizer
from voxward.training.schedule import create_schedule
from voxward.training.state import Learner, TrainingState, load_state
from voxward.training.steps import StandardStep, Step, Trainer

_FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class TrainingCases:
    """Where the prepared cases lie, which are fitted, and which select the best checkpoint."""

    folder: Path
    fit: tuple[str, ...]
    selection: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run that is ready to go on from its `state`."""

    folder: RunFolder
    recipe: Recipe
    plan: Plan
    cases: TrainingCases
    seed: int
    learner: Learner
    loss: SupervisedLoss
    trainer: Trainer
    step: Step
    validation: tuple[PatchBatch, ...]
    state: TrainingState

    @property
    def fabric(self) -> Fabric:
        """Devices and precision."""
        return self.learner.fabric

    @property
    def network(self) -> torch.nn.Module:
        """The network, as Fabric wrapped it."""
        return self.learner.network

    @property
    def steps_per_epoch(self) -> int:
        """An epoch is one patch per fitted case, over all processes; each counts as often as it moves the weights."""
        patches = self.plan.batch_size * int(self.fabric.world_size) * self.step.updates
        return math.ceil(len(self.cases.fit) / patches)

    @property
    def learning_rate(self) -> float:
        """The recipe's initial learning rate."""
        return float(self.learner.optimizer.defaults["lr"])

    def restart_if_due(self) -> None:
        """Begin anew with the optimiser where the averaging's next cycle begins."""
        if self.recipe.averaging is None or not self.state.total_steps:
            return
        begun = self.recipe.averaging.restarts_begun(self.state.done)
        if begun > self.state.restarts:
            self.learner.restart()
            self.trainer.optimizer, self.state.restarts = self.learner.optimizer, begun

    def average_if_due(self) -> None:
        """Take the weights into their mean where the averaging says so."""
        if self.recipe.averaging is None or not self.state.total_steps or self.learner.average is None:
            return
        due = self.recipe.averaging.snapshots_due(self.state.done)
        if due > self.state.snapshots:
            self.learner.average.add()
            self.state.snapshots = due


def start_fabric(recipe: Recipe, accelerator: str = "auto", devices: int = 1) -> Fabric:
    """Start the processes and choose the precision. Raises ValueError for a device that is not there."""
    kind = resolve_device(accelerator).type
    precision = resolve_precision(recipe.training.precision, torch.device(kind))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision on its own
    strategy = "ddp" if devices > 1 else "auto"
    fabric = Fabric(accelerator=kind, devices=devices, strategy=strategy, precision=_FABRIC_PRECISION[precision])
    fabric.launch()
    return fabric


def check_recipe(recipe: Recipe, labels: LabelSet) -> None:
    """Raise ValueError for names and options that no room knows, or that do not fit, before any work is done."""
    optimizer = create_optimizer(recipe.optimizer, torch.nn.Linear(1, 1))
    create_schedule(recipe.schedule)
    if recipe.averaging is not None:
        rate = float(optimizer.defaults["lr"])
        create_optimizer(restart_choice(recipe.optimizer, recipe.averaging, rate), torch.nn.Linear(1, 1))
    create_loss(recipe.loss, labels)
    if recipe.inference.checkpoint == "swa" and recipe.averaging is None:
        raise UserError("inference.checkpoint 'swa' needs the recipe's part averaging: set it, or deploy 'best'")
    if recipe.defence is not None:
        check_objective(create_objective(recipe.defence.objective), labels.head, labels.outputs)
    check_network(recipe.network.name, recipe.network.options)


def check_auxiliary(recipe: Recipe, network: torch.nn.Module) -> None:
    """Raise ValueError unless training.auxiliary has a weight for each auxiliary head that the network has."""
    heads = getattr(network, "auxiliary", None)
    count, weights = 0 if heads is None else len(heads), recipe.training.auxiliary
    if len(weights) != count:
        raise UserError(
            f"training.auxiliary must hold a weight for each of the {count} auxiliary heads of network "
            f"{recipe.network.name!r}, got {list(weights)}"
        )


def set_up(
    folder: RunFolder,
    recipe: Recipe,
    plan: Plan,
    cases: TrainingCases,
    seed: int,
    fabric: Fabric,
    weights: Path | None = None,
) -> TrainingRun:
    """Build network, optimiser, schedule, loss and step; read the folder's state where there is one.

    weights: what the network starts from; None: its own beginning. Computes in what `training_precision` says.
    """
    if training_precision(recipe, plan, fabric.device) == "fp32":
        _compute_in_fp32(fabric)
    torch.manual_seed(seed)
    network = network_for_plan(recipe.network.name, plan, recipe.network.options)
    if weights is not None:
        load_weights(network, weights)
    optimizer = create_optimizer(recipe.optimizer, network)
    schedule = create_schedule(recipe.schedule)
    loss = supervised(create_loss(recipe.loss, plan.labels), recipe.training.auxiliary)
    wrapped, wrapped_optimizer = fabric.setup(network, optimizer)
    learner = Learner(fabric, wrapped, wrapped_optimizer, schedule)
    if recipe.averaging is not None:
        choice = restart_choice(recipe.optimizer, recipe.averaging, float(optimizer.defaults["lr"]))
        learner.schedule = Restarting(schedule, recipe.averaging)
        learner.average = WeightAverage(wrapped)
        learner.again = lambda: cast(Optimizer, fabric.setup_optimizers(create_optimizer(choice, network)))
    trainer = Trainer(fabric, wrapped, wrapped_optimizer, loss, recipe.training.clip_gradient_norm, plan.labels)
    defence = recipe.defence
    step: Step = StandardStep(trainer) if defence is None else DEFENCES[defence.method](trainer, defence)
    state = load_state(folder.state, learner, step) if folder.state.is_file() else TrainingState()
    trainer.optimizer = learner.optimizer
    selection = cases.selection or cases.fit[:1]
    return TrainingRun(
        folder=folder,
        recipe=recipe,
        plan=plan,
        cases=cases,
        seed=seed,
        learner=learner,
        loss=loss,
        trainer=trainer,
        step=step,
        validation=tuple(validation_patches(cases.folder, selection, plan, seed)),
        state=state,
    )


def training_precision(recipe: Recipe, plan: Plan, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """What a network is trained in: the recipe's precision, but `auto` is fp32 where a CPU's bf16 gradients are wrong.

    Those are the weights' gradients of a convolution over 2 voxels of the first axis: measured with torch 2.13, whose
    oneDNN gives NaN, infinity, or values off by more than a tenth for 3x3x3, padded by 1, whatever the other axes, on
    processors with bf16 instructions. Warns where the recipe asks for bf16 there.
    """
    asked = recipe.training.precision
    resolved = resolve_precision(asked, device)
    lengths = accumulate((stride[0] for stride in plan.strides), floordiv, initial=plan.patch_size[0])
    if device.type != "cpu" or resolved != "bf16" or 2 not in lengths:
        return resolved
    if asked == "auto":
        return "fp32"
    warnings.warn(
        "the network works on 2 voxels of the first axis, where a CPU's bf16 gradients may be wrong: "
        "set training.precision to auto or fp32, or a larger patch",
        stacklevel=3,
    )
    return resolved


def _compute_in_fp32(fabric: Fabric) -> None:
    """Before `fabric.setup`: the plan, which decides it, is known to all processes only after they have started."""
    fabric.strategy.precision = fabric._precision = FullPrecision()
