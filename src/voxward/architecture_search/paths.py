"""Paths through the grid: their distribution, and the best paths.

The softmax over the edges that enter a node is one step of a Markov chain that walks from the head to the stem. So the
product of the weights along a path is a probability, and the probabilities of all paths have the sum 1.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Literal, cast

import torch
from torch import Tensor

from voxward.architecture_search.space import SOURCE, MacroSpace
from voxward.core.errors import UserError
from voxward.core.genotype import CellGenes, Genotype, Node, path_edges
from voxward.core.registry import Registry

Path = tuple[int, ...]  # positions in the space's edges, from the stem to the head

_TINY = math.ulp(0.0)


def _sum_of_weights(weight: float) -> float:
    return weight


def _sum_of_logarithms(weight: float) -> float:
    return math.log(max(weight, _TINY))


SCORES: Registry[Callable[[float], float]] = Registry(
    "search.score", {"sum": _sum_of_weights, "log": _sum_of_logarithms}
)
"""Functions from an edge's weight to its part of a path's score: the weight itself (the paper), or its logarithm."""


def edge_weights(space: MacroSpace, scores: Tensor, kept: Sequence[bool] | None = None) -> Tensor:
    """Return the softmax of the scores over the edges into each node (equation 3).

    Args:
        space: The grid.
        scores: The scores (edges,).
        kept: Which edges there are, or None for all; the others get the weight 0.

    Returns:
        The weights (edges,).
    """
    weights = []
    for node in space.nodes[1:]:
        entering = scores[space.into(node).start : space.into(node).stop]
        if kept is not None:
            here = torch.tensor([kept[n] for n in space.into(node)], device=scores.device)
            if not here.any():
                weights.append(torch.zeros_like(entering))
                continue
            entering = entering.masked_fill(~here, -math.inf)
        weights.append(entering.softmax(0))
    return torch.cat(weights)


def uniform_path_scores(space: MacroSpace) -> Tensor:
    """Return the scores (edges,) with which all paths are equally likely.

    They are the logarithm of the number of paths that reach the source of an edge. With equal scores, a path would be
    more likely the fewer edges enter its nodes, which favours the border of the grid: a U shape.
    """
    return torch.tensor([math.log(space.paths_to[edge.source]) for edge in space.edges])


def k_best(space: MacroSpace, weights: Tensor, k: int, score: str = "sum", diverse: bool = False) -> tuple[Path, ...]:
    """Return the best paths, the best one first.

    The result is exact: no rounding decides, and among equals the path whose edges come first is better.

    Args:
        space: The grid.
        weights: The weights (edges,) of the edges.
        k: The number of paths.
        score: What is added up along a path, a name in `SCORES`.
        diverse: True demands that each path has an edge that no better path has.

    Raises:
        UserError: There are fewer than `k` such paths, or the score is unknown.
    """
    paths = space.paths_to[space.sink]
    if not 1 <= k <= paths:
        raise UserError(f"k must be between 1 and {paths}, the number of paths, got {k}")
    gains = _gains(weights, score)
    return _diverse_best(space, gains, k) if diverse else _plain_best(space, gains, k)


def _gains(weights: Tensor, score: str) -> list[Fraction]:
    gain = SCORES[score]
    return [Fraction(gain(weight)) for weight in weights.detach().cpu().tolist()]


def _plain_best(space: MacroSpace, gains: list[Fraction], k: int) -> tuple[Path, ...]:
    # Losses are sorted, least first: (loss, path) puts the first path first among equals.
    best: dict[Node, list[tuple[Fraction, Path]]] = {SOURCE: [(Fraction(0), ())]}
    for node in space.nodes[1:]:
        arriving = (
            (loss - gains[n], (*path, n)) for n in space.into(node) for loss, path in best[space.edges[n].source]
        )
        best[node] = heapq.nsmallest(k, arriving)
    return tuple(path for _, path in best[space.sink])


def _diverse_best(space: MacroSpace, gains: list[Fraction], k: int) -> tuple[Path, ...]:
    found: list[Path] = []
    for _ in range(k):
        path = _best_with_new_edge(space, gains, {n for path in found for n in path})
        if path is None:
            raise UserError(f"k must be at most {len(found)} for diverse paths with these weights, got {k}")
        found.append(path)
    return tuple(found)


def _best_with_new_edge(space: MacroSpace, gains: list[Fraction], used: set[int]) -> Path | None:
    """Return the best path with an edge that is not in `used`; a state is a node, and whether a new edge led to it."""
    best: dict[tuple[Node, bool], tuple[Fraction, Path]] = {(SOURCE, False): (Fraction(0), ())}
    for node in space.nodes[1:]:
        for n in space.into(node):
            for fresh in (False, True):
                start = best.get((space.edges[n].source, fresh))
                if start is None:
                    continue
                state = (node, fresh or n not in used)
                candidate = (start[0] - gains[n], (*start[1], n))
                best[state] = min(best.get(state, candidate), candidate)
    final = best.get((space.sink, True))
    return final[1] if final else None


def visit(space: MacroSpace, weights: Tensor) -> Tensor:
    """Return the probability (edges,) that a path uses each edge; it can be differentiated."""
    reached: dict[Node, Tensor] = {space.sink: weights.new_ones(())}
    uses: dict[int, Tensor] = {}
    for node in reversed(space.nodes):
        for n in space.into(node):
            uses[n] = reached[node] * weights[n]
            source = space.edges[n].source
            reached[source] = reached[source] + uses[n] if source in reached else uses[n]
    return torch.stack([uses[n] for n in range(len(space.edges))])


def path_entropy(space: MacroSpace, weights: Tensor) -> Tensor:
    """Return the entropy of the distribution over paths, in nats.

    It is the sum over all nodes of the probability of a visit times the entropy of the choice there.
    """
    return -(visit(space, weights) * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).sum()


def sample_path(space: MacroSpace, weights: Tensor, generator: torch.Generator | None = None) -> Path:
    """Draw a path; its probability is the product of its weights."""
    node, path = space.sink, []
    while node != SOURCE:
        here = space.into(node)
        drawn = torch.multinomial(weights.detach()[here.start : here.stop], 1, generator=generator)
        path.append(here[int(drawn)])
        node = space.edges[path[-1]].source
    return tuple(reversed(path))


def genotype_on(
    space: MacroSpace, dimensions: int, paths: Iterable[Path], cells: CellGenes, scores: Tensor
) -> Genotype:
    """Return the network of given paths and cells.

    Args:
        space: The grid.
        dimensions: 2 for a network on slices, 3 for one on volumes.
        paths: The paths, as positions in the edges of the space.
        cells: The cell of each kind.
        scores: The scores (edges,), whose softmax over what is kept into each node becomes the weights.
    """
    chosen = tuple(tuple(space.edges[n].kind for n in path) for path in paths)
    union = {edge for path in chosen for edge in path_edges(path)}
    kept = [edge in union for edge in space.edges]
    weights = edge_weights(space, scores, kept).tolist()
    return Genotype(
        dimensions=cast(Literal[2, 3], dimensions),
        layers=space.layers,
        scales=space.scales,
        cells=cells,
        paths=chosen,
        weights=tuple(weight for weight, keep in zip(weights, kept, strict=True) if keep),
    )
