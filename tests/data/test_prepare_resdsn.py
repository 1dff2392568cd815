"""What the cascade's preparation promises: the recipe's own range, cases that keep their voxels, parts of a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.volumes import CODES, SPACING, make_affine, make_plan, make_volumes, restored
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.data.orient import orient
from voxward.data.prepare import measured, prepare


def test_clip_uses_the_plans_range_and_the_cases_figures() -> None:
    image, _ = make_volumes(np.eye(4))
    plan = make_plan(channels=(ChannelPlan("CT", "clip", 20.0, 150.0),))
    for stored in (image, Volume(image.array.astype(np.int16), image.affine)):
        prepared = prepare(stored, None, plan)
        box = tuple(slice(a, b) for a, b in zip(prepared.frame.box_start, prepared.frame.box_stop, strict=True))
        values = stored.array[0][box].astype(np.float64).clip(20, 150)
        figures = tuple(getattr(prepared.frame, name)[0] for name in ("low", "high", "mean", "std"))
        assert figures == pytest.approx((20.0, 150.0, values.mean(), values.std()), rel=1e-9)
        assert measured(stored, plan) == (figures,)


@pytest.mark.parametrize("kind", ["mr", "clip", "ct"])
def test_a_part_is_normalised_like_the_whole(kind: str) -> None:
    image, _ = make_volumes(make_affine("RAS"))
    plan = make_plan(SPACING, channels=(ChannelPlan("CT", kind, 20.0, 150.0, 90.0, 30.0),), crop_nonzero=False)
    whole, box = prepare(image, None, plan), (slice(4, 21), slice(9, 30), slice(2, 13))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    part = Volume(image.array[(slice(None), *box)], affine)
    same = prepare(part, None, replace(plan, resample=False), figures=measured(image, plan))
    alone = prepare(image, None, replace(plan, resample=False))
    assert torch.equal(same.image, alone.image[(slice(None), *box)])
    assert same.frame.mean == whole.frame.mean


@pytest.mark.parametrize(("code", "degrees"), CODES)
def test_without_resampling_every_case_keeps_its_voxels(code: str, degrees: float) -> None:
    image, label = make_volumes(make_affine(code, SPACING, degrees))
    plan = replace(make_plan((9.0, 0.1, 3.0)), resample=False, crop_nonzero=False)
    prepared = prepare(image, label, plan)
    axes, flips = prepared.frame.axes, prepared.frame.flips
    assert prepared.frame.shape == orient(label.array, axes, flips).shape
    expected = plan.labels.to_index(orient(label.array, axes, flips))
    np.testing.assert_array_equal(prepared.label.numpy(), expected)
    np.testing.assert_array_equal(restored(prepared.label, prepared.frame), plan.labels.to_index(label.array))
