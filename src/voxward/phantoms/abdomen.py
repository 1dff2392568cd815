"""Abdominal CT phantoms: a small, irregular organ somewhere in a whole abdomen, among look-alikes of the same HU.

This is the problem that coarse-to-fine systems were made for: the organ is less than 0.5 % of the scan, and only its
place, and how it is bent, tell it from the loops of bowel. Cysts in the organ are an option.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.types import Float3, Size3
from voxward.phantoms.layouts import Decathlon, Layout
from voxward.phantoms.shapes import rotation

FIELD_OF_VIEW_MM = 410.0
SIZES = (64, 512)
AIR, FAT, SOFT, BONE = -1000.0, -100.0, 40.0, 400.0

_LENGTH_MM = 270.0  # what the scan covers from head to foot
_SLICE_MM = 2.5  # slice thickness at the largest size
_PARTIAL_VOLUME_VOXELS = 0.45  # standard deviation of the blur that mixes neighbouring tissues
_WAVES = 3
_LOOPS = 8
# The middle line of the organ, from its head on the right to its tail on the left: mm to the right, front and head.
_MIDDLE_LINE = ((36.0, 0.0, -14.0), (12.0, 20.0, 4.0), (-22.0, 14.0, 14.0), (-52.0, 0.0, 24.0), (-78.0, -12.0, 38.0))
_ORGAN_RADII = (14.0, 9.0, 10.0, 9.0, 8.0)

# Centre and radii in mm, and HU: liver, spleen, kidneys.
_OTHERS: tuple[tuple[Float3, Float3, float], ...] = (
    ((78.0, 18.0, 58.0), (72.0, 66.0, 68.0), 60.0),
    ((-108.0, -18.0, 62.0), (28.0, 38.0, 42.0), 52.0),
    ((64.0, -44.0, -14.0), (26.0, 25.0, 50.0), 34.0),
    ((-64.0, -42.0, -4.0), (26.0, 25.0, 50.0), 34.0),
)
_STOMACH: tuple[Float3, Float3] = ((-62.0, 52.0, 62.0), (32.0, 24.0, 34.0))
_FLUID: tuple[Float3, Float3] = ((-64.0, -40.0, -30.0), (13.0, 12.0, 14.0))  # a cyst of the left kidney


@dataclass(frozen=True, eq=False)
class _Tube:
    """A chain of balls with a wavy surface; lengths are in mm.

    Attributes:
        centres: The centres of the balls (n, 3).
        radii: Their radii (n,).
        waves: Wave vectors (m, 3) of the surface, in radians per mm.
        phases: The phase (m,) of each wave, in radians.
        wave: The height of all waves together, in radii.
    """

    centres: np.ndarray
    radii: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    wave: float = 0.2

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return which points of a grid lie inside, bool (i, j, k); x (i,), y (j,) and z (k,) are coordinates in mm."""
        x, y, z = x[:, None, None], y[:, None], z
        level = np.full((len(x), len(y), len(z)), np.inf, np.float32)
        for (a, b, c), radius in zip(self.centres, self.radii, strict=True):
            distance = np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / radius
            np.minimum(level, distance, out=level)
        for (a, b, c), phase in zip(self.waves, self.phases, strict=True):
            level += self.wave / len(self.waves) * np.sin(a * x + b * y + c * z + phase)
        inside: np.ndarray = level < 1
        return inside

    def paint(
        self, image: np.ndarray, value: float | int, axes: tuple[np.ndarray, ...], where: np.ndarray | None
    ) -> None:
        """Set the voxels of `image` (i, j, k) that lie in the tube to a value; a mask `where` restricts them.

        The coordinates in mm of the voxels along i, j and k are in `axes`. Only the box around the tube is looked at.
        """
        reach = (1 + self.wave) * self.radii[:, None]
        low, high = (self.centres - reach).min(0), (self.centres + reach).max(0)
        spans = [np.flatnonzero((own >= a) & (own <= b)) for own, a, b in zip(axes, low, high, strict=True)]
        if not all(map(len, spans)):
            return
        box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        inside = self.inside(*(own[side] for own, side in zip(axes, box, strict=True)))
        image[box][inside if where is None else inside & where[box]] = value


@dataclass(frozen=True, eq=False)
class _Abdomen:
    """One subject: its solids in mm around the middle of the body, and their HU. The organ and its cysts are labelled.

    Attributes:
        girth: The semi-axes of the body along x and y.
        organ: The labelled organ.
        organ_hu: Its HU.
        cysts: The labelled cysts in the organ.
        cyst_hu: The HU of the cysts and of `fluid`.
        alike: Solids that are as bright as the organ.
        others: Further solids with their HU, which are painted first.
        fluid: A look-alike of the cysts, which is painted only where there are cysts.
    """

    girth: tuple[float, float]
    organ: _Tube
    organ_hu: float
    cysts: tuple[_Tube, ...]
    cyst_hu: float
    alike: tuple[_Tube, ...]
    others: tuple[tuple[_Tube, float], ...]
    fluid: _Tube


