"""One contract for every registered network, and the published counts of each."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.core.test_plan import PLAN
from voxward.core.recipe import load_recipe
from voxward.nets.lattice import LEVEL_DEPTHS, Lattice
from voxward.nets.registry import NETWORKS, create_network, network_for_plan

FLAT, HALF = (1, 1, 1), (2, 2, 2)
GENES = tuple({"input": 0, "operation": name} for name in ("sep3", "dil3"))
# Options that a network cannot do without, or not on 16 pixels.
NEEDED = {
    "autodeeplab": {"strides": ((2, 2, 1),) * 4},
    "searched": {
        "genotype": {
            "dimensions": 3, "layers": 4, "scales": 3, "cells": {"down": GENES, "same": GENES, "up": GENES},
            "paths": (("down", "down", "up", "up"), ("skip", "down", "same", "up")),
        },
        "filters": 4,
    },
    "c2fnas": {"filters": 2},
    "mpunet": {"filters": 2},
    "unet-plus-plus": {"filters": (4, 4, 8, 8, 8, 4)},
}  # fmt: skip


def _created(name, in_channels, out_channels, **options):
    return create_network(name, in_channels, out_channels, **NEEDED.get(name, {}), **options)


@pytest.mark.parametrize("name", NETWORKS)
class TestContract:
    def test_logits_have_one_channel_per_class_and_the_input_size(self, name):
        network = _created(name, 2, 3).eval()
        assert network(torch.randn(2, 2, 16, 32, 16)).shape == (2, 3, 16, 32, 16)

    def test_input_gradient_and_every_weight_gradient(self, name):
        network = _created(name, 1, 2)
        x = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
        out = network(x)
        # Deep supervision: in training several outputs, the first of them the logits.
        sum(logits.square().mean() for logits in (out if isinstance(out, tuple) else (out,))).backward()
        assert x.grad.abs().sum() > 0
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())

    @pytest.mark.slow  # the networks are compared with MONAI's, with ONNX and with autograd as well
    def test_float64_agrees_with_float32(self, name):
        torch.manual_seed(0)
        network = _created(name, 1, 2).eval()
        x = torch.randn(1, 1, 32, 32, 32)
        single = network(x)
        double = network.double()(x.double())
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)

    def test_thin_volumes(self, name):
        plan = replace(
            PLAN,
            patch_size=(16, 16, 1), window_size=(16, 16, 1), source_size=(16, 16, 1),
            strides=((2, 2, 1), (2, 2, 1)), kernel_sizes=((3, 3, 1),) * 3,
        )  # fmt: skip
        network = network_for_plan(name, plan, NEEDED.get(name, {})).eval()
        assert network(torch.randn(1, 1, 16, 16, 1)).shape == (1, 2, 16, 16, 1)

    def test_the_same_seed_gives_the_same_weights(self, name):
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(_created(name, 1, 2).state_dict())
        assert all(torch.equal(a, states[1][key]) for key, a in states[0].items())

    def test_bad_calls_are_refused(self, name):
        with pytest.raises(ValueError, match="input channel"):
            _created(name, 0, 2)
        with pytest.raises(ValueError, match="no option colour"):
            _created(name, 1, 2, colour="red")


@pytest.mark.parametrize(("auxiliary", "count"), [(False, 26_381_858), (True, 26_382_056)])
def test_unet_plus_plus_has_the_size_that_the_rog_paper_gives(auxiliary, count):
    """26.2 M, ten times ROG's 2.6 M; MONAI's network of the same widths has 0.7 % more."""
    options = load_recipe("unet-plus-plus").network.options | {"auxiliary": auxiliary}
    with torch.device("meta"):
        found = sum(p.numel() for p in create_network("unet-plus-plus", 1, 2, **options).parameters())
    assert found == count
    assert found == pytest.approx(26.2e6, rel=0.01)


def test_unet_plus_plus_is_monais_where_every_step_is_2():
    from monai.networks.nets import BasicUNetPlusPlus

    torch.manual_seed(0)
    filters = (2, 3, 4, 6, 8, 3)
    network = create_network("unet-plus-plus", 1, 2, filters=filters, auxiliary=True)
    theirs = BasicUNetPlusPlus(3, 1, 2, filters, deep_supervision=True)
    theirs.load_state_dict(network.network.state_dict())
    x = torch.randn(1, 1, 32, 32, 48)
    first, second, third, last = theirs(x)
    torch.testing.assert_close(network.train()(x), (last, third, second, first), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.eval()(x), last, rtol=1e-4, atol=1e-4)


def test_unet_plus_plus_takes_flat_steps():
    network = create_network("unet-plus-plus", 1, 2, strides=((2, 2, 1), FLAT, HALF, HALF), filters=(2,) * 6).eval()
    assert network.total_stride == (8, 8, 4)
    assert network(torch.randn(1, 1, 8, 16, 4)).shape == (1, 2, 8, 16, 4)
    with pytest.raises(ValueError, match=r"pad to \(16, 8, 4\)"):
        network(torch.randn(1, 1, 12, 8, 4))
    for wrong in ({"strides": (HALF,) * 3}, {"strides": ((3, 2, 2),) * 4}, {"filters": (4, 4)}, {"filters": (1,) * 6}):
        with pytest.raises(ValueError, match=r"must be (four|six)"):
            create_network("unet-plus-plus", 1, 2, **wrong)


def test_c2fnas_against_the_figures_of_its_paper():
    """17.02 M parameters and 150.78 G; what is known of the network leaves a tenth and a twentieth open."""
    with torch.device("meta"):
        network = create_network("c2fnas", 1, 3, **load_recipe("c2fnas").network.options)
        with FlopCounterMode(display=False) as counter:
            assert network(torch.empty(1, 1, 96, 96, 96)).shape == (1, 3, 96, 96, 96)
    count, giga = sum(p.numel() for p in network.parameters()), counter.get_total_flops() / 2e9
    assert count == 15_314_752
    assert giga == pytest.approx(157.554, abs=0.001)
    assert (count / 17.02e6, giga / 150.78) == pytest.approx((0.90, 1.045), abs=0.002)


def test_a_2d_cell_of_c2fnas_sees_no_neighbouring_slice():
    """Cells 0, 5 and 10 are 2D, 1 and 8 pseudo-3D: only their other kernels look along the last axis."""
    network = create_network("c2fnas", 1, 2, filters=2)
    kernels = [[tuple(m.kernel_size) for m in cell.operation if isinstance(m, nn.Conv3d)] for cell in network.cells]
    flat, full, pseudo = [(3, 3, 1)], [(3, 3, 3)], [(3, 3, 1), (1, 1, 3)]
    assert kernels == [flat, pseudo, full, full, full, flat, full, full, pseudo, full, flat, full]
    widths = [cell.last.out_channels for cell in network.cells]
    assert widths == [4, 4, 8, 8, 16, 32, 16, 16, 8, 4, 4, 4]


def test_c2fnas_takes_other_steps_and_refuses_what_does_not_fit():
    network = create_network("c2fnas", 1, 2, strides=((2, 2, 1), FLAT, HALF, HALF), filters=1).eval()
    assert network(torch.randn(1, 1, 8, 16, 4)).shape == (1, 2, 8, 16, 4)
    with pytest.raises(ValueError, match=r"pad to \(16, 8, 4\)"):
        network(torch.randn(1, 1, 12, 8, 4))
    for wrong in ({"strides": (HALF,) * 3}, {"strides": ((0, 2, 2),) * 4}, {"filters": 0}):
        with pytest.raises(ValueError, match=r"strides must be four|filters must be"):
            create_network("c2fnas", 1, 2, **wrong)


def test_unknown_network():
    with pytest.raises(ValueError, match=r"unknown network 'rogue'\. Did you mean 'rog'"):
        create_network("rogue", 1, 2)


def test_an_option_that_a_network_needs_is_asked_for():
    with pytest.raises(ValueError, match=r"needs the option genotype \(recipe: network.options.genotype\)"):
        create_network("searched", 1, 2, filters=4)


@pytest.mark.parametrize(("modalities", "classes", "count"), [(1, 3, 2_596_347), (4, 4, 2_596_556)])
def test_lattice_parameter_count(modalities, classes, count):
    assert sum(p.numel() for p in create_network("rog", modalities, classes).parameters()) == count
    assert count == 2_596_192 + 59 * modalities + 32 * classes


def test_lattice_parts():
    lattice = Lattice(1, 3)
    parts = {
        "stem": (lattice.stem, lattice.entry), "lattice": (lattice.nodes,),
        "combination": (lattice.combine,), "head": (lattice.head,),
    }  # fmt: skip
    counts = {name: sum(p.numel() for part in modules for p in part.parameters()) for name, modules in parts.items()}
    assert counts == {"stem": 7067, "lattice": 2_561_472, "combination": 27_712, "head": 96}
    assert [len(depths) for depths in LEVEL_DEPTHS] == [5, 4, 3, 2]
    assert len(lattice.nodes) == 14


@pytest.mark.parametrize(
    ("channels", "classes", "strides", "size", "gmac"),
    [(4, 4, (FLAT, HALF, HALF, HALF, HALF), 96, 39.66), (1, 3, ((2, 2, 1), *[HALF] * 4), 96, 9.97)],
)
def test_lattice_operations(channels, classes, strides, size, gmac):
    """The paper's figure for Task01 and the release's for Task03; counted on no real memory."""
    with torch.device("meta"):
        network = _plain(Lattice(channels, classes, strides)).to("meta")
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, channels, size, size, size))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.005)


def _plain(network):
    """On a device that is not the CPU the lattice uses PyTorch's own routines; depthwise ones are swapped by hand."""
    for name, child in network.named_children():
        if isinstance(child, nn.Conv3d) and child.groups > 1:
            setattr(
                network,
                name,
                _plain_depthwise(child),
            )
        else:
            _plain(child)
    return network


