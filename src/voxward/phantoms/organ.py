"""Synthetic anatomy with a known ground truth: the built-in data of the demo, and data for tests.

Two labelled organs, and a lesion inside the first one, lie among tissue that looks like them. MR-like volumes have an
arbitrary intensity scale per case, a bias field and Rician noise; CT-like ones are in Hounsfield units. Spacing is
anisotropic and varies, sizes differ and may be odd, voxel order differs, and some scans are oblique.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.types import Size3
from voxward.phantoms.layouts import Decathlon, Layout
from voxward.phantoms.shapes import Anatomy, draw_anatomy, rotation

FIELD_OF_VIEW_MM = 240.0
MODALITIES = ("mr", "ct")
LABELS = ("background", "organ a", "organ b", "lesion")
SMALLEST_SIZE = 16
_PARTIAL_VOLUME_VOXELS = 0.6  # standard deviation of the blur that mixes neighbouring tissues


@dataclass(frozen=True)
class _Tissue:
    """Mean intensity and how much it varies from case to case: HU for CT, a share of the scale for MR."""

    ct: tuple[float, float]
    mr: tuple[float, float]


# Distributions overlap on purpose: no threshold separates organ a from the decoy, or the lesion from muscle and core.
_TISSUES = {
    "air": _Tissue(ct=(-1000.0, 0.0), mr=(0.0, 0.0)),
    "body": _Tissue(ct=(-100.0, 10.0), mr=(0.90, 0.05)),
    "muscle": _Tissue(ct=(50.0, 8.0), mr=(0.33, 0.04)),
    "spine": _Tissue(ct=(350.0, 60.0), mr=(0.15, 0.03)),
    "organ_a": _Tissue(ct=(115.0, 12.0), mr=(0.55, 0.04)),
    "organ_b": _Tissue(ct=(165.0, 15.0), mr=(0.70, 0.05)),
    "lesion": _Tissue(ct=(55.0, 12.0), mr=(0.80, 0.05)),
    "decoy": _Tissue(ct=(120.0, 18.0), mr=(0.57, 0.06)),
    "decoy_core": _Tissue(ct=(50.0, 15.0), mr=(0.80, 0.08)),
    "nodule": _Tissue(ct=(60.0, 15.0), mr=(0.78, 0.08)),
}
# Later tissues cover earlier ones, in the image and in the label alike.
_LAYERS = ("body", "muscle", "spine", "nodule", "decoy", "decoy_core", "organ_b", "organ_a")


@dataclass(frozen=True)
class OrganPhantoms:
    """Datasets of two organs and a lesion; every fourth case has no lesion.

    Args:
        modality: `mr` or `ct`.
        size: The number of voxels along the longest axis, give or take a few; at least 16.
    """

    modality: str = "mr"
    size: int = 48

    def __post_init__(self) -> None:
        _check(self.modality, self.size)

    def case(self, number: int, seed: int) -> tuple[Volume, Volume]:
        """Make a case; every fourth number has no lesion.

        Args:
            number: The number of the case in its dataset, from 0.
            seed: The seed of the case.

        Returns:
            The image (1, i, j, k), and the label (i, j, k).
        """
        return make_organ_phantom(seed, self.modality, self.size, lesion=number % 4 != 3)

    def layout(self, seed: int) -> Layout:
        """Return the layout of the Medical Segmentation Decathlon, in which the files are written.

        Args:
            seed: The seed of the dataset, for its description.
        """
        like = f"{self.modality.upper()}-like"
        description = f"Synthetic anatomy, {like}, seed {seed}: two organs, and a lesion in organ a"
        return Decathlon("phantom", "Phantoms", description, "CT" if self.modality == "ct" else "MRI", LABELS)


def make_organ_phantom(seed: int, modality: str = "mr", size: int = 48, lesion: bool = True) -> tuple[Volume, Volume]:
    """Make one case; the same arguments give the same volumes.

    Args:
        seed: The seed of all that is drawn.
        modality: `mr` (an arbitrary scale per case, a bias field, Rician noise) or `ct` (Hounsfield units).
        size: The number of voxels along the longest axis, give or take a few; at least 16. The field of view stays at
            about 240 mm.
        lesion: False leaves the lesion out; all else is the same.

    Returns:
        The image (1, i, j, k) as int16, and the label (i, j, k) as uint8 indices into LABELS; both have one affine.

    Raises:
        UserError: The modality is unknown, or the size is below 16.
    """
    _check(modality, size)
    generator = np.random.default_rng(seed)
    anatomy = draw_anatomy(generator, lesion)
    shape, affine = _draw_geometry(generator, size)
    points = _body_coordinates(shape, affine)
    tissues = _tissue_map(anatomy, points)
    clean = _intensities(generator, tissues, modality)
    acquire = _acquire_ct if modality == "ct" else acquire_mr
    image = np.rint(acquire(generator, clean, points)).astype(np.int16)
    return Volume(image[None], affine), Volume(_label(tissues), affine)


def _check(modality: str, size: int) -> None:
    if modality not in MODALITIES:
        raise UserError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}")
    if size < SMALLEST_SIZE:
        raise UserError(f"size must be at least {SMALLEST_SIZE} voxels, got {size}")


def _draw_geometry(generator: np.random.Generator, size: int) -> tuple[Size3, np.ndarray]:
    """Draw a grid over about the same field of view, with thick slices.

    The voxel order has either sign of x and y, and one scan in three is oblique.
    """
    jitter = generator.integers(-(size // 16), size // 16 + 1, 3)
    i, j, k = (max(8, round(size * share) + int(step)) for share, step in zip((1.0, 0.85, 0.62), jitter, strict=True))
    spacing = FIELD_OF_VIEW_MM / size * np.array([1.0, 1.0, 1.5]) * generator.uniform(0.93, 1.07, 3)
    spacing[1] = spacing[0]
    signs = np.where(generator.random(2) < 0.5, -1.0, 1.0)
    turn = rotation(generator, 18.0) if generator.random() < 1 / 3 else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([*signs, 1.0]) * spacing
    # The middle of the grid lies within a few mm of the middle of the body, which is the origin.
    affine[:3, 3] = generator.uniform(-8, 8, 3) - affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    return (i, j, k), affine


def _body_coordinates(shape: Size3, affine: np.ndarray) -> np.ndarray:
    """Return where every voxel lies in the body, (3, i, j, k) in float32."""
    grid = np.indices(shape, dtype=np.float32)
    linear, origin = affine[:3, :3].astype(np.float32), affine[:3, 3].astype(np.float32)
    world = np.tensordot(linear, grid, axes=1) + origin.reshape(3, 1, 1, 1)
    points: np.ndarray = world / np.float32(FIELD_OF_VIEW_MM / 2)
    return points


def _tissue_map(anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
    """Return the index of every voxel's tissue; a lesion ends where its organ ends."""
    order = list(_TISSUES)
    body = anatomy.body.inside(points)
    tissues = np.zeros(points.shape[1:], np.uint8)
    for name in _LAYERS:
        tissues[body & getattr(anatomy, name).inside(points)] = order.index(name)
    if anatomy.lesion is not None:
        organ = tissues == order.index("organ_a")
        tissues[organ & anatomy.lesion.inside(points)] = order.index("lesion")
    return tissues


