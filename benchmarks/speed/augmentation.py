"""Augmentation of a training batch on one thread: ours against nnU-Net's package batchgeneratorsv2 and MONAI.

"rotation, zoom, flips, gamma" is the same work on both sides: the transforms of our dynunet recipe at its
probabilities, image linear and label nearest, one resampling for rotation and zoom together. "all" applies rotation,
zoom and gamma to every sample, so that no luck is in it. "whole recipe" is each library's own list: nnU-Net's has
noise, blur, brightness, contrast, low resolution and a second gamma as well, and resamples labels linearly per class.
Every side draws its own random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.harness import Duel, Work
from voxward.core.recipe import Augmentation, load_recipe
from voxward.core.types import Size3
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.augment.spatial import active_axes

PATCHES: tuple[Size3, ...] = ((64, 64, 64), (128, 128, 96))
BATCH = 2
BATCHES = 6
SPACING = (1.0, 1.0, 1.0)
MARGIN = 1.2
DRAWS = "draws differ"

Apply = Callable[[Tensor, Tensor], object]
"""One batch: images (b, 1, d, h, w) float32 and labels (b, d, h, w) uint8."""


@dataclass(frozen=True, eq=False)
class Sources:
    """A batch of source regions, as the loader gives them, and the size of the patches made of them."""

    images: Tensor
    labels: Tensor
    patch: Size3

    @classmethod
    def of(cls, patch: Size3) -> Sources:
        i, j, k = (round(MARGIN * edge) for edge in patch)
        generator = torch.Generator().manual_seed(0)
        coarse = torch.randn(BATCH, 1, 8, 8, 8, generator=generator)
        images = torch.nn.functional.interpolate(coarse, size=(i, j, k), mode="trilinear")
        return cls(images, torch.bucketize(images[:, 0], torch.tensor([0.3, 0.8])).to(torch.uint8), patch)

    @property
    def cropped(self) -> Sources:
        """The patches in the middle of the regions."""
        first = [(whole - edge) // 2 for whole, edge in zip(self.labels.shape[1:], self.patch, strict=True)]
        i, j, k = (slice(start, start + edge) for start, edge in zip(first, self.patch, strict=True))
        return Sources(self.images[:, :, i, j, k].contiguous(), self.labels[:, i, j, k].contiguous(), self.patch)


def duels() -> Iterator[Duel]:
    recipe = load_recipe("dynunet").augmentation
    always = replace(recipe, rotation_probability=1.0, scale_probability=1.0, gamma_probability=1.0)
    for patch in PATCHES:
        sources = Sources.of(patch)
        size = " x ".join(map(str, patch))
        for chosen, name in ((recipe, "rotation, zoom, flips, gamma"), (always, "the same, all")):
            work = _times(_ours(chosen, sources), sources)
            for peer, whose, note in (
                (_times(_batchgenerators(_shared(chosen, patch)), sources), "batchgeneratorsv2", DRAWS),
                (
                    _times(_monai(chosen, patch), sources.cropped),
                    "MONAI dictionary transforms",
                    f"{DRAWS}; MONAI sees the patch only, ours the region around it",
                ),
            ):
                yield Duel(f"{name}, {BATCHES} batches of {BATCH} x {size}", work, peer, whose, None, note)
        yield Duel(
            f"whole recipe, {BATCHES} batches of {BATCH} x {size}",
            _times(_ours(recipe, sources), sources),
            _times(_batchgenerators(_nnunet(patch)), sources),
            "batchgeneratorsv2 as in nnU-Net",
            None,
            f"{DRAWS}; nnU-Net has six transforms more",
        )


def _times(apply: Apply, sources: Sources) -> Work:
    """BATCHES batches on one thread; the seeds of numpy and torch are set, so that every round draws the same."""

    def work() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        np.random.seed(0)
        torch.manual_seed(0)
        try:
            for _ in range(BATCHES):
                apply(sources.images, sources.labels)
        finally:
            torch.set_num_threads(threads)

    return work


def _ours(recipe: Augmentation, sources: Sources) -> Apply:
    active = active_axes(sources.patch, SPACING)

    def apply(images: Tensor, labels: Tensor) -> object:
        # The global generator, which every round seeds.
        draw = draw_augmentation(recipe, len(images), images.shape[1], active, torch.default_generator)
        return apply_augmentation(images, labels, draw, sources.patch, SPACING, "zero")

    return apply


def _batchgenerators(transforms: list[Any]) -> Apply:
    """Sample by sample, as nnU-Net's workers do."""

    def apply(images: Tensor, labels: Tensor) -> object:
        done = []
        for image, label in zip(images, labels.to(torch.int16), strict=True):
            data = {"image": image, "segmentation": label[None]}
            for transform in transforms:
                data = transform(**data)
            done.append(data)
        return torch.stack([data["image"] for data in done]), torch.stack([data["segmentation"] for data in done])

    return apply


