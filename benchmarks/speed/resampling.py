"""Resampling of a CT: ours, which `prepare` uses, against scipy's zoom and MONAI's SpatialResample (inside Spacing).

The volume is a sum of cosines that is known at every point, so that each result has an error of its own. All sides
sample the same points: output voxel centres at (i + 0.5) * extent / n_out from the volume's outer corner, which is
scipy's `grid_mode=True`; MONAI gets affines that say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.harness import Duel
from voxward.core.types import Float3, Size3
from voxward.data.resample import resample, resample_labels

CT: Size3 = (512, 512, 200)
PART: Size3 = (256, 256, 100)
SPACING: Float3 = (0.8, 0.8, 1.25)
TARGET: Float3 = (0.85, 0.85, 1.5)
# Amplitude, and per axis the period in mm: 10 voxels at the least, more than any of the grids needs.
WAVES = ((1.0, (61.0, 47.0, 83.0)), (0.7, (31.0, 23.0, 37.0)), (0.5, (19.0, 28.0, 45.0)), (0.3, (8.5, 11.0, 15.0)))
# The field's levels between the classes 0, 1 and 2.
LEVELS = (0.4, 1.0)
CUBIC, LINEAR = (3, 3, 3), (1, 1, 1)


@dataclass(frozen=True, eq=False)
class Scene:
    """The field at the voxels of a grid of SPACING (d, h, w) float32, and its exact values at `shape`."""

    volume: Tensor
    truth: Tensor
    shape: Size3

    @classmethod
    def of(cls, size: Size3) -> Scene:
        extent = [n * step for n, step in zip(size, SPACING, strict=True)]
        i, j, k = (round(length / step) for length, step in zip(extent, TARGET, strict=True))
        return cls(_field(size, extent), _field((i, j, k), extent), (i, j, k))

    def rmse(self, result: Tensor) -> float:
        """Root mean squared error over all voxels."""
        return float((result - self.truth).double().square().mean().sqrt())


def duels() -> Iterator[Duel]:
    part, scene = Scene.of(PART), Scene.of(CT)
    yield _against_zoom(part, threads=1)
    yield _against_zoom(part, torch.get_num_threads())
    yield _against_zoom(scene, torch.get_num_threads())
    yield _against_monai(scene, "linear", LINEAR, "bilinear")
    yield _against_monai(part, "cubic", CUBIC, 3)
    yield _labels(scene)


def _against_zoom(scene: Scene, threads: int) -> Duel:
    """scipy has no threads of its own; ours is given `threads`."""

    def ours() -> Tensor:
        return _on_threads(threads, lambda: resample(scene.volume, scene.shape, CUBIC))

    def peer() -> Tensor:
        return _zoom(scene.volume, scene.shape)

    results = ours(), peer()
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)
    quality = "RMSE {:.3g} and {:.3g}".format(*map(scene.rmse, results))
    name = f"cubic, {_size(scene)}, {threads} thread" + "s" * (threads > 1)
    return Duel(name, ours, peer, "scipy.ndimage.zoom(order=3), one thread", 10.0, quality)


def _zoom(volume: Tensor, shape: Size3) -> Tensor:
    from scipy import ndimage

    factors = [new / old for old, new in zip(volume.shape, shape, strict=True)]
    return torch.from_numpy(ndimage.zoom(volume.numpy(), factors, order=3, mode="nearest", grid_mode=True))


def _against_monai(scene: Scene, kind: str, order: Size3, mode: str | int) -> Duel:
    padding = "border" if isinstance(mode, str) else "nearest"
    spatial = _Spatial(scene, mode, padding)

    def ours() -> Tensor:
        return resample(scene.volume, scene.shape, order)

    def peer() -> Tensor:
        return spatial(scene.volume)

    results = ours(), peer()
    torch.testing.assert_close(*results, rtol=0, atol=1e-3)
    quality = "RMSE {:.3g} and {:.3g}".format(*map(scene.rmse, results))
    return Duel(f"{kind}, {_size(scene)}", ours, peer, f"MONAI SpatialResample(mode={mode!r})", 1.0, quality)


def _labels(scene: Scene) -> Duel:
    """Ours votes by linear weights, MONAI takes the nearest voxel: less work, and a coarser border."""
    label, truth = _classes(scene.volume), _classes(scene.truth)
    spatial = _Spatial(scene, "nearest", "border")

    def ours() -> Tensor:
        return resample_labels(label, scene.shape, len(LEVELS) + 1)

    def peer() -> Tensor:
        return spatial(label.float()).to(torch.uint8)

    wrong = [100 * float((result != truth).double().mean()) for result in (ours(), peer())]
    quality = f"wrong voxels {wrong[0]:.2f} % and {wrong[1]:.2f} %; ours interpolates each class"
    return Duel(f"labels, 3 classes, {_size(scene)}", ours, peer, "MONAI SpatialResample('nearest')", None, quality)


class _Spatial:
    """MONAI's resampling onto `scene.shape`, computed in float32 (its float64 default is slower)."""

    def __init__(self, scene: Scene, mode: str | int, padding: str) -> None:
        from monai.transforms import SpatialResample

        ratio = torch.tensor([n / m for n, m in zip(scene.volume.shape, scene.shape, strict=True)], dtype=torch.float64)
        self.affine = torch.eye(4, dtype=torch.float64)
        self.affine[:3, :3] = torch.diag(ratio)
        self.affine[:3, 3] = 0.5 * ratio - 0.5
        self.shape = scene.shape
        self.transform = SpatialResample(mode=mode, padding_mode=padding, align_corners=False, dtype=torch.float32)

    def __call__(self, volume: Tensor) -> Tensor:
        from monai.data import MetaTensor

        image = MetaTensor(volume[None], affine=torch.eye(4, dtype=torch.float64))
        return self.transform(image, dst_affine=self.affine, spatial_size=self.shape).as_tensor()[0]


def _on_threads(threads: int, work: Callable[[], Tensor]) -> Tensor:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def _field(size: Size3, extent: list[float]) -> Tensor:
    """The cosines at the voxel centres of a grid of `size` over `extent` mm: float32, summed in float64."""
    places = [(np.arange(n) + 0.5) * length / n for n, length in zip(size, extent, strict=True)]
    field = torch.empty(size)
    factors = [
        [amplitude * np.cos(2 * np.pi * places[0] / periods[0] + 0.3)]
        + [np.cos(2 * np.pi * places[axis] / periods[axis] + axis) for axis in (1, 2)]
        for amplitude, periods in WAVES
    ]
    for n in range(size[0]):
        plane = sum(first[n] * np.outer(second, third) for first, second, third in factors)
        field[n] = torch.from_numpy(np.asarray(plane))
    return field


def _classes(field: Tensor) -> Tensor:
    return torch.bucketize(field, torch.tensor(LEVELS)).to(torch.uint8)


def _size(scene: Scene) -> str:
    return " x ".join(map(str, scene.volume.shape)) + " to " + " x ".join(map(str, scene.shape))
