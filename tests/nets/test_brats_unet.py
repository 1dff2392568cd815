import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from voxward.losses.deep import supervised
from voxward.nets.brats_unet import Attention, BratsUNet


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def _on_meta(**options):
    with torch.device("meta"):
        return BratsUNet(4, 3, **options)


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize(
    ("options", "with_heads", "without"),
    [
        ({}, 23_154_735, 23_152_563),
        ({"attention": True}, 23_207_760, 23_205_588),
        ({"thin": True}, 19_169_991, 19_167_819),
    ],
)
def test_parameter_counts_are_the_specification_s(norm, options, with_heads, without):
    assert _count(_on_meta(norm=norm, **options)) == with_heads
    assert _count(_on_meta(norm=norm, auxiliary=False, **options)) == without


def test_every_part_has_its_parameters():
    network = _on_meta()
    parts = [*network.encoder, network.bottom, network.join, *network.decoder, network.score, *network.auxiliary]
    assert [_count(part) for part in parts] == [
        67_584, 373_632, 1_493_760, 5_973_504,
        7_964_160, 3_981_696,
        2_488_896, 622_368, 186_816, 147,
        1_155, 579, 291, 147,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "with_heads", "without"),
    [({}, 1.9957, 1.9955), ({"attention": True}, 1.9990, 1.9988), ({"thin": True}, 1.5523, 1.5522)],
)
def test_a_patch_of_128_costs_what_the_specification_says(options, with_heads, without):
    """Two operations per multiply-add of every convolution and matrix product, in 10^12."""
    network, patch = _on_meta(**options), torch.empty(1, 4, 128, 128, 128, device="meta")
    for mode, expected in ((True, with_heads), (False, without)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.train(mode)(patch)
        assert counter.get_total_flops() / 1e12 == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("norm", ["group", "instance"])
def test_maps_images_to_logits_of_their_size(attention, norm):
    network = BratsUNet(2, 3, attention, norm, width=4)
    x = torch.randn(2, 2, 16, 8, 24)
    out = network(x)
    assert isinstance(out, tuple)
    assert len(out) == 5
    assert all(logits.shape == (2, 3, 16, 8, 24) for logits in out)
    assert network.eval()(x).shape == (2, 3, 16, 8, 24)


def _unit(x, unit):
    convolution, norm = unit[0], unit[1]
    x = F.conv3d(x, convolution.weight, padding=convolution.dilation, dilation=convolution.dilation)
    return F.relu(F.group_norm(x, norm.num_groups, norm.weight, norm.bias))


def _up(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="trilinear", align_corners=True)


def test_is_the_network_of_figure_2():
    """Written out step by step from the specification."""
    network = BratsUNet(2, 3, width=4).double()
    images = x = torch.randn(2, 2, 16, 16, 16, dtype=torch.float64)
    encoded = []
    for stage in network.encoder:
        x = F.max_pool3d(encoded[-1], 2) if encoded else x
        encoded.append(_unit(_unit(x, stage[0]), stage[1]))
    assert [network.bottom[n][0].dilation for n in (0, 1)] == [(2, 2, 2)] * 2
    bottom = _unit(_unit(encoded[3], network.bottom[0]), network.bottom[1])
    x = _unit(torch.cat([encoded[3], bottom], 1), network.join[0])
    deep = [bottom, x]
    for skipped, stage in zip((encoded[2], encoded[1], encoded[0]), network.decoder, strict=True):
        x = _unit(_unit(torch.cat([skipped, _up(x, 2)], 1), stage[0]), stage[1])
        deep.append(x)
    heads = zip(deep[:4], network.auxiliary, (8, 8, 4, 2), strict=True)
    expected = [network.score(x), *(_up(head[0](given), factor) for given, head, factor in heads)]
    for got, wanted in zip(network(images), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_attention_stands_behind_encoder_bottom_and_join_and_nowhere_else():
    network = BratsUNet(4, 3, attention=True, width=4)
    for part in (*network.encoder, network.bottom, network.join):
        assert isinstance(part[-1], Attention)
    assert sum(isinstance(module, Attention) for module in network.modules()) == 6


def _gates(attention, x):
    """CBAM voxel by voxel."""
    first, _, second = attention.channel
    channel = torch.zeros(x.shape[:2])
    for n in range(len(x)):
        for pooled in (x[n].flatten(1).mean(1), x[n].flatten(1).max(1).values):
            channel[n] += second.weight @ torch.clamp(first.weight @ pooled + first.bias, min=0) + second.bias
    channel = 1 / (1 + torch.exp(-channel))
    x = x * channel[:, :, None, None, None]
    pooled = torch.stack([x.max(1).values, x.mean(1)], 1)
    return channel, F.conv3d(pooled, attention.spatial[0].weight, padding=3)[:, 0], x


@pytest.mark.parametrize("gate_relu", [False, True])
def test_attention_is_cbam(gate_relu):
    attention = Attention(32, "group", gate_relu)
    x = torch.randn(2, 32, 4, 5, 6)
    with torch.no_grad():
        attention.spatial[1].weight.fill_(2.0)
        channel, spatial, gated = _gates(attention, x)
        torch.testing.assert_close(attention.channel_gate(x)[:, :, 0, 0, 0], channel)
        axes = (1, 2, 3)
        spread = torch.sqrt(spatial.var(axes, unbiased=False, keepdim=True) + 1e-5)
        spatial = 2 * (spatial - spatial.mean(axes, keepdim=True)) / spread
        spatial = torch.sigmoid(spatial.clamp(min=0) if gate_relu else spatial)
        torch.testing.assert_close(attention(x), gated * spatial[:, None])


def test_the_gate_with_relu_can_only_halve():
    x = torch.randn(1, 16, 8, 8, 8)
    with torch.no_grad():
        gate = Attention(16, "group", gate_relu=True).spatial_gate(x)
        assert 0.5 <= gate.min() < gate.max() < 1
        assert Attention(16, "group").spatial_gate(x).min() < 0.5


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_gradients_reach_every_weight(norm):
    network = BratsUNet(4, 3, True, norm, width=32)
    for module in network.modules():
        if isinstance(module, Attention):  # no hidden unit dead: it would have no gradient by its nature
            nn.init.constant_(module.channel[0].bias, 5.0)
    outputs = network(torch.randn(1, 4, 16, 16, 16))
    sum((logits * torch.randn_like(logits)).sum() for logits in outputs).backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_the_gradient_of_the_input_is_the_slope(norm):
    """ReLU works in place: what a layer before it has kept for its gradient must not have changed."""
    network = BratsUNet(1, 2, True, norm, width=4).double().eval()
    x, weights = torch.randn(1, 1, 16, 16, 16).double(), torch.randn(1, 2, 16, 16, 16).double()
    direction = torch.randn_like(x)
    x.requires_grad_()
    (network(x) * weights).sum().backward()
    with torch.no_grad():
        ends = [(network(x + step * direction) * weights).sum() for step in (1e-6, -1e-6)]
    assert (ends[0] - ends[1]).item() / 2e-6 == pytest.approx((x.grad * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_runs_in_half_precision(norm):
    network, x = BratsUNet(1, 2, True, norm, width=16), torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        exact = network.eval()(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.1 * exact.std()


def test_the_main_loss_alone_does_not_teach_the_heads():
    network = BratsUNet(1, 3, width=4)
    network(torch.randn(1, 1, 16, 16, 16))[0].square().sum().backward()
    without = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert without == {name for name, _ in network.named_parameters() if name.startswith("auxiliary")}


def test_deep_supervision_takes_the_outputs():
    network = BratsUNet(1, 3, width=4)
    loss = supervised(F.cross_entropy, [1.0, 1.0, 1.0, 1.0])
    labels = torch.randint(3, (1, 16, 16, 16))
    outputs = network(torch.randn(1, 1, 16, 16, 16))
    expected = sum(F.cross_entropy(logits, labels) for logits in outputs)
    torch.testing.assert_close(loss(outputs, labels), expected)


def test_heads_cost_nothing_at_test_time():
    with_heads, without = BratsUNet(1, 3, width=4), BratsUNet(1, 3, width=4, auxiliary=False)
    kept = {name: value for name, value in with_heads.state_dict().items() if not name.startswith("auxiliary")}
    without.load_state_dict(kept)
    x = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(with_heads.eval()(x), without.eval()(x))
    assert isinstance(without.train()(x), torch.Tensor)


@pytest.mark.parametrize(("width", "groups"), [(48, 16), (4, 4), (6, 2), (7, 1)])
def test_width_and_groups(width, groups):
    network = _on_meta(width=width)
    assert [stage[1][0].out_channels for stage in network.encoder] == [width, 2 * width, 4 * width, 8 * width]
    norm = network.encoder[0][0][1]
    assert (norm.num_groups, norm.num_channels) == (groups, width)


def test_weights_start_as_in_the_authors_code():
    weight = BratsUNet(1, 3, width=16).bottom[0][0].weight
    assert weight.std().item() == pytest.approx((2 / (128 * 27)) ** 0.5, rel=0.01)


def test_dropout_is_an_option():
    assert not any(isinstance(module, nn.Dropout) for module in _on_meta().modules())
    assert sum(isinstance(module, nn.Dropout) for module in _on_meta(dropout=0.2).modules()) == 17


def test_flat_strides_fit_flat_images():
    network = BratsUNet(1, 2, width=4, strides=((2, 2, 1), (2, 2, 1), (4, 2, 1)))
    assert network.total_stride == (16, 8, 1)
    assert {logits.shape for logits in network(torch.randn(1, 1, 16, 16, 3))} == {(1, 2, 16, 16, 3)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "norm must be one of"),
        ({"width": 1}, "width must be at least 2"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"strides": ((2, 2, 2),)}, "strides must be three"),
    ],
)
def test_illegal_options_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match="|".join((message, "Type-check"))):
        BratsUNet(1, 2, **options)


def test_sizes_and_channels_that_do_not_fit_are_refused():
    network = BratsUNet(1, 2, width=4)
    with pytest.raises(ValueError, match=r"divisible by \(8, 8, 8\), got \(12, 8, 8\): pad to \(16, 8, 8\)"):
        network(torch.randn(1, 1, 12, 8, 8))
    with pytest.raises(ValueError, match="takes 1 channels, got 2"):
        network(torch.randn(1, 2, 8, 8, 8))
