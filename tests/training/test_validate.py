"""Which checkpoint is the best one."""

import pytest

from voxward.training.selection import Validation


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.9), (0.25, 0.8), (1.0, 0.5)])
def test_the_score_is_the_stated_mix_of_clean_and_robust_dice(share, expected):
    assert Validation(0.1, 0.9, 0.5, 0.3).score("dice", share) == pytest.approx(expected)


def test_where_the_loss_selects_losses_are_mixed():
    """Of two equal losses a lower clean Dice is no merit."""
    assert Validation(0.1, 0.9, 0.5, 0.3).score("loss", 0.25) == pytest.approx(-0.15)
    assert Validation(0.1, 0.6, 0.5, 0.3).score("loss", 0.25) == pytest.approx(-0.15)


def test_without_a_defence_it_is_dice_or_loss_itself():
    assert (Validation(0.1, 0.9).score("dice", 0.0), Validation(0.1, 0.9).score("loss", 0.0)) == (0.9, -0.1)


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match=r"unknown training\.best 'dise'. Did you mean 'dice'"):
        Validation(0.1, 0.9).score("dise", 0.0)
