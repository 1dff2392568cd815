import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from voxward.core.genotype import CellGenes, Gene, Genotype
from voxward.core.structure import to_data
from voxward.nets.layout import OPERATIONS, Layout, stage_strides
from voxward.nets.searched import SearchedNet, embed_genotype, propagate, searched

CELLS = CellGenes(
    down=(Gene(0, "sep3"), Gene(1, "avg3")),
    same=(Gene(0, "dil3"), Gene(0, "skip")),
    up=(Gene(0, "skip"), Gene(1, "sep5")),
)
GENOTYPE = Genotype(
    dimensions=3,
    layers=4,
    scales=3,
    cells=CELLS,
    paths=(("down", "down", "up", "up"), ("down", "same", "skip", "up")),
    weights=(1.0, 1.0, 1.0, 0.25, 0.75, 1.0),
)
FLAT = replace(GENOTYPE, dimensions=2)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("genotype", "size"), [(FLAT, (8, 12)), (GENOTYPE, (8, 16, 8))])
def test_images_become_logits_and_every_weight_learns(genotype, size, norm):
    net = SearchedNet(2, 3, genotype, filters=4, norm=norm)
    out = net(torch.randn(2, 2, *size))
    assert out.shape == (2, 3, *size)
    out.square().sum().backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in net.parameters())


def test_the_net_is_the_sum_that_its_genotype_writes():
    net = SearchedNet(1, 2, FLAT, filters=4).eval()
    x = torch.randn(1, 1, 8, 8)
    cell = {name: net.cells[name] for name in ("1-1-down", "2-1-same", "2-2-down", "3-1-up", "4-0-up")}
    assert set(net.cells) == set(cell)
    start = cell["1-1-down"](net.stem(x))
    middle = 0.25 * cell["2-1-same"](start) + 0.75 * cell["3-1-up"](cell["2-2-down"](start))
    torch.testing.assert_close(net(x), net.head(cell["4-0-up"](middle)))
    plain = SearchedNet(1, 2, replace(FLAT, weights=None), filters=4).eval()
    plain.load_state_dict(net.state_dict())
    middle = cell["2-1-same"](start) + cell["3-1-up"](cell["2-2-down"](start))
    torch.testing.assert_close(plain(x), net.head(cell["4-0-up"](middle)))


def test_a_cell_is_what_its_genes_write():
    net = SearchedNet(1, 2, FLAT, filters=4).eval()
    cell, x = net.cells["1-1-down"], torch.randn(1, 8, 8, 8)
    _, _, project, norm = cell.entry
    start = norm(project(F.relu(F.max_pool2d(x, 2))))
    _, depthwise, pointwise, norm = cell.operations[0].layers
    first = start + norm(pointwise(depthwise(F.relu(start))))
    second = F.avg_pool2d(first, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell(x), torch.cat([first, second], 1))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("name", "reach"), [("sep3", 1), ("sep5", 2), ("dil3", 2), ("avg3", 1), ("skip", 0)])
def test_operations_keep_the_shape_and_see_as_far_as_they_say(dimensions, name, reach):
    layout = Layout(dimensions, stage_strides(dimensions, 1), filters=2)
    operation = OPERATIONS[name](layout, 2, True).eval()
    x = torch.rand(1, 2, *(9,) * dimensions).add(0.1).requires_grad_()
    out = operation(x)
    assert out.shape == x.shape
    out[(0, slice(None), *(4,) * dimensions)].sum().backward()
    seen = x.grad[0].abs().sum(0).nonzero() - 4
    assert int(seen.abs().max()) == reach


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (1, 2, 4), (2, 2, 2)])
def test_the_mean_of_small_images_counts_what_is_there(size):
    x = torch.randn(2, 3, *size)
    out = OPERATIONS["avg3"](Layout(len(size), stage_strides(len(size), 1)), 3, True)(x)
    for place in itertools.product(*map(range, size)):
        near = tuple(slice(max(0, at - 1), at + 2) for at in place)
        expected = x[(..., *near)].flatten(2).mean(2)
        torch.testing.assert_close(out[(..., *place)], expected)


