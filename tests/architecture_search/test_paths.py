import math
from collections import Counter
from fractions import Fraction
from functools import lru_cache

import pytest
import torch

from voxward.architecture_search.paths import (
    edge_weights,
    k_best,
    path_entropy,
    sample_path,
    uniform_path_scores,
    visit,
)
from voxward.architecture_search.space import MacroSpace

SMALL = [MacroSpace(2, 2), MacroSpace(4, 3), MacroSpace(5, 3), MacroSpace(6, 2)]
PAPER = MacroSpace(10, 5)


@lru_cache
def _every_path(space):
    leaving, end = {}, space.sink
    for n, edge in enumerate(space.edges):
        leaving.setdefault(edge.source, []).append((n, edge.target))

    def walk(node, path):
        if node == end:
            yield path
        for n, target in leaving.get(node, []):
            yield from walk(target, (*path, n))

    return list(walk((0, 0), ()))


def _random(space, seed, spread=1.0):
    beta = spread * torch.randn(len(space.edges), generator=torch.Generator().manual_seed(seed)).double()
    return edge_weights(space, beta)


def _sorted(space, weights, score):
    gains = [Fraction(math.log(w) if score == "log" else w) for w in weights.tolist()]
    return sorted(_every_path(space), key=lambda path: (-sum(gains[n] for n in path), path))


@pytest.mark.parametrize("space", SMALL)
@pytest.mark.parametrize("score", ["sum", "log"])
def test_k_best_is_what_sorting_every_path_gives(space, score):
    everything = space.paths_to[space.sink]
    for seed in range(3):
        weights = _random(space, seed)
        assert list(k_best(space, weights, min(everything, 60), score)) == _sorted(space, weights, score)[:60]


@pytest.mark.parametrize("space", SMALL)
@pytest.mark.parametrize("score", ["sum", "log"])
def test_ties_too(space, score):
    """Equal betas, and weights of which rounding decides (0.1 + 0.2 + 0.3 in another order is another number)."""
    rounding = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)[torch.arange(len(space.edges)) % 3]
    for weights in (edge_weights(space, torch.zeros(len(space.edges))), rounding):
        assert (
            list(k_best(space, weights, min(space.paths_to[space.sink], 60), score))
            == _sorted(space, weights, score)[:60]
        )


def test_k_best_in_the_published_space():
    paths = torch.tensor(_every_path(PAPER))
    assert len(paths) == len(set(map(tuple, paths.tolist()))) == 58_785
    for seed in range(3):
        weights = _random(PAPER, seed)
        best = weights[paths].sum(1).topk(7).indices
        assert k_best(PAPER, weights, 7) == tuple(map(tuple, paths[best].tolist()))


@pytest.mark.parametrize("score", ["sum", "log"])
def test_diverse_paths_each_bring_a_new_edge(score):
    space = MacroSpace(5, 3)
    for seed in range(3):
        weights = _random(space, seed)
        found = k_best(space, weights, 8, score, diverse=True)
        ranked, used = _sorted(space, weights, score), set()
        for path in found:
            assert path == next(candidate for candidate in ranked if not set(candidate) <= used)
            used |= set(path)


def test_a_path_of_edges_that_others_brought_is_no_diverse_path():
    space = MacroSpace(2, 2)  # five paths: same or skip twice, or down and up
    with pytest.raises(ValueError, match="at most 4 for diverse paths"):
        k_best(space, _random(space, 0), 5, diverse=True)


def test_wrong_requests_are_refused():
    space = MacroSpace(2, 2)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k must be between 1 and 5, the number of paths, got {k}"):
            k_best(space, _random(space, 0), k)


@pytest.mark.parametrize("space", [*SMALL, PAPER])
def test_weights_are_a_distribution_over_paths(space):
    weights = _random(space, 0)
    for node in space.nodes[1:]:
        assert float(weights[list(space.into(node))].sum()) == pytest.approx(1)
    probabilities = weights[torch.tensor(_every_path(space))].prod(1)
    assert float(probabilities.sum()) == pytest.approx(1)
    entropy = -(probabilities * probabilities.log()).sum()
    assert float(path_entropy(space, weights)) == pytest.approx(float(entropy))


def test_the_uniform_start_makes_all_paths_equally_likely():
    weights = edge_weights(PAPER, uniform_path_scores(PAPER).double())
    probabilities = weights[torch.tensor(_every_path(PAPER))].prod(1)
    torch.testing.assert_close(probabilities, torch.full_like(probabilities, 1 / 58_785), rtol=1e-5, atol=0)
    assert float(path_entropy(PAPER, weights)) == pytest.approx(math.log(58_785))


def test_an_untrained_sum_decodes_to_a_u_shape():
    """The sum counts the grid's border, where one edge enters a node, as certain; 1 in 300 paths goes that deep."""
    deepest = {n for n, edge in enumerate(PAPER.edges) if edge.scale == 4}
    share = sum(not deepest.isdisjoint(path) for path in _every_path(PAPER)) / 58_785
    assert share == pytest.approx(0.0032, abs=0.0001)
    for seed in range(20):
        (path,) = k_best(PAPER, _random(PAPER, seed, spread=0.1), 1)
        assert not deepest.isdisjoint(path)


def test_visits_are_the_share_of_paths_through_an_edge():
    space = MacroSpace(5, 3)
    weights = _random(space, 1)
    expected = torch.zeros_like(weights)
    for path in _every_path(space):
        expected[list(path)] += weights[list(path)].prod()
    torch.testing.assert_close(visit(space, weights), expected)


def test_sampled_paths_follow_the_weights():
    space = MacroSpace(2, 2)
    weights = _random(space, 2)
    generator = torch.Generator().manual_seed(0)
    seen = Counter(sample_path(space, weights, generator) for _ in range(4000))
    for path in _every_path(space):
        assert seen[path] / 4000 == pytest.approx(float(weights[list(path)].prod()), abs=0.03)


def test_temperature_and_kept_edges():
    space = MacroSpace(4, 2)
    beta = torch.randn(len(space.edges))
    cold = edge_weights(space, beta / 1e-4)
    here = list(space.into((2, 0)))
    assert cold[here].tolist() == [float(n == here[int(beta[here].argmax())]) for n in here]
    kept = [n in (here[0], here[2]) for n in range(len(space.edges))]
    weights = edge_weights(space, beta, kept=kept)
    expected = torch.zeros(len(here))
    expected[[0, 2]] = beta[[here[0], here[2]]].softmax(0)
    torch.testing.assert_close(weights[here], expected)
    assert float(weights.sum()) == pytest.approx(1)  # no other node has an edge
