"""Everything that a search needs, put together from a recipe and a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from voxward.architecture_search.bilevel import Bilevel, Budget
from voxward.architecture_search.cost import cost_table
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.core.errors import UserError
from voxward.core.plan import Plan
from voxward.core.recipe import Recipe
from voxward.core.recipe.search import Search
from voxward.losses.registry import create_loss
from voxward.losses.types import Loss
from voxward.nets.layout import Layout, stage_strides
from voxward.nets.slicewise import Slicewise
from voxward.pipeline.precision import Precision
from voxward.runs.folder import RunFolder
from voxward.training.setup import TrainingCases, training_precision


@dataclass(frozen=True, eq=False)
class SearchRun:
    """A search that is ready to go on.

    Args:
        folder: The folder of the search.
        recipe: The recipe of the search.
        plan: The plan of the search.
        cases: The prepared cases; the weights learn on `fit`, and the architecture on `selection`.
        seed: The seed of everything that is drawn.
        device: The device of the search.
        precision: The precision of the search.
        bilevel: The super-net with its optimisers, and how far the search is.
        network: The super-net as a function of volumes (b, c, d, h, w), whether it is 2D or 3D.
        loss: The loss of logits and class indices.
    """

    folder: RunFolder
    recipe: Recipe
    plan: Plan
    cases: TrainingCases
    seed: int
    device: torch.device
    precision: Precision
    bilevel: Bilevel
    network: nn.Module
    loss: Loss

    @property
    def settings(self) -> Search:
        """Return the part `search` of the recipe."""
        return self.bilevel.settings

    @property
    def log(self) -> Path:
        """Return the path of the log, which has one row per epoch."""
        return self.folder.search_log

    @property
    def batch_size(self) -> int:
        """Return the number of patches in a batch, the same for weights and architecture."""
        return self.settings.batch_size or self.plan.batch_size


def plan_layout(recipe: Recipe, plan: Plan) -> tuple[MacroSpace, Layout]:
    """Return the space and the sizes of the super-net that a recipe searches for a plan.

    Args:
        recipe: A recipe of the network `searched`.
        plan: A plan; the super-net is 2D for flat patches, else 3D. A plan with fewer strides than the search has
            scales gets fewer scales.

    Raises:
        UserError: The recipe is of another network, or the patches are too small for any stride.
    """
    if recipe.network.name != "searched":
        raise UserError(f"a search needs a recipe with network.name searched, got {recipe.network.name!r}")
    settings, options = recipe.search or Search(), recipe.network.options
    dimensions = 2 if plan.patch_size[2] == 1 else 3
    steps, flat_stem = options.get("strides") or plan.strides, options.get("flat_stem")
    flat = flat_stem if flat_stem is not None else dimensions == 2
    scales = min(settings.scales, len(steps) + flat)
    if scales < 1:
        raise UserError(f"a search needs a plan with strides: its patches {plan.patch_size} are too small for one")
    layout = Layout(
        dimensions,
        stage_strides(dimensions, scales, steps, flat_stem),
        options.get("filters", 32),
        settings.blocks,
        options.get("norm", "batch"),
    )
    return MacroSpace(settings.layers, scales), layout


def super_net(recipe: Recipe, plan: Plan, seed: int) -> SuperNet:
    """Make the super-net that a recipe searches for a plan.

    Args:
        recipe: A recipe of the network `searched`.
        plan: The plan, which decides channels, classes and strides.
        seed: The seed of the weights.

    Raises:
        UserError: Recipe and plan do not fit each other.
    """
    settings = recipe.search or Search()
    space, layout = plan_layout(recipe, plan)
    torch.manual_seed(seed)
    return SuperNet(
        len(plan.channels), plan.labels.outputs, space, layout, settings.part, settings.start, settings.checkpointing
    )


def set_up_search(
    folder: RunFolder, recipe: Recipe, plan: Plan, cases: TrainingCases, seed: int, device: torch.device, paths: int
) -> SearchRun:
    """Build the super-net and its optimisers.

    Args:
        folder: The folder of the search.
        recipe: The recipe of the search.
        plan: The plan of the search.
        cases: The prepared cases, half of them for the weights and half for the architecture.
        seed: The seed of everything that is drawn.
        device: The device of the search.
        paths: The number of paths of the largest network that will be decoded.

    Returns:
        A search at its beginning; `search_architecture` reads its state where there is one.

    Raises:
        UserError: Recipe and plan do not fit each other.
    """
    settings = recipe.search or Search()
    net = super_net(recipe, plan, seed).to(device)
    size = plan.patch_size[: net.layout.dimensions]
    table = cost_table(net.space, net.layout, net.in_channels, net.out_channels, size)
    batch = settings.batch_size or plan.batch_size
    smaller = min(len(cases.fit), len(cases.selection))
    steps = settings.steps_per_epoch or -(-smaller // batch)
    bilevel = Bilevel(net, settings, steps, Budget(table, paths))
    network = net if net.layout.dimensions == 3 else Slicewise(net)
    loss, precision = create_loss(recipe.loss, plan.labels), training_precision(recipe, plan, device)
    return SearchRun(
        folder=folder,
        recipe=recipe,
        plan=plan,
        cases=cases,
        seed=seed,
        device=device,
        precision=precision,
        bilevel=bilevel,
        network=network.train(),
        loss=loss,
    )
