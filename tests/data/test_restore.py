"""The way back from prepared logits and labels to a volume's own voxels, whole and slab by slab."""

from __future__ import annotations

import weakref
from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.data.volumes import make_affine
from voxward.core.case import Frame
from voxward.data import resample_rows as module
from voxward.data.crop import paste
from voxward.data.orient import orientation
from voxward.data.prepare import restore_argmax, restore_logits


def random_frame(shape: tuple[int, int, int], box: tuple[int, int, int], code: str) -> Frame:
    axes, flips = orientation(make_affine(code))
    oriented = tuple(n + 3 for n in box)
    source = tuple(oriented[axes.index(n)] for n in range(3))
    one = (1.0,)
    rows = ((1.0, 0.0, 0.0, 0.0),) * 4
    stop = (box[0] + 1, box[1] + 2, box[2])
    return Frame(source, rows, axes, flips, (1, 2, 0), stop, shape, one, one, one, one)


@pytest.mark.parametrize("code", ["RAS", "PIL", "SRA"])
@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((9, 7, 5), (21, 16, 13)),
        ((21, 16, 13), (9, 7, 5)),
        ((7, 20, 6), (7, 9, 15)),
        ((1, 5, 6), (4, 5, 6)),
        ((6, 5, 1), (1, 9, 1)),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_streamed_argmax_equals_the_whole(code, shape, box, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = random_frame(shape, box, code)
    logits = torch.randn(4, *shape)
    expected = paste(restore_logits(logits, frame).argmax(0).numpy().astype(np.uint8), frame)
    # An independent interpolation agrees with the whole-volume path.
    zoomed = [_linear(channel.numpy(), box) for channel in logits]
    assert (paste(np.argmax(zoomed, 0).astype(np.uint8), frame) == expected).mean() > 0.999
    for budget, axis in product((module._SLAB, 300), range(3)):
        monkeypatch.setattr(module, "_SLAB", budget)
        found = restore_argmax((slab for slab in logits.split(rows, dim=axis + 1)), frame, axis)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [12, 7, 30])
def test_a_slab_is_let_go_before_the_next_is_made(axis: int, length: int) -> None:
    shape, box = [4, 4, 4], [4, 4, 4]
    shape[axis], box[axis] = 12, length
    made: list[weakref.ref[torch.Tensor]] = []

    def slab() -> torch.Tensor:
        assert all(ref() is None for ref in made)
        size = [3, *shape]
        size[axis + 1] = 4
        storage = torch.randn(size)
        made.append(weakref.ref(storage))
        return storage

    found = restore_argmax((slab() for _ in range(3)), random_frame(tuple(shape), tuple(box), "RAS"), axis)
    assert len(made) == 3
    assert found.any()


def _linear(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(x.shape, shape, strict=True)]
    return ndimage.map_coordinates(x.astype(np.float64), np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")


def test_many_classes_need_two_bytes() -> None:
    frame = random_frame((2, 2, 2), (2, 2, 2), "RAS")
    logits = torch.zeros(300, 2, 2, 2)
    logits[299] = 1
    found = restore_argmax([logits], frame)
    assert found.dtype == np.uint16
    assert found.max() == 299


def test_slabs_that_do_not_fit_are_refused() -> None:
    frame = random_frame((4, 3, 3), (6, 5, 4), "RAS")
    for slabs, message in (
        ([torch.zeros(2, 3, 3, 3)], "slabs end"),
        ([], "slabs end"),
        ([torch.zeros(2, 4, 3, 3), torch.zeros(2, 1, 3, 3)], "does not fit"),
        ([torch.zeros(2, 4, 3, 2)], "does not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            restore_argmax(slabs, frame)
    with pytest.raises(ValueError, match="prepared shape"):
        restore_logits(torch.zeros(2, 3, 3, 3), frame)
    with pytest.raises(ValueError, match="crop box"):
        paste(np.zeros((1, 1, 1)), frame)
