from collections import Counter

import pytest
import torch

from tests.data.memory_source import MemorySource
from voxward.core.recipe import Sampling
from voxward.data.padding import pad_to
from voxward.data.sampling import (
    PatchDraw,
    PatchSource,
    draw_patch,
    draw_training_patch,
    patch_around,
    read_patch,
)


def _source(shape=(12, 9, 5), channels=2):
    """Every voxel's value is its own, so an image and label agree only if read from the same place."""
    values = torch.arange(1, 1 + shape[0] * shape[1] * shape[2]).view(shape)
    image = torch.stack([values * (1 + channel) for channel in range(channels)]).float()
    return MemorySource(image, values)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _labelled(shape, voxels):
    label = torch.zeros(shape, dtype=torch.uint8)
    for voxel, k in voxels.items():
        label[voxel] = k
    return MemorySource(torch.zeros(1, *shape), label)


def test_memory_source_is_a_patch_source():
    assert isinstance(_source(), PatchSource)


@pytest.mark.parametrize("padding", ["reflect", "edge", "zero"])
@pytest.mark.parametrize("size", [(6, 4, 3), (12, 9, 5), (15, 6, 8), (30, 40, 1), (13, 10, 6)])
def test_patch_equals_slice_of_the_padded_volume(padding, size):
    source = _source()
    image, offset = pad_to(source.image, size, padding)
    label, _ = pad_to(source.label, size, padding)
    for seed in range(10):
        draw = draw_patch(source, size, 0.5, _generator(seed))
        first = [start + before for start, before in zip(draw.start, offset, strict=True)]
        assert min(first) >= 0
        assert all(a + n <= whole for a, n, whole in zip(first, size, label.shape, strict=True))
        window = tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))
        patch, truth = read_patch(source, draw, size, size, padding)
        assert torch.equal(patch, image[(slice(None), *window)])
        assert torch.equal(truth, label[window])


