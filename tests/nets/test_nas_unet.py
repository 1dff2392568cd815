import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from voxward.nets.nas_unet import NasUNet, nas_unet


@pytest.mark.parametrize(("steps", "filters", "millions", "billions"), [(7, 64, 2.28, 5.89), (8, 140, 12.53, 27.98)])
def test_sizes_of_the_repository_s_network(steps, filters, millions, billions):
    """Its configuration for CHAOS (64 channels, depth 6), and the one nearest to MS-NAS's table 1 (12.45, 28.43)."""
    with torch.device("meta"):
        net = NasUNet(1, 2, ((2, 2),) * steps, filters)
        with FlopCounterMode(display=False) as counter:
            assert net(torch.empty(1, 1, 256, 256)).shape == (1, 2, 256, 256)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.006)


def test_parameters_by_hand():
    """Stems have 4 c channels, cells 3 c; a cell two entries of 1 x 1, convolutions of 3 x 3, gates and norms."""
    c, depth = 32, 3
    gate, conv, norm = 2 * c * (c // 16) + c // 16 + c, 9 * c * c, 2 * c
    down = 5 * conv + (9 * c + c * c) + gate + 6 * norm
    up = 3 * conv + 3 * gate + 3 * norm
    entries = [8, 7, 6, 6, 6, 7, 7]  # channels / c of both inputs: three cells down, four up
    total = depth * down + (depth + 1) * up + sum(n * c * c + 2 * norm for n in entries)
    stems = 4 * c * (1 + 9) * 2 + 2 * 8 * c
    net = NasUNet(2, 5, ((2, 2),) * (depth + 1), c)
    assert sum(p.numel() for p in net.parameters()) == total + stems + 5 * 3 * c


def test_cells_are_what_their_genotypes_write():
    net = NasUNet(1, 2, ((2, 2), (2, 2)), 16).eval()
    before, previous = torch.randn(1, 64, 16, 16), torch.randn(1, 64, 8, 8)
    cell = net.down[0]
    o = list(cell.operations)
    s0, s1 = cell.entries[0](before), cell.entries[1](previous)
    assert s0.shape == s1.shape == (1, 16, 8, 8)
    expected = torch.cat([o[0](s1) + o[1](s0), o[2](s1) + o[3](s0), o[4](s1) + o[5](s0)], 1)
    assert expected.shape == (1, 48, 4, 4)
    torch.testing.assert_close(cell(before, previous), expected)

    skip, x, cell = torch.randn(1, 64, 8, 8), torch.randn(1, 48, 4, 4), net.up[0]
    o = list(cell.operations)
    s0, s1 = cell.entries[0](skip), cell.entries[1](x)
    risen = [F.interpolate(o[n](s1), (8, 8)) for n in (1, 3, 5)]
    assert o[1](s1).shape == o[5](s1).shape == (1, 16, 7, 7)
    s2 = s0 + risen[0]
    s3 = s2 + risen[1]
    s4 = o[4](s3) + risen[2]
    torch.testing.assert_close(cell(skip, x), torch.cat([s2, s3, s4], 1))


def test_slices_are_independent_and_strides_are_per_axis():
    net = nas_unet(1, 2, ((2, 2, 1), (2, 1, 1), (2, 2, 1)), 16).eval().double()  # one slice: another order of adding
    assert net.network.total_stride == (8, 4)
    volumes = torch.randn(1, 1, 16, 8, 2, dtype=torch.float64)
    logits = net(volumes)
    assert logits.shape == (1, 2, 16, 8, 2)
    torch.testing.assert_close(net(volumes[..., 1:]), logits[..., 1:])
    assert nas_unet(1, 2, ((2, 2, 1),), 16).double()(volumes).shape == (1, 2, 16, 8, 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="divisible by"):
        NasUNet(1, 2, ((2, 2), (2, 2)), 16)(torch.randn(1, 1, 18, 16))
    for strides in ((), ((2, 2, 2),), ((2, 2, 1),) * 8):
        with pytest.raises(ValueError, match="strides must be 1 to 7"):
            nas_unet(1, 2, strides)
    with pytest.raises(ValueError, match="filters must be at least 16, got 8"):
        nas_unet(1, 2, filters=8)
