"""What the entries of a network mean, against the same written out by hand."""

import numpy as np
import pytest
import torch

from tests.systems.network.build import LABELS, WINDOW, Tiny, described, exported, volume
from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.systems.network.axes import Axes
from voxward.systems.network.system import network_system
from voxward.systems.open import open_system
from voxward.systems.system import NotDifferentiable

PIPELINE = {"channels": [{"name": "MR"}], "labels": LABELS, "window": list(WINDOW)}


def one_window(system, array, affine=None):
    """The logits of a volume of exactly one window, in the file's voxels."""
    source = Volume(array, np.eye(4) if affine is None else affine)
    return system.freeze(source).logits(torch.from_numpy(array)[None])[0]


def noise(*shape):
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def test_a_volume_of_one_window_is_what_the_network_says():
    network, array = Tiny().eval(), noise(1, *WINDOW)
    found = one_window(network_system(network, **PIPELINE), array)
    torch.testing.assert_close(found, network(torch.from_numpy(array)[None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", ["LPS", "SPL", "AIR", "kji", "jik"])
def test_the_network_sees_its_own_axes(code):
    """Window sizes are those of the network; the oracle turns the array itself."""
    network = Tiny().eval()
    axes = Axes.of(code)
    shape = tuple(axes.back(WINDOW))
    array = noise(1, *shape)
    found = one_window(network_system(network, **PIPELINE, orientation=code), array)
    letters = "ijk" if "k" in code else "RAS"
    opposite = {"R": "L", "A": "P", "S": "I", "i": "i", "j": "j", "k": "k"}
    order = [n for letter in code for n, own in enumerate(letters) if letter in (own, opposite[own])]
    turned = array.transpose(0, *(n + 1 for n in order))
    flips = [n + 1 for n, letter in enumerate(code) if letter not in letters]
    logits = network(torch.from_numpy(np.flip(turned, flips).copy())[None])[0]
    back = np.flip(logits.detach().numpy(), flips).transpose(0, *(order.index(n) + 1 for n in range(3)))
    torch.testing.assert_close(found, torch.from_numpy(back.copy()), rtol=1e-4, atol=1e-5)


def test_stored_axes_pass_over_the_directions_of_the_file():
    network, array = Tiny().eval(), noise(1, *WINDOW)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    stored = network_system(network, **PIPELINE, orientation="ijk")
    found = one_window(stored, array, affine)
    torch.testing.assert_close(found, network(torch.from_numpy(array)[None])[0], rtol=1e-4, atol=1e-5)
    ras = one_window(network_system(network, **PIPELINE), array, affine)
    assert not torch.allclose(found, ras, atol=1e-2)
    with pytest.raises(UserError, match="needs an orientation such as RAS"):
        stored.network()


@pytest.mark.parametrize("code", ["RAS", "LPS", "kji", "SPL"])
def test_slices_are_taken_across_the_last_axis(code):
    network = Tiny(flat=True).eval()
    axes = Axes.of(code)
    array = noise(1, *axes.back((8, 6, 5)))
    pipeline = {**PIPELINE, "window": [8, 6], "slicewise": True, "orientation": code}
    found = one_window(network_system(network, **pipeline), array)
    turned = axes.turned(torch.from_numpy(array)[None])
    slices = torch.stack([network(turned[..., n])[0] for n in range(5)], -1)
    torch.testing.assert_close(found, axes.turned_back(slices[None])[0], rtol=1e-4, atol=1e-5)


def test_outputs_stand_in_the_order_of_their_names():
    network, array = Tiny().eval(), noise(1, *WINDOW)
    logits = network(torch.from_numpy(array)[None])[0]
    found = one_window(network_system(network, **PIPELINE, outputs=["b", "background", "a"]), array)
    torch.testing.assert_close(found, logits[[1, 2, 0]], rtol=1e-4, atol=1e-5)


def test_regions_stand_as_they_are_declared():
    network, array = Tiny(outputs=3).eval(), noise(1, *WINDOW)
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": [3]}
    logits = network(torch.from_numpy(array)[None])[0]
    system = network_system(network, **{**PIPELINE, "labels": labels})
    assert system.labels.scored == ("active", "core", "whole")
    torch.testing.assert_close(one_window(system, array), logits[[2, 1, 0]], rtol=1e-4, atol=1e-5)


def test_one_output_with_a_sigmoid():
    network, array = Tiny(outputs=1).eval(), noise(1, *WINDOW)
    system = network_system(network, **{**PIPELINE, "labels": {"background": 0, "organ": [1]}})
    label = system.segment(Volume(array, np.eye(4))).label
    assert np.array_equal(label, (network(torch.from_numpy(array)[None])[0, 0] > 0).numpy())
    assert label.any()
    assert not label.all()


@pytest.mark.parametrize("labels", [LABELS, {"background": 0, "x": [1, 2, 3], "y": [2, 3], "z": [3]}])
def test_probabilities_give_the_mask_and_the_probabilities_of_the_logits(labels):
    logits = Tiny().eval()
    pipeline = {**PIPELINE, "labels": labels}

    def probabilities(x):
        return logits(x).softmax(1) if labels is LABELS else logits(x).sigmoid()

    array = noise(1, *WINDOW)
    plain = network_system(logits, **pipeline)
    other = network_system(probabilities, **pipeline, returns="probabilities")
    found = [system.segment(Volume(array, np.eye(4)), probabilities=True) for system in (plain, other)]
    assert np.array_equal(found[0].label, found[1].label)
    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-5)
    certain = network_system(lambda x: torch.cat([x * 0 + 1, x * 0, x * 0], 1), **pipeline, returns="probabilities")
    gradient = certain.freeze(Volume(array, np.eye(4))).logits(torch.from_numpy(array)[None])
    assert torch.isfinite(gradient).all()


def test_normalisation_and_spacing_are_those_of_the_entry():
    """A constant network shows the prepared image: its first logit is the image."""
    pipeline = {
        **PIPELINE, "window": [8, 8, 8], "spacing": [2.0, 1.0, 1.0],
        "channels": [{"name": "CT", "normalization": "ct", "low": -10, "high": 30, "mean": 5.0, "std": 4.0}],
    }  # fmt: skip
    seen = []

    def network(x):
        seen.append(x.detach())
        return torch.cat([x, x, x], 1)

    system = network_system(network, **pipeline)
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None, None] * 4 - 20, (16, 8, 8))[None].copy()
    system.segment(Volume(ramp, np.eye(4)))
    expected = (np.clip((ramp[0, ::2] + ramp[0, 1::2]) / 2, -10, 30) - 5) / 4
    np.testing.assert_allclose(seen[-1][0, 0].numpy(), expected, atol=1e-5)


