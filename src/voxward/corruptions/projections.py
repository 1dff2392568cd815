"""Corruptions of the projections that a CT is computed from: too few photons, and metal.

Only what goes wrong in the projections is reconstructed and added, so that nothing else of a slice changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
from scipy.ndimage import distance_transform_edt, zoom

from voxward.corruptions.corruption import InapplicableError, Levels, Parameters, new_seed
from voxward.corruptions.packages import skimage_transform
from voxward.corruptions.scan import Scan

_AIR, _BODY = -1000.0, -300.0
# What a detector counts where hardly any photon arrives.
_FEWEST_PHOTONS = 1.0
# The insert keeps so far from the label in mm, and lies no further than _NEAR if there is room, so that it matters.
_CLEAR, _NEAR = 4.0, 25.0


@dataclass(frozen=True, eq=False)
class Beam:
    """How slices are projected.

    Attributes:
        grid: The number of pixels along the longer side of the slices that are projected; larger ones are shrunk.
        angles: The number of projections over half a turn.
        water: The attenuation of water per mm.
    """

    grid: int
    angles: int
    water: float

    @classmethod
    def of(cls, values: Parameters) -> Beam:
        """Return the beam that levels or parameters describe."""
        return cls(int(values["grid"]), int(values["angles"]), float(values["water_per_mm"]))

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return {"grid": self.grid, "angles": self.angles, "water_per_mm": self.water}

    @property
    def theta(self) -> np.ndarray:
        """The angles in degrees."""
        return np.linspace(0.0, 180.0, self.angles, endpoint=False)

    def lines(self, plane: np.ndarray, pixel_mm: float) -> np.ndarray:
        """Return the attenuation along every ray through a slice in HU."""
        density = np.clip(plane / -_AIR + 1, 0, None)
        found: np.ndarray = skimage_transform().radon(density * self.water * pixel_mm, theta=self.theta, circle=False)
        return found

    def hounsfield(self, errors: np.ndarray, pixel_mm: float, shape: tuple[int, int]) -> np.ndarray:
        """Return what errors of the attenuation do to a slice, in HU."""
        side = max(shape)
        back = skimage_transform().iradon(errors, theta=self.theta, circle=False, output_size=side)
        first = [side // 2 - n // 2 for n in shape]  # the axis of rotation is pixel n // 2 of either
        part = back[first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
        return cast(np.ndarray, part * -_AIR / (self.water * pixel_mm))

    def shrunk(self, plane: np.ndarray) -> tuple[np.ndarray, float]:
        """Return a slice with few enough pixels, and by what they are larger."""
        factor = max(1.0, max(plane.shape) / self.grid)
        return (plane, 1.0) if factor == 1 else (zoom(plane, 1 / factor, order=1, mode="nearest"), factor)


def draw_low_dose(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return the number of photons of a ray, and draw the seed of their noise."""
    photons = {"photons": float(levels["photons"]), "axial": scan.axial}
    return {**photons, **Beam.of(levels).plain(), "seed": new_seed(random)}


def low_dose(scan: Scan, parameters: Parameters) -> Scan:
    """Add to each slice what the noise of few photons does: streaks along the rays that are weakened most."""
    source, beam = np.random.RandomState(parameters["seed"]), Beam.of(parameters)

    def errors(plane: np.ndarray, pixel_mm: float) -> np.ndarray:
        return _starved(beam.lines(plane, pixel_mm), parameters["photons"], source)

    return _in_planes(scan, parameters["axial"], beam, errors)