def _plain_depthwise(module):
    channels = module.in_channels
    return nn.Conv3d(channels, channels, 3, module.strides, 1, groups=channels, bias=False)


def test_lattice_says_what_to_pad_to():
    with pytest.raises(ValueError, match=r"pad to \(32, 48, 16\)"):
        Lattice(1, 2)(torch.randn(1, 1, 20, 40, 16))
    with pytest.raises(ValueError, match="takes 1 channels, got 2"):
        Lattice(1, 2)(torch.randn(1, 2, 16, 16, 16))
    with pytest.raises(ValueError, match="5 strides"):
        Lattice(1, 2, strides=(HALF,))


def test_lattice_equals_itself_built_from_plain_layers():
    torch.manual_seed(0)
    lattice = Lattice(1, 3).double().eval()
    x = torch.randn(1, 1, 16, 16, 32, dtype=torch.float64)
    ours = lattice(x)
    torch.testing.assert_close(_all_plain(lattice)(x), ours, rtol=1e-9, atol=1e-9)


def _all_plain(network):
    from voxward.nets.blocks import InstanceNorm, PointwiseConv3d, Upsample

    for name, child in network.named_children():
        plain = None
        if isinstance(child, InstanceNorm):
            plain = nn.InstanceNorm3d(child.weight.numel(), affine=True)
        elif isinstance(child, PointwiseConv3d):
            plain = nn.Conv3d(child.in_channels, child.out_channels, 1, child.strides, bias=False)
        elif isinstance(child, nn.Conv3d) and child.groups > 1:
            plain = _plain_depthwise(child)
        elif isinstance(child, Upsample):
            plain = nn.Upsample(scale_factor=tuple(map(float, child.factor)), mode="trilinear", align_corners=True)
        if plain is None:
            _all_plain(child)
        else:
            plain.load_state_dict(child.state_dict(), strict=not isinstance(child, Upsample))
            setattr(network, name, plain.double())
    return network


def test_dynunet_wants_one_kernel_per_level():
    with pytest.raises(ValueError, match="one entry per level"):
        create_network("dynunet", 1, 2, strides=(HALF, HALF), kernel_sizes=((3, 3, 3),))


def test_dynunet_says_what_is_too_small_for_it():
    with pytest.raises(ValueError, match="at least two downsampling steps, got 1"):
        create_network("dynunet", 1, 2, strides=(HALF,))
