import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import affine_transform

from tests.data.volumes import make_plan
from voxward.core.labels import LabelSet, Region
from voxward.core.recipe import load_recipe
from voxward.nets.mpunet import MPUNet, _places, _sampled, view_turns
from voxward.nets.registry import create_network, network_for_plan


def test_the_published_size():
    """62 million parameters, as the paper says."""
    with torch.device("meta"):
        network = create_network("mpunet", 1, 3, **load_recipe("mpunet").network.options)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(62e6, rel=0.005)


def test_axes_lie_as_far_apart_as_six_can_and_turns_are_rotations():
    for seed in range(3):
        turns = view_turns(6, seed)
        torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(6, 3, 3), atol=1e-6, rtol=0)
        torch.testing.assert_close(torch.linalg.det(turns), torch.ones(6))
        angles = [math.degrees(math.acos(abs(float(a[:, 2] @ b[:, 2])))) for a, b in itertools.combinations(turns, 2)]
        assert angles == pytest.approx([63.4349] * 15, abs=0.01)
    assert not torch.equal(view_turns(2, 0), view_turns(2, 1))
    assert torch.equal(view_turns(2, 5), view_turns(6, 5)[:2])


def test_a_turned_cube_is_that_of_scipy():
    volume, turn = torch.randn(1, 2, 7, 9, 8), view_turns(1, 3)[0]
    found = _sampled(volume, _places((10, 10, 9), turn), (7, 9, 8))
    matrix = turn.double().numpy()
    offset = (np.array([7, 9, 8]) - 1) / 2 - matrix @ ((np.array([10, 10, 9]) - 1) / 2)
    for channel in range(2):
        wanted = affine_transform(
            volume[0, channel].numpy(), matrix, offset, (10, 10, 9), order=1, mode="nearest"
        )  # fmt: skip
        np.testing.assert_allclose(found[0, channel].numpy(), wanted, atol=1e-4)


def test_along_one_axis_it_is_the_unet_on_slices():
    network = MPUNet(1, 3, filters=2, views=1).eval()
    volume = torch.randn(2, 1, 16, 16, 12)
    network.turns = torch.eye(3)[None]
    # 16 slices: the cube is as long as the volume's longest axis, and its border goes on.
    padded = F.pad(volume, (2, 2, 0, 0, 0, 0), mode="replicate")
    wanted = network.unet(padded.movedim(-1, 1).flatten(0, 1)).unflatten(0, (2, 16)).movedim(1, -1)[..., 2:-2]
    torch.testing.assert_close(network(volume), wanted.softmax(1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_turning_the_axis_turns_what_is_found():
    network, volume = MPUNet(1, 2, filters=2, views=1).eval(), torch.randn(1, 1, 16, 16, 16)
    network.turns = torch.eye(3)[None]
    wanted = torch.rot90(network(torch.rot90(volume, 3, (2, 3))), 1, (2, 3))
    network.turns = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    torch.testing.assert_close(network(volume), wanted, atol=1e-5, rtol=1e-4)


def test_probabilities_are_weighted_by_axis_and_class():
    network = MPUNet(1, 2, filters=2, views=2, seed=1).eval()
    volume = torch.randn(1, 1, 16, 16, 16)
    each = []
    for turn in network.turns:
        one = MPUNet(1, 2, filters=2, views=1).eval()
        one.unet, one.turns = network.unet, turn[None]
        each.append(one(volume))
    network.weights, network.bias = torch.tensor([[0.5, 2.0], [1.0, 3.0]]), torch.tensor([0.1, -0.2])
    wanted = sum(found * w.view(1, 2, 1, 1, 1) for found, w in zip(each, network.weights, strict=True))
    middle = (..., slice(5, 11), slice(5, 11), slice(5, 11))  # which both cubes hold
    torch.testing.assert_close(network(volume)[middle], (wanted + network.bias.view(1, 2, 1, 1, 1))[middle])


def test_in_training_one_axis_comes_after_the_other_and_a_resumed_run_goes_on():
    network, volume = MPUNet(1, 2, filters=2), torch.randn(1, 1, 16, 16, 16)
    network.unet.eval()
    first = [network(volume) for _ in range(8)]
    assert len({float(one.detach().sum()) for one in first[:6]}) == 6
    assert torch.equal(first[0], first[6])
    other = MPUNet(1, 2, filters=2)
    other.load_state_dict(network.state_dict())
    other.unet.eval()
    assert torch.equal(other(volume), first[2])


def test_regions_are_refused():
    labels = LabelSet(("background", "core", "oedema"), (0, 1, 2), (Region("TC", (1,)), Region("WT", (1, 2))))
    plan = make_plan(labels=labels)
    with pytest.raises(ValueError, match="classes that exclude each other"):
        network_for_plan("mpunet", plan, {"filters": 2})


def test_only_the_fusion_is_trained_where_that_is_asked_and_it_begins_with_the_trained_unet():
    before = MPUNet(1, 2, filters=2)
    network = MPUNet(1, 2, filters=2, fuse=True)
    assert network.load_state_dict(before.state_dict()) is not None
    statistics = {name: value.clone() for name, value in network.unet.state_dict().items()}
    network.train()
    network(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    assert {name for name, p in network.named_parameters() if p.grad is not None} == {"weights", "bias"}
    assert all(torch.equal(value, statistics[name]) for name, value in network.unet.state_dict().items())
    trained = MPUNet(1, 2, filters=2)
    trained.load_state_dict(network.state_dict())


def test_what_does_not_fit_is_refused():
    for wrong, said in (({"views": 7}, "views must be 1 to 6"), ({"filters": 0}, "filters must be at least 1")):
        with pytest.raises(ValueError, match=said):
            MPUNet(1, 2, **wrong)
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        MPUNet(1, 1)
