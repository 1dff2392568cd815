from dataclasses import replace

import pytest
import torch

from tests.core.test_plan import PLAN
from voxward.architecture_search.candidates import candidate_space, screened
from voxward.architecture_search.run import super_net
from voxward.core.genotype import CELL_KINDS
from voxward.core.recipe import Averaging, load_recipe
from voxward.nets.registry import network_for_plan

FLAT = replace(PLAN, patch_size=(16, 16, 1), window_size=(16, 16, 1), strides=((2, 2, 1), (2, 2, 1)))
SMALL = ("network.options.filters=4", "search.layers=4", "search.scales=3", "search.part=2")


@pytest.fixture(scope="module")
def space():
    return candidate_space(load_recipe("msnas-2d", SMALL), FLAT)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def test_every_drawn_candidate_is_a_recipe_whose_network_works(space):
    for seed in range(3):
        candidate = space.uniform(_generator(seed))
        assert candidate == space.uniform(_generator(seed))
        recipe = space.recipe_of(candidate, f"c-{seed}")
        assert recipe.averaging == Averaging(decay=0.99)
        assert recipe.inference.checkpoint == "swa"
        assert recipe.optimizer.options["lr"] == candidate.choices["lr"]
        assert recipe.sampling.foreground == candidate.choices["foreground"]
        assert recipe.loss.name == candidate.choices["loss"]
        assert candidate.genotype.scales == candidate.choices["scales"]
        assert candidate.genotype.blocks == candidate.choices["blocks"]
        network = network_for_plan("searched", FLAT, recipe.network.options)
        cost = space.cost(candidate)
        assert cost.parameters == sum(p.numel() for p in network.parameters())
        assert network(torch.randn(1, 1, 16, 16, 2)).shape == (1, 2, 16, 16, 2)


def test_what_is_drawn_stays_within_the_space_and_reaches_all_of_it(space):
    drawn = [space.uniform(_generator(seed)) for seed in range(60)]
    for name, values in space.values.items():
        assert {candidate.choices[name] for candidate in drawn} == set(values), name


def test_a_sure_super_net_proposes_what_it_has_decided(space):
    net = super_net(space.recipe, FLAT, 0)
    with torch.no_grad():
        for kind in CELL_KINDS:
            net.alpha[kind][:, 2] = 50.0
            net.p[kind][:] = 0.0
            net.p[kind][0] = net.p[kind][1] = net.p[kind][3] = 50.0
    candidate = space.of_super_net(net, _generator(0))
    for kind in CELL_KINDS:
        assert [(gene.input, gene.operation) for gene in candidate.genotype.cells.of(kind)] == [(0, "dil3")] * 3
    assert (candidate.origin, candidate.choices["blocks"], candidate.choices["scales"]) == ("super-net", 3, 3)
    space.cost(candidate)


def test_a_mutation_changes_one_thing(space):
    parent, kinds = space.uniform(_generator(1)), set()
    for seed in range(40):
        child = space.mutated(parent, 7, _generator(seed))
        assert child.origin == "mutation of 7"
        changed = {name for name in parent.choices if child.choices[name] != parent.choices[name]}
        assert len(changed) <= 1
        if not changed:
            cells = sum(
                a != b
                for kind in CELL_KINDS
                for a, b in zip(parent.genotype.cells.of(kind), child.genotype.cells.of(kind), strict=True)
            )
            paths = len(set(parent.genotype.paths) ^ set(child.genotype.paths))
            assert (cells, paths) in ((1, 0), (0, 2))
            changed = {"operation" if cells else "path"}
        elif changed != {"blocks"}:
            assert child.genotype == parent.genotype
        if not changed <= kinds:
            space.cost(child)
        kinds |= changed
    assert {"operation", "path", "filters", "blocks"} < kinds


def test_candidates_are_screened_by_cost_before_any_training(space):
    costs = iter(())

    def draw():
        return next(costs)

    drawn = sorted((space.uniform(_generator(seed)) for seed in range(8)), key=lambda one: space.cost(one).macs)
    limited = replace(space, most=space.cost(drawn[3]).macs)
    costs = iter((drawn[7], drawn[2], drawn[0]))
    assert screened(limited, draw)[0] is drawn[2]
    costs = iter((drawn[7], drawn[5], drawn[6], drawn[7]))
    assert screened(limited, draw)[0] is drawn[5]


def test_the_recipe_may_name_the_budget():
    recipe = load_recipe("msnas-2d", (*SMALL, "search.budget_gmac=0.001"))
    assert candidate_space(recipe, FLAT).most == 1_000_000
    with pytest.raises(ValueError, match=r"network\.name searched"):
        candidate_space(load_recipe("rog"), FLAT)
