"""Everything that a training needs, checked and put together once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from operator import floordiv
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch.optim import Optimizer

from voxward.attacks.objectives import check_objective, create_objective
from voxward.core.devices import kind_of
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import Plan
from voxward.core.recipe import Averaging, Recipe
from voxward.data.loader import PatchBatch, validation_patches
from voxward.data.planner import check_preparation
from voxward.losses.deep import supervised
from voxward.losses.registry import create_loss
from voxward.nets.registry import check_network, network_for_plan
from voxward.pipeline.precision import resolve_precision
from voxward.pipeline.windows import check_inference
from voxward.runs.folder import RunFolder, load_weights
from voxward.runs.postprocess import check_postprocessing
from voxward.training.averaging import ExponentialMean, Restarting, WeightAverage, restart_choice
from voxward.training.defence import DEFENCES
from voxward.training.learner import Learner
from voxward.training.optim import create_optimizer
from voxward.training.origin import Origins
from voxward.training.patch_corruptions import PatchCorruptions
from voxward.training.schedule import create_schedule
from voxward.training.selection import SELECTIONS
from voxward.training.share import Share, share_of, with_shared_norms
from voxward.training.state import TrainingState, load_state
from voxward.training.steps import HardeningStep, StandardStep, Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # slow to import, and only trainings need it


@dataclass(frozen=True)
class TrainingCases:
    """The prepared cases of a training or of a search.

    Args:
        folder: The folder of the prepared cases.
        fit: The ids of the cases that the weights learn on.
        selection: The ids of the cases that choose the best checkpoint; in a search, of those that the architecture
            learns on.
    """

    folder: Path
    fit: tuple[str, ...]
    selection: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run that is ready to go on from its `state`.

    Args:
        folder: The folder of the run.
        recipe: The recipe of the run.
        plan: The plan of the run.
        cases: The prepared cases.
        seed: The seed of everything that is drawn.
        learner: The network and everything that changes it.
        step: The function that learns from one batch.
        validation: The patches on which every validation measures the loss and the Dice score.
        state: Where the run stands.
        share: The part of every batch that this process takes.
        judges_start: Whether the weights that the run begins with are validated before the first step: those of a
            trained network that is hardened.
    """

    folder: RunFolder
    recipe: Recipe
    plan: Plan
    cases: TrainingCases
    seed: int
    learner: Learner
    step: Step
    validation: tuple[PatchBatch, ...]
    state: TrainingState
    share: Share
    judges_start: bool = False

    @property
    def fabric(self) -> Fabric:
        """Return the devices and the precision of the run."""
        return self.learner.fabric

    @property
    def network(self) -> torch.nn.Module:
        """Return the network as Fabric wrapped it."""
        return self.learner.network

    @property
    def origins(self) -> Origins | None:
        """Return where the intensities of patches come from; None where the step does not ask for it."""
        asks = isinstance(self.step, HardeningStep) and self.step.reads_origin
        return Origins(self.cases.folder, self.plan) if asks else None

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of steps in an epoch.

        An epoch is one patch per case that is fitted, over all processes. A patch that moves the weights several times
        counts as often.
        """
        return math.ceil(len(self.cases.fit) / (self.share.total * self.step.updates))

    @property
    def learning_rate(self) -> float:
        """Return the initial learning rate of the recipe."""
        return float(self.learner.optimizer.defaults["lr"])

    def restart_if_due(self) -> None:
        """Take a new optimiser where the next cycle of the averaging begins."""
        averaging = self.recipe.averaging
        if averaging is None or averaging.decay is not None or not self.state.total_steps:
            return
        begun = averaging.restarts_begun(self.state.done)
        if begun > self.state.restarts:
            self.learner.restart()
            self.state.restarts = begun

    def average_if_due(self) -> None:
        """Add the weights to their mean where a snapshot is due; an exponential mean takes one after every step."""
        if self.recipe.averaging is None or self.learner.average is None:
            return
        if self.recipe.averaging.decay is not None:
            self.learner.average.add()
        elif self.state.total_steps:
            self._add_snapshot(self.recipe.averaging, self.learner.average)

    def _add_snapshot(self, averaging: Averaging, average: WeightAverage) -> None:
        due = averaging.snapshots_due(self.state.done)
        if due > self.state.snapshots:
            average.add()
            self.state.snapshots = due


def check_recipe(recipe: Recipe, labels: LabelSet) -> None:
    """Refuse a recipe with names or options that are unknown or do not fit, before any work is done.

    Args:
        recipe: The recipe, read without errors.
        labels: The labels of the dataset, with the regions of the recipe.

    Raises:
        UserError: A name is in no registry, an option is wrong, or parts of the recipe contradict each other.
    """
    optimizer = create_optimizer(recipe.optimizer, torch.nn.Linear(1, 1))
    create_schedule(recipe.schedule)
    if recipe.averaging is not None:
        rate = float(optimizer.defaults["lr"])
        create_optimizer(restart_choice(recipe.optimizer, recipe.averaging, rate), torch.nn.Linear(1, 1))
    create_loss(recipe.loss, labels)
    SELECTIONS[recipe.training.best]
    check_preparation(recipe.preparation)
    check_inference(recipe.inference)
    check_postprocessing(recipe.postprocessing, labels)
    if recipe.inference.checkpoint == "swa" and recipe.averaging is None:
        raise UserError("inference.checkpoint 'swa' needs the recipe's part averaging: set it, or deploy 'best'")
    if recipe.defence is not None:
        DEFENCES[recipe.defence.method]
        if not recipe.defence.unused(["corruptions"]):
            PatchCorruptions.chosen(recipe.defence.corruptions)
        check_objective(create_objective(recipe.defence.objective), labels.head, labels.outputs)
    check_network(recipe.network.name, recipe.network.options)


def check_auxiliary(recipe: Recipe, network: torch.nn.Module) -> None:
    """Refuse a recipe whose `training.auxiliary` has not one weight for each auxiliary output of its network.

    Raises:
        UserError: There are more or fewer weights than outputs.
    """
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
    new_layers: Collection[str] = (),
    network: torch.nn.Module | None = None,
    patches: int | None = None,
) -> TrainingRun:
    """Build network, optimiser, schedule, loss and step, and read the state of the run where there is one.

    Args:
        folder: The folder of the run; its `checkpoints/state.pt` need not be there.
        recipe: The recipe of the run.
        plan: The plan of the run.
        cases: The prepared cases.
        seed: The seed of the initial weights and of everything that is drawn.
        fabric: A launched Fabric. It may be set to fp32, see `training_precision`.
        weights: The weights to start from, as safetensors, or None for random ones.
        new_layers: The names of tensors that begin with random values all the same.
        network: A network that is not the recipe's, with the weights to start from; None makes the recipe's.
        patches: The number of patches in a step, over all processes; None for the plan's batch in each process.

    Returns:
        A run at its beginning, or where it stopped.

    Raises:
        UserError: The recipe, the plan and the weights do not fit each other.
    """
    if training_precision(recipe, plan, fabric.device) == "fp32":
        from voxward.training.fabric import compute_in_fp32  # it is loaded: there is a Fabric

        compute_in_fp32(fabric)
    torch.manual_seed(seed)
    if network is None:
        network = network_for_plan(recipe.network.name, plan, recipe.network.options)
    if weights is not None:
        load_weights(network, weights, new_layers)
    learner = _learner(recipe, plan, fabric, with_shared_norms(network, fabric))
    defence = recipe.defence
    step: Step = StandardStep(learner) if defence is None else DEFENCES[defence.method](learner, defence)
    state = load_state(folder.state, learner, step) if folder.state.is_file() else TrainingState()
    selection = cases.selection or cases.fit[:1]
    return TrainingRun(
        folder=folder,
        recipe=recipe,
        plan=plan,
        cases=cases,
        seed=seed,
        learner=learner,
        step=step,
        validation=tuple(validation_patches(cases.folder, selection, plan, seed)),
        state=state,
        share=share_of(patches or plan.batch_size * int(fabric.world_size), fabric),
    )


def _learner(recipe: Recipe, plan: Plan, fabric: Fabric, network: torch.nn.Module) -> Learner:
    optimizer = create_optimizer(recipe.optimizer, network)
    loss = supervised(create_loss(recipe.loss, plan.labels), recipe.training.auxiliary)
    wrapped, wrapped_optimizer = fabric.setup(network, optimizer)
    learner = Learner(
        fabric=fabric,
        network=wrapped,
        optimizer=wrapped_optimizer,
        loss=loss,
        schedule=create_schedule(recipe.schedule),
        clip_gradient_norm=recipe.training.clip_gradient_norm,
        labels=plan.labels,
    )
    if recipe.averaging is not None and recipe.averaging.decay is not None:
        learner.average = ExponentialMean(wrapped, decay=recipe.averaging.decay)
    elif recipe.averaging is not None:
        choice = restart_choice(recipe.optimizer, recipe.averaging, float(optimizer.defaults["lr"]))
        learner.schedule = Restarting(learner.schedule, recipe.averaging)
        learner.average = WeightAverage(wrapped)
        learner.new_optimizer = lambda: cast(Optimizer, fabric.setup_optimizers(create_optimizer(choice, network)))
    return learner


def training_precision(recipe: Recipe, plan: Plan, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Return the precision in which a network is trained.

    It is the precision of the recipe, but `auto` becomes fp32 where the bf16 gradients of a CPU are wrong. Those are
    the gradients of the weights of a convolution over 2 voxels of the first axis. They were measured with torch 2.13,
    whose oneDNN returns NaN, infinity, or values that are wrong by more than a tenth for 3x3x3 kernels with padding 1,
    whatever the other axes are, on processors with bf16 instructions. Where the recipe asks for bf16 there, a warning
    is given.

    Args:
        recipe: The recipe, whose `training.precision` may be `auto`.
        plan: The plan, whose patch and strides decide how small the first axis becomes.
        device: The device of the training.

    Raises:
        UserError: The device cannot compute in that precision.
    """
    asked = recipe.training.precision
    resolved = resolve_precision(asked, device)
    lengths = accumulate((stride[0] for stride in plan.strides), floordiv, initial=plan.patch_size[0])
    if not kind_of(device).host or resolved != "bf16" or 2 not in lengths:
        return resolved
    if asked == "auto":
        return "fp32"
    warnings.warn(
        "the network works on 2 voxels of the first axis, where a CPU's bf16 gradients may be wrong: "
        "set training.precision to auto or fp32, or a larger patch",
        stacklevel=3,
    )
    return resolved
