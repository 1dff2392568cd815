"""Processes share a batch: each patch is the same one, and is treated alike, whatever process has it."""

import json
from dataclasses import fields, replace
from itertools import chain

import pytest
import torch

from tests.training.test_setup import plan_of
from voxward.attacks.threat import Ball
from voxward.core.errors import UserError
from voxward.core.recipe import Augmentation
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.loader import step_generator
from voxward.runs.folder import RunFolder
from voxward.training.defence import random_start
from voxward.training.share import Share, check_processes, patches_of
from voxward.training.steps import StepInput

ALL = Augmentation(
    rotation_degrees=20.0, rotation_probability=0.5, scale=(0.8, 1.2), scale_probability=0.5, mirror_axes=(0, 1, 2),
    mirror_probability=0.5, gamma=(0.7, 1.5), gamma_probability=0.5, quarter_turns=(0, 1, 2),
    intensity_scale_probability=0.5, intensity_shift_probability=0.5, noise_probability=0.5,
    drop_channel_probability=0.5,
)  # fmt: skip


@pytest.fixture
def plan():
    return plan_of(16)


def test_processes_share_every_batch_without_gap_or_overlap():
    for total, world in ((4, 1), (4, 2), (6, 3), (4, 4)):
        taken = [list(range(total))[Share(total, rank, world).places] for rank in range(world)]
        assert list(chain(*taken)) == list(range(total))
        assert {len(each) for each in taken} == {Share(total, 0, world).own}


def test_a_batch_that_cannot_be_shared_is_refused_with_what_is_legal():
    with pytest.raises(UserError, match=r"has 4 patches, which 3 processes cannot share equally: use 1, 2, 4 of them"):
        Share(4, 0, 3)
    with pytest.raises(UserError, match="rank must be in"):
        Share(4, 2, 2)


def test_a_patch_is_augmented_alike_whatever_process_has_it():
    def augmented(share):
        generator, everything = step_generator(3, 7), torch.Generator().manual_seed(1)
        images, labels = torch.randn(4, 2, 8, 8, 8, generator=everything), torch.ones(4, 8, 8, 8, dtype=torch.uint8)
        draw = draw_augmentation(ALL, share.total, 2, (True, True, True), generator).of(share.places)
        own = images[share.places], labels[share.places]
        return apply_augmentation(*own, draw, (6, 6, 6), (1.0, 1.0, 1.0), "zero")

    whole = augmented(Share(4))
    halves = [augmented(Share(4, rank, 2)) for rank in range(2)]
    for n in (0, 1):
        assert torch.equal(torch.cat([half[n] for half in halves]), whole[n])
    assert not torch.equal(whole[0][0], whole[0][1])


def test_a_patch_is_perturbed_alike_whatever_process_has_it():
    def drawn(share):
        images = torch.zeros(4, 1, 3, 3, 3)[share.places]
        unit = torch.ones(len(images), 1, 1, 1, 1)
        batch = StepInput(
            images, images[:, 0].long(), torch.zeros(len(images), 1, 2), 0, 0.0, torch.Generator().manual_seed(5), share
        )
        return batch.rand(), random_start(Ball("linf", images, unit, -unit, unit, unit), batch)

    whole, halves = drawn(Share(4)), [drawn(Share(4, rank, 2)) for rank in range(2)]
    for n in (0, 1):
        assert torch.equal(torch.cat([half[n] for half in halves]), whole[n])
        assert len(whole[n].flatten(1).unique(dim=0) if n else whole[n].unique()) == 4


def test_a_run_keeps_its_batch_in_any_number_of_processes(tmp_path, plan):
    folder = RunFolder(tmp_path)
    settings = {"dataset": "d", "fold": 0, "seed": 0, "minutes": None, "version": "0", "patches": 4}
    folder.settings.write_text(json.dumps(settings))
    assert {patches_of(folder, plan, processes) for processes in (1, 2, 3)} == {4}
    del settings["patches"]  # as version 0.2 wrote it
    folder.settings.write_text(json.dumps(settings))
    assert patches_of(folder, plan, 3) == 3 * plan.batch_size
    folder.ledger.parent.mkdir()
    folder.ledger.write_text("step,epoch,case,loss\n1,0,a,1.0\n1,0,b,1.0\n1,0,a,1.0\n1,0,c,1.0\n2,0,a,1.0\n")
    assert patches_of(folder, plan, 3) == 4


def test_fewer_processes_are_told_that_they_need_more_memory(plan, recwarn):
    check_processes(4, replace(plan, batch_size=2), 2)
    assert not recwarn
    with pytest.warns(UserWarning, match="needs the memory of 4 patches, and the plan is for 2"):
        check_processes(4, replace(plan, batch_size=2), 1)
    with pytest.raises(UserError, match="3 processes cannot share"):
        check_processes(4, plan, 3)


def test_every_part_of_an_augmentation_is_split():
    draw = draw_augmentation(ALL, 4, 2, (True, True, True), torch.Generator().manual_seed(0))
    assert draw.channels is not None
    for part in (draw.spatial, draw.intensity, draw.channels):
        assert all(len(getattr(part, field.name)) == 4 for field in fields(part))
