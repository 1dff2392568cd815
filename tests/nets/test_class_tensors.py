"""Which tensors of a network belong to single classes: those with an entry for each output, in its last layers."""

from dataclasses import replace

import pytest

from tests.core.test_plan import PLAN
from voxward.core.labels import LabelSet
from voxward.core.recipe import load_recipe
from voxward.nets.registry import class_tensors, network_for_plan
from voxward.runs.folder import load_weights, save_weights

EXPECTED = {
    "dynunet": {"output_block.conv.conv.weight", "output_block.conv.conv.bias"},
    "rog": {"head.1.weight"},
    "resdsn-c2f-fine": {
        f"{part}.{kind}" for part in ("score", "auxiliary.0.1", "auxiliary.1.2") for kind in ("weight", "bias")
    },
}


def plan_with(*names):
    labels = LabelSet(("background", *names), tuple(range(len(names) + 1)))
    return replace(PLAN, labels=labels, min_object_mm3=(0.0,) * len(names))


@pytest.mark.parametrize("recipe", EXPECTED)
def test_they_are_the_last_layers_and_all_others_fit_another_number_of_classes(recipe, tmp_path):
    network = load_recipe(recipe).network
    old, new = plan_with("a"), plan_with("a", "b", "c")
    found = class_tensors(network, new)
    assert set(found) == EXPECTED[recipe]
    first, second = (network_for_plan(network.name, plan, network.options) for plan in (old, new))
    save_weights(first, tmp_path / "w.safetensors")
    before = {name: tensor.clone() for name, tensor in second.named_parameters() if name in found}
    load_weights(second, tmp_path / "w.safetensors", found)
    for name, tensor in second.named_parameters():
        wanted = before[name] if name in found else dict(first.named_parameters())[name]
        assert tensor.equal(wanted), name
    with pytest.raises(ValueError, match="does not fit the network"):
        load_weights(second, tmp_path / "w.safetensors")
