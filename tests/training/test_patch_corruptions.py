"""The corruptions of patches, each against its formula, in NumPy and SciPy, and against the package that measures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.training.test_noise import _origin
from voxward.core.errors import UserError
from voxward.core.recipe import Defence
from voxward.corruptions.corruption_set import CorruptionSet, load_corruption_set
from voxward.training.begin import refuse_other_channels
from voxward.training.patch_corruptions import (
    PATCH_CORRUPTIONS,
    SET,
    PatchCorruptions,
    Place,
    above_zero,
    bias_field,
    downsampling_matrix,
    draw_bias_field,
    draw_downsampling,
    draw_ghosting,
    draw_smoothing,
    foreground_deviation,
    gamma,
    ghosting,
    rician,
    smoothing,
)

SHAPE = (9, 12, 10)
WHOLE = Place(SHAPE, (1.0, 1.0, 1.0), (1.0,) * 3, (200.0,) * 3, 1.0)
NAMES = ["downsampling", "bias-field", "contrast-compression", "contrast-expansion", "ghosting", "rician-noise",
         "smoothing"]  # fmt: skip


def _patch(shape=SHAPE, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _source(seed=1):
    return torch.Generator().manual_seed(seed)


def _levels(name, severity):
    return load_corruption_set(SET).levels(name, severity)


# What is trained on.


def test_the_local_ones_of_the_packaged_set_are_trained_on_and_never_4_and_5(monkeypatch):
    chosen, levels, seen = PatchCorruptions.chosen(), CorruptionSet.levels, []
    assert sorted(chosen.names) == sorted(NAMES)

    def watched(self, name, severity):
        seen.append((name, severity))
        return levels(self, name, severity)

    monkeypatch.setattr(CorruptionSet, "levels", watched)
    images, ranges = _patch((4, 4, 4))[None, None].float(), torch.tensor([[[0.0, 1.0]]])
    source = _source()
    for _ in range(150):
        chosen.corrupted(images, ranges, None, source)
    kinds = [(name, severity) for name in NAMES for severity in (1, 2, 3)]
    assert set(seen) == set(kinds)
    # Each of 21 kinds about 150 / 21 times: five standard deviations of a binomial.
    expected, spread = 150 / 21, math.sqrt(150 / 21 * 20 / 21)
    assert all(abs(seen.count(kind) - expected) < 5 * spread for kind in kinds)


@pytest.mark.parametrize("name", NAMES)
def test_each_changes_a_patch_and_does_so_again(name):
    chosen = PatchCorruptions.chosen((name,))
    images, ranges = _patch((16, 12, 10))[None, None].float(), torch.tensor([[[0.0, 1.0]]])
    first, again, other = (chosen.corrupted(images, ranges, None, _source(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert first.isfinite().all()
    assert not torch.equal(first, images)
    assert first.dtype == torch.float32
    assert not torch.equal(first, other) or name in ("contrast-compression", "contrast-expansion", "smoothing")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 1), (2, 3, 2)])
def test_slices_and_tiny_patches_stay_finite(name, shape):
    chosen = PatchCorruptions.chosen((name,))
    for content in (_patch(shape), torch.full(shape, 2.0)):
        images = content[None, None].float()
        found = chosen.corrupted(images, torch.tensor([[[0.0, 1.0]]]), _origin(images, per_case=True), _source())
        assert found.shape == images.shape
        assert found.isfinite().all()


# Formulas.


@pytest.mark.parametrize("exponent", [0.58, 2.2])
def test_gamma_is_a_power_of_the_share_of_the_range(exponent):
    x = _patch()
    expected = (x.numpy() / 1.5) ** exponent * 1.5
    np.testing.assert_allclose(gamma(x, {"gamma": exponent, "high": 1.5}).numpy(), expected, rtol=1e-12)
    brighter = gamma(x * 3, {"gamma": exponent, "high": 1.5})  # beyond the range the greatest intensity stays
    np.testing.assert_allclose(float(brighter.max()), float(x.max() * 3), rtol=1e-12)


def test_a_bias_field_is_the_exponential_of_a_cubic_of_mean_0():
    drawn = draw_bias_field({"coefficient": 0.6}, WHOLE, _source())
    found = bias_field(torch.ones(SHAPE, dtype=torch.float64), drawn).log().numpy()
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    terms = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    assert len(terms) == 20
    columns = np.stack([(grids[0] ** i * grids[1] ** j * grids[2] ** k).ravel() for i, j, k in terms], 1)
    fitted, *_ = np.linalg.lstsq(columns, found.ravel(), rcond=None)
    np.testing.assert_allclose(columns @ fitted, found.ravel(), atol=1e-9)  # a cubic, and nothing else
    assert np.abs(fitted[1:]).max() <= 0.6 + 1e-9
    assert np.abs(fitted[1:]).max() > 0.3
    nodes, weights = np.polynomial.legendre.leggauss(4)  # exact for cubics
    points = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    product = np.einsum("i,j,k->ijk", weights, weights, weights) / 8
    values = sum(
        c * points[0] ** i * points[1] ** j * points[2] ** k for c, (i, j, k) in zip(fitted, terms, strict=True)
    )
    assert abs(float((values * product).sum())) < 1e-9


def test_a_patch_gets_a_part_of_its_scan_s_field():
    """A patch of half a scan lies inside it, and its field is that of the scan there."""
    half = Place(SHAPE, WHOLE.spacing, (0.5, 1.0, 0.25), WHOLE.extent, 1.0)
    for seed in range(20):
        drawn = draw_bias_field({"coefficient": 0.6}, half, _source(seed))
        ends = [(c - h, c + h) for c, h in zip(drawn["centre"].tolist(), drawn["half"].tolist(), strict=True)]
        assert all(low >= -1 - 1e-9 and high <= 1 + 1e-9 for low, high in ends)
        assert [round(high - low, 9) for low, high in ends] == [1.0, 2.0, 0.5]


def test_rician_noise_is_the_magnitude_of_a_noisy_signal():
    """Mean square of the magnitude: signal^2 + 2 sd^2."""
    x = torch.cat([torch.zeros(20, 40, 40, dtype=torch.float64), 2 + _patch((20, 40, 40))])
    bright = x.numpy()[x.numpy() > x.numpy().mean()]
    assert float(foreground_deviation(x)) == pytest.approx(bright.std(), rel=1e-12)
    sd = 0.5 * bright.std()
    found = rician(x, {"share": 0.5, "seed": 1})
    assert (found >= 0).all()
    empty, signal = found[:20], found[20:]
    count = empty.numel()
    # Rayleigh: mean sd sqrt(pi/2), variance (2 - pi/2) sd^2; five standard errors.
    error = math.sqrt((2 - math.pi / 2) / count) * sd
    assert float(empty.mean()) == pytest.approx(sd * math.sqrt(math.pi / 2), abs=5 * error)
    excess = float((signal**2 - x[20:] ** 2).mean())
    assert excess == pytest.approx(2 * sd**2, abs=5 * 2 * 3 * sd / math.sqrt(count))


def test_smoothing_is_scipy_s_in_mm_and_shrinks_with_the_scan():
    x = _patch()
    place = Place(SHAPE, (1.0, 2.0, 0.5), (1.0,) * 3, (200.0, 80.0, 40.0), 1.0)
    drawn = draw_smoothing({"sd_mm": 1.6, "full_extent_mm": 160.0}, place, _source())
    assert drawn["sd"] == pytest.approx((1.6, 0.4, 0.8))
    np.testing.assert_allclose(smoothing(x, drawn).numpy(), gaussian_filter(x.numpy(), drawn["sd"]), rtol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.8, 4.6, 6.0])
@pytest.mark.parametrize("phase", [0.0, 0.4, 0.999])
def test_downsampling_interpolates_between_samples(factor, phase):
    n = 12
    matrix = downsampling_matrix(n, factor, phase)
    np.testing.assert_allclose(matrix.sum(1), 1.0)  # a constant stays
    assert (matrix >= 0).all()
    line = np.random.default_rng(0).random(n)
    places = (phase - 1) * factor + factor * np.arange(40)
    values = line[np.clip(np.floor(places + 0.5), 0, n - 1).astype(int)]
    np.testing.assert_allclose(matrix @ line, np.interp(np.arange(n), places, values), atol=1e-12)
    if factor == 1.0 and phase == 0.0:
        np.testing.assert_array_equal(matrix, np.eye(n))


def test_a_short_axis_keeps_two_samples_and_a_slab_its_thickness():
    slab = Place((40, 40, 6), (1.0, 1.0, 5.0), (1.0,) * 3, (40.0, 40.0, 30.0), 1.0)
    axes = {draw_downsampling({"factor": 30.0}, slab, _source(n))["axis"] for n in range(20)}
    assert axes == {0, 1}
    assert {draw_ghosting({"ghosts": 3, "intensity": 1.0}, slab, _source(n))["axis"] for n in range(20)} == {0, 1}
    assert draw_downsampling({"factor": 30.0}, slab, _source())["factor"] == 20.0
    part = Place((40, 40, 6), (1.0, 1.0, 5.0), (0.5, 0.5, 0.1), (80.0, 80.0, 300.0), 1.0)
    assert {draw_downsampling({"factor": 3.0}, part, _source(n))["axis"] for n in range(40)} == {0, 1, 2}
    assert draw_downsampling({"factor": 30.0}, part, _source(1))["factor"] == 30.0


@pytest.mark.parametrize(("ghosts", "strength"), [(3, 0.5), (5, 1.0), (7, 1.5)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ghosting_weakens_planes_of_k_space(ghosts, strength, axis):
    x = _patch()
    spectrum = np.fft.fftshift(np.fft.fftn(x.numpy()))
    factors = np.array([1 - strength * (k % ghosts == 0) for k in range(SHAPE[axis])])
    factors[SHAPE[axis] // 2] = 1
    shape = [1, 1, 1]
    shape[axis] = -1
    expected = np.fft.ifftn(np.fft.ifftshift(spectrum * factors.reshape(shape))).real
    found = ghosting(x, {"axis": axis, "ghosts": ghosts, "intensity": strength})
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


# Where a patch lies.


def test_intensities_count_from_the_zero_of_the_file_and_air_is_0():
    images = torch.full((1, 2, 4, 4, 4), 1.0)
    images[0, 0, 0] = -1.0
    air = torch.zeros_like(images, dtype=torch.bool)
    air[0, 0, 0] = True
    origin = _origin(images, air=air)  # 0 of the files at -2
    ranges = torch.tensor([[[-1.5, 3.0], [-1.0, 2.0]]])
    x, base, place = above_zero(images, ranges, origin, 0)
    assert (float(base), place.high) == (-2.0, 5.0)
    assert set(x.unique().tolist()) == {0.0, 3.0}
    images[0, 1, 0] = -5.0  # as in CT: below the file's 0
    x, base, place = above_zero(images, ranges, origin, 1)
    assert (float(base), place.high) == (-5.0, 7.0)
    assert set(x.unique().tolist()) == {0.0, 6.0}


def test_each_channel_draws_by_itself_and_air_stays():
    images = _patch((12, 12, 12))[None, None].float().repeat(1, 2, 1, 1, 1)
    air = torch.zeros_like(images, dtype=torch.bool)
    air[:, :, :3] = True
    ranges = torch.tensor([[[0.0, 1.0]] * 2])
    for name in ("rician-noise", "bias-field"):
        found = PatchCorruptions.chosen((name,)).corrupted(images, ranges, _origin(images, air=air), _source())
        assert torch.equal(found[air], images[air])
        assert not torch.isclose(found[0, 0, 3:], found[0, 1, 3:]).all()


def test_a_scan_that_is_normalised_by_its_own_numbers_keeps_mean_and_deviation():
    images = _patch((12, 12, 12))[None, None].float()
    ranges = torch.tensor([[[0.0, 1.0]]])
    for name in NAMES:
        chosen = PatchCorruptions.chosen((name,))
        found = chosen.corrupted(images, ranges, _origin(images, per_case=True), _source())
        torch.testing.assert_close(found.mean(), images.mean(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.std(), images.std(), rtol=1e-4, atol=1e-4)
        clipped = chosen.corrupted(images, ranges, _origin(images, clipped=True), _source())
        assert 0 <= float(clipped.min()) <= float(clipped.max()) <= 1


# The same as what measures.


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("gamma", {"gamma": 2.2, "high": 0.0}), ("smoothing", {"sd": (1.0, 0.7, 0.4)}),
     ("ghosting", {"axis": 1, "ghosts": 5, "intensity": 1.0})],
)  # fmt: skip
def test_a_whole_scan_is_changed_as_the_package_does_that_measures(kind, parameters):
    torchio = pytest.importorskip("torchio")
    x = _patch().float()
    x = (x - x.min()) / (x.max() - x.min())
    made = {
        "gamma": lambda p: torchio.Gamma(gamma=p["gamma"]),
        "smoothing": lambda p: torchio.Blur(std=p["sd"]),
        "ghosting": lambda p: torchio.Ghosting(p["ghosts"], p["axis"], p["intensity"], restore=None),
    }[kind](parameters)
    expected = made(torchio.ScalarImage(tensor=x[None])).data[0]
    found = PATCH_CORRUPTIONS[kind].apply(x, parameters)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_whole_scan_s_bias_field_is_that_of_the_package_that_measures():
    torchio = pytest.importorskip("torchio")
    drawn = draw_bias_field({"coefficient": 0.5}, WHOLE, _source())
    terms = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    x = _patch().float()
    listed = [float(drawn["coefficients"][term]) for term in terms]
    expected = torchio.BiasField(listed, 3)(torchio.ScalarImage(tensor=x[None])).data[0]
    torch.testing.assert_close(bias_field(x, drawn), expected.float(), rtol=1e-4, atol=1e-5)


def test_a_thin_patch_of_a_deep_scan_still_has_axes_to_encode_along():
    """The thin axis, which a long scan stretches beyond all others, is none."""
    place = Place((64, 64, 1), (1.0, 1.0, 1.0), (1.0, 1.0, 1 / 200), (64.0, 64.0, 200.0), 1.0)
    assert place.wide_axes == (0, 1)


def test_only_channels_of_the_set_s_kind_are_corrupted():
    images = torch.rand(1, 2, 8, 8, 8, generator=_source(1))
    ranges = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    origin = replace(_origin(images), channels=("CT", "T1"))
    found = PatchCorruptions.chosen(("rician-noise",)).corrupted(images, ranges, origin, _source(2))
    assert torch.equal(found[:, 0], images[:, 0])
    assert not torch.equal(found[:, 1], images[:, 1])


def test_data_of_which_no_channel_can_be_corrupted_is_refused():
    refuse_other_channels(Defence("mixed"), ("CT", "T1"))
    refuse_other_channels(Defence("pgd"), ("CT",))
    refuse_other_channels(None, ("CT",))
    with pytest.raises(UserError, match=r"mixed trains on the corruptions of rood-mri.*the channels are CT"):
        refuse_other_channels(Defence("mixed"), ("CT",))
