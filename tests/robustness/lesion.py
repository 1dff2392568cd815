"""A model that finds a bright lesion in a skull-stripped volume, and such a volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tests.core.test_plan import PLAN
from voxward.core.case import Case
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Inference
from voxward.data.io import write_image, write_label
from voxward.pipeline.predictor import Predictor
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess

SHAPE = (24, 24, 20)
SPACING = (1.0, 1.0, 1.0)
WINDOW = (16, 16, 16)


class Threshold(nn.Module):
    """Lesion where the normalised intensity is above 1.5."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x[:, :1]), 3 * (x[:, :1] - 1.5)], 1)


def lesion_predictor():
    """The model as it is deployed, which leaves out air that is exactly 0."""
    plan = replace(
        PLAN, spacing=SPACING, spline_order=(3, 3, 3), window_size=WINDOW, patch_size=WINDOW, crop_nonzero=True,
        labels=LabelSet(("background", "lesion"), (0, 1)), min_object_mm3=(0.0,), channels=(ChannelPlan("MRI", "mr"),),
    )  # fmt: skip
    return Predictor(
        TrainedModel(plan, Inference(0.5, "gaussian", ()), Threshold(), PostProcess()), torch.device("cpu"), "fp32"
    )


def lesion_case(folder, kind=np.int16, affine=None, shape=SHAPE, scale=1.0, scaling=None):
    """A brain of about 500 with a lesion of about 900 in air that is exactly 0; scaling: of its file."""
    random, place = np.random.default_rng(0), np.indices(SHAPE) - np.array([12, 12, 10])[:, None, None, None]
    brain, lesion = ((place**2).sum(0) < r**2 for r in (9, 4))
    array = np.where(brain, random.normal(500, 60, SHAPE), 0.0) + np.where(lesion, 400.0, 0.0)
    stored = array * scale if scaling is None else np.rint((array - scaling.intercept) / scaling.slope)
    write_image(folder / "image.nii", stored.astype(kind)[None], np.eye(4), scaling)
    label = np.zeros(shape, np.uint8)
    label[:24, :24, :20] = lesion[: shape[0]]
    write_label(folder / "label.nii", label, np.eye(4) if affine is None else affine)
    return Case("one", (folder / "image.nii",), folder / "label.nii")
