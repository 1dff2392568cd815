import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from voxward.architecture_search.cell import one_hot_genes
from voxward.architecture_search.cost import cost_table, expected_cost, profile
from voxward.architecture_search.paths import visit
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.core.genotype import CellGenes, Gene, Genotype
from voxward.nets.layout import Layout, stage_strides
from voxward.nets.registry import create_network
from voxward.nets.searched import SearchedNet

SEP3 = (Gene(0, "sep3"), Gene(1, "sep3"), Gene(2, "sep3"))
U_PATH = ("down",) * 4 + ("same",) * 2 + ("up",) * 4
TO_SCALE_8 = ("down",) * 3 + ("same",) * 4 + ("up",) * 3


def _published(filters, *paths):
    genotype = Genotype(2, 10, 5, CellGenes(SEP3, SEP3, SEP3), paths)
    with torch.device("meta"):
        net = SearchedNet(1, 2, genotype, filters=filters)
    return profile(net, 1, (256, 256))


@pytest.mark.parametrize(
    ("filters", "paths", "millions", "billions"),
    [
        (32, (U_PATH,), 5.58, 4.66), (32, (TO_SCALE_8,), 2.21, 4.57), (32, (U_PATH, TO_SCALE_8), 7.19, 6.30),
        (48, (U_PATH,), 12.50, 10.32), (48, (TO_SCALE_8,), 4.94, 10.11), (48, (U_PATH, TO_SCALE_8), 16.09, 13.99),
        (64, (U_PATH,), 22.16, 18.19), (64, (TO_SCALE_8,), 8.74, 17.81), (64, (U_PATH, TO_SCALE_8), 28.52, 24.69),
    ],
)  # fmt: skip
def test_the_specification_s_sizes(filters, paths, millions, billions):
    cost = _published(filters, *paths)
    assert cost.parameters / 1e6 == pytest.approx(millions, abs=0.006)
    assert cost.macs / 1e9 == pytest.approx(billions, abs=0.006)