@pytest.mark.parametrize("padding", ["reflect", "edge", "zero"])
@pytest.mark.parametrize("source_size", [(6, 4, 3), (9, 9, 9), (31, 8, 17)])
def test_source_region_continues_the_same_rule_around_the_patch(padding, source_size):
    source, size = _source(), (6, 4, 3)
    # Multiples of the volume's period would hide an offset error; 40 voxels on each side are none.
    whole, offset = pad_to(source.image, (92, 89, 85), padding)
    truth, _ = pad_to(source.label, (92, 89, 85), padding)
    for seed in range(10):
        draw = draw_patch(source, size, 0.0, _generator(seed))
        margin = [(a - b) // 2 for a, b in zip(source_size, size, strict=True)]
        first = [start + before - m for start, before, m in zip(draw.start, offset, margin, strict=True)]
        window = tuple(slice(a, a + n) for a, n in zip(first, source_size, strict=True))
        image, label = read_patch(source, draw, size, source_size, padding)
        assert torch.equal(image, whole[(slice(None), *window)])
        assert torch.equal(label, truth[window])


def test_only_the_needed_region_is_read():
    source = _source((40, 40, 40), channels=1)
    read_patch(source, PatchDraw("case", (3, 20, 20)), (8, 8, 8), (12, 10, 8), "reflect")
    assert source.voxels_read == 12 * 10 * 8
    source.voxels_read = 0
    read_patch(source, PatchDraw("case", (0, 20, 32)), (8, 8, 8), (12, 8, 8), "zero")
    assert source.voxels_read == 10 * 8 * 8


def test_foreground_patch_is_centred_and_each_class_equally_likely():
    large = {(i, j, 20): 1 for i in range(10, 30) for j in range(10, 30)}
    source = _labelled((40, 40, 40), {**large, (5, 6, 30): 2, (39, 0, 39): 7})
    centres = Counter()
    for seed in range(600):
        draw = draw_patch(source, (9, 9, 9), 1.0, _generator(seed))
        centre = tuple(start + 4 for start in draw.start)
        centres[2 if centre == (5, 6, 30) else 7 if centre == (35, 4, 35) else 1] += 1
        assert centre in large or centre in {(5, 6, 30), (35, 4, 35)}
    # Binomial(600, 1/3): four standard deviations are 46.
    assert all(abs(centres[k] - 200) < 46 for k in (1, 2, 7)), centres


def test_share_of_centred_patches_is_the_one_asked_for():
    source = _labelled((400, 400, 1), {(200, 200, 0): 1})
    starts = [draw_patch(source, (4, 4, 1), 0.3, _generator(seed)).start for seed in range(1000)]
    # Binomial(1000, 0.3): four standard deviations are 58. A uniform draw hits the voxel once in 160,000.
    assert abs(starts.count((198, 198, 0)) - 300) < 58


def test_uniform_patches_reach_every_position_equally():
    source = _labelled((7, 4, 1), {})
    starts = Counter(draw_patch(source, (4, 4, 1), 1.0, _generator(seed)).start for seed in range(400))
    assert set(starts) == {(i, 0, 0) for i in range(4)}
    assert min(starts.values()) > 65  # 100 each; four standard deviations are 35


def test_small_volume_has_one_centred_window():
    source = _labelled((5, 4, 1), {(4, 3, 0): 1})
    starts = {draw_patch(source, (8, 8, 3), 0.5, _generator(seed)).start for seed in range(20)}
    assert starts == {(-1, -2, -1)}


def test_patch_around_a_corner_moves_inwards():
    source = _labelled((20, 20, 1), {})
    assert patch_around(source, (8, 8, 1), (19, 1, 0)).start == (12, 0, 0)


def test_wrong_requests_are_refused():
    source = _source()
    with pytest.raises(ValueError, match="source_size"):
        read_patch(source, PatchDraw("case", (0, 0, 0)), (4, 4, 4), (4, 3, 4), "edge")
    with pytest.raises(ValueError, match="other"):
        read_patch(source, PatchDraw("other", (0, 0, 0)), (4, 4, 4), (4, 4, 4), "edge")
    with pytest.raises(ValueError, match="foreground"):
        draw_patch(source, (4, 4, 4), 1.5, _generator(0))


def _organ(shape=(30, 24, 20), low=(4, 10, 7), high=(19, 13, 16)):
    """A hollow organ: its box spans low..high (inclusive), with little in it."""
    voxels = {low: 1, high: 1, (low[0], high[1], low[2]): 2, (high[0] - 3, low[1], high[2] - 1): 2}
    return _labelled(shape, voxels), low, high


@pytest.mark.parametrize("size", [(6, 2, 4), (8, 8, 8), (20, 20, 16), (30, 30, 30)])
def test_patches_on_the_truth_hold_some_of_it_and_keep_to_its_box(size):
    source, low, high = _organ()
    starts = [[], [], []]
    for seed in range(200):
        draw = draw_training_patch(source, size, Sampling(0.0, "truth"), _generator(seed))
        _, label = read_patch(source, draw, size, size, "zero")
        assert label.any()
        for n, (start, edge, a, b, length) in enumerate(zip(draw.start, size, low, high, source.shape, strict=True)):
            starts[n].append(start)
            if edge > length:
                assert start == -((edge - length) // 2)
            elif b + 1 - a >= edge:
                assert a <= start
                assert start + edge <= b + 1
            else:
                assert start <= a
                assert b + 1 <= start + edge
    if size == (6, 2, 4):  # every place in the box from which one of the four voxels is seen
        assert [sorted(set(found)) for found in starts] == [[4, 11, 12, 13, 14], [10, 12], [7, 12, 13]]


def test_a_share_of_these_is_centred_and_other_regions_are_as_they_were():
    source, _, _ = _organ()
    centred = [draw_training_patch(source, (5, 5, 5), Sampling(1.0, "truth"), _generator(n)).start for n in range(50)]
    voxels = {tuple(start + 2 for start in found) for found in centred}
    assert voxels == {tuple(row) for k in (1, 2) for row in source.locations(k).tolist()}
    for seed in range(20):
        sampled = draw_training_patch(source, (5, 5, 5), Sampling(0.3), _generator(seed))
        assert sampled == draw_patch(source, (5, 5, 5), 0.3, _generator(seed))
    empty = _labelled((9, 9, 9), {})
    assert len({draw_training_patch(empty, (4, 4, 4), Sampling(0.0, "truth"), _generator(n)) for n in range(9)}) > 5


def test_a_foreground_voxel_lies_anywhere_in_its_patch_and_equally_often_everywhere():
    """A voxel far from every edge, seen from each of the 3 x 2 x 1 places; one in a corner, from those that exist."""
    size, sampling = (3, 2, 1), Sampling(1.0, place="anywhere")
    middle = _labelled((12, 9, 5), {(6, 4, 2): 1})
    found = Counter(draw_training_patch(middle, size, sampling, _generator(n)).start for n in range(1200))
    assert set(found) == {(i, j, 2) for i in (4, 5, 6) for j in (3, 4)}
    assert all(120 < times < 280 for times in found.values())
    corner = _labelled((12, 9, 5), {(11, 0, 4): 1})
    assert {draw_training_patch(corner, size, sampling, _generator(n)).start for n in range(50)} == {(9, 0, 4)}
    larger = {draw_training_patch(corner, (16, 2, 7), sampling, _generator(n)).start for n in range(50)}
    assert larger == {(-2, 0, -1)}  # it begins in the padding, as every patch that is larger than the volume


@pytest.mark.parametrize("region", ["case", "truth"])
def test_the_place_does_not_change_the_other_patches(region):
    source, _, _ = _organ()
    for n in range(20):
        here, there = (
            draw_training_patch(source, (5, 5, 5), Sampling(0.0, region, place), _generator(n))
            for place in ("centre", "anywhere")
        )
        assert here == there
