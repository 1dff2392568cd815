"""A case in memory that counts what is read of it."""

from __future__ import annotations

import numpy as np
import torch

from voxward.core.labels import IGNORED


class MemorySource:
    def __init__(self, image: torch.Tensor, label: torch.Tensor, id: str = "case") -> None:
        self.id, self.image, self.label = id, image, label
        self.shape = tuple(label.shape)
        self.classes = tuple(k for k in torch.unique(label).tolist() if k != IGNORED)
        self.voxels_read = 0

    @property
    def annotated(self) -> np.ndarray | None:
        known = self.label.numpy() != IGNORED
        return None if known.all() else np.argwhere(known)

    def locations(self, k: int) -> np.ndarray:
        return np.argwhere(self.label.numpy() == k).astype(np.int32)

    def image_region(self, start, stop):
        assert min(start) >= 0
        assert all(end <= n for end, n in zip(stop, self.shape, strict=True))
        region = self.image[(slice(None), *map(slice, start, stop))]
        self.voxels_read += region[0].numel()
        return region.clone()

    def label_region(self, start, stop):
        return self.label[tuple(map(slice, start, stop))].clone()