def _shared(recipe: Augmentation, patch: Size3) -> list[Any]:
    """What our recipe does, in batchgeneratorsv2's transforms; its scale divides, so the range is turned over."""
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    angle = float(np.deg2rad(recipe.rotation_degrees))
    low, high = recipe.scale
    return [
        SpatialTransform(
            patch, 0, random_crop=False,
            p_rotation=recipe.rotation_probability, rotation=(-angle, angle),
            p_scaling=recipe.scale_probability, scaling=(1 / high, 1 / low), p_synchronize_scaling_across_axes=1,
            mode_seg="nearest",
        ),
        RandomTransform(
            GammaTransform(BGContrast(recipe.gamma), 0, synchronize_channels=False, p_per_channel=1, p_retain_stats=0),
            apply_probability=recipe.gamma_probability,
        ),
        MirrorTransform(recipe.mirror_axes),
    ]  # fmt: skip


def _nnunet(patch: Size3) -> list[Any]:
    """nnU-Net's training transforms with its probabilities, without deep supervision's small labels."""
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    angle, contrast = float(np.deg2rad(30)), BGContrast((0.75, 1.25))
    spatial = SpatialTransform(
        patch, 0, random_crop=False, p_rotation=0.2, rotation=(-angle, angle), p_scaling=0.2, scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
    )  # fmt: skip
    intensity = (
        (0.1, GaussianNoiseTransform((0, 0.1), p_per_channel=1, synchronize_channels=True)),
        (0.2, GaussianBlurTransform((0.5, 1.0), p_per_channel=0.5, benchmark=True)),
        (0.15, MultiplicativeBrightnessTransform(contrast, synchronize_channels=False, p_per_channel=1)),
        (0.15, ContrastTransform(contrast, preserve_range=True, synchronize_channels=False, p_per_channel=1)),
        (0.25, SimulateLowResolutionTransform((0.5, 1), False, True, ignore_axes=None, p_per_channel=0.5)),
        (0.1, GammaTransform(BGContrast((0.7, 1.5)), 1, synchronize_channels=False, p_per_channel=1, p_retain_stats=1)),
        (0.3, GammaTransform(BGContrast((0.7, 1.5)), 0, synchronize_channels=False, p_per_channel=1, p_retain_stats=1)),
    )
    return [
        spatial,
        *(RandomTransform(transform, apply_probability=chance) for chance, transform in intensity),
        MirrorTransform((0, 1, 2)),
    ]


def _monai(recipe: Augmentation, patch: Size3) -> Apply:
    """Rotation and zoom in one transform (with the chance that either is drawn), without the history of metadata."""
    from monai.data.meta_obj import get_track_meta, set_track_meta
    from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandFlipd

    keys, angle = ("image", "label"), float(np.deg2rad(recipe.rotation_degrees))
    chance = 1 - (1 - recipe.rotation_probability) * (1 - recipe.scale_probability)
    span = ((recipe.scale[0] - 1, recipe.scale[1] - 1),) * 3
    moved = RandAffined(
        keys, patch, prob=chance, rotate_range=(angle,) * 3, scale_range=span, mode=("bilinear", "nearest"),
        padding_mode="zeros", cache_grid=True,
    )  # fmt: skip
    flips = [RandFlipd(keys, prob=recipe.mirror_probability, spatial_axis=axis) for axis in recipe.mirror_axes]
    gamma = RandAdjustContrastd(("image",), prob=recipe.gamma_probability, gamma=recipe.gamma)
    transforms = Compose([moved, *flips, gamma]).set_random_state(seed=0)

    def apply(images: Tensor, labels: Tensor) -> object:
        tracked = get_track_meta()
        set_track_meta(False)
        try:
            samples = zip(images, labels, strict=True)
            done = [transforms({"image": image, "label": label[None]}) for image, label in samples]
        finally:
            set_track_meta(tracked)
        return torch.stack([data["image"] for data in done]), torch.stack([data["label"] for data in done])

    return apply
