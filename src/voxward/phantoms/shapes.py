"""The anatomy of a phantom: smooth, randomly deformed solids, drawn first and then evaluated anywhere in space.

Coordinates are the body's own: the volume's field of view spans [-1, 1] along x (right), y (front) and z (head).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxward.core.types import Float3

_WAVES = 4
_DEFORMATION = 0.09  # amplitude of each wave, in radii of the solid


@dataclass(frozen=True, eq=False)
class Blob:
    """A rotated ellipsoid whose surface is displaced by a few smooth waves.

    Lengths are in units of the body's coordinates, in which the field of view spans [-1, 1].

    Attributes:
        centre: The centre (3,).
        radii: The semi-axes (3,).
        rotation: The matrix (3, 3) that turns the body's axes into the solid's own.
        waves: Wave vectors (n, 3) of the displacement, in radians per unit.
        phases: The phase (n,) of each wave, in radians.
    """

    centre: np.ndarray
    radii: np.ndarray
    rotation: np.ndarray
    waves: np.ndarray
    phases: np.ndarray

    def level(self, points: np.ndarray) -> np.ndarray:
        """Return a smooth function of space: below 1 inside, 1 on the surface, above 1 outside.

        Args:
            points: Coordinates (3, ...) in the body.

        Returns:
            The function's value at each point (...).
        """
        moved = points - self.centre.astype(points.dtype).reshape(3, *(1,) * (points.ndim - 1))
        turned = np.tensordot((self.rotation / self.radii[:, None]).astype(points.dtype), moved, axes=1)
        level: np.ndarray = np.sqrt(np.square(turned).sum(axis=0))
        for wave, phase in zip(self.waves, self.phases, strict=True):
            level += points.dtype.type(_DEFORMATION) * np.sin(
                np.tensordot(wave.astype(points.dtype), points, axes=1) + points.dtype.type(phase)
            )
        return level

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Return which points lie in the solid.

        Args:
            points: Coordinates (3, ...) in the body.

        Returns:
            True for the points inside (...).
        """
        inside: np.ndarray = self.level(points) < 1
        return inside


@dataclass(frozen=True)
class Anatomy:
    """The solids of one subject; organ a, organ b and the lesion are labelled, and what resembles them is not.

    Attributes:
        body: The outline of the body.
        muscle: The body without its layer of fat.
        spine: The spine.
        organ_a: The first labelled organ.
        organ_b: The second labelled organ.
        lesion: The labelled lesion in organ a; None where the subject has none.
        decoy: An unlabelled organ as bright as organ a.
        decoy_core: The core of the decoy, as bright as the lesion.
        nodule: An unlabelled solid that looks like a lesion but lies outside organ a.
    """

    body: Blob
    muscle: Blob
    spine: Blob
    organ_a: Blob
    organ_b: Blob
    lesion: Blob | None
    decoy: Blob
    decoy_core: Blob
    nodule: Blob


def draw_anatomy(generator: np.random.Generator, lesion: bool) -> Anatomy:
    """Draw a subject, whose centres, sizes, orientations and surfaces all vary.

    Args:
        generator: The random numbers.
        lesion: Whether the subject has a lesion; everything else is the same without it.

    Returns:
        The solids of the subject.
    """
    body = _blob(generator, (0.0, 0.0, 0.0), (0.88, 0.72, 2.5), smooth=True)
    muscle = Blob(body.centre, body.radii * (0.89, 0.87, 1), body.rotation, body.waves, body.phases)
    organ_a = _blob(generator, (0.36, 0.08, 0.05), (0.36, 0.33, 0.50))
    decoy = _blob(generator, (-0.36, 0.22, 0.18), (0.23, 0.18, 0.34))
    growth = _lesion_in(generator, organ_a)  # drawn in any case, so that the subject is the same without it
    core = Blob(decoy.centre, decoy.radii * 0.55, decoy.rotation, decoy.waves, decoy.phases)
    return Anatomy(
        body=body,
        muscle=muscle,
        spine=_blob(generator, (0.0, -0.38, 0.0), (0.12, 0.12, 2.5), smooth=True),
        organ_a=organ_a,
        organ_b=_blob(generator, (-0.36, -0.22, -0.12), (0.17, 0.13, 0.32)),
        lesion=growth if lesion else None,
        decoy=decoy,
        decoy_core=core,
        nodule=_blob(generator, (-0.05, 0.1, -0.55), (0.13, 0.11, 0.16)),
    )


def rotation(generator: np.random.Generator, largest_degrees: float) -> np.ndarray:
    """Draw a rotation about a random axis (Rodrigues' formula).

    Args:
        generator: The random numbers.
        largest_degrees: The largest angle in degrees; the drawn angle is 0.3 to 1 times this.

    Returns:
        The rotation matrix (3, 3).
    """
    axis = generator.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = np.deg2rad(generator.uniform(0.3, 1.0) * largest_degrees)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: np.ndarray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned


def _blob(generator: np.random.Generator, centre: Float3, radii: Float3, smooth: bool = False) -> Blob:
    """Draw an ellipsoid near a centre, of about the given radii; `smooth` is for large solids, which vary less."""
    vary = 0.25 if smooth else 1.0
    return Blob(
        centre=np.asarray(centre) + vary * generator.uniform(-0.07, 0.07, 3),
        radii=np.asarray(radii) * (1 + vary * generator.uniform(-0.2, 0.2, 3)),
        rotation=rotation(generator, 25 * vary),
        waves=generator.normal(size=(_WAVES, 3)) * (2.0 if smooth else 4.0),
        phases=generator.uniform(0, 2 * np.pi, _WAVES),
    )


def _lesion_in(generator: np.random.Generator, organ: Blob) -> Blob:
    """Draw a small blob whose centre lies within the inner half of the organ."""
    direction = generator.normal(size=3)
    depth = generator.uniform(0.0, 0.45)
    centre = organ.centre + organ.rotation.T @ (organ.radii * depth * direction / np.linalg.norm(direction))
    size = generator.uniform(0.11, 0.19)
    return Blob(
        centre=centre,
        radii=size * generator.uniform(0.8, 1.25, 3),
        rotation=rotation(generator, 90.0),
        waves=generator.normal(size=(_WAVES, 3)) * 6.0,
        phases=generator.uniform(0, 2 * np.pi, _WAVES),
    )
