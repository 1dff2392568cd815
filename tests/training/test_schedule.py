import pytest

from voxward.core.recipe import Choice
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


def test_flat_cosine_is_flat_and_then_falls_to_zero():
    """Pipeline A: 100 of 200 epochs flat; the authors' rate of 1e-4 is 2.5e-8 in the last epoch."""
    schedule = create_schedule(Choice("flat-cosine", {"flat": 0.5}))
    assert [schedule.factor(epoch / 200) for epoch in (0, 50, 100)] == [1.0, 1.0, 1.0]
    assert schedule.factor(0.75) == pytest.approx(0.5)
    assert 1e-4 * schedule.factor(199 / 200) == pytest.approx(2.5e-8, rel=0.02)
    assert schedule.factor(1.0) == pytest.approx(0.0)


def test_flat_cosine_from_never_to_always_flat():
    cosine, warm = create_schedule(Choice("cosine")), create_schedule(Choice("flat-cosine", {"warmup": 0.2}))
    never, always = (create_schedule(Choice("flat-cosine", {"flat": flat})) for flat in (0.0, 1.0))
    for done in (0.0, 0.1, 0.6, 1.0):
        assert never.factor(done) == pytest.approx(cosine.factor(done))
        assert always.factor(done) == 1.0
    assert [warm.factor(done) for done in (0.1, 0.2, 0.6, 0.8)] == pytest.approx([0.5, 1.0, 1.0, 0.5])


@pytest.mark.parametrize("flat", [-0.1, 1.5])
def test_a_flat_share_beyond_the_run_is_refused(flat):
    with pytest.raises(ValueError, match="flat must be from 0 to 1"):
        create_schedule(Choice("flat-cosine", {"flat": flat}))
