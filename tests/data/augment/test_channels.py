import pytest
import torch

from voxward.core.recipe import Augmentation, load_recipe
from voxward.data.augment.channels import ChannelDraw, apply_channels, draw_channels

PAPER = Augmentation(
    intensity_scale_probability=0.8, intensity_shift_probability=0.2, noise_probability=0.8,
    drop_channel_probability=0.16,
)  # fmt: skip


def _draw(recipe, batch, seed=0):
    return draw_channels(recipe, batch, 4, torch.Generator().manual_seed(seed))


def test_the_papers_probabilities_and_ranges():
    draw = _draw(PAPER, 20_000)
    for chosen, p in (
        (draw.factors != 1, 0.8), (draw.shifts != 0, 0.2), (draw.noise != 0, 0.8), (draw.dropped >= 0, 0.16)
    ):  # fmt: skip
        assert chosen.float().mean() == pytest.approx(p, abs=0.01)
    assert 0.9 <= draw.factors.min() < 0.902
    assert 1.098 < draw.factors.max() <= 1.1
    assert -0.1 <= draw.shifts.min() < -0.098
    assert draw.shifts.mean() == pytest.approx(0, abs=0.001)
    assert draw.noise.unique().tolist() == pytest.approx([0.0, 0.1])
    assert set(draw.dropped.unique().tolist()) == {-1, 0, 1, 2, 3}


def test_the_recipes_have_the_papers_numbers():
    a, b = (load_recipe(name).augmentation for name in ("brats-a", "brats-b"))
    assert (a.intensity_scale_probability, b.intensity_scale_probability) == (0.8, 0.2)
    assert (a.intensity_shift_probability, b.intensity_shift_probability) == (0.0, 0.2)
    assert (a.mirror_probability, b.mirror_probability) == (0.8, 0.5)
    assert (a.drop_channel_probability, b.drop_channel_probability) == (0.16, 0.0)
    assert (a.noise_std, b.noise_std) == (0.1, 0.1)


def test_what_is_drawn_is_applied():
    images = torch.randn(3, 4, 12, 12, 12)
    draw = ChannelDraw(
        torch.tensor([1.1, 1.0, 1.0]), torch.tensor([0.05, 0.0, 0.0]), torch.tensor([0.0, 0.1, 0.0]),
        torch.tensor([1, 2, 3]), torch.tensor([-1, -1, 2]),
    )  # fmt: skip
    out = apply_channels(images, draw)
    torch.testing.assert_close(out[0], images[0] * 1.1 + 0.05)
    noise = out[1] - images[1]
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert (out[2, 2] == 0).all()
    assert torch.equal(out[2, [0, 1, 3]], images[2, [0, 1, 3]])
    assert torch.equal(apply_channels(images, draw), out)


def test_nothing_is_drawn_where_all_of_it_is_off():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw_channels(Augmentation(), 2, 4, generator) is None
    assert torch.equal(generator.get_state(), before)
