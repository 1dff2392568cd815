import pytest
import torch

from voxward.architecture_search.cell import cell_inputs, one_hot_genes
from voxward.architecture_search.paths import sample_path
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.core.genotype import OPERATION_NAMES, CellGenes, Gene
from voxward.nets.layout import Layout
from voxward.nets.searched import SearchedNet

SPACE = MacroSpace(4, 3)
LAYOUTS = {
    2: Layout(2, ((1, 1), (2, 2), (2, 2)), filters=4),
    3: Layout(3, ((1, 1, 1), (2, 2, 1), (2, 2, 2)), filters=4, blocks=2),
}
SMALL = Layout(2, ((1, 1), (2, 2), (2, 2)), filters=4, blocks=1)
CELLS = {
    2: CellGenes(
        (Gene(0, "dil3"), Gene(1, "avg3"), Gene(0, "sep5")),
        (Gene(0, "sep3"), Gene(0, "skip"), Gene(2, "sep3")),
        (Gene(0, "skip"), Gene(1, "sep3"), Gene(1, "dil3")),
    ),
    3: CellGenes(
        (Gene(0, "dil3"), Gene(1, "avg3")), (Gene(0, "sep5"), Gene(0, "skip")), (Gene(0, "skip"), Gene(1, "sep3"))
    ),
}


def _super(layout, **options):
    torch.manual_seed(0)
    net = SuperNet(1, 2, SPACE, LAYOUTS.get(layout, layout), **options)
    with torch.no_grad():
        for parameter in (*net.cell_parameters(), *net.network_parameters()):
            parameter.copy_(torch.randn_like(parameter))
    return net


def _images(dimensions):
    return torch.randn(2, 1, *(8, 12, 4)[:dimensions])


def _derived(net, genotype):
    """The genotype's network with the weights of a super-net whose operations use all channels."""
    layout = net.layout
    decoded = SearchedNet(net.in_channels, net.out_channels, genotype, layout.strides, layout.filters, layout.norm)
    decoded.stem.load_state_dict(net.stem.state_dict())
    decoded.head.load_state_dict(net.head.state_dict())
    places = cell_inputs(layout.blocks)
    for name, cell in decoded.cells.items():
        mixed = net.cells[name]
        # The super-net's norms have no scale and shift; the network's stay 1 and 0.
        cell.entry.load_state_dict(mixed.entry.state_dict(), strict=False)
        for block, (gene, operation) in enumerate(zip(cell.genes, cell.operations, strict=True), 1):
            source = mixed.mixed[places.index((block, gene.input))].operations[OPERATION_NAMES.index(gene.operation)]
            operation.load_state_dict(source.state_dict(), strict=False)
    return decoded.train(net.training)


def _saturate(net, cells, path):
    """Parameters whose softmax is exactly one-hot: exp(-200) is 0 in float32."""
    with torch.no_grad():
        for kind in ("down", "same", "up"):
            operations, inputs = one_hot_genes(cells.of(kind))
            net.alpha[kind].copy_(200 * operations)
            net.p[kind].copy_(200 * inputs)
        net.beta.zero_()
        net.beta[list(path)] = 200.0


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_a_one_hot_super_net_is_the_decoded_net(dimensions, training):
    net = _super(dimensions, part=1)
    net(_images(dimensions))  # running statistics that are not 0 and 1
    for seed in range(2):
        path = sample_path(SPACE, net.edge_weights(), torch.Generator().manual_seed(seed))
        _saturate(net, CELLS[dimensions], path)
        genotype = net.decode(1)
        assert genotype.cells == CELLS[dimensions]
        assert genotype.edges == tuple(sorted(SPACE.edges[n] for n in path))
        assert genotype.weights == (1.0,) * SPACE.layers
        decoded, x = _derived(net.train(training), genotype), _images(dimensions)
        torch.testing.assert_close(net(x), decoded(x))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_restricted_super_net_is_the_derived_net(dimensions):
    net = _super(dimensions, part=1)
    net(_images(dimensions))
    genotype = net.decode(4, "log")
    assert 4 < len(genotype.edges) < len(SPACE.edges)
    for training in (True, False):
        derived, x = _derived(net.train(training), genotype), _images(dimensions)
        whole = net(x)
        net.restrict(genotype)
        torch.testing.assert_close(net(x), derived(x))
        net.restrict(None)
        if not training:
            assert torch.equal(net(x), whole)


