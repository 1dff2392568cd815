from itertools import islice

import numpy as np
import pytest
import torch

from voxward.core.case import Frame, PreparedCase
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.recipe import Sampling
from voxward.data.loader import PatchDataset, patch_batches, step_generator, validation_patches
from voxward.data.store import write_case

IDS = tuple(f"case{n}" for n in range(7))
EMPTY = "case3"


def _image(id):
    """Voxel values are the case's number in thousands plus the voxel's own number."""
    shape = (1, 10 + IDS.index(id), 9, 6)
    return 1000.0 * IDS.index(id) + torch.arange(float(np.prod(shape))).view(shape)


def _prepared(id):
    """A small case; `EMPTY` has no foreground, the others have one voxel of it."""
    image = _image(id)
    label = torch.zeros(image.shape[1:], dtype=torch.uint8)
    if id != EMPTY:
        label[5, 4, 3] = 2
    shape, affine = tuple(label.shape), tuple(map(tuple, np.eye(4).tolist()))
    unit = ((0.0,), (1.0,), (0.0,), (1.0,))
    frame = Frame(shape, affine, (0, 1, 2), (False, False, False), (0, 0, 0), shape, shape, *unit)
    return PreparedCase(id, image, label, frame)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for id in IDS:
        write_case(folder / id, _prepared(id), (4, 4, 4), 3)
    return folder


@pytest.fixture
def plan():
    return Plan(
        dataset="memory",
        labels=LabelSet(("background", "a", "b"), (0, 1, 2)),
        channels=(ChannelPlan("MR", "mr"),),
        spacing=(1.0, 1.0, 1.0),
        spline_order=(3, 3, 3),
        crop_nonzero=True,
        patch_size=(4, 4, 4),
        window_size=(4, 4, 4),
        source_size=(6, 5, 4),
        strides=((2, 2, 2),),
        kernel_sizes=((3, 3, 3), (3, 3, 3)),
        padding="reflect",
        batch_size=3,
        min_object_mm3=(0.0, 0.0),
    )


def _batches(folder, plan, first=0, last=6, workers=0, seed=5, batch=3, **ranks):
    dataset = PatchDataset(folder, IDS, plan, Sampling(), seed)
    steps = {"first_step": first, "last_step": last}
    return list(patch_batches(dataset, batch_size=batch, **steps, workers=workers, **ranks))


def _same(left, right):
    assert [batch.step for batch in left] == [batch.step for batch in right]
    assert [batch.ids for batch in left] == [batch.ids for batch in right]
    assert all(torch.equal(a.images, b.images) for a, b in zip(left, right, strict=True))
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(left, right, strict=True))


def test_batches_have_the_source_size_and_the_global_step(folder, plan):
    batches = _batches(folder, plan, first=4, last=6)
    assert [batch.step for batch in batches] == [4, 5]
    assert batches[0].images.shape == (3, 1, 6, 5, 4)
    assert batches[0].labels.shape == (3, 6, 5, 4)
    assert batches[0].labels.dtype == torch.uint8
    for image, id in zip(batches[0].images, batches[0].ids, strict=True):
        assert image.min() // 1000 == IDS.index(id)


def test_an_epoch_is_every_case_once_and_each_epoch_has_its_own_order(folder, plan):
    ids = [id for batch in _batches(folder, plan, last=14) for id in batch.ids]
    epochs = [ids[n : n + 7] for n in range(0, 42, 7)]
    assert all(sorted(epoch) == sorted(IDS) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 4


def test_resumed_run_sees_the_batches_of_the_uninterrupted_one(folder, plan):
    whole = _batches(folder, plan)
    _same(whole[:2] + _batches(folder, plan, first=2), whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(folder, plan, workers):
    _same(_batches(folder, plan, workers=workers), _batches(folder, plan))


def test_ranks_share_the_samples_of_a_larger_batch(folder, plan):
    one = _batches(folder, plan, batch=4)
    ranks = [_batches(folder, plan, batch=2, rank=rank, world=2) for rank in range(2)]
    for step, batch in enumerate(one):
        assert batch.ids == ranks[0][step].ids + ranks[1][step].ids
        assert torch.equal(batch.images, torch.cat([ranks[0][step].images, ranks[1][step].images]))


def test_another_seed_gives_other_patches(folder, plan):
    here, there = _batches(folder, plan, last=3), _batches(folder, plan, last=3, seed=6)
    assert not all(torch.equal(a.images, b.images) for a, b in zip(here, there, strict=True))


def test_a_case_is_cut_differently_in_each_epoch(folder, plan):
    dataset = PatchDataset(folder, IDS[:1], plan, Sampling(foreground=0.0), 0)
    corners = {dataset[n][0].min().item() for n in range(20)}
    assert len(corners) > 10


def test_reading_leaves_the_global_random_state_alone(folder, plan):
    before = torch.get_rng_state()
    _batches(folder, plan, workers=1, last=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_stop_with_the_consumer(folder, plan):
    batches = patch_batches(
        PatchDataset(folder, IDS, plan, Sampling(), 0), batch_size=3, first_step=0, last_step=10**9, workers=1
    )
    assert [batch.step for batch in islice(batches, 2)] == [0, 1]
    batches.close()


def test_step_generator_is_a_function_of_seed_step_and_stream():
    def first(*key):
        return torch.rand(4, generator=step_generator(*key)).tolist()

    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (2**40, 0, 0)]
    assert len({tuple(first(*key)) for key in keys}) == len(keys)
    assert first(0, 1, 0) == first(0, 1, 0)


def test_validation_patches_are_fixed_and_show_the_foreground(folder, plan):
    batches = list(validation_patches(folder, IDS, plan, 0))
    _same(batches, list(validation_patches(folder, IDS, plan, 0)))
    assert [len(batch.ids) for batch in batches] == [3, 3, 1]
    assert sum((batch.ids for batch in batches), ()) == IDS
    for batch in batches:
        assert batch.images.shape[2:] == (4, 4, 4)
        assert batch.labels.dtype == torch.uint8  # as stored
        for image, label, id in zip(batch.images, batch.labels, batch.ids, strict=True):
            if id == EMPTY:
                assert torch.equal(image, _image(id)[:, 4:8, 2:6, 1:5])
            else:
                assert label[2, 2, 2] == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ids": ()}, ValueError, "ids is empty"),
        ({"ids": ("case0", "gone")}, FileNotFoundError, "gone"),
        ({"seed": -1}, ValueError, "seed"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"first_step": 3}, ValueError, "first_step"),
        ({"workers": -1}, ValueError, "workers"),
        ({"rank": 1}, ValueError, "rank"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_read(folder, plan, change, error, message):
    arguments = {"ids": IDS, "seed": 0, "batch_size": 2, "first_step": 0, "last_step": 2, "workers": 0, **change}
    with pytest.raises(error, match=message):
        patch_batches(PatchDataset(folder, arguments.pop("ids"), plan, Sampling(), arguments.pop("seed")), **arguments)
