"""Where the slices of a series lie together: sorted along the body, with one affine, or refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import Size3
from voxward.data.dicom.frames import Frame

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A slice may lie so far from where even steps have it, as a share of a step: scanners round what they write.
_UNEVEN = 0.02
# Slices nearer than this, in mm, lie at one place.
_SAME_PLACE = 1e-3
_ALIKE = 1e-4
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a series.

    Attributes:
        frames: The slices, in the order of the third axis.
        affine: (4, 4), from (column, row, slice) to mm, RAS+. Where the gantry was tilted, the axes are not at right
            angles.
    """

    frames: tuple[Frame, ...]
    affine: np.ndarray

    @property
    def shape(self) -> Size3:
        """The number of columns, rows and slices."""
        columns, rows = self.frames[0].shape
        return columns, rows, len(self.frames)


def grid_of(frames: Sequence[Frame]) -> Grid:
    """Sort slices along the body, and return where they lie.

    Args:
        frames: The slices, at least one, of one series.

    Raises:
        UserError: They are no volume: orientations, sizes or coordinates differ, several lie at one place, or one is
            missing. The message says which.
    """
    _refuse_unlike(frames)
    first = frames[0]
    normal = np.cross(first.along[0], first.along[1])
    places = np.array([frame.position for frame in frames]) @ normal
    ordered = [frames[n] for n in np.argsort(places, kind="stable")]
    places = np.sort(places)
    _refuse_same_place(ordered, places)
    count = len(ordered)
    if count == 1:
        if first.thickness is None:
            raise UserError(f"{_name(first)} is the only slice, and does not say how thick it is")
        step = normal * first.thickness
    else:
        step = (ordered[-1].position - ordered[0].position) / (count - 1)
        _refuse_uneven(ordered, places, step)
        _warn_of_spacing(first, float(np.median(np.diff(places))))
    affine = np.eye(4)
    affine[:, [0, 1]], affine[:3, 2], affine[:3, 3] = ordered[0].plane[:, [0, 1]], step, ordered[0].position
    return Grid(tuple(ordered), LPS_TO_RAS @ affine)


def _refuse_unlike(frames: Sequence[Frame]) -> None:
    first = frames[0]
    for frame in frames[1:]:
        pairs = (
            ("size in pixels", first.shape, frame.shape, first.shape == frame.shape),
            ("PixelSpacing", first.spacing, frame.spacing, _close(first.spacing, frame.spacing)),
            ("ImageOrientationPatient", first.along.tolist(), frame.along.tolist(), _close(first.along, frame.along)),
            ("FrameOfReferenceUID", first.frame_of_reference, frame.frame_of_reference,
             first.frame_of_reference == frame.frame_of_reference),
        )  # fmt: skip
        for what, one, other, alike in pairs:
            if not alike:
                raise UserError(
                    f"{first.path} and {frame.path} are of one series, and differ in {what}: {one} and {other}: they "
                    "are no volume together"
                )


def _close(one: object, other: object) -> bool:
    return bool(np.allclose(np.asarray(one), np.asarray(other), rtol=0, atol=_ALIKE))


def _refuse_same_place(frames: Sequence[Frame], places: np.ndarray) -> None:
    same = np.flatnonzero(np.diff(places) < _SAME_PLACE).tolist()
    if not same:
        return
    one, other = frames[same[0]], frames[same[0] + 1]
    alike = [one, other, *(frames[n + 1] for n in same)]
    told = [words for words in one.distinct if len({frame.distinct.get(words) for frame in alike}) > 1]
    how = ", ".join(
        f"{words} ({', '.join(dict.fromkeys(str(f.distinct.get(words)) for f in alike))})" for words in told
    )
    raise UserError(
        f"{len(same)} slices lie where another one lies, for example {_name(one)} and {_name(other)}: the series holds "
        f"several volumes{f', which differ in {how}' if how else ', or copies of files'}. Keep the files of one of them"
    )


def _refuse_uneven(frames: Sequence[Frame], places: np.ndarray, step: np.ndarray) -> None:
    """Refuse slices at uneven distances; those of a tilted gantry lie on a line, too."""
    expected = frames[0].position + np.arange(len(frames))[:, None] * step
    off = np.linalg.norm(np.array([frame.position for frame in frames]) - expected, axis=1)
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > 1.5 * usual).tolist()
    if wide:
        where = [f"{_name(frames[n])} and {_name(frames[n + 1])} ({gaps[n]:.3g} mm)" for n in wide[:_SHOWN]]
        missing = int(np.rint(gaps[wide] / usual - 1).sum())
        raise UserError(
            f"slices lie {usual:.3g} mm apart, but not between {'; '.join(where)}: {missing} slices seem to be missing"
        )
    if off.max() > _UNEVEN * usual:
        worst = int(off.argmax())
        raise UserError(
            f"the slices do not lie on one line at even distances: {_name(frames[worst])} is {off[worst]:.3g} mm away "
            f"from where it would be"
        )


def _warn_of_spacing(frame: Frame, usual: float) -> None:
    """Warn where every second slice may be missing, which even distances do not show."""
    if frame.thickness is not None and usual > 1.5 * frame.thickness:
        warnings.warn(
            f"{_name(frame)} says that slices are {frame.thickness:.3g} mm thick or apart, and they lie {usual:.3g} mm "
            "apart: are slices missing?",
            stacklevel=5,
        )


def _name(frame: Frame) -> str:
    return str(frame.path) if frame.number is None else f"frame {frame.number + 1} of {frame.path}"