def test_beta_still_learns_in_a_restricted_super_net():
    net = _super(SMALL)
    genotype = net.decode(4)
    net.restrict(genotype)
    net(_images(2)).square().sum().backward()
    moved = {edge for edge, slope in zip(SPACE.edges, net.beta.grad, strict=True) if slope != 0}
    targets = [edge.target for edge in genotype.edges]
    assert moved == {edge for edge in genotype.edges if targets.count(edge.target) > 1} != set()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradients_reach_every_free_parameter(dimensions, checkpointing):
    """Not free: the input of block 1, and the edge into a node with only one."""
    net = _super(dimensions, checkpointing=checkpointing)
    net(_images(dimensions)).square().sum().backward()
    for kind in ("down", "same", "up"):
        assert bool((net.alpha[kind].grad != 0).all())
        free = [block > 1 for block, _ in cell_inputs(net.layout.blocks)]
        assert (net.p[kind].grad != 0).tolist() == free
    free = [len(SPACE.into(edge.target)) > 1 for edge in SPACE.edges]
    assert (net.beta.grad != 0).tolist() == free
    assert all(bool((p.grad != 0).any()) for p in net.weight_parameters())


def test_checkpointing_changes_no_number():
    plain, saving = _super(SMALL), _super(SMALL, checkpointing=True)
    x = _images(2)
    for net in (plain, saving):
        net(x).square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert all(m.momentum == 0.1 for m in saving.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_parameters_are_architecture_or_weights():
    net = _super(2)
    groups = [net.cell_parameters(), net.network_parameters(), net.weight_parameters()]
    ids = [id(parameter) for group in groups for parameter in group]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(parameter) for parameter in net.parameters()}
    assert sum(p.numel() for p in net.cell_parameters()) == 3 * 6 * (5 + 1)
    assert sum(p.numel() for p in net.network_parameters()) == len(SPACE.edges)


def test_weights_sum_to_one():
    net = _super(2)
    net.temperature = 0.3
    weights = net.edge_weights().detach()
    for node in SPACE.nodes[1:]:
        assert float(weights[list(SPACE.into(node))].sum()) == pytest.approx(1)
    operations, inputs = net.cell_weights("up")
    torch.testing.assert_close(operations.sum(1), torch.ones(6))
    torch.testing.assert_close(torch.stack([inputs[:1].sum(), inputs[1:3].sum(), inputs[3:].sum()]), torch.ones(3))


def test_a_low_temperature_chooses():
    net = _super(2)
    net.temperature = 1e-4
    operations, _ = net.cell_weights("same")
    assert torch.equal(operations, torch.nn.functional.one_hot(net.alpha["same"].argmax(1), 5).float())


def test_the_two_starts():
    free = [len(SPACE.into(edge.target)) for edge in SPACE.edges]
    equal = SuperNet(1, 2, SPACE, SMALL, start="uniform-edge")
    torch.testing.assert_close(equal.edge_weights(), 1 / torch.tensor(free))
    likely = SuperNet(1, 2, SPACE, SMALL)
    likely.temperature = 0.1  # cooling does not prefer any
    with torch.no_grad():
        path = sample_path(SPACE, likely.edge_weights())
        assert float(likely.edge_weights()[list(path)].prod()) == pytest.approx(1 / SPACE.paths_to[SPACE.sink])


def test_the_same_seed_gives_the_same_super_net():
    x = torch.randn(2, 1, 8, 8)
    one, two = _super(SMALL), _super(SMALL)
    assert torch.equal(one(x), two(x))
    assert one.decode(3) == two.decode(3)


def test_every_kept_node_lies_between_stem_and_head():
    for diverse in (False, True):
        genotype = _super(SMALL).decode(4, diverse=diverse)
        left = {edge.source for edge in genotype.edges} - {(0, 0)}
        entered = {edge.target for edge in genotype.edges} - {(4, 0)}
        assert left == entered


def test_a_partial_super_net_decodes_to_full_channels():
    net = _super(SMALL)
    genotype = net.decode(2)
    assert SearchedNet(1, 2, genotype, LAYOUTS[2].strides, 4)(_images(2)).shape == (2, 2, 8, 12)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"part": 3}, "part must divide the 4 filters, got 3"),
        ({"space": MacroSpace(4, 2)}, "layout.strides must be 2"),
    ],
)
def test_what_does_not_fit_is_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        SuperNet(**{"in_channels": 1, "out_channels": 2, "space": SPACE, "layout": LAYOUTS[2]} | options)


def test_wrong_input_genotype_and_temperature_are_refused():
    net = _super(SMALL)
    with pytest.raises(ValueError, match=r"divisible by \(4, 4\), got \(8, 6\): pad to \(8, 8\)"):
        net(torch.randn(1, 1, 8, 6))
    with pytest.raises(ValueError, match="takes 2D images"):
        net(torch.randn(1, 1, 8, 8, 8))
    with pytest.raises(ValueError, match=r"genotype must have .* \(2, 4, 3, 1\), got \(3, 4, 3, 2\)"):
        net.restrict(_super(3).decode(1))
    with pytest.raises(ValueError, match="temperature must be positive"):
        net.temperature = 0.0
