import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from voxward.nets.unet import UNet, unet_2d


def test_the_published_parameters_and_operations():
    with torch.device("meta"):
        net = UNet(1, 1)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 1, 256, 256))
    assert sum(p.numel() for p in net.parameters()) == 13_394_177
    assert counter.get_total_flops() / 2e9 == pytest.approx(30.84, abs=0.01)


def test_slices_are_independent_and_fewer_strides_keep_the_finest_levels_flat():
    net = unet_2d(1, 2, ((2, 2, 1), (2, 1, 1))).eval().double()  # one slice may be added up in another order
    assert net.network.total_stride == (4, 2)
    volumes = torch.randn(1, 1, 8, 6, 2, dtype=torch.float64)
    logits = net(volumes)
    assert logits.shape == (1, 2, 8, 6, 2)
    torch.testing.assert_close(net(volumes[..., 1:]), logits[..., 1:])


def test_fewer_filters_are_a_narrower_network():
    """All but what reads the image, biases and norms has a sixteenth of the parameters at a quarter of the filters."""
    weights = [
        sum(p.numel() for name, p in UNet(1, 1, filters=filters).named_parameters() if p.ndim == 4 and p.shape[1] > 1)
        for filters in (16, 64)
    ]
    assert weights[1] - 64 == 16 * (weights[0] - 16)  # without the head
    with pytest.raises(ValueError, match="filters must be at least 1, got 0"):
        unet_2d(1, 2, filters=0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="divisible by"):
        UNet(1, 2)(torch.randn(1, 1, 20, 16))
    for strides in (((2, 2, 2),), ((2, 2, 1),) * 5):
        with pytest.raises(ValueError, match="strides must be at most 4"):
            unet_2d(1, 2, strides)
