"""Plans and volumes whose axes are permuted, flipped, oblique, anisotropic and odd."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import torch

from voxward.core.case import Frame, Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan
from voxward.data.prepare import restore_argmax

LABELS = LabelSet(("background", "organ", "lesion"), (0, 1, 4))
SPACING = (0.8, 1.3, 3.1)


def make_plan(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **changes) -> Plan:
    plan = Plan(
        dataset="test",
        labels=LABELS,
        channels=(ChannelPlan("MRI", "mr"),),
        spacing=spacing,
        spline_order=(3, 3, 3),
        crop_nonzero=True,
        patch_size=(8, 8, 8),
        window_size=(8, 8, 8),
        source_size=(8, 8, 8),
        strides=((2, 2, 2),),
        kernel_sizes=((3, 3, 3),) * 2,
        padding="reflect",
        batch_size=2,
        min_object_mm3=(0.0, 0.0),
    )
    return replace(plan, **changes)


def make_affine(code: str, spacing: tuple[float, float, float] = SPACING, degrees: float = 0.0) -> np.ndarray:
    """`code` names where each file axis points, e.g. PIL; the whole is then turned about two axes."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    matrix = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(code), (1, 1, 1))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = tilt @ turn @ np.linalg.inv(matrix) * np.array(spacing)
    affine[:3, 3] = (-30.0, 12.5, 7.0)
    return affine


def blobs(shape: tuple[int, int, int] = (41, 37, 23)) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    label = np.zeros(shape, np.uint8)
    label[(((grid - 0.1) / np.array([0.6, 0.7, 0.65]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 1] = 1
    label[((grid - np.array([0.2, 0.0, 0.1]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 0.12] = 4
    return label


def make_volumes(affine: np.ndarray, label: np.ndarray | None = None) -> tuple[Volume, Volume]:
    label = blobs() if label is None else label
    noise = np.random.default_rng(0).normal(0, 5, label.shape)
    image = np.zeros(label.shape, np.float32)
    image[2:-1, 1:, :-3] = (100 + 40.0 * label + noise)[2:-1, 1:, :-3]
    return Volume(image[None], affine), Volume(label, affine)


def restored(label: torch.Tensor, frame: Frame) -> np.ndarray:
    """Class indices of a prepared label in the file's voxels, the way in which logits are brought back."""
    classes = torch.arange(int(label.max()) + 1).view(-1, 1, 1, 1)
    return restore_argmax([(label == classes).float()], frame)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


CODES = [("RAS", 0.0), ("LPS", 0.0), ("PIL", 0.0), ("SRA", 20.0), ("ALI", -25.0)]
