import pytest
import torch
from torch import nn

from voxward.nets.registry import create_network
from voxward.nets.resdsn import CHANNELS, PRESETS, ResDSN, _check

NARROW = {"channels": (4, 6, 8, 10)}


def _count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_specification_s():
    assert _count(ResDSN(1, 2)) == 7_608_390
    assert _count(ResDSN(1, 2, auxiliary=False)) == 6_821_826
    assert _count(ResDSN(1, 2, decoder_convs=2)) == 8_189_670
    assert _count(create_network("dsn", 1, 2)) == 7_027_110
    # Sums, long and short, have no weights.
    assert _count(create_network("fresdsn", 1, 2)) == _count(create_network("sresdsn", 1, 2)) == 7_608_390


def test_layers_have_the_sizes_of_figure_3():
    network, seen = ResDSN(1, 2).eval(), []
    for part in (*network.encoder, *network.decoder):
        part.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[1:])))
    network(torch.randn(1, 1, 16, 16, 16))
    edges = (16, 8, 4, 2, 4, 8, 16)
    assert seen == [(c, n, n, n) for c, n in zip((32, 64, 128, 256, 128, 64, 32), edges, strict=True)]


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_maps_images_to_logits(name):
    network = create_network(name, 2, 3, **NARROW)
    x = torch.randn(2, 2, 16, 8, 24)
    out = network(x)
    heads = PRESETS[name].get("auxiliary", True)
    assert isinstance(out, tuple) is heads
    for logits in out if heads else (out,):
        assert logits.shape == (2, 3, 16, 8, 24)
    assert network.eval()(x).shape == (2, 3, 16, 8, 24)


def test_the_presets_are_table_1():
    """(long, short, auxiliary) of each row."""
    table = {
        "resdsn": ("sum", False, True), "fresdsn": ("sum", True, True), "sresdsn": ("none", True, True),
        "unet-like": ("concat", False, False), "vnet-like": ("concat", True, False),
        "voxresnet-like": ("none", True, True), "mixedresnet-like": ("sum", True, True),
        "dsn": ("none", False, True), "hed-like": ("concat", False, True),
    }  # fmt: skip
    for name, expected in table.items():
        network = create_network(name, 1, 2, **NARROW)
        built = (network.decoder[0].long, network.encoder[1].short, network.auxiliary is not None)
        assert built == expected, name


def test_the_long_residual_reaches_the_output():
    """With the decoder silenced the sum of the encoder's features is all that is left."""
    network = ResDSN(1, 2, **NARROW).eval()
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            parameter.zero_()
    x = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(network(x), network.score(network.encoder[0](x)))
    cut = ResDSN(1, 2, long="none", **NARROW).eval()
    with torch.no_grad():
        for parameter in cut.decoder.parameters():
            parameter.zero_()
    torch.testing.assert_close(cut(x), cut.score(torch.zeros(1, 4, 8, 8, 8)))


def test_the_sum_may_come_before_the_convolutions():
    """By hand, from the parts of the last step of the decoder."""
    network = ResDSN(1, 2, add="before", **NARROW).eval()
    up, x, skipped = network.decoder[-1], torch.randn(1, 6, 4, 4, 4), torch.randn(1, 4, 8, 8, 8)
    torch.testing.assert_close(up(x, skipped), up.convs(up.up(x) + skipped))
    after = ResDSN(1, 2, **NARROW).eval().decoder[-1]
    torch.testing.assert_close(after(x, skipped), after.convs(after.up(x)) + skipped)
    joined = ResDSN(1, 2, long="concat", **NARROW).eval().decoder[-1]
    torch.testing.assert_close(joined(x, skipped), joined.convs(torch.cat([joined.up(x), skipped], 1)))


def test_the_short_residual_adds_the_first_layer():
    torch.manual_seed(0)
    plain = ResDSN(1, 2, **NARROW).eval()
    short = ResDSN(1, 2, short="sum", **NARROW).eval()
    short.load_state_dict(plain.state_dict())
    x = torch.randn(1, 4, 8, 8, 8)
    block = plain.encoder[1]
    torch.testing.assert_close(short.encoder[1](x), block(x) + block.layers[0](x))


def test_heads_cost_nothing_at_test_time():
    torch.manual_seed(0)
    with_heads = ResDSN(1, 2, **NARROW)
    without = ResDSN(1, 2, auxiliary=False, **NARROW)
    kept = {name: value for name, value in with_heads.state_dict().items() if not name.startswith("auxiliary")}
    without.load_state_dict(kept)
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(with_heads.eval()(x), without.eval()(x))


def test_instance_norm_is_an_option():
    network = create_network("resdsn", 1, 2, norm="instance", **NARROW)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in network.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long": "sums"}, "long must be one of"),
        ({"long": "concat", "decoder_convs": 0}, "decoder_convs must be at least 1"),
        ({"channels": (1, 2, 3)}, "four positive numbers"),
        ({"norm": "group"}, "norm must be one of"),
    ],
)
def test_illegal_options_are_refused(options, message):
    """By the check alone: in the tests the run-time check of types would refuse a wrong name before the network."""
    legal = {"long": "sum", "short": "none", "add": "after", "norm": "batch", "decoder_convs": 1, "channels": CHANNELS}
    with pytest.raises(ValueError, match=message):
        _check(**(legal | options))


def test_strides_that_the_upsampling_cannot_undo_are_refused():
    with pytest.raises(ValueError, match="strides must be three, of 1 or 2 per axis"):
        ResDSN(1, 2, strides=((2, 2, 3),) * 3)
    with pytest.raises(ValueError, match="strides must be three"):
        ResDSN(1, 2, strides=((2, 2, 2),) * 2)


def test_sizes_must_be_divisible_by_eight():
    with pytest.raises(ValueError, match="divisible by"):
        ResDSN(1, 2, **NARROW)(torch.randn(1, 1, 12, 8, 8))
