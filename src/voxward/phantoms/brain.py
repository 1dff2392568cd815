"""Synthetic brains with gliomas: four sequences with plausible contrasts, a nested tumour, and a known ground truth.

They are skull-stripped, as the BraTS challenges are: outside the brain all is 0. In FLAIR oedema is brightest and fluid
dark, in T2 fluid is brightest, T1 shows white matter brighter than grey, and with contrast only the enhancing rim and
vessels light up. Vessels look like enhancing tumour, and old white-matter lesions like oedema, but are labelled as
neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.types import Float3, Size3
from voxward.phantoms.layouts import NAMING, Brats, Layout
from voxward.phantoms.organ import FIELD_OF_VIEW_MM, SMALLEST_SIZE, acquire_mr
from voxward.phantoms.shapes import Blob, rotation

# Mean of T1, T1 with contrast, T2 and FLAIR, as shares of a sequence's scale; later tissues cover earlier ones.
_TISSUES: dict[str, tuple[float, float, float, float]] = {
    "outside": (0.0, 0.0, 0.0, 0.0),
    "grey": (0.52, 0.55, 0.60, 0.62),
    "white": (0.72, 0.75, 0.46, 0.50),
    "fluid": (0.22, 0.24, 0.95, 0.20),
    "vessel": (0.50, 0.95, 0.50, 0.52),
    "old lesion": (0.60, 0.63, 0.72, 0.84),
    "oedema": (0.48, 0.51, 0.80, 0.93),
    "enhancing": (0.50, 0.98, 0.68, 0.76),
    "core": (0.36, 0.38, 0.84, 0.58),
}
_VALUES = {"oedema": 2, "enhancing": NAMING.enhancing, "core": 1}
_BLUR_VOXELS, _SPREAD, _WAVES = 0.5, 0.03, 4
# One case in so many has no enhancing tumour.
_WITHOUT_ENHANCING = 5


@dataclass(frozen=True)
class _Brain:
    """The solids of one subject, in the coordinates of phantoms.shapes."""

    brain: Blob
    white: Blob
    fluid: Blob
    vessel: Blob
    old_lesion: Blob
    whole: Blob
    core: Blob
    necrosis: Blob


@dataclass(frozen=True)
class BrainPhantoms:
    """Datasets of brains with gliomas; every fifth case has no enhancing tumour.

    Args:
        size: The number of voxels along the longest axis, at least 16.
    """

    size: int = 64

    def __post_init__(self) -> None:
        _check(self.size)

    def case(self, number: int, seed: int) -> tuple[Volume, Volume]:
        """Make a case; every fifth number has no enhancing tumour.

        Args:
            number: The number of the case in its dataset, from 0.
            seed: The seed of the case.

        Returns:
            The image (4, i, j, k), and the label (i, j, k).
        """
        enhancing = number % _WITHOUT_ENHANCING != _WITHOUT_ENHANCING - 1
        return make_brain_phantom(seed, self.size, enhancing)

    def layout(self, seed: int) -> Layout:
        """Return the layout of BraTS, in which the files are written.

        Args:
            seed: The seed of the dataset, which does not matter here.
        """
        return Brats()


def make_brain_phantom(seed: int, size: int = 64, enhancing: bool = True) -> tuple[Volume, Volume]:
    """Make one case; the same arguments give the same volumes.

    Args:
        seed: The seed of all that is drawn.
        size: The number of voxels along the longest axis, at least 16. The field of view is 240 mm, and voxels are
            cubes.
        enhancing: Whether the tumour core has an enhancing rim; without one, all of the core is non-enhancing.

    Returns:
        The image (4, i, j, k) as int16, in the order T1, T1 with contrast, T2, FLAIR; and the label (i, j, k) as uint8
        with the values 0, 1, 2 and 4 of BraTS. Both have one affine.

    Raises:
        UserError: The size is below 16.
    """
    _check(size)
    generator = np.random.default_rng(seed)
    subject = _draw_brain(generator)
    shape: Size3 = (size, size, round(size * 155 / 240))
    spacing = FIELD_OF_VIEW_MM / size
    points = _points(shape)
    tissues = _tissue_map(subject, points, enhancing)
    inside = tissues > 0
    sequences = [np.where(inside, acquire_mr(generator, _contrast(generator, tissues, n), points), 0) for n in range(4)]
    affine = np.diag([-spacing, -spacing, spacing, 1.0])  # voxels run to the left and to the back, as in the challenges
    image = np.clip(np.rint(np.stack(sequences)), 0, 32767).astype(np.int16)
    lookup = np.array([_VALUES.get(name, 0) for name in _TISSUES], np.uint8)
    return Volume(image, affine), Volume(lookup[tissues], affine)


def _check(size: int) -> None:
    if size < SMALLEST_SIZE:
        raise UserError(f"size must be at least {SMALLEST_SIZE} voxels, got {size}")


def _draw_brain(generator: np.random.Generator) -> _Brain:
    """A tumour anywhere in the white matter; its core and necrosis lie inside it, not quite in the middle."""
    side = generator.choice([-1.0, 1.0])
    brain = _solid(generator, (0.0, 0.0, 0.0), (0.70, 0.84, 0.56), 0.02)
    size = generator.uniform(0.22, 0.36)
    centre = (side * generator.uniform(0.22, 0.34), generator.uniform(-0.3, 0.3), generator.uniform(-0.12, 0.15))
    whole = _solid(generator, centre, (size, size * generator.uniform(0.85, 1.2), size * 0.9), 0.0)
    core = _within(generator, whole, generator.uniform(0.55, 0.72))
    return _Brain(
        brain=brain,
        white=replace(brain, radii=brain.radii * 0.84),
        fluid=_solid(generator, (0.0, 0.05, 0.02), (0.10, 0.30, 0.14), 0.02),
        vessel=_solid(generator, (-0.35 * side, 0.1, -0.1), (0.045, 0.35, 0.05), 0.1),
        old_lesion=_solid(generator, (-side * 0.3, -0.3, 0.12), (0.08, 0.10, 0.08), 0.08),
        whole=whole,
        core=core,
        necrosis=_within(generator, core, generator.uniform(0.5, 0.65)),
    )


def _solid(generator: np.random.Generator, centre: Float3, radii: Float3, vary: float) -> Blob:
    return Blob(
        centre=np.asarray(centre) + generator.uniform(-vary, vary, 3),
        radii=np.asarray(radii) * generator.uniform(0.92, 1.08, 3),
        rotation=rotation(generator, 12.0),
        waves=generator.normal(size=(_WAVES, 3)) * 3.0,
        phases=generator.uniform(0, 2 * np.pi, _WAVES),
    )


def _within(generator: np.random.Generator, outer: Blob, share: float) -> Blob:
    """A smaller solid inside, moved by a part of the room that is left."""
    moved = outer.centre + 0.3 * (1 - share) * outer.radii * generator.uniform(-1, 1, 3)
    return replace(_solid(generator, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.0), centre=moved, radii=outer.radii * share)


def _points(shape: Size3) -> np.ndarray:
    """Where every voxel lies: (3, i, j, k) float32, the longest axis from -1 to 1."""
    grid = np.indices(shape, dtype=np.float32)
    middle = (np.array(shape, np.float32).reshape(3, 1, 1, 1) - 1) / 2
    points: np.ndarray = (grid - middle) / np.float32(max(shape) / 2)
    return points


def _tissue_map(subject: _Brain, points: np.ndarray, enhancing: bool) -> np.ndarray:
    """Index into the tissues of every voxel; each part of the tumour lies inside the one around it."""
    brain = subject.brain.inside(points)
    whole = brain & subject.whole.inside(points)
    core = whole & subject.core.inside(points)
    necrosis = core & subject.necrosis.inside(points) if enhancing else core
    masks = {
        "grey": brain,
        "white": brain & subject.white.inside(points),
        "fluid": brain & subject.fluid.inside(points),
        "vessel": brain & subject.vessel.inside(points),
        "old lesion": brain & subject.old_lesion.inside(points),
        "oedema": whole,
        "enhancing": core,
        "core": necrosis,
    }
    tissues, order = np.zeros(points.shape[1:], np.uint8), list(_TISSUES)
    for name, mask in masks.items():
        tissues[mask] = order.index(name)
    return tissues


def _contrast(generator: np.random.Generator, tissues: np.ndarray, sequence: int) -> np.ndarray:
    """Each tissue's own mean of this case in one sequence, a soft texture, and partial volume at the borders."""
    means = np.array([values[sequence] for values in _TISSUES.values()], np.float32)
    drawn = np.where(means > 0, means + _SPREAD * generator.standard_normal(len(means)), 0).astype(np.float32)
    clean = drawn[tissues]
    texture = ndimage.gaussian_filter(generator.standard_normal(tissues.shape, np.float32), 1.5)
    clean += 0.03 * texture / texture.std() * (tissues > 0)
    mixed: np.ndarray = ndimage.gaussian_filter(clean, _BLUR_VOXELS)
    return mixed
