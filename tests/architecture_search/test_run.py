from dataclasses import replace

import pytest

from tests.core.test_plan import PLAN
from voxward.architecture_search.run import plan_layout, super_net
from voxward.core.recipe import load_recipe

FLAT = replace(PLAN, patch_size=(16, 16, 1), window_size=(16, 16, 1), strides=((2, 2, 1), (2, 2, 1)))


def test_patches_decide_the_dimensions_and_strides_the_scales():
    space, layout = plan_layout(load_recipe("msnas"), PLAN)
    assert (space.layers, space.scales) == (10, 2)
    assert layout.strides == PLAN.strides
    assert (layout.filters, layout.norm, layout.blocks) == (16, "instance", 3)
    space, layout = plan_layout(load_recipe("msnas-2d"), FLAT)
    assert space.scales == 3
    assert layout.strides == ((1, 1), (2, 2), (2, 2))
    steep = load_recipe("msnas-2d", ["network.options.flat_stem=false", "search.scales=1"])
    assert plan_layout(steep, FLAT)[1].strides == ((2, 2),)


def test_the_super_net_has_the_plan_s_channels_and_classes():
    recipe = load_recipe("msnas", ["network.options.filters=4", "search.layers=2", "search.scales=2"])
    net = super_net(recipe, PLAN, 0)
    assert (net.in_channels, net.out_channels, net.checkpointing, net.part) == (1, 2, True, 4)


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match=r"network\.name searched, got 'rog'"):
        plan_layout(load_recipe("rog"), PLAN)
    with pytest.raises(ValueError, match="a plan with strides"):
        plan_layout(load_recipe("msnas"), replace(PLAN, strides=()))