def test_macs_are_the_closed_form():
    """Per cell F^2 HW (c + n), the depthwise kernels, stem and head; c is 1.5, 3 and 6, n three operations."""
    f, voxels = 32, 256 * 256
    scales = {"down": (1, 2, 3, 4), "same": (4, 4), "up": (3, 2, 1, 0)}
    cells = sum(f * f * voxels * (c + 3) * len(scales[k]) for k, c in (("down", 1.5), ("same", 3), ("up", 6)))
    depthwise = sum(3 * 9 * f * voxels // 2**i for each in scales.values() for i in each)
    assert _published(f, U_PATH).macs == cells + depthwise + 3 * f * voxels * (9 + 2)


class _UNet(nn.Module):
    """The U-Net of the paper's table 1 (13.39M, 31.01G): 64 to 512 channels, bilinear."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(map(_double, (1, 64, 128, 256, 512), (64, 128, 256, 512, 512)))
        self.up = nn.ModuleList(map(_double, (1024, 512, 256, 128), (256, 128, 64, 64)))
        self.out = nn.Conv2d(64, 1, 1)

    def forward(self, x):
        kept = []
        for block in self.down:
            kept.append(block(F.max_pool2d(kept[-1], 2) if kept else x))
        x = kept.pop()
        for block in self.up:
            x = block(torch.cat([kept.pop(), F.interpolate(x, scale_factor=2.0)], 1))
        return self.out(x)


def _double(given, out):
    return nn.Sequential(*_conv(given, out), *_conv(out, out))


def _conv(given, out):
    return nn.Conv2d(given, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()


def test_the_published_unet():
    with torch.device("meta"):
        cost = profile(_UNet(), 1, (256, 256))
    assert cost.parameters == 13_394_177
    assert cost.macs / 1e9 == pytest.approx(30.84, abs=0.005)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_macs_are_what_pytorch_counts(dimensions):
    genes = (Gene(0, "sep5"), Gene(1, "dil3"), Gene(0, "avg3"))
    genotype = Genotype(
        dimensions, 4, 3, CellGenes(genes, SEP3, genes), (("down", "down", "up", "up"), ("same", "down", "skip", "up"))
    )
    net = SearchedNet(1, 2, genotype, filters=4)
    size = (16,) * dimensions
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cost = profile(net, 1, size)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.randn(1, 1, *size))
    assert cost.macs * 2 == counter.get_total_flops()
    assert cost.parameters == sum(p.numel() for p in net.parameters())


def test_macs_of_the_networks_that_a_searched_one_stands_beside():
    """ROG's as published, 9.97 G; MONAI's, with its transposed convolutions, as PyTorch counts."""
    with torch.device("meta"):
        rog = create_network("rog", 1, 3, strides=((2, 2, 1), *[(2, 2, 2)] * 4))
    assert profile(rog, 1, (96, 96, 96)).macs / 1e9 == pytest.approx(9.97, abs=0.005)
    net = create_network("dynunet", 1, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.randn(1, 1, 16, 16, 16))
    assert profile(net, 1, (16, 16, 16)).macs * 2 == counter.get_total_flops()


def test_activations_are_the_layers_outputs():
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2))
    assert profile(net, 1, (8, 8)).activations == 3 * 64 + 3 * 64 + 3 * 16


def _every_path(space, node=(0, 0), path=()):
    if node == space.sink:
        yield path
    for n, edge in enumerate(space.edges):
        if edge.source == node:
            yield from _every_path(space, edge.target, (*path, n))


@pytest.mark.parametrize(("dimensions", "space"), [(2, MacroSpace(3, 2)), (3, MacroSpace(2, 2))])
def test_the_expectation_is_the_mean_over_all_networks(dimensions, space):
    """All paths, and for one cell kind all choices of a block, each network counted on its own."""
    layout = Layout(dimensions, stage_strides(dimensions, 2), filters=4, blocks=1)
    torch.manual_seed(0)
    net, size = SuperNet(1, 2, space, layout), (16,) * dimensions
    chosen = {"down": (Gene(0, "dil3"),), "up": (Gene(0, "avg3"),)}
    with torch.no_grad():
        net.beta.copy_(torch.randn_like(net.beta))
        net.alpha["same"].copy_(torch.randn(1, 5))
        for kind, genes in chosen.items():
            net.alpha[kind].copy_(200 * one_hot_genes(genes)[0])
    operations, weights = net.cell_weights("same")[0][0], net.edge_weights()
    expected = torch.zeros(3, dtype=torch.float64)
    for path in _every_path(space):
        for n, name in enumerate(("sep3", "sep5", "dil3", "avg3", "skip")):
            genotype = net.genotype_of([path], CellGenes(chosen["down"], (Gene(0, name),), chosen["up"]))
            with torch.device("meta"):
                cost = profile(SearchedNet(1, 2, genotype, layout.strides, layout.filters), 1, size)
            share = (weights[list(path)].prod() * operations[n]).item()
            expected += share * torch.tensor([cost.parameters, cost.macs, cost.activations], dtype=torch.float64)
    found = expected_cost(net, cost_table(space, layout, 1, 2, size))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_inputs_of_a_block_share_its_weight():
    """A cell's expected operations, block by block and input by input."""
    space, layout = MacroSpace(1, 1), Layout(2, ((1, 1),), filters=4, blocks=2)
    net = SuperNet(1, 2, space, layout)
    with torch.no_grad():
        net.alpha["same"].copy_(torch.randn(3, 5))
        net.p["same"].copy_(torch.randn(3))
    table = cost_table(space, layout, 1, 2, (8, 8))
    operations, inputs = net.cell_weights("same")
    used, expected = net.edge_weights().double(), table.fixed.clone()
    same = [edge.kind for edge in space.edges].index("same")
    cell = table.entries[same].clone()
    for n in range(3):
        for o in range(5):
            cell += (inputs[n] * operations[n, o]).item() * table.operations[same, o]
    torch.testing.assert_close(expected_cost(net, table), expected + used[same] * cell, rtol=1e-5, atol=0)


def test_the_expected_cost_moves_every_architecture_parameter():
    """Not p: an operation costs the same whatever it reads, so only the mixture of operations depends on it."""
    space, layout = MacroSpace(4, 3), Layout(2, stage_strides(2, 3), filters=4)
    net = SuperNet(1, 2, space, layout)
    expected_cost(net, cost_table(space, layout, 1, 2, (16, 16)))[1].backward()
    assert all(bool((net.alpha[kind].grad != 0).all()) for kind in net.alpha)
    free = [len(space.into(edge.target)) > 1 for edge in space.edges]
    assert all(bool(slope != 0) for slope, is_free in zip(net.beta.grad, free, strict=True) if is_free)


def test_the_cheapest_path_is_found_by_descending_the_expected_cost():
    """A loss on beta with a known best path: identities all the way."""
    space, layout = MacroSpace(4, 3), Layout(2, stage_strides(2, 3), filters=4)
    net = SuperNet(1, 2, space, layout)
    table = cost_table(space, layout, 1, 2, (16, 16))
    optimiser = torch.optim.Adam(net.network_parameters(), lr=0.3)
    for _ in range(40):
        optimiser.zero_grad()
        (expected_cost(net, table)[1] / 1e6).backward()
        optimiser.step()
    for score in ("sum", "log"):
        best = net.decode(1, score)
        assert best.paths == (("skip",) * 4,), score


def test_more_paths_cost_more_up_to_everything():
    space, layout = MacroSpace(4, 3), Layout(2, stage_strides(2, 3), filters=4)
    net = SuperNet(1, 2, space, layout)
    table = cost_table(space, layout, 1, 2, (16, 16))
    one, three, all_of_them = (expected_cost(net, table, n) for n in (1, 3, 10_000))
    assert bool((one < three).all())
    assert bool((three < all_of_them).all())
    assert float(visit(space, net.edge_weights().detach()).sum()) == pytest.approx(space.layers, rel=1e-5)


def test_sizes_and_spaces_must_fit():
    layout = Layout(2, stage_strides(2, 3), filters=4)
    table = cost_table(MacroSpace(4, 3), layout, 1, 2, (16, 16))
    with pytest.raises(ValueError, match="table must be of the super-net's space"):
        expected_cost(SuperNet(1, 2, MacroSpace(5, 3), layout), table)
    with pytest.raises(ValueError, match=r"size must be divisible by \(4, 4\), got \(16, 18\)"):
        cost_table(MacroSpace(4, 3), Layout(2, stage_strides(2, 3)), 1, 2, (16, 18))
