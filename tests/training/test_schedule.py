import pytest
import torch

from voxward.core.recipe import Choice
from voxward.training.optim import create_optimizer
from voxward.training.schedule import create_schedule


def test_cosine_warms_up_and_ends_at_zero():
    schedule = create_schedule(Choice("cosine", {"warmup": 0.1}))
    assert schedule.factor(0.05) == pytest.approx(0.5)
    assert schedule.factor(0.1) == pytest.approx(1.0)
    assert schedule.factor(0.55) == pytest.approx(0.5)
    assert schedule.factor(1.0) == pytest.approx(0.0)


def test_poly_and_constant():
    assert create_schedule(Choice("poly", {"power": 0.9})).factor(0.5) == pytest.approx(0.5**0.9)
    assert create_schedule(Choice("constant")).factor(0.7) == 1.0


def test_plateau_halves_after_the_patience_and_only_then():
    schedule = create_schedule(Choice("plateau", {"factor": 0.5, "patience": 0.1}))
    for done, loss, level in [
        (0.1, 1.0, 1),
        (0.2, 0.5, 1),
        (0.25, 0.9, 1),
        (0.31, 0.9, 0.5),
        (0.4, 0.9, 0.5),
        (0.42, 0.9, 0.25),
    ]:
        schedule.observe(done, loss)
        assert schedule.factor(done) == level


def test_plateau_smooths_with_the_mean_of_new_and_old():
    schedule = create_schedule(Choice("plateau", {}))
    for loss in (4.0, 2.0, 1.0):
        schedule.observe(0.0, loss)
    assert schedule.state()["smoothed"] == (((4 + 2) / 2) + 1) / 2


def test_plateau_cools_down_and_resumes():
    schedule = create_schedule(Choice("plateau", {"cooldown": 0.2, "patience": 0.05}))
    assert schedule.factor(0.8) == pytest.approx(1.0)
    assert schedule.factor(0.9) == pytest.approx(0.5)
    assert schedule.factor(1.0) == 0.0
    schedule.observe(0.1, 1.0)
    schedule.observe(0.5, 2.0)
    again = create_schedule(Choice("plateau", {"cooldown": 0.2, "patience": 0.05}))
    again.restore(schedule.state())
    assert again.factor(0.9) == schedule.factor(0.9) == pytest.approx(0.25)


@pytest.mark.parametrize("choice", [Choice("plateau", {"speed": 1}), Choice("step")])
def test_wrong_schedules_are_refused(choice):
    with pytest.raises(ValueError, match="schedule"):
        create_schedule(choice)


@pytest.mark.parametrize("choice", [Choice("adam", {"rate": 1}), Choice("ranger")])
def test_wrong_optimizers_are_refused(choice):
    with pytest.raises(ValueError, match="optimizer"):
        create_optimizer(choice, torch.nn.Linear(1, 1))


def test_optimizer_takes_the_options():
    optimizer = create_optimizer(Choice("sgd", {"lr": 0.1, "momentum": 0.9}), torch.nn.Linear(1, 1))
    assert optimizer.param_groups[0]["momentum"] == 0.9