def test_a_function_that_returns_something_else_is_refused():
    def two(x):
        return x, x

    with pytest.raises(UserError, match="must return one tensor of numbers, got tuple"):
        network_system(two, **PIPELINE)
    with pytest.raises(UserError, match=r"got torch.int64"):
        network_system(lambda x: torch.cat([x, x, x], 1).long(), **PIPELINE)
    with pytest.raises(UserError, match=r"the network refuses a window .* ZeroDivisionError: "):
        network_system(lambda x: x * (1 // 0), **PIPELINE)
    with pytest.raises(UserError, match="unknown key 'windows'"):
        network_system(Tiny(), **PIPELINE, windows=[1, 2, 3])


def test_a_module_is_left_where_and_as_it_is():
    network = Tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    system = network_system(network, **PIPELINE)
    system.freeze(volume()).value_and_grad(
        torch.from_numpy(volume().array)[None],
        torch.zeros(1, 13, 9, 10, dtype=torch.long),
        lambda z, _: z.sum((1, 2, 3, 4)),
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not network.training


def test_an_entry_that_holds_outside_wins(tmp_path):
    exported(tmp_path / "n.pt2")
    described(tmp_path, "n.pt2", overlap=0.25)
    (tmp_path / "outer.yaml").write_text(
        "format: 1\nkind: ensemble\nmembers: [net.yaml]\ntta: mirrors\noverlap: 0.75\n"
    )
    ((predictor, _),) = open_system(tmp_path / "outer.yaml").members
    assert predictor.mirrors == (0, 1, 2)
    assert predictor.overlap == 0.75


COMBINED = {
    "ensemble": "kind: ensemble\nmembers: [net.yaml, net.yaml]\n",
    "cascade": "kind: cascade\ncoarse: net.yaml\nfine: net.yaml\nmargin: 1\n",
}


@pytest.mark.parametrize("kind", COMBINED)
def test_networks_in_an_ensemble_and_a_cascade(tmp_path, kind):
    exported(tmp_path / "n.pt2")
    described(tmp_path, "n.pt2", channels=[{"name": "MR", "normalization": "standard"}])
    (tmp_path / "outer.yaml").write_text(f"format: 1\n{COMBINED[kind]}")
    system, source = open_system(tmp_path / "outer.yaml"), volume()
    system.check_gradient()
    model = system.freeze(source)
    x = torch.from_numpy(source.array)[None]
    found = model.segment(model.logits(x))[0].numpy()
    assert (found == system.segment(source).label).mean() > 0.999
    target = torch.zeros(1, *source.shape, dtype=torch.long)
    _, _, gradient = model.value_and_grad(x, target, lambda z, _: z.square().sum((1, 2, 3, 4)))
    assert float(gradient.abs().max()) > 0


def test_an_ensemble_with_a_member_without_a_gradient(tmp_path):
    class Cut(Tiny):
        def forward(self, x):
            return super().forward(x.detach())

    exported(tmp_path / "n.pt2")
    exported(tmp_path / "cut.pt2", Cut())
    described(tmp_path, "cut.pt2").rename(tmp_path / "cut.yaml")
    described(tmp_path, "n.pt2")
    (tmp_path / "outer.yaml").write_text("format: 1\nkind: ensemble\nmembers: [net.yaml, cut.yaml]\n")
    system, source = open_system(tmp_path / "outer.yaml"), volume()
    with pytest.raises(NotDifferentiable, match="cut has no gradient"):
        system.check_gradient()
    model = system.freeze(source)
    x = torch.from_numpy(source.array)[None]
    assert np.array_equal(model.segment(model.logits(x))[0].numpy(), system.segment(source).label)
    with pytest.raises(NotDifferentiable, match="cut has no gradient"):
        model.value_and_grad(x, torch.zeros(1, *source.shape, dtype=torch.long), lambda z, _: z.sum((1, 2, 3, 4)))