@dataclass(frozen=True)
class AbdomenPhantoms:
    """Datasets of a small organ among look-alikes.

    Args:
        size: The number of voxels across the field of view, 64 to 512.
        cysts: True adds cysts in the organ as a second class.
    """

    size: int = 128
    cysts: bool = False

    def __post_init__(self) -> None:
        _check(self.size)

    def case(self, number: int, seed: int) -> tuple[Volume, Volume]:
        """Make a case; only its seed matters here, and not its number.

        Args:
            number: The number of the case in its dataset, from 0.
            seed: The seed of the case.

        Returns:
            The image (1, i, j, k) in HU, and the label (i, j, k).
        """
        return make_abdomen_phantom(seed, self.size, self.cysts)

    def layout(self, seed: int) -> Layout:
        """Return the layout of the Medical Segmentation Decathlon, in which the files are written.

        Args:
            seed: The seed of the dataset, for its description.
        """
        labels = ("background", "organ", "cyst") if self.cysts else ("background", "organ")
        description = f"Synthetic abdominal CT, seed {seed}: a small organ among look-alikes"
        description += ", with cysts" if self.cysts else ""
        return Decathlon("abdomen", "Abdomen phantoms", description, "CT", labels)


def make_abdomen_phantom(seed: int, size: int = 128, cysts: bool = False) -> tuple[Volume, Volume]:
    """Make one case; the same arguments give the same volumes.

    Air is -1000, fat -100, soft tissue about 40, and bone 400 HU. The voxel order has either sign of x and y. A seed
    gives the same subject at any size, with and without cysts.

    Args:
        seed: The seed of all that is drawn.
        size: The number of voxels across the field of view of 410 mm, 64 to 512. Slices are 2.5 mm thick at 512 (0.8 x
            0.8 x 2.5 mm) and grow with the root of the pixel, so that the smallest scan is 64 x 64 x 38.
        cysts: True adds cysts in the organ, and their look-alikes elsewhere.

    Returns:
        The image (1, size, size, k) as int16 in HU, and the label (size, size, k) as uint8 with the values 0, 1 (organ)
        and 2 (cyst). Both have one affine.

    Raises:
        UserError: The size is out of range.
    """
    _check(size)
    generator = np.random.default_rng(seed)
    subject = _draw(generator)
    shape, affine = _draw_geometry(generator, size)
    axes = tuple((affine[n, n] * np.arange(length) + affine[n, 3]).astype(np.float32) for n, length in enumerate(shape))
    clean, label = _tissues(subject, shape, axes, cysts)
    clean = ndimage.gaussian_filter(clean, _PARTIAL_VOLUME_VOXELS, output=np.float32)
    clean += generator.uniform(10, 18) * generator.standard_normal(shape, np.float32)
    image = np.rint(np.clip(clean, -1024, 3071)).astype(np.int16)
    return Volume(image[None], affine), Volume(label, affine)


def _check(size: int) -> None:
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"size must be {SIZES[0]} to {SIZES[1]} voxels, got {size}")


def _draw(generator: np.random.Generator) -> _Abdomen:
    """Draw a subject: every place, radius, bend and surface varies."""
    organ = _draw_organ(generator)
    return _Abdomen(
        girth=(float(generator.uniform(155, 178)), float(generator.uniform(108, 125))),
        organ=organ,
        organ_hu=float(generator.normal(SOFT, 5)),
        cysts=tuple(_draw_cyst(generator, organ) for _ in range(int(generator.integers(1, 4)))),
        cyst_hu=float(generator.normal(8, 3)),
        alike=(_ellipsoid(generator, *_STOMACH), *(_draw_loop(generator) for _ in range(_LOOPS))),
        others=tuple((_ellipsoid(generator, centre, radii), hu) for centre, radii, hu in _OTHERS),
        fluid=_ellipsoid(generator, *_FLUID),
    )


def _draw_organ(generator: np.random.Generator) -> _Tube:
    shift = generator.uniform(-12, 12, 3)
    knots = np.asarray(_MIDDLE_LINE) + shift + generator.uniform(-8, 8, (len(_MIDDLE_LINE), 3))
    radii = np.asarray(_ORGAN_RADII) * generator.uniform(0.9, 1.2, len(_ORGAN_RADII))
    return _chain(generator, knots, radii, 0.2)


def _draw_loop(generator: np.random.Generator) -> _Tube:
    """Draw a loop of bowel below and in front of the organ, as thick as the organ and bent about as much."""
    start = generator.uniform((-95, -5, -120), (95, 65, -62))
    steps = generator.normal(size=(4, 3)) * (1.0, 0.6, 0.6)
    steps *= 28 / np.linalg.norm(steps, axis=1, keepdims=True)
    knots = np.clip(np.vstack([start, start + np.cumsum(steps, 0)]), (-105, -15, -125), (105, 72, -55))
    return _chain(generator, knots, generator.uniform(8, 14, len(knots)), 0.2)


