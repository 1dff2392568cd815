import pytest
import torch

from voxward.architecture_search.cell import (
    MixedCell,
    PartialMixed,
    best_genes,
    cell_inputs,
    channel_shuffle,
    normalise_inputs,
    one_hot_genes,
)
from voxward.core.genotype import OPERATION_NAMES, Edge, Gene
from voxward.nets.layout import Layout, stage_strides

LAYOUTS = [Layout(d, stage_strides(d, 3), filters=8) for d in (2, 3)]
GENES = (Gene(0, "dil3"), Gene(1, "avg3"), Gene(0, "sep5"))


def _image(layout, channels, edge=8):
    return torch.randn(2, channels, *(edge,) * layout.dimensions)


def test_the_inputs_of_three_blocks():
    assert cell_inputs(3) == ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))


def test_input_weights_sum_to_one_per_block():
    weights = normalise_inputs(torch.randn(6), 3)
    assert weights[0] == 1
    for block in (weights[:1], weights[1:3], weights[3:]):
        assert float(block.sum()) == pytest.approx(1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_that_bypass_are_untouched(layout):
    mixed = PartialMixed(layout, 8, part=4)
    x = _image(layout, 8)
    out = channel_shuffle(mixed(x, torch.randn(5).softmax(0)), 8 // 4)  # undoes four groups' shuffle
    assert torch.equal(out[:, 2:], x[:, 2:])
    assert not torch.isclose(out[:, :2], x[:, :2]).all()


def test_the_shuffle_brings_every_channel_to_the_front():
    place, seen = torch.arange(8).view(1, 8, 1, 1), set()
    for _ in range(3):
        seen |= set(place[0, :2].flatten().tolist())
        place = channel_shuffle(place, 4)
    assert channel_shuffle(torch.arange(8).view(1, 8, 1, 1), 4).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert len(seen) > 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_part_is_the_plain_sum(layout):
    mixed = PartialMixed(layout, 8, part=1)
    x, weights = _image(layout, 8), torch.randn(5).softmax(0)
    expected = sum(w * operation(x) for w, operation in zip(weights, mixed.operations, strict=True))
    torch.testing.assert_close(mixed(x, weights), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cell_is_equation_1(layout):
    cell = MixedCell(layout, Edge(2, 1, "same"), part=2)
    x, operations, inputs = _image(layout, 48), torch.randn(6, 5).softmax(1), normalise_inputs(torch.randn(6), 3)
    f = [lambda state, n=n: cell.mixed[n](state, operations[n]) for n in range(6)]
    x0 = cell.entry(x)
    x1 = f[0](x0)
    x2 = inputs[1] * f[1](x0) + inputs[2] * f[2](x1)
    x3 = inputs[3] * f[3](x0) + inputs[4] * f[4](x1) + inputs[5] * f[5](x2)
    torch.testing.assert_close(cell(x, operations, inputs), torch.cat([x1, x2, x3], 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_computing_only_the_chosen_operations_changes_nothing(layout):
    cell = MixedCell(layout, Edge(2, 1, "down"), part=1)
    x, weights = _image(layout, 24), one_hot_genes(GENES)
    torch.testing.assert_close(cell(x, *weights, GENES), cell(x, *weights))


def test_the_best_genes_have_the_largest_product():
    operations, inputs = torch.rand(6, 5).softmax(1), normalise_inputs(torch.randn(6), 3)
    for block, gene in enumerate(best_genes(operations, inputs, 3), 1):
        here = [n for n, (b, _) in enumerate(cell_inputs(3)) if b == block]
        products = {
            (cell_inputs(3)[n][1], name): float(inputs[n] * operations[n, o])
            for n in here
            for o, name in enumerate(OPERATION_NAMES)
        }
        assert (gene.input, gene.operation) == max(products, key=products.get)


def test_one_hot_weights_are_decoded_to_their_genes():
    assert best_genes(*one_hot_genes(GENES), 3) == GENES


def test_part_must_divide_the_channels():
    with pytest.raises(ValueError, match="part must divide the 8 channels of a block, got 3"):
        PartialMixed(LAYOUTS[0], 8, part=3)
