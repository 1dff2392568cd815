import json
from dataclasses import replace

import pytest

from voxward.core.genotype import CellGenes, Edge, Gene, Genotype, load_genotype, path_edges

GENES = (Gene(0, "sep3"), Gene(1, "skip"))
GENOTYPE = Genotype(
    dimensions=3,
    layers=4,
    scales=3,
    cells=CellGenes(GENES, (Gene(0, "avg3"), Gene(0, "dil3")), (Gene(0, "sep5"), Gene(1, "avg3"))),
    paths=(("down", "down", "up", "up"), ("down", "same", "skip", "up")),
    weights=(1.0, 1.0, 1.0, 0.25, 0.75, 1.0),
)


def test_round_trip(tmp_path):
    GENOTYPE.save(tmp_path / "genotype.json")
    assert load_genotype(tmp_path / "genotype.json") == GENOTYPE
    plain = replace(GENOTYPE, weights=None)
    plain.save(tmp_path / "plain.json")
    assert load_genotype(tmp_path / "plain.json") == plain
    assert hash(plain) != hash(GENOTYPE)


def test_edges_are_the_union_of_the_paths():
    assert GENOTYPE.edges == (
        Edge(1, 1, "down"), Edge(2, 1, "same"), Edge(2, 2, "down"),
        Edge(3, 1, "skip"), Edge(3, 1, "up"), Edge(4, 0, "up"),
    )  # fmt: skip


def test_an_edge_knows_its_ends():
    path = path_edges(("down", "skip", "same", "up"))
    assert [(edge.source, edge.target) for edge in path] == [
        ((0, 0), (1, 1)), ((1, 1), (2, 1)), ((2, 1), (3, 1)), ((3, 1), (4, 0))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"scales": 4}, "scales must be between 1 and 3"),
        ({"paths": ()}, "paths must hold at least one path"),
        ({"paths": (("down", "up", "same"),)}, r"paths\[0\] must have 4 edges, one per layer, got 3"),
        ({"paths": (("up", "down", "same", "same"),)}, r"paths\[0\] leaves the grid at \(layer, scale\) \(1, -1\)"),
        ({"paths": (("same", "same", "same", "down"),)}, r"leaves the grid at \(layer, scale\) \(4, 1\)"),
        ({"paths": (("same",) * 4, ("same",) * 4)}, "paths must differ"),
        ({"weights": (1.0,) * 5}, "weights must hold 6 numbers, one per edge, got 5"),
        ({"weights": (1.0, 1.0, 1.0, 0.5, 0.75, 1.0)}, r"sum to 1 .* got 1.25 at \(layer, scale\) \(3, 1\)"),
        ({"weights": (1.0, 1.0, 1.0, -0.5, 1.5, 1.0)}, "finite and not negative"),
        ({"cells": CellGenes(GENES, GENES[:1], GENES)}, "same number of blocks"),
        ({"cells": CellGenes((), (), ())}, "at least 1"),
        ({"cells": CellGenes(GENES, (Gene(1, "skip"), *GENES[1:]), GENES)}, r"cells.same\[0\].input .* 0 and 0, got 1"),
    ],
)
def test_every_problem_is_named(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(GENOTYPE, **change)


def test_a_file_s_problems_are_listed_together(tmp_path):
    GENOTYPE.save(tmp_path / "genotype.json")
    data = json.loads((tmp_path / "genotype.json").read_text())
    data["dimensions"] = 4
    data["cells"]["up"][0]["operation"] = "sep7"
    data["paths"][0][0] = "sideways"
    del data["scales"]
    (tmp_path / "genotype.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="dimensions must be one of 2, 3, got 4") as error:
        load_genotype(tmp_path / "genotype.json")
    for part in ("scales is missing", "operation must be one of sep3", "paths[0][0] must be one of down"):
        assert part in str(error.value)