def _label(tissues: np.ndarray) -> np.ndarray:
    names = (name.replace("_", " ") for name in _TISSUES)
    lookup = np.array([LABELS.index(name) if name in LABELS else 0 for name in names], np.uint8)
    label: np.ndarray = lookup[tissues]
    return label


def _intensities(generator: np.random.Generator, tissues: np.ndarray, modality: str) -> np.ndarray:
    """Return each tissue's own mean of this case, with a soft texture inside and partial volume at the borders."""
    drawn = [generator.normal(*(tissue.ct if modality == "ct" else tissue.mr)) for tissue in _TISSUES.values()]
    clean = np.asarray(drawn, np.float32)[tissues]
    texture = ndimage.gaussian_filter(generator.standard_normal(tissues.shape, np.float32), 1.5)
    strength = 12.0 if modality == "ct" else 0.04
    clean += strength * texture / texture.std() * (tissues > 0)
    mixed: np.ndarray = ndimage.gaussian_filter(clean, _PARTIAL_VOLUME_VOXELS)
    return mixed


def _acquire_ct(generator: np.random.Generator, clean: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Add Gaussian noise; air stays at the bottom of the scale, as reconstruction clips it."""
    noise = generator.uniform(10, 18) * generator.standard_normal(clean.shape, np.float32)
    scanned: np.ndarray = np.clip(clean + noise, -1024, 3071)
    return scanned


def acquire_mr(generator: np.random.Generator, clean: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Turn clean intensities into an MR scan: a smooth coil sensitivity, Rician noise, and an arbitrary scale.

    Args:
        generator: The random numbers.
        clean: The intensities (i, j, k) of the tissues, as shares of the scale.
        points: Coordinates (3, i, j, k) of the voxels in the body, in which the field of view spans [-1, 1].

    Returns:
        The magnitude of a complex signal (i, j, k), whose real and imaginary parts have Gaussian noise.
    """
    field = sum(
        generator.uniform(-0.13, 0.13) * np.sin(np.tensordot(wave, points, axes=1) + generator.uniform(0, 2 * np.pi))
        for wave in generator.normal(size=(3, 3)).astype(np.float32) * np.float32(1.5)
    )
    level = generator.uniform(0.02, 0.05)
    real, imaginary = level * generator.standard_normal((2, *clean.shape), np.float32)
    scale = np.exp(generator.uniform(np.log(200), np.log(5000)))
    magnitude: np.ndarray = scale * np.hypot(clean * np.exp(field) + real, imaginary)
    return magnitude
