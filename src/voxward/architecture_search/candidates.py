"""The candidates of a search by trainings: recipes, each a genotype and changes of the recipe that is searched.

The space holds what matters at the end of long trainings, too, and not only how fast a network learns: the number of
filters, scales, blocks and paths, the norm, residual cells, the learning rate, the share of foreground patches, and the
loss. The kernels of 3 and 5 voxels are operations of the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from voxward.architecture_search.cell import block_slice
from voxward.architecture_search.cost import Cost, profile
from voxward.architecture_search.paths import Path, edge_weights, genotype_on, sample_path, uniform_path_scores
from voxward.architecture_search.run import plan_layout, super_net
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.core.errors import UserError
from voxward.core.genotype import CELL_KINDS, OPERATION_NAMES, CellGenes, EdgeKind, Gene, Genotype, path_edges
from voxward.core.plan import Plan
from voxward.core.recipe import Averaging, Choice, Recipe, Search
from voxward.core.structure import to_data
from voxward.losses.registry import LOSSES, REGION_LOSSES, create_loss
from voxward.nets.layout import NORMS
from voxward.nets.registry import network_for_plan
from voxward.training.optim import create_optimizer

T = TypeVar("T")
Value = str | int | float | bool

DECAY = 0.99
"""The decay of the exponential mean of the weights, by which candidates are compared and with which they are used."""
# So many draws are made for a candidate; the first one that is cheap enough is taken.
_DRAWS = 4
# Without a budget in the recipe: a network may cost so many times what the untrained super-net decodes to.
_COST = 2.0
_PATHS = 3
_PATH_DRAWS = 100
# A mutation changes one of these; what concerns the training alone counts as one.
_TRAINING = ("norm", "residual", "lr", "foreground", "loss")
_MUTATIONS = ("operation", "path", "filters", "blocks", "training")


@dataclass(frozen=True)
class Candidate:
    """A recipe that takes part in a search.

    Args:
        genotype: The network.
        choices: The other choices by name, see `CandidateSpace.values`.
        origin: Where it comes from: `uniform`, `super-net`, or `mutation of 7`.
    """

    genotype: Genotype
    choices: Mapping[str, Value]
    origin: str


@dataclass(frozen=True)
class CandidateSpace:
    """All candidates of a recipe and a plan.

    Args:
        recipe: The recipe of the search, which says all that is not searched.
        plan: The plan.
        values: What may be chosen, by the name of the choice. They are made by `candidate_space`.
        most: The largest number of multiply-adds that a candidate should have.
    """

    recipe: Recipe
    plan: Plan
    values: Mapping[str, tuple[Value, ...]]
    most: int

    @cached_property
    def _layout(self) -> tuple[MacroSpace, int]:
        space, layout = plan_layout(self.recipe, self.plan)
        return space, layout.dimensions

    def recipe_of(self, candidate: Candidate, name: str) -> Recipe:
        """Return the recipe that trains a candidate.

        Args:
            candidate: The candidate.
            name: The name of the recipe.
        """
        base, of = self.recipe, candidate.choices
        network = {
            **base.network.options, "genotype": to_data(candidate.genotype), "filters": of["filters"],
            "norm": of["norm"], "residual": of["residual"],
        }  # fmt: skip
        loss = base.loss if of["loss"] == base.loss.name else Choice(str(of["loss"]))
        return replace(
            base,
            name=name,
            network=Choice(base.network.name, network),
            loss=loss,
            optimizer=replace(base.optimizer, options={**base.optimizer.options, "lr": of["lr"]}),
            sampling=replace(base.sampling, foreground=float(of["foreground"])),
            training=replace(base.training, min_steps=0),
            averaging=Averaging(decay=DECAY),
            inference=replace(base.inference, checkpoint="swa"),
        )

    def cost(self, candidate: Candidate) -> Cost:
        """Return what a candidate costs for one patch."""
        options = self.recipe_of(candidate, "candidate").network.options
        with torch.device("meta"):
            network = network_for_plan(self.recipe.network.name, self.plan, options)
        return profile(network, len(self.plan.channels), self.plan.patch_size)

    def uniform(self, generator: torch.Generator) -> Candidate:
        """Draw a candidate: every choice, operation, input and path with equal probability."""
        choices = {name: _one_of(values, generator) for name, values in self.values.items()}
        space = replace(self._layout[0], scales=int(choices["scales"]))
        cells = _cells(int(choices["blocks"]), generator)
        uniform = edge_weights(space, uniform_path_scores(space).double())
        paths = different_paths(space, uniform, int(choices["paths"]), generator)
        return Candidate(self._genotype(space, paths, cells), choices, "uniform")

    def of_super_net(self, net: SuperNet, generator: torch.Generator) -> Candidate:
        """Draw a candidate whose paths and cells are drawn by the weights of a super-net, and the rest uniformly."""
        choices = {name: _one_of(values, generator) for name, values in self.values.items()}
        choices |= {"scales": net.space.scales, "blocks": net.layout.blocks}
        weights = net.edge_weights().detach().cpu().double()
        paths = different_paths(net.space, weights, int(choices["paths"]), generator)
        drawn = {kind: _genes_of(net, kind, generator) for kind in CELL_KINDS}
        cells = CellGenes(drawn["down"], drawn["same"], drawn["up"])
        return Candidate(net.genotype_of(paths, cells), choices, "super-net")

    def mutated(self, parent: Candidate, number: int, generator: torch.Generator) -> Candidate:
        """Draw a candidate that differs from another one in one operation, one path, or one other choice.

        Args:
            parent: The other candidate.
            number: Its number, for `origin`.
            generator: What draws.
        """
        kind = str(_one_of(_MUTATIONS, generator))
        name = str(_one_of(_TRAINING, generator)) if kind == "training" else kind
        child = self._changed(parent, name, generator)
        return replace(child, origin=f"mutation of {number}")

    def _changed(self, parent: Candidate, name: str, generator: torch.Generator) -> Candidate:
        genotype = parent.genotype
        if name == "operation":
            return replace(parent, genotype=replace(genotype, cells=_other_gene(genotype.cells, generator)))
        if name == "path":
            return replace(parent, genotype=self._other_path(genotype, generator))
        others = [value for value in self.values[name] if value != parent.choices[name]]
        if not others:
            return replace(parent, genotype=replace(genotype, cells=_other_gene(genotype.cells, generator)))
        choices = {**parent.choices, name: _one_of(others, generator)}
        if name == "blocks":
            cells = _resized(genotype.cells, int(choices["blocks"]), generator)
            return replace(parent, genotype=replace(genotype, cells=cells), choices=choices)
        return replace(parent, choices=choices)

    def _other_path(self, genotype: Genotype, generator: torch.Generator) -> Genotype:
        """One path is replaced by one that is not there yet; the weights are then those of equally likely paths."""
        space = MacroSpace(genotype.layers, genotype.scales)
        place = {edge: n for n, edge in enumerate(space.edges)}
        own = [tuple(place[edge] for edge in path_edges(kinds)) for kinds in genotype.paths]
        left_out = _below(len(own), generator)
        uniform = edge_weights(space, uniform_path_scores(space).double())
        for _ in range(_PATH_DRAWS):
            drawn = sample_path(space, uniform, generator)
            if drawn not in own:
                return self._genotype(space, [*own[:left_out], *own[left_out + 1 :], drawn], genotype.cells)
        return genotype

    def _genotype(self, space: MacroSpace, paths: Sequence[Path], cells: CellGenes) -> Genotype:
        return genotype_on(space, self._layout[1], sorted(paths), cells, uniform_path_scores(space).double())


def candidate_space(recipe: Recipe, plan: Plan) -> CandidateSpace:
    """Return the candidates of a recipe and a plan.

    Args:
        recipe: A recipe of the network `searched`. Its numbers are the middle of what may be chosen. The entry
            `search.budget_gmac` limits the cost; without it, a candidate may cost twice as much as what the untrained
            super-net decodes to.
        plan: The plan.

    Raises:
        UserError: Recipe and plan do not fit each other.
    """
    settings = recipe.search or Search()
    grid, layout = plan_layout(recipe, plan)
    rate = float(create_optimizer(recipe.optimizer, nn.Linear(1, 1)).defaults["lr"])
    share = recipe.sampling.foreground
    values: dict[str, tuple[Value, ...]] = {
        "scales": tuple(range(min(2, grid.scales), grid.scales + 1)),
        "blocks": _sorted({2, 3, 4, settings.blocks}),
        "paths": tuple(range(1, min(5, grid.paths_to[grid.sink]) + 1)),
        "filters": _sorted({max(1, round(factor * layout.filters)) for factor in (0.5, 1.0, 1.5, 2.0)}),
        "norm": NORMS,
        "residual": (False, True),
        "lr": tuple(float(f"{factor * rate:.3g}") for factor in (1 / 3, 1.0, 3.0, 10.0)),
        "foreground": _sorted({0.33, 0.67, 0.9, share}),
        "loss": _losses(recipe, plan),
    }
    space = CandidateSpace(recipe, plan, values, most=0)
    if settings.budget_gmac is not None:
        return replace(space, most=int(settings.budget_gmac * 1e9))
    net = super_net(recipe, plan, 0)
    paths = min(_PATHS, grid.paths_to[grid.sink])
    middle = {name: choices[0] for name, choices in values.items()} | {"filters": layout.filters}
    decoded = Candidate(net.decode(paths, settings.score), {**middle, "norm": layout.norm}, "untrained")
    return replace(space, most=int(_COST * space.cost(decoded).macs))


def screened(space: CandidateSpace, draw: Callable[[], Candidate]) -> tuple[Candidate, int]:
    """Draw a candidate that is not too expensive, before any is trained.

    Args:
        space: The candidates, with the largest cost.
        draw: A function that draws one.

    Returns:
        The first of a few draws that costs no more than `space.most`, or else the cheapest of them, and its
        multiply-adds for one patch.
    """
    drawn: list[tuple[Candidate, int]] = []
    for _ in range(_DRAWS):
        candidate = draw()
        drawn.append((candidate, space.cost(candidate).macs))
        if drawn[-1][1] <= space.most:
            return drawn[-1]
    return min(drawn, key=lambda entry: entry[1])


def different_paths(space: MacroSpace, weights: Tensor, count: int, generator: torch.Generator) -> tuple[Path, ...]:
    """Draw different paths; there are fewer than `count` where no others turn up.

    Args:
        space: The grid.
        weights: The weights (edges,) of the edges, see `paths.edge_weights`.
        count: The number of paths.
        generator: What draws.
    """
    drawn: set[Path] = set()
    for _ in range(_PATH_DRAWS):
        drawn.add(sample_path(space, weights, generator))
        if len(drawn) == count:
            break
    return tuple(sorted(drawn))


def _losses(recipe: Recipe, plan: Plan) -> tuple[Value, ...]:
    """The losses that the labels of the dataset admit, the recipe's first."""
    known = REGION_LOSSES if plan.labels.regions else LOSSES
    others = [name for name in known if name != recipe.loss.name]
    return (recipe.loss.name, *(name for name in others if _admitted(name, plan)))


