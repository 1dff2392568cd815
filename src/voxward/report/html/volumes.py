"""The volumes of one case as the viewer shows them: read, cut to a box round the finding, and packed for the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.types import Float3
from voxward.data.io import read_case, read_image, read_label, read_truth
from voxward.data.orient import orientation
from voxward.report.html.kept import Kept, NotShown
from voxward.report.html.nifti_bytes import Box, box_around, image_bytes, mask_bytes, perturbation_bytes
from voxward.report.html.strings import STRINGS
from voxward.robustness.record import Record

_SAID = STRINGS["volumes"]
# A written file rounds to its number type; beyond this share the volume is not one that the attack may have made.
_BEYOND = 1.1
_CLASSES = 255


@dataclass(frozen=True)
class Struck:
    """A system under attack with perturbations of one size.

    Attributes:
        system: The name of the system.
        eps: The size of the perturbation.
        records: All attacks of this size on the case, the one that hurt most first.
    """

    system: str
    eps: float
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Wanted:
    """What the viewer is to show of a case.

    Attributes:
        case: The id of the case.
        clean: For each system its clean record.
        struck: Each system under attack with each size of perturbation, eps ascending.
        seeds: The seeds of the attacks.
    """

    case: str
    clean: tuple[Record, ...]
    struck: tuple[Struck, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Quality:
    """How much of a case is packed.

    Attributes:
        margin_mm: How far the box reaches beyond truth and masks.
        whole_below: A volume with at most so many voxels is not cut.
        cut: Whether larger volumes are cut at all.
        image_steps: Into how many steps intensities are rounded that are no integers.
        steps: Into how many steps a perturbation is rounded, on each side of 0.
        every_eps: Whether the perturbations of all sizes are packed, or those of the largest alone.
    """

    margin_mm: float = 15.0
    whole_below: int = 200_000
    cut: bool = True
    image_steps: int = 4095
    steps: int = 127
    every_eps: bool = True


@dataclass(frozen=True, eq=False)
class Attacked:
    """What was kept of a system under attack, cut to the box.

    Attributes:
        struck: The system and its attacks.
        record: The attack that is shown.
        mask: The classes that the system found; None where they were not kept.
        path: The adversarial volume; None where it was not kept.
        notes: What the reader must know about it.
    """

    struck: Struck
    record: Record
    mask: np.ndarray | None
    path: Path | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Shown:
    """The volumes of a case, cut to a box. Masks hold class indices.

    Attributes:
        image: The first channel (i, j, k).
        affine: That of the box.
        box: The box in the file.
        shape: The shape of the file.
        truth: The true classes; None without a label.
        clean: What each system found in the untouched image.
        attacked: What each system found under attack.
        notes: What the reader must know about this case.
        channels: For each system the place of the shown channel in the files that it read; None: it does not read it.
    """

    image: np.ndarray
    affine: np.ndarray
    box: Box
    shape: tuple[int, int, int]
    truth: np.ndarray | None
    clean: dict[str, np.ndarray]
    attacked: tuple[Attacked, ...]
    notes: tuple[str, ...]
    channels: Mapping[str, int | None] = field(default_factory=dict)


def read_shown(kept: Kept, wanted: Wanted, quality: Quality = Quality()) -> Shown:
    """Read what the viewer shows of a case, apart from the perturbations.

    Args:
        kept: The cases of the attack folder.
        wanted: What is shown.
        quality: How much is cut away.

    Raises:
        NotShown: The image cannot be read, or nothing that is worth looking at was kept.
    """
    try:
        case = kept.case(wanted.case)
        volume = read_case(case)
        truth = None if case.label is None else _classes(kept.first.labels, read_truth(case, volume).array)
        clean = {
            r.model: _mask(kept, r.model, path)
            for r in wanted.clean
            if (path := kept.mask(r, wanted.seeds)) is not None
        }
        attacked = tuple(_attacked(kept, struck, wanted.seeds) for struck in wanted.struck)
    except (UserError, OSError, ImportError) as error:
        raise NotShown(_SAID["unreadable"].format(error=error)) from error
    masks = [mask for mask in (truth, *clean.values(), *(one.mask for one in attacked)) if mask is not None]
    if wrong := [mask for mask in masks if mask.shape != volume.shape]:
        raise NotShown(_SAID["shape"].format(found=wrong[0].shape, shape=volume.shape))
    box = _box(masks, volume, quality)
    return Shown(
        image=np.array(box.cut(volume.array[0])),
        affine=box.affine(volume.affine),
        box=box,
        shape=volume.shape,
        truth=None if truth is None else np.array(box.cut(truth)),
        clean={name: np.array(box.cut(mask)) for name, mask in clean.items()},
        attacked=tuple(
            replace(one, mask=None if one.mask is None else np.array(box.cut(one.mask))) for one in attacked
        ),
        notes=tuple(_notes(kept, volume, box, clean, attacked)),
        channels={one.struck.system: kept.channel(one.struck.system, wanted.case) for one in attacked},
    )


def pack(shown: Shown, quality: Quality = Quality()) -> dict[str, Any]:
    """Return the volumes of a case as plain data for the page: each is base64 of a gzip NIfTI.

    Args:
        shown: The volumes.
        quality: How far they are rounded.
    """
    largest = max((one.struck.eps for one in shown.attacked), default=0.0)
    rounded = Quality(image_steps=quality.image_steps, steps=quality.steps) != Quality()
    notes = [_SAID["rounded"].format(steps=quality.image_steps + 1, levels=2 * quality.steps + 1)] if rounded else []
    return {
        "image": _text(image_bytes(shown.image, shown.affine, quality.image_steps)),
        "range": [float(shown.image.min()), float(shown.image.max())],
        "window": [float(value) for value in np.percentile(shown.image, (1, 99))],
        "truth": _mask_text(shown.truth, shown),
        "clean": {name: _mask_text(mask, shown) for name, mask in shown.clean.items()},
        "attacked": [
            _pack_attacked(shown, one, quality.steps if quality.every_eps or one.struck.eps == largest else 0)
            for one in shown.attacked
        ],
        "notes": [*shown.notes, *notes],
    }  # fmt: skip


def _pack_attacked(shown: Shown, one: Attacked, steps: int) -> dict[str, Any]:
    """steps: 0 leaves the perturbation out."""
    found: dict[str, Any] = {
        "system": one.struck.system, "eps": one.struck.eps, "attack": one.record.attack,
        "mask": _mask_text(one.mask, shown), "perturbation": None, "largest": None, "start": _start(shown, one),
        "notes": list(one.notes), "union": _union(shown, one),
        # What the attacked image is put together from: the image, cut to this range, and the change in these steps.
        "clip": None, "step": None,
    }  # fmt: skip
    if steps == 0:
        found["notes"].append(_SAID["left_out"])
    elif one.path is not None:
        try:
            difference = perturbation(shown, one.path, one.record)
        except NotShown as error:
            found["notes"].append(str(error))
        else:
            found["perturbation"] = _text(perturbation_bytes(difference, shown.affine, steps))
            found["largest"] = float(np.abs(difference).max())
            found["step"] = found["largest"] / steps or None
            found["clip"] = _clip(shown, one.record)
    return found


def perturbation(shown: Shown, path: Path, record: Record) -> np.ndarray:
    """Return what an attack added to the first channel, in the unit of the image.

    Args:
        shown: The volumes of the case.
        path: The adversarial volume.
        record: The attack.

    Raises:
        NotShown: The volume cannot be read, or is none of this case.
    """
    try:
        volume = read_image([path])
    except (UserError, OSError, ImportError) as error:
        raise NotShown(_SAID["unreadable"].format(error=error)) from error
    if volume.shape != shown.shape:
        raise NotShown(_SAID["shape"].format(found=volume.shape, shape=shown.shape))
    channel = shown.channels.get(record.model, 0)
    if channel is None or channel >= len(volume.array):
        raise NotShown(_SAID["other_channel"])
    before = shown.image.astype(np.float32)
    threat = record.threat
    low, high = threat.bounds[channel if len(threat.bounds) > 1 else 0] if threat.bounds else (-np.inf, np.inf)
    if (clip := _clip(shown, record)) is not None:
        before = before.clip(*clip)
    difference: np.ndarray = shown.box.cut(volume.array[channel]).astype(np.float32) - before
    if threat.norm == "linf" and threat.bounds is not None:
        unit = high - low if threat.unit == "range" else 1.0
        limit = max(record.eps, record.distance, record.written or 0.0) * unit
        if float(np.abs(difference).max()) > _BEYOND * limit + 1.0:
            raise NotShown(_SAID["foreign"].format(path=path))
    return difference


def _clip(shown: Shown, record: Record) -> tuple[float, float] | None:
    """The intensities that the shown channel was cut to before the attack; None where it was not."""
    threat, channel = record.threat, shown.channels.get(record.model, 0)
    if threat.reference != "window" or not threat.bounds or channel is None:
        return None
    return threat.bounds[channel if len(threat.bounds) > 1 else 0]


def _union(shown: Shown, one: Attacked) -> tuple[float, float] | None:
    """The Dice of all structures taken as one, without and under attack; None where there is one, or no mask."""
    clean, truth = shown.clean.get(one.struck.system), shown.truth
    if clean is None or one.mask is None or truth is None or truth.max() < 2:
        return None
    return _foreground_dice(truth, clean), _foreground_dice(truth, one.mask)


def _foreground_dice(truth: np.ndarray, mask: np.ndarray) -> float:
    return 2.0 * float(((truth > 0) & (mask > 0)).sum()) / float((truth > 0).sum() + (mask > 0).sum())


def _attacked(kept: Kept, struck: Struck, seeds: Sequence[int]) -> Attacked:
    """The attack that hurt most of those whose mask was kept."""
    for record in struck.records:
        if (path := kept.mask(record, seeds)) is not None:
            worst = struck.records[0]
            weaker = _dice(record) > _dice(worst)
            notes = [_SAID["not_worst"].format(worst=worst.attack, shown=record.attack)] if weaker else []
            volume = kept.volume(record, seeds)
            notes += [_SAID["no_volume"]] if volume is None else []
            return Attacked(struck, record, _mask(kept, record.model, path), volume, tuple(notes))
    for record in struck.records:
        if (volume := kept.volume(record, seeds)) is not None:
            return Attacked(struck, record, None, volume, (_SAID["no_mask"],))
    return Attacked(struck, struck.records[0], None, None, (_SAID["nothing_kept"],))


def _dice(record: Record) -> float:
    return record.dice(deployed=record.deployed is not None)


def _box(masks: Sequence[np.ndarray], volume: Volume, quality: Quality) -> Box:
    whole = Box.whole(volume.shape)
    if not quality.cut or whole.size <= quality.whole_below or not masks:
        return whole
    found = np.zeros(volume.shape, bool)
    for mask in masks:
        found |= mask > 0
    return box_around(found, volume.spacing, quality.margin_mm)


def _notes(
    kept: Kept, volume: Volume, box: Box, clean: dict[str, np.ndarray], attacked: Sequence[Attacked]
) -> list[str]:
    notes = list[str]()
    if len(volume.array) > 1:
        name = kept.first.channels[0] if kept.first.channels else "1"
        notes.append(_SAID["channels"].format(count=len(volume.array), name=name))
    if 1 in volume.shape:
        notes.append(_SAID["flat"])
    if box != Box.whole(volume.shape):
        size = [stop - start for start, stop in zip(box.start, box.stop, strict=True)]
        notes.append(_SAID["cut"].format(size=_times(size), shape=_times(volume.shape)))
    if missing := sorted({one.struck.system for one in attacked} - set(clean)):
        notes.append(_SAID["no_clean"].format(systems=", ".join(missing)))
    return notes


def _start(shown: Shown, one: Attacked) -> Float3:
    """The place that is shown first, in mm: in the axial slice with most difference between clean and attacked."""
    clean = shown.clean.get(one.struck.system)
    masks = [mask for mask in (shown.truth, clean, one.mask) if mask is not None]
    found = np.zeros(shown.image.shape, bool)
    if clean is not None and one.mask is not None:
        found = clean != one.mask
    if not found.any():
        for mask in masks:
            found = found | (mask > 0)
    place: list[int] = [length // 2 for length in shown.image.shape]
    axes, _ = orientation(shown.affine)
    for axis in reversed(axes if found.any() else ()):  # the axial axis first, so that its slice has the most
        counts = found.sum(axis=tuple(other for other in range(3) if other != axis))
        most = np.flatnonzero(counts == counts.max())
        place[axis] = int(most[len(most) // 2])
        found = np.take(found, [place[axis]], axis)  # a slice of length 1, so that axes keep their numbers
    x, y, z = (float(value) for value in (shown.affine @ np.array([*place, 1.0]))[:3])
    return x, y, z


def _mask(kept: Kept, model: str, path: Path) -> np.ndarray:
    return _classes(kept.labels(model), read_label(path).array)


def _classes(labels: LabelSet, values: np.ndarray) -> np.ndarray:
    """Class indices of 8 bits; values that are no class, such as those of unannotated voxels, are background."""
    known = labels.values[: _CLASSES + 1]
    return labels.classes.to_index(np.where(np.isin(values, known), values, 0)).astype(np.uint8)


def _mask_text(mask: np.ndarray | None, shown: Shown) -> str | None:
    return None if mask is None else _text(mask_bytes(mask, shown.affine))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