def _draw_cyst(generator: np.random.Generator, organ: _Tube) -> _Tube:
    """Draw a ball in the organ, with its centre near the organ's middle line."""
    n = int(generator.integers(len(organ.centres)))
    radius = organ.radii[n] * generator.uniform(0.65, 0.95)
    centre = organ.centres[n] + generator.uniform(-0.25, 0.25, 3) * organ.radii[n]
    return _waved(generator, centre[None], np.array([radius]), 0.1)


def _ellipsoid(generator: np.random.Generator, centre: Float3, radii: Float3) -> _Tube:
    """Draw a solid of about the given radii near a centre: balls strung along its longest axis, slightly turned."""
    own = np.asarray(radii) * generator.uniform(0.88, 1.12, 3)
    thick = float(np.sort(own)[:2].mean())
    along = np.eye(3)[own.argmax()] * (own.max() - 0.8 * thick) @ rotation(generator, 20.0).T
    middle = np.asarray(centre) + generator.uniform(-8, 8, 3)
    return _chain(generator, np.stack([middle - along, middle, middle + along]), thick * np.array([0.8, 1, 0.8]), 0.1)


def _chain(generator: np.random.Generator, knots: np.ndarray, radii: np.ndarray, wave: float) -> _Tube:
    """Return balls every few mm along the line through `knots` (n, 3), with radii between those of the knots."""
    ends = np.concatenate([[0.0], np.linalg.norm(np.diff(knots, axis=0), axis=1).cumsum()])
    places = np.linspace(0, ends[-1], max(2, int(ends[-1] / 4)))
    centres = np.stack([np.interp(places, ends, knots[:, n]) for n in range(3)], axis=1)
    # Rounds the corners at the knots.
    centres = ndimage.gaussian_filter1d(centres, 2.0, axis=0, mode="nearest")
    return _waved(generator, centres, np.interp(places, ends, radii), wave)


def _waved(generator: np.random.Generator, centres: np.ndarray, radii: np.ndarray, wave: float) -> _Tube:
    lengths = generator.normal(size=(_WAVES, 3)) * 2.5 / radii.mean()
    phases = generator.uniform(0, 2 * np.pi, _WAVES)
    places, sizes, waves, starts = (part.astype(np.float32) for part in (centres, radii, lengths, phases))
    return _Tube(places, sizes, waves, starts, wave)


def _draw_geometry(generator: np.random.Generator, size: int) -> tuple[Size3, np.ndarray]:
    """Draw a square grid with the body within 10 mm of its middle, and either sign of x and y."""
    pixel = FIELD_OF_VIEW_MM / size * generator.uniform(0.97, 1.03)
    thickness = _SLICE_MM * np.sqrt(SIZES[1] / size)
    shape = (size, size, round(_LENGTH_MM / thickness))
    signs = np.where(generator.random(2) < 0.5, -1.0, 1.0)
    steps = np.array([signs[0] * pixel, signs[1] * pixel, thickness])
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = generator.uniform(-10, 10, 3) - steps * (np.array(shape) - 1) / 2
    return shape, affine


def _tissues(
    subject: _Abdomen, shape: Size3, axes: tuple[np.ndarray, ...], cysts: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return HU (i, j, k) in float32 without noise, and the label as uint8; in both, later tissues cover earlier ones.

    The coordinates in mm of the voxels along i, j and k are in `axes`.
    """
    hu, label = np.full(shape, AIR, np.float32), np.zeros(shape, np.uint8)
    x, y = axes[0][:, None], axes[1][None]
    level = np.sqrt((x / subject.girth[0]) ** 2 + (y / subject.girth[1]) ** 2)
    for within, value in ((1.0, FAT), (0.88, SOFT + 12), (0.8, FAT)):  # skin fat, muscles, the fat between the organs
        hu[level < within] = value
    for solid, value in subject.others:
        solid.paint(hu, value, axes, None)
    if cysts:
        subject.fluid.paint(hu, subject.cyst_hu, axes, None)
    for solid in subject.alike:
        solid.paint(hu, subject.organ_hu, axes, None)
    hu[np.sqrt((x / 24) ** 2 + ((y + 68) / 21) ** 2) < 1] = BONE
    subject.organ.paint(hu, subject.organ_hu, axes, None)
    subject.organ.paint(label, 1, axes, None)
    if cysts:
        organ = label == 1
        for cyst in subject.cysts:
            cyst.paint(hu, subject.cyst_hu, axes, organ)
            cyst.paint(label, 2, axes, organ)
    return hu, label
