"""Paths through the grid: their distribution, and the best of them.

The softmax over the edges that enter a node is one step of a Markov chain walked from the head to the stem. So the
product of the weights along a path is a probability, and all paths' sum to 1.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from voxward.architecture_search.space import SOURCE, MacroSpace
from voxward.core.errors import UserError
from voxward.core.genotype import Node

Path = tuple[int, ...]  # positions in the space's edges, from the stem to the head
Score = Literal["sum", "log"]

_TINY = math.ulp(0.0)


def edge_weights(space: MacroSpace, scores: Tensor, kept: Sequence[bool] | None = None) -> Tensor:
    """Softmax over the edges into each node (equation 3): (edges,) -> (edges,).

    kept: which edges there are (default all); the others get weight 0.
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
    """The scores with which all paths are equally likely: log of the number of paths that reach an edge's source.

    With equal scores a path is the likelier the fewer edges enter its nodes: the grid's border, a U shape.
    """
    return torch.tensor([math.log(space.paths_to[edge.source]) for edge in space.edges])


def k_best(space: MacroSpace, weights: Tensor, k: int, score: Score = "sum", diverse: bool = False) -> tuple[Path, ...]:
    """The k best paths, best first; among equals the one whose edges come first. Exact: no rounding decides.

    score: `sum` of the weights along the path (the paper), or of their logarithms (`log`: the likeliest path).
    diverse: each path must have an edge that none before it has. Raises ValueError where there are fewer than k.
    """
    paths = space.paths_to[space.sink]
    if not 1 <= k <= paths:
        raise UserError(f"k must be between 1 and {paths}, the number of paths, got {k}")
    gains = _gains(weights, score)
    return _diverse_best(space, gains, k) if diverse else _plain_best(space, gains, k)


def _gains(weights: Tensor, score: Score) -> list[Fraction]:
    if score not in ("sum", "log"):
        raise UserError(f"score must be sum or log, got {score!r}")
    values = weights.detach().cpu().tolist()
    return [Fraction(math.log(max(w, _TINY)) if score == "log" else w) for w in values]


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
    """The best path that is not made of `used` edges only. A state is a node and whether a new edge led to it."""
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
    """Probability that a path uses each edge: (edges,) -> (edges,), differentiable."""
    reached: dict[Node, Tensor] = {space.sink: weights.new_ones(())}
    uses: dict[int, Tensor] = {}
    for node in reversed(space.nodes):
        for n in space.into(node):
            uses[n] = reached[node] * weights[n]
            source = space.edges[n].source
            reached[source] = reached[source] + uses[n] if source in reached else uses[n]
    return torch.stack([uses[n] for n in range(len(space.edges))])


def path_entropy(space: MacroSpace, weights: Tensor) -> Tensor:
    """Entropy (nats) of the distribution over paths: the sum over nodes of visits times the entropy of the choice."""
    return -(visit(space, weights) * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).sum()


def sample_path(space: MacroSpace, weights: Tensor, generator: torch.Generator | None = None) -> Path:
    """Draw a path, each with the product of its weights as probability."""
    node, path = space.sink, []
    while node != SOURCE:
        here = space.into(node)
        drawn = torch.multinomial(weights.detach()[here.start : here.stop], 1, generator=generator)
        path.append(here[int(drawn)])
        node = space.edges[path[-1]].source
    return tuple(reversed(path))
