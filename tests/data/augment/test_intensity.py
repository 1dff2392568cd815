import torch

from tests.rounding import rounding
from voxward.core.recipe import Augmentation
from voxward.data.augment.intensity import IntensityDraw, apply_intensity, draw_intensity


def test_gamma_is_the_power_of_the_rescaled_intensity():
    images = torch.randn(2, 2, 4, 3, 1) * 5 - 2
    gammas = torch.tensor([[0.7, 1.0], [1.0, 1.5]])
    result = apply_intensity(images, IntensityDraw(gammas))
    for sample, channel in ((0, 0), (1, 1)):
        x = images[sample, channel].double()
        expected = ((x - x.min()) / (x.max() - x.min())) ** gammas[sample, channel].double()
        expected = expected * (x.max() - x.min()) + x.min()
        torch.testing.assert_close(result[sample, channel].double(), expected, rtol=0, atol=rounding(images))
    assert torch.equal(result[0, 1], images[0, 1])
    assert torch.equal(result[1, 0], images[1, 0])


def test_constant_channels_stay_exactly():
    images = torch.stack([torch.full((3, 3, 3), 7.3), torch.zeros(3, 3, 3)])[None]
    assert torch.equal(apply_intensity(images, IntensityDraw(torch.full((1, 2), 0.7))), images)


def test_input_is_untouched():
    images = torch.randn(1, 1, 3, 3, 3)
    before = images.clone()
    assert not torch.equal(apply_intensity(images, IntensityDraw(torch.tensor([[1.4]]))), images)
    assert torch.equal(images, before)


def test_draws_follow_the_recipe():
    draw = draw_intensity(Augmentation(gamma_probability=0.4), 2000, 2, torch.Generator().manual_seed(0))
    on = (draw.gammas != 1).all(1)
    assert torch.equal(on, (draw.gammas != 1).any(1))
    assert abs(on.sum() - 800) < 88  # four standard deviations
    chosen = draw.gammas[on]
    assert chosen.min() >= 0.7
    assert chosen.max() <= 1.5
    assert abs((chosen < 1).double().mean() - 0.5) < 0.05
    assert not torch.equal(chosen[:, 0], chosen[:, 1])


def test_range_on_one_side_of_one_is_uniform():
    recipe = Augmentation(gamma=(2.0, 3.0), gamma_probability=1.0)
    gammas = draw_intensity(recipe, 1000, 1, torch.Generator().manual_seed(0)).gammas
    assert gammas.min() >= 2
    assert gammas.max() <= 3
    assert abs(gammas.mean() - 2.5) < 4 * (1 / 12 / 1000) ** 0.5


def test_probability_zero_draws_nothing():
    assert (draw_intensity(Augmentation(gamma_probability=0.0), 50, 2, torch.Generator()).gammas == 1).all()
