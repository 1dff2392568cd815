import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from voxward.core.recipe import Choice, Defence
from voxward.nets.registry import create_network
from voxward.runs.folder import load_weights, save_weights
from voxward.training.defence import FreeStep
from voxward.training.learner import Learner
from voxward.training.schedule import create_schedule
from voxward.training.state import TrainingState, load_state, save_state


class _Process(Fabric):
    """One of several processes, which gather what `all_shares` holds."""

    def __init__(self, rank, all_shares):
        super().__init__(accelerator="cpu", devices=1)
        self.rank, self.all_shares = rank, all_shares

    global_rank = property(lambda self: self.rank)
    world_size = property(lambda self: len(self.all_shares))
    is_global_zero = property(lambda self: self.rank == 0)

    def all_gather(self, data):
        assert torch.equal(data, self.all_shares[self.rank])
        return self.all_shares


def _learner(fabric=None):
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    network = nn.Linear(3, 2)
    wrapped, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters()))
    return Learner(fabric, wrapped, optimizer, nn.MSELoss(), create_schedule(Choice("plateau")))


def _free(learner):
    return FreeStep(learner, Defence())


def test_state_round_trip(tmp_path):
    learner, again = _learner(), _learner()
    learner.network(torch.randn(4, 3)).sum().backward()
    learner.optimizer.step()
    learner.schedule.observe(0.5, 1.25)
    state = TrainingState(
        step=7, total_steps=10, validate_every=2, best_score=0.5, sums=(0.1 + 0.2, 1.0), counts=(3, 2), seconds=1.5
    )
    step = _free(learner)
    step.share = torch.randn(2, 1, 3, 3, 3)
    save_state(tmp_path / "state.pt", state, learner, step)
    restored = _free(again)
    assert load_state(tmp_path / "state.pt", again, restored) == state
    assert torch.equal(restored.share, step.share)
    assert again.schedule.state() == learner.schedule.state()
    torch.testing.assert_close(again.network.weight, learner.network.weight, rtol=0, atol=0)
    moments = [one.optimizer.state_dict()["state"][0]["exp_avg"] for one in (learner, again)]
    torch.testing.assert_close(*moments, rtol=0, atol=0)


def test_each_process_gets_its_own_perturbations_back(tmp_path):
    """Another number of processes shares the same perturbations."""
    shares, path = torch.randn(2, 2, 1, 3, 3, 3), tmp_path / "state.pt"
    learners = [_learner(_Process(rank, shares)) for rank in (0, 1)]
    for rank in (1, 0):
        step = _free(learners[rank])
        step.share = shares[rank]
        save_state(path, TrainingState(step=1), learners[rank], step)
        assert path.exists() is (rank == 0)
    for rank in (0, 1):
        restored = _free(learners[rank])
        load_state(path, learners[rank], restored)
        assert torch.equal(restored.share, shares[rank])
    whole = shares.flatten(0, 1)
    for fabric, own in ((None, whole), (_Process(2, torch.randn(4, 1, 1, 3, 3, 3)), whole[2:3])):
        other = _learner(fabric)
        restored = _free(other)
        load_state(path, other, restored)
        assert torch.equal(restored.share, own)


def test_a_pickled_program_is_never_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"state": Harmful()}, tmp_path / "state.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        load_state(tmp_path / "state.pt", _learner(), _free(_learner()))


@pytest.mark.parametrize("name", ["rog", "dynunet"])
def test_weights_round_trip_and_refuse_another_network(tmp_path, name):
    torch.manual_seed(0)
    first, second = create_network(name, 1, 3), create_network(name, 1, 3)
    save_weights(first, tmp_path / "a.safetensors")
    load_weights(second, tmp_path / "a.safetensors")
    x = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(first.eval()(x), second.eval()(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="does not fit the network"):
        load_weights(create_network(name, 1, 2), tmp_path / "a.safetensors")