def test_the_fast_depthwise_convolution_is_pytorch_s():
    layout = Layout(3, stage_strides(3, 1))
    for name, kernel in (("sep3", 3), ("sep5", 5)):
        conv = OPERATIONS[name](layout, 2, True).layers[1]
        x = torch.randn(1, 2, 5, 6, 7)
        torch.testing.assert_close(conv(x), F.conv3d(x, conv.weight, padding=kernel // 2, groups=2))


def test_strides_are_per_axis_and_the_missing_are_flat():
    net = searched(1, 2, GENOTYPE, strides=((2, 2, 1), (2, 2, 2)), filters=4).eval()
    assert net.layout.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    assert net.total_stride == (4, 4, 2)
    seen = {}
    for name, cell in net.cells.items():
        cell.register_forward_hook(lambda module, given, out, name=name: seen.update({name: tuple(out.shape[1:])}))
    assert net(torch.randn(1, 1, 8, 8, 2)).shape == (1, 2, 8, 8, 2)
    assert seen == {
        "1-1-down": (16, 4, 4, 2), "2-1-same": (16, 4, 4, 2), "2-2-down": (32, 2, 2, 1),
        "3-1-up": (16, 4, 4, 2), "4-0-up": (8, 8, 8, 2),
    }  # fmt: skip


def test_stage_strides_start_with_2_in_3d_only():
    assert SearchedNet(1, 2, FLAT, filters=4).total_stride == (4, 4)
    assert SearchedNet(1, 2, GENOTYPE, filters=4).total_stride == (8, 8, 8)


def test_scales_out_of_use_ask_for_nothing():
    shallow = replace(FLAT, paths=(("same",) * 4,), weights=None)
    assert SearchedNet(1, 2, shallow, filters=4)(torch.randn(2, 1, 7, 5)).shape == (2, 2, 7, 5)


def test_a_genotype_comes_as_itself_as_plain_data_or_as_a_file(tmp_path):
    path = tmp_path / "genotype.json"
    GENOTYPE.save(path)
    for given in (GENOTYPE, to_data(GENOTYPE), path, str(path)):
        assert searched(1, 2, given, filters=4).genotype == GENOTYPE
    with pytest.raises(ValueError, match="genotype: layers is missing"):
        searched(1, 2, {name: value for name, value in to_data(GENOTYPE).items() if name != "layers"})
    with pytest.raises(FileNotFoundError, match="absent"):
        searched(1, 2, "absent.json")
    assert embed_genotype({"genotype": str(path), "filters": 4}) == {"genotype": to_data(GENOTYPE), "filters": 4}
    assert embed_genotype({"filters": 4}) == {"filters": 4}


def test_a_2d_network_takes_a_volume_slice_by_slice():
    net = searched(1, 2, FLAT, filters=4).eval().double()  # a slice alone may be added up in another order
    volumes = torch.randn(2, 1, 8, 12, 3, dtype=torch.float64)
    logits = net(volumes)
    assert logits.shape == (2, 2, 8, 12, 3)
    for n in range(3):
        torch.testing.assert_close(logits[..., n], net.network(volumes[..., n]))


def test_two_layers_are_alive_at_a_time():
    order = []
    propagate(GENOTYPE.edges, torch.ones(1), lambda edge, x: (order.append(edge), x)[1])
    assert tuple(order) == GENOTYPE.edges
    total = propagate(GENOTYPE.edges, torch.ones(1), lambda edge, x: x)
    assert float(total) == len(GENOTYPE.paths)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strides": ((1, 1),) * 3}, "strides must have 3 whole numbers from 1 up each"),
        ({"strides": ((1, 1, 1), (2, 2, 2), (2, 2, 0))}, "strides must have 3 whole numbers"),
        ({"strides": ((1, 1, 1),) * 4}, "strides must be 3 .* got 4"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"norm": "group"}, "norm must be one of batch, instance, got 'group'"),
    ],
)
def test_illegal_options_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        SearchedNet(1, 2, GENOTYPE, **options)


@pytest.mark.parametrize(
    ("genotype", "shape", "problem"),
    [
        (GENOTYPE, (1, 1, 8, 12, 8), r"divisible by \(8, 8, 8\), got \(8, 12, 8\): pad to \(8, 16, 8\)"),
        (FLAT, (1, 1, 8, 6), r"divisible by \(4, 4\), got \(8, 6\): pad to \(8, 8\)"),
        (FLAT, (1, 3, 8, 8), "takes 1 channels, got 3"),
        (FLAT, (1, 1, 8, 8, 8), "takes 2D images"),
        (GENOTYPE, (1, 1, 8, 8), "takes 3D images"),
    ],
)
def test_illegal_images_are_refused(genotype, shape, problem):
    with pytest.raises(ValueError, match=problem):
        SearchedNet(1, 2, genotype, filters=4)(torch.randn(shape))


def test_a_residual_cell_adds_its_projected_input_to_every_block():
    plain, residual = (SearchedNet(1, 2, FLAT, filters=4, residual=flag).eval() for flag in (False, True))
    residual.load_state_dict(plain.state_dict())
    x = torch.randn(1, 8, 8, 8)
    cell = plain.cells["1-1-down"]
    expected = cell(x) + cell.entry(x).repeat(1, 2, 1, 1)
    torch.testing.assert_close(residual.cells["1-1-down"](x), expected)
    assert SearchedNet(1, 2, FLAT, filters=4).cells["1-1-down"].residual is False