def _admitted(name: str, plan: Plan) -> bool:
    try:
        create_loss(Choice(name), plan.labels)
    except UserError:
        return False
    return True


def _sorted(values: set[T]) -> tuple[T, ...]:
    return tuple(sorted(values, key=float))  # type: ignore[arg-type]


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _one_of(values: Sequence[T], generator: torch.Generator) -> T:
    return values[_below(len(values), generator)]


def _gene(block: int, generator: torch.Generator) -> Gene:
    """The gene of a block, which is counted from 0 and has one more input than that."""
    return Gene(_below(block + 1, generator), _one_of(OPERATION_NAMES, generator))


def _cells(blocks: int, generator: torch.Generator) -> CellGenes:
    down, same, up = (tuple(_gene(block, generator) for block in range(blocks)) for _ in CELL_KINDS)
    return CellGenes(down, same, up)


def _resized(cells: CellGenes, blocks: int, generator: torch.Generator) -> CellGenes:
    def of(genes: tuple[Gene, ...]) -> tuple[Gene, ...]:
        return (*genes[:blocks], *(_gene(block, generator) for block in range(len(genes), blocks)))

    return CellGenes(of(cells.down), of(cells.same), of(cells.up))


def _other_gene(cells: CellGenes, generator: torch.Generator) -> CellGenes:
    """One block of one kind of cell gets another operation."""
    kind = _one_of(CELL_KINDS, generator)
    genes = list(cells.of(kind))
    block = _below(len(genes), generator)
    others = [name for name in OPERATION_NAMES if name != genes[block].operation]
    genes[block] = replace(genes[block], operation=_one_of(others, generator))
    return replace(cells, **{kind: tuple(genes)})


def _genes_of(net: SuperNet, kind: EdgeKind, generator: torch.Generator) -> tuple[Gene, ...]:
    """Genes, each drawn with the product of the weights of its input and its operation."""
    operations, inputs = net.cell_weights(kind)
    product = (operations * inputs[:, None]).detach().cpu().double()
    genes = []
    for block in range(1, net.layout.blocks + 1):
        drawn = int(torch.multinomial(product[block_slice(block)].flatten(), 1, generator=generator))
        given, name = divmod(drawn, len(OPERATION_NAMES))
        genes.append(Gene(given, OPERATION_NAMES[name]))
    return tuple(genes)
