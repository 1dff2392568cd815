import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from voxward.nets.autodeeplab import AutoDeepLab, autodeeplab


def _millions(net):
    return sum(p.numel() for p in net.parameters()) / 1e6


def _profile(net, channels, height, width):
    """Parameters in millions and multiply-adds in billions of one slice."""
    with FlopCounterMode(display=False) as counter:
        assert net(torch.empty(1, channels, height, width)).shape[2:] == (height, width)
    return _millions(net), counter.get_total_flops() / 2e9


@pytest.mark.parametrize(("filters", "millions"), [(20, 10.15), (32, 21.62), (48, 44.42)])
def test_the_published_parameters(filters, millions):
    """Table 2 of the paper, for Cityscapes: AutoDeepLab-S, M and L."""
    with torch.device("meta"):
        assert _millions(AutoDeepLab(3, 19, filters=filters)) == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("filters", "millions", "billions"),
    [(25, 14.34, 11.26), pytest.param(70, 89.77, 33.4, marks=pytest.mark.slow)],
)
def test_no_width_has_the_parameters_and_the_operations_that_ms_nas_prints(filters, millions, billions):
    """14.45 M, 33.06 G: the widths nearest to either."""
    with torch.device("meta"):
        found = _profile(AutoDeepLab(1, 2, filters=filters), 1, 256, 256)
    assert found == (pytest.approx(millions, abs=0.006), pytest.approx(billions, abs=0.006))


def test_pyramid_and_decoder_follow_the_stem():
    """Four times the stem, and three quarters of it, as published for 64."""
    wide, narrow = (AutoDeepLab(1, 2, filters=2, stem=stem) for stem in (64, 8))
    sizes = [(net.pyramid.merge[0].out_channels, net.low[0].out_channels, net.stem[1][1].out_channels)
             for net in (wide, narrow)]  # fmt: skip
    assert sizes == [(256, 48, 128), (32, 6, 16)]
    assert narrow.eval()(torch.randn(1, 1, 32, 32)).shape == (1, 2, 32, 32)
    with pytest.raises(ValueError, match="stem must be a multiple of 4 from 4 up, got 6"):
        autodeeplab(1, 2, stem=6)


def test_every_cell_is_at_the_published_scale():
    net = AutoDeepLab(1, 2, filters=2).eval()
    seen = []
    for cell in net.cells:
        cell.register_forward_hook(lambda module, given, out: seen.append((64 // out.shape[2], tuple(out.shape[1:]))))
    low = []
    net.low.register_forward_hook(lambda module, given, out: low.append(given[0].shape[2:]))
    assert net(torch.randn(1, 1, 64, 96)).shape == (1, 2, 64, 96)
    assert [scale for scale, _ in seen] == [4, 4, 4, 8, 16, 8, 16, 16, 32, 32, 16, 8]
    assert all(shape == (5 * 2 * scale // 4, 64 // scale, 96 // scale) for scale, shape in seen)
    assert low == [(16, 24)]


def _separable(layers, x, kernel, stride=1):
    """Twice: ReLU, depthwise, pointwise, norm."""
    _, depthwise, point, norm, _, depthwise2, point2, norm2 = layers
    for a, b, n, step in ((depthwise, point, norm, stride), (depthwise2, point2, norm2, 1)):
        assert a.kernel_size == (kernel, kernel)
        x = n(b(F.conv2d(F.relu(x), a.weight, stride=step, padding=kernel // 2, groups=x.shape[1])))
    return x


def _atrous(layers, x, kernel, stride=1):
    """ReLU, a full convolution of rate 2, norm; going down: on the halved image, of rate 1."""
    convolution, norm = layers[-2:]
    assert convolution.kernel_size == (kernel, kernel)
    rate = 2 if stride == 1 else 1
    x = F.avg_pool2d(F.relu(x), stride)
    return norm(F.conv2d(x, convolution.weight, padding=rate * (kernel // 2), dilation=rate))


@pytest.mark.parametrize("stride", [1, 2])
def test_cells_are_what_the_genotype_writes(stride):
    net = AutoDeepLab(1, 2, filters=3).eval()
    cell = net.cells[3 if stride == 2 else 1]
    widths = [15, 15] if stride == 2 else [128, 15]
    before, previous = (torch.randn(1, width, 16, 16) for width in widths)
    o = [list(operation) for operation in cell.operations]
    s0, s1 = cell.entries[0](before), cell.entries[1](previous)
    s2 = _atrous(o[0], s0, 5, stride) + _separable(o[1], s1, 3, stride)
    s3 = _separable(o[2], s0, 3, stride) + _atrous(o[3], s1, 3, stride)
    s4 = _separable(o[4], s3, 3) + _separable(o[5], s0, 3, stride)
    s5 = _separable(o[6], s4, 5) + _separable(o[7], s2, 5)
    s6 = _separable(o[8], s3, 5) + _atrous(o[9], s5, 5)
    torch.testing.assert_close(cell(before, previous), torch.cat([s2, s3, s4, s5, s6], 1))


def test_a_cell_on_the_way_up_works_at_the_doubled_size():
    cell = AutoDeepLab(1, 2, filters=2).eval().cells[11]
    before, previous = torch.randn(1, 80, 4, 4), torch.randn(1, 40, 8, 8)
    larger = [F.interpolate(x, (16, 16), mode="bilinear") for x in (before, previous)]
    cell.up = (1, 1)
    expected = cell(*larger)
    cell.up = (2, 2)
    torch.testing.assert_close(cell(before, previous), expected)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    net = AutoDeepLab(1, 2, filters=2)
    net(torch.randn(4, 1, 64, 64)).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_single_slice_can_be_trained_on():
    net = AutoDeepLab(1, 2, filters=2)
    net(torch.randn(1, 1, 64, 64)).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_slices_are_independent_and_fewer_strides_keep_the_finest_levels_flat():
    net = autodeeplab(1, 2, ((2, 2, 1), (2, 1, 1)), 2).eval().double()  # one slice: another order of adding
    assert net.network.total_stride == (4, 2)
    volumes = torch.randn(1, 1, 12, 10, 2, dtype=torch.float64)
    logits = net(volumes)
    assert logits.shape == (1, 2, 12, 10, 2)
    torch.testing.assert_close(net(volumes[..., 1:]), logits[..., 1:])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"divisible by \(32, 32\), got \(48, 64\): pad to \(64, 64\)"):
        AutoDeepLab(1, 2, filters=2)(torch.randn(1, 1, 48, 64))
    for strides in (((2, 2, 2),), ((2, 2, 1),) * 6):
        with pytest.raises(ValueError, match="strides must be at most 5"):
            autodeeplab(1, 2, strides)
    with pytest.raises(ValueError, match="filters must be at least 1, got 0"):
        autodeeplab(1, 2, filters=0)
    for rates in ((), (6, 0)):
        with pytest.raises(ValueError, match="rates must be whole numbers from 1 up"):
            autodeeplab(1, 2, rates=rates)