def draw_metal(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw where the insert lies: in the body, near the label and outside of it."""
    kept = {name: float(levels[name]) for name in ("diameter_mm", "hu", "length_mm", "hardening", "photons")}
    place = _place(scan, kept["diameter_mm"] / 2, kept["length_mm"], random)
    return {"place": place, "axial": scan.axial, **kept, **Beam.of(levels).plain(), "seed": new_seed(random)}


def metal(scan: Scan, parameters: Parameters) -> Scan:
    """Put a metal rod into the slices, with the streaks of a beam that it hardens and of which few photons are left."""
    source, beam, axial = np.random.RandomState(parameters["seed"]), Beam.of(parameters), parameters["axial"]
    slices = _slices(scan, axial, parameters["place"][axial], parameters["length_mm"])
    part = scan.image[(slice(None),) * (1 + axial) + (slices,)]
    rod = _disc(scan, parameters["place"], parameters["diameter_mm"] / 2, axial)
    extra = np.where(rod, parameters["hu"], _AIR)  # alone in air

    @cache
    def of_rod(pixel_mm: float) -> np.ndarray:
        return beam.lines(beam.shrunk(extra)[0], pixel_mm)

    def errors(plane: np.ndarray, pixel_mm: float) -> np.ndarray:
        alone, lines = of_rod(pixel_mm), beam.lines(plane, pixel_mm)
        few = np.where(alone > 0, _starved(alone + lines, parameters["photons"], source), 0.0)
        # Rays through both metal and much tissue lose their soft part, and look as if there were less on their way.
        hardened: np.ndarray = few - parameters["hardening"] * alone * lines
        return hardened

    streaked = _in_planes(replace(scan, image=part), axial, beam, errors).image
    filled = np.where(np.expand_dims(rod, axial)[None], parameters["hu"], streaked)
    image = scan.image.copy()
    image[(slice(None),) * (1 + axial) + (slices,)] = filled
    return replace(scan, image=image)


def _starved(lines: np.ndarray, photons: float, source: np.random.RandomState) -> np.ndarray:
    counts = np.maximum(source.poisson(photons * np.exp(-lines)), _FEWEST_PHOTONS)
    found: np.ndarray = -np.log(counts / photons) - lines
    return found


def _in_planes(scan: Scan, axial: int, beam: Beam, errors: Any) -> Scan:
    """The scan with the reconstructed errors of every slice's projections added."""
    planes = np.moveaxis(scan.image[0], axial, 0).astype(np.float64)
    first, second = (float(mm) for axis, mm in enumerate(scan.spacing) if axis != axial)
    for plane in planes:
        small, factor = beam.shrunk(plane)
        pixel_mm = factor * (first + second) / 2
        added = beam.hounsfield(errors(small, pixel_mm), pixel_mm, small.shape)
        ratio = [n / m for n, m in zip(plane.shape, small.shape, strict=True)]
        plane += added if factor == 1 else zoom(added, ratio, order=1, mode="nearest")
    return replace(scan, image=np.moveaxis(planes, 0, axial)[None].astype(scan.image.dtype))


def _place(scan: Scan, radius: float, length_mm: float, random: np.random.RandomState) -> list[int]:
    """The voxel at the middle of the insert."""
    label, body = scan.foreground, scan.image[0] > _BODY
    rows = scan.in_plane
    held = np.flatnonzero(np.sum(label if label.any() else body, axis=rows))
    if not held.size:
        raise InapplicableError("there is nothing but air that metal could be in")
    middle = int(held[random.randint(held.size)])
    slices = _slices(scan, scan.axial, middle, length_mm)
    forbidden = label[(slice(None),) * scan.axial + (slices,)].any(scan.axial)
    spacing = [float(scan.spacing[axis]) for axis in rows]
    away = distance_transform_edt(~forbidden, sampling=spacing) if forbidden.any() else np.full(forbidden.shape, _NEAR)
    legal = np.take(body, middle, scan.axial) & (away > radius + _CLEAR)
    if not legal.any():
        raise InapplicableError("there is no room for metal outside of the label")
    near = legal & (away <= radius + _NEAR)
    places = np.argwhere(near if near.any() else legal)
    found = [int(n) for n in places[random.randint(len(places))]]
    found.insert(scan.axial, middle)
    return found


def _slices(scan: Scan, axial: int, middle: int, length_mm: float) -> slice:
    """The slices that a rod along the body crosses; at least one."""
    half = length_mm / 2 / float(scan.spacing[axial])
    return slice(max(0, round(middle - half)), max(round(middle + half), middle + 1))


def _disc(scan: Scan, place: list[int], radius: float, axial: int) -> np.ndarray:
    """The rod in a slice."""
    axes = [axis for axis in range(3) if axis != axial]
    first, second = ((np.arange(scan.shape[axis]) - place[axis]) * float(scan.spacing[axis]) for axis in axes)
    disc: np.ndarray = np.hypot(first[:, None], second[None, :]) <= radius
    return disc
