from collections import Counter
from math import comb, factorial, prod

import pytest

from voxward.architecture_search.space import MacroSpace
from voxward.core.genotype import CELL_KINDS, OPERATION_NAMES, Edge


def test_the_published_space():
    """The numbers of section 3.1 (3.89e9, 4.22e8, 1.64e18), and what the paper does not say: 58,785 paths connect."""
    space = MacroSpace(layers=10, scales=5)
    cells = sum(edge.kind != "skip" for edge in space.edges)
    assert (len(space.nodes), len(space.edges), cells) == (35, 108, 78)
    # One edge per layer, whether they connect or not: what the paper calls paths.
    layer_choices = prod(Counter(edge.layer for edge in space.edges).values())
    assert layer_choices == 62_370**2 == 3_890_016_900
    # Three blocks, each with one of its inputs and one operation, in each kind of cell.
    cell_choices = (factorial(3) * len(OPERATION_NAMES) ** 3) ** len(CELL_KINDS)
    assert cell_choices == 750**3 == 421_875_000
    assert f"{layer_choices * cell_choices:.2e}" == "1.64e+18"
    paths = space.paths_to[space.sink]
    assert paths == 58_785 == comb(22, 11) // 12 - 1  # one less than the Catalan number
    assert f"{paths * cell_choices:.2e}" == "2.48e+13"


def test_nodes_and_edges_of_the_published_space():
    space = MacroSpace()
    assert [sum(layer == n for layer, _ in space.nodes) for n in range(11)] == [1, 2, 3, 4, 5, 5, 5, 4, 3, 2, 1]
    assert [sum(e.layer == n for e in space.edges) for n in range(1, 11)] == [3, 7, 11, 15, 18, 18, 15, 11, 7, 3]
    kinds = [edge.kind for edge in space.edges]
    assert {kind: kinds.count(kind) for kind in kinds} == {"down": 24, "same": 30, "up": 24, "skip": 30}


def test_edges_into_a_node():
    space = MacroSpace()
    into = {space.edges[n] for n in space.into((5, 2))}
    assert into == {Edge(5, 2, kind) for kind in ("down", "same", "up", "skip")}
    assert [space.edges[n] for n in space.into((3, 3))] == [Edge(3, 3, "down")]
    assert len(space.into((0, 0))) == 0
    assert sorted(n for node in space.nodes for n in space.into(node)) == list(range(108))


@pytest.mark.parametrize(("layers", "scales"), [(1, 1), (2, 2), (4, 3), (5, 2), (6, 2)])
def test_paths_are_counted_as_by_walking(layers, scales):
    space = MacroSpace(layers, scales)

    def walk(node):
        if node == (layers, 0):
            return 1
        return sum(walk(edge.target) for edge in space.edges if edge.source == node)

    assert space.paths_to[space.sink] == walk((0, 0))


@pytest.mark.parametrize(("size", "problem"), [((0, 1), "layers"), ((4, 4), "between 1 and 3"), ((4, 0), "scales")])
def test_impossible_grids_are_refused(size, problem):
    with pytest.raises(ValueError, match=problem):
        MacroSpace(*size)
