"""Every corruption of the packaged sets keeps what all of them promise; single ones follow their formulas."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from voxward.core.errors import MissingPackageError, UserError
from voxward.core.structure import from_data, to_data
from voxward.core.yaml import read_yaml
from voxward.corruptions import Drawn, Scan, apply, corrupted, draw, load_corruption_set
from voxward.corruptions.contrast import bias_field, gamma, phase
from voxward.corruptions.corrupt import InapplicableError
from voxward.corruptions.corruption_set import CorruptionSet, corruption_set_names
from voxward.corruptions.k_space import ghosting, motion
from voxward.corruptions.noise import ct_noise, foreground_deviation, rician
from voxward.corruptions.packages import refuse_missing
from voxward.corruptions.projections import Beam
from voxward.corruptions.registry import CORRUPTIONS
from voxward.corruptions.scan import axial_axis
from voxward.corruptions.sharpness import downsampling, kernel, sharpening, thickness


def quick(chosen):
    """The set with few projections, which take long."""
    entries = {
        name: replace(entry, options={**entry.options, "angles": 12}) if "angles" in entry.options else entry
        for name, entry in chosen.corruptions.items()
    }
    return replace(chosen, corruptions=entries)


SETS = {name: quick(load_corruption_set(name)) for name in ("rood-mri", "ct")}
EVERY = [(name, one) for name, chosen in SETS.items() for one in chosen.corruptions]
SHAPE = (20, 18, 12)


def a_scan(kind="MR", shape=SHAPE, spacing=(2.0, 2.0, 4.0), **options):
    """A body of 100 with an organ of 160 in it, in air; as CT in HU with air at -1000."""
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n * 2 - 1 for n in shape], indexing="ij"))
    body, organ = np.hypot(grid[0], grid[1]) < 0.9, np.sqrt((grid**2).sum(0)) < 0.5
    texture = 3 * np.sin(9 * grid[0]) * np.cos(7 * grid[1] + grid[2])
    image = np.where(body, 100 + texture, 4.0) + 60 * organ
    image = np.where(body, image - 60, -1000) if kind == "CT" else image
    label = options.pop("label", organ.astype(np.uint8))
    return Scan(image[None].astype(np.float32), spacing, (kind,), label=label, **options)


def the_scan(set_name):
    return a_scan("CT" if set_name == "ct" else "MR")


def test_each_packaged_set_has_ten_corruptions_of_a_known_kind():
    assert set(corruption_set_names()) == set(SETS)
    assert all(len(chosen.corruptions) == 10 for chosen in SETS.values())
    used = {entry.kind or name for chosen in SETS.values() for name, entry in chosen.corruptions.items()}
    assert used == {*CORRUPTIONS}


@pytest.mark.parametrize(("set_name", "name"), EVERY)
def test_a_corruption_is_replayed_from_its_record_and_changes_the_scan_only_above_severity_0(set_name, name):
    chosen, scan = SETS[set_name], the_scan(set_name)
    before = scan.image.copy(), scan.label.copy()
    assert apply(chosen, draw(chosen, name, 0, scan), scan) is scan
    drawn = draw(chosen, name, 4, scan, seed=3, case="a")
    found = apply(chosen, drawn, scan)
    again = from_data(Drawn, json.loads(json.dumps(to_data(drawn))), "record")
    np.testing.assert_array_equal(apply(chosen, again, scan).image, found.image)
    assert (found.image.dtype, found.image.shape) == (scan.image.dtype, scan.image.shape)
    assert np.isfinite(found.image).all()
    assert (found.image != scan.image).mean() > 0.01
    if chosen.corruption(name).spatial:
        assert found.label.shape == scan.label.shape
        assert set(np.unique(found.label)) <= {0, 1}
    else:
        np.testing.assert_array_equal(found.label, scan.label)
    np.testing.assert_array_equal(scan.image, before[0])
    np.testing.assert_array_equal(scan.label, before[1])


@pytest.mark.parametrize(("set_name", "name"), EVERY)
@pytest.mark.parametrize("shape", [(24, 24, 3), (24, 24, 1), (5, 6, 4)])
def test_small_scans_and_slabs_stay_finite(set_name, name, shape):
    scan = a_scan("CT" if set_name == "ct" else "MR", shape, (1.0, 1.0, 1.0))
    try:
        found = corrupted(SETS[set_name], name, 5, scan)
    except InapplicableError:
        assert name in ("slice-thickness", "downsampling", "metal")
        return
    assert found.image.shape == scan.image.shape
    assert np.isfinite(found.image).all()


@pytest.mark.parametrize(("set_name", "name"), EVERY)
def test_a_constant_scan_stays_finite(set_name, name):
    scan = Scan(np.full((1, 12, 12, 8), 7.0, np.float32), (1.0, 1.0, 1.0), ("CT" if set_name == "ct" else "MR",))
    assert np.isfinite(corrupted(SETS[set_name], name, 5, scan).image).all()


def test_draws_follow_seed_case_corruption_and_severity_and_nothing_else():
    chosen, scan = SETS["rood-mri"], a_scan()

    def drawn(seed=0, case="a", severity=3):
        return draw(chosen, "motion", severity, scan, seed=seed, case=case).parameters

    assert drawn() == drawn()
    assert drawn() != drawn(seed=1)
    assert drawn() != drawn(case="b")
    # The hash is that of every machine.
    assert (drawn()[0]["axis"], drawn()[0]["times"][:2]) == (2, [0.1093, 0.2768])


def test_channels_are_corrupted_by_the_set_of_their_own_kind():
    one = a_scan()
    scan = Scan(np.concatenate([one.image] * 3), one.spacing, ("CT", "PET", "T1w"), label=one.label)
    mr = corrupted(SETS["rood-mri"], "rician-noise", 3, scan, alone=False)
    ct = corrupted(SETS["ct"], "hu-offset", 3, scan, alone=False)
    assert [(mr.image[n] != scan.image[n]).any() for n in range(3)] == [False, False, True]
    assert [(ct.image[n] != scan.image[n]).any() for n in range(3)] == [True, False, False]
    moved = corrupted(SETS["rood-mri"], "affine", 5, scan, alone=False)
    np.testing.assert_array_equal(moved.image[0], moved.image[1])  # by one map
    np.testing.assert_array_equal(moved.image[0], moved.image[2])


@pytest.mark.parametrize(
    ("channels", "changed"),
    [
        (("MR T1w (N4, fat-normalised)", "CT", "PET SUV x100"), (0,)),
        (("T2 early", "CT arterial", "channel 3"), (0, 2)),
        (("FLAIR", "US", "mri_late"), (0, 2)),
    ],
)
def test_long_names_of_channels_say_their_kind(channels, changed):
    assert SETS["rood-mri"].changes(channels) == changed


def test_several_channels_of_one_kind_have_noise_of_their_own():
    one = a_scan()
    scan = Scan(np.concatenate([one.image] * 2), one.spacing, ("T1w", "T2w"))
    found = corrupted(SETS["rood-mri"], "rician-noise", 3, scan).image
    assert (found[0] != found[1]).mean() > 0.9


def test_a_set_without_a_channel_of_its_kind_is_refused_and_an_unknown_kind_is_the_sets():
    scan = a_scan("CT")
    with pytest.raises(UserError, match="are of MR, and the channels are CT: name another set"):
        draw(SETS["rood-mri"], "smoothing", 1, scan)
    unknown = Scan(scan.image, scan.spacing, ("0",))
    assert SETS["ct"].changes(unknown.channels) == (0,)
    assert SETS["ct"].changes(unknown.channels, alone=False) == ()


def test_a_background_that_was_cut_out_stays_0_and_moves_with_the_scan():
    scan = a_scan()
    image = np.where(scan.image < 50, 0, scan.image)
    cut = Scan(image, scan.spacing, scan.channels)
    found = corrupted(SETS["rood-mri"], "rician-noise", 5, cut).image
    assert (found[image == 0] == 0).all()
    assert (corrupted(SETS["rood-mri"], "affine", 5, cut).image[image == 0] > 0).any()


def test_lengths_shrink_with_a_small_scan_along_each_axis():
    chosen, scan = SETS["rood-mri"], a_scan(shape=(20, 40, 80), spacing=(1.0, 2.0, 4.0))
    drawn = draw(chosen, "smoothing", 5, scan)
    assert drawn.length_scale == (20 / 160, 80 / 160, 1.0)
    assert drawn.parameters[0]["sd_mm"] == [0.5, 2.0, 4.0]


def test_a_thin_slab_is_hardly_turned_out_of_its_plane():
    chosen, slab = SETS["rood-mri"], a_scan(shape=(32, 32, 4), spacing=(5.0, 5.0, 1.0))
    angles = [draw(chosen, "affine", 5, slab, seed=n).parameters[0]["rotation_deg"] for n in range(40)]
    most = np.abs(angles).max(0)
    assert max(most[:2]) <= 30 * 2 * 4 / 160
    assert 15 < most[2] <= 30


@pytest.mark.parametrize("name", ["affine", "elastic"])
def test_image_and_label_move_by_the_same_map(name):
    scan = a_scan(spacing=(6.0, 6.0, 8.0))
    truth = scan.label.astype(np.float32)
    found = corrupted(SETS["rood-mri"], name, 5, Scan(truth[None], scan.spacing, ("MR",), label=scan.label), seed=2)
    moved = found.image[0] > 0.5
    assert found.label.sum() > 0
    assert 2 * (moved & (found.label == 1)).sum() / (moved.sum() + found.label.sum()) > 0.9
    assert (found.label != scan.label).any()


def test_what_comes_from_outside_has_no_class_even_where_all_of_the_scan_is_one_class_or_unannotated():
    scan = a_scan(spacing=(6.0, 6.0, 8.0))
    label = np.where(scan.label > 0, 2, -1).astype(np.int64)
    found = corrupted(SETS["rood-mri"], "affine", 5, Scan(scan.image, scan.spacing, ("MR",), label=label), seed=2)
    assert found.label.dtype == np.int64
    assert set(np.unique(found.label)) == {-1, 0, 2}


@pytest.mark.parametrize("seed", range(3))
def test_elastic_deformation_has_no_fold_and_nothing_comes_from_outside(seed):
    shape, spacing = (32, 32, 32), (8.0, 8.0, 8.0)
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * mm for n, mm in zip(shape, spacing, strict=True)],
                                indexing="ij")).astype(np.float32)  # fmt: skip
    scan = Scan(grid, spacing, ("T1w", "T2w", "FLAIR"))
    found = corrupted(SETS["rood-mri"], "elastic", 5, scan, seed=seed).image
    gradient = np.stack([np.stack(np.gradient(part, *spacing)) for part in found], -1)
    determinant = np.linalg.det(np.moveaxis(gradient, 0, -2)[2:-2, 2:-2, 2:-2])
    assert determinant.min() > 0
    assert np.abs(found - grid).max() > 3
    assert found.min() >= grid.min() - 1e-3  # the lowest value would fill what lies outside
    assert np.abs(found - grid)[:, 0].max() < 0.2 * spacing[0]


def test_gamma_keeps_the_ends_and_follows_its_power():
    scan = Scan(np.linspace(-50, 150, 64, dtype=np.float32).reshape(1, 4, 4, 4), (1.0, 1.0, 1.0), ("MR",))
    found = gamma(scan, {"gamma": 2.0}).image
    np.testing.assert_allclose(found, -50 + ((scan.image + 50) / 200) ** 2 * 200, atol=1e-3)


def test_a_bias_field_multiplies_by_the_exponential_of_its_polynomial_and_keeps_the_mean():
    scan = Scan(np.full((1, 9, 9, 9), 50.0, np.float32), (1.0, 1.0, 1.0), ("MR",))
    coefficients = [0.0] * 20
    coefficients[1] = 0.5  # the power 1 of the last axis
    found = bias_field(scan, {"coefficients": coefficients}).image[0]
    assert found.mean() == pytest.approx(50, rel=1e-4)
    steps = np.diff(np.log(found.astype(np.float64)))
    np.testing.assert_allclose(steps, 0.5 * 2 / 8, rtol=1e-2)  # from -1 to 1 in 8 steps


def test_a_contrast_phase_changes_soft_tissue_only():
    values = np.array([-1000, -60, -50, 25, 250, 700], np.float32)
    scan = Scan(values.reshape(1, 6, 1, 1), (1.0, 1.0, 1.0), ("CT",))
    found = phase(scan, {"gamma": 2.0, "low_hu": -50, "high_hu": 250}).image.ravel()
    np.testing.assert_allclose(found, [-1000, -60, -50, -50 + 0.25**2 * 300, 250, 700], atol=1e-3)


def test_rician_noise_has_the_moments_of_its_distribution():
    zero = Scan(np.zeros((1, 40, 40, 40), np.float32), (1.0, 1.0, 1.0), ("MR",))
    noise = rician(zero, {"sd": 2.0, "seed": 1}).image.astype(np.float64)
    assert noise.mean() == pytest.approx(2 * math.sqrt(math.pi / 2), rel=0.01)  # Rayleigh
    assert (noise**2).mean() == pytest.approx(2 * 2**2, rel=0.02)
    bright = Scan(zero.image + 100, zero.spacing, ("MR",))
    noise = rician(bright, {"sd": 2.0, "seed": 1}).image.astype(np.float64)
    assert noise.std() == pytest.approx(2, rel=0.02)
    assert (noise**2).mean() == pytest.approx(100**2 + 2 * 2**2, rel=1e-3)


def test_the_foreground_is_brighter_than_the_mean():
    image = np.array([0, 0, 0, 0, 10, 14], np.float32).reshape(1, 6, 1, 1)
    assert foreground_deviation(image) == pytest.approx(2)
    assert foreground_deviation(np.full((1, 2, 2, 2), 3.0)) == 0


def test_ct_noise_has_its_standard_deviation_and_is_smooth_within_slices_only():
    zero = Scan(np.zeros((1, 40, 40, 20), np.float32), (0.7, 0.7, 3.0), ("CT",))
    noise = ct_noise(zero, {"sd_hu": 40.0, "kernel_mm": 1.5, "axial": 2, "seed": 1}).image[0].astype(np.float64)
    assert noise.std() == pytest.approx(40, rel=1e-4)

    def correlation(axis):
        a, b = np.take(noise, range(noise.shape[axis] - 1), axis), np.take(noise, range(1, noise.shape[axis]), axis)
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    sigma = 1.5 / 2.3548 / 0.7
    expected = math.exp(-1 / (4 * sigma**2))  # of white noise after a Gaussian
    assert correlation(0) == pytest.approx(expected, abs=0.06)
    assert abs(correlation(2)) < 0.03


def test_thicker_slices_are_averages_and_go_back_by_linear_interpolation():
    scan = Scan(np.array([0, 4, 8, 20], np.float32).reshape(1, 1, 1, 4), (1.0, 1.0, 1.0), ("CT",))
    found = thickness(scan, {"axis": 2, "factor": 2.0}).image.ravel()
    np.testing.assert_allclose(found, [2, 2 * 0.75 + 14 * 0.25, 2 * 0.25 + 14 * 0.75, 14])
    found = thickness(scan, {"axis": 2, "factor": 1.5}).image.ravel()
    thick = [(0 + 0.5 * 4) / 1.5, (0.5 * 4 + 8) / 1.5, 20]  # the last slice is what is left
    np.testing.assert_allclose(found, np.interp([0.5, 1.5, 2.5, 3.5], [0.75, 2.25, 3.5], thick), rtol=1e-6)


def test_coarser_samples_go_back_to_the_same_grid_without_dark_margins():
    ramp = np.arange(12, dtype=np.float32).reshape(1, 12, 1, 1) + 5
    found = downsampling(Scan(ramp, (1.0, 1.0, 1.0), ("MR",)), {"axis": 0, "factor": 4.0}).image.ravel()
    inner = found[(found > found.min()) & (found < found.max())]
    assert np.isin(inner, ramp).all()  # linear
    assert found.min() > 5
    assert found.max() < 16


def test_kernels_smooth_and_sharpen_within_slices_only():
    image = np.zeros((1, 21, 21, 3), np.float32)
    image[0, 10, 10, 1] = 1000
    scan = Scan(image, (1.0, 1.0, 1.0), ("CT",))
    smooth = kernel(scan, {"sd_mm": 1.5, "axial": 2}).image
    assert smooth[0, 10, 10, 1] == pytest.approx(1000 / (2 * math.pi * 1.5**2), rel=0.01)
    assert (smooth[..., [0, 2]] == 0).all()
    sharp = sharpening(scan, {"amount": 2.0, "sd_mm": 1.5, "axial": 2}).image
    np.testing.assert_allclose(sharp, 3 * image - 2 * smooth, atol=1e-3)


def test_ghosts_lie_along_the_phase_only():
    image = np.zeros((1, 30, 30, 6), np.float32)
    image[0, 13:17, 13:17] = 100
    found = ghosting(Scan(image, (1.0, 1.0, 1.0), ("MR",)), {"axis": 0, "ghosts": 3, "intensity": 1.0}).image[0]
    away = np.ones((30, 30), bool)
    away[:, 13:17] = False
    assert np.abs(found[away]).max() < 1e-3
    assert np.abs(found[3:7, 13:17]).max() > 15  # a third of the field away it is 20 of 100


def test_motion_reads_out_along_its_own_axis():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 10, (1, 12, 14, 10)).astype(np.float32)
    moves = {"times": [0.3, 0.6], "rotation_deg": [[0, 0, 0]] * 2}
    by_axis = motion(Scan(image, (1.0, 1.0, 1.0), ("MR",)), {"axis": 0, "translation_mm": [[2, 0, 0]] * 2, **moves})
    # The same scan with its axes turned round, and all that was drawn with them.
    turned = Scan(image.transpose(0, 3, 2, 1), (1.0, 1.0, 1.0), ("MR",))
    other = motion(turned, {"axis": 2, "translation_mm": [[0, 0, 2]] * 2, **moves})
    assert (by_axis.image != image).mean() > 0.9
    np.testing.assert_allclose(other.image.transpose(0, 3, 2, 1), by_axis.image, atol=1e-2)


def test_fewer_photons_make_more_noise_that_follows_the_attenuation():
    chosen, scan = load_corruption_set("ct"), a_scan("CT", (48, 48, 1), (6.0, 6.0, 5.0))
    noise = [corrupted(chosen, "low-dose", severity, scan).image - scan.image for severity in (1, 3, 5)]
    spread = [part.std() for part in noise]
    assert spread[0] < spread[1] < spread[2]
    assert abs(noise[0].mean()) < spread[0]
    edge = np.hypot(*np.meshgrid(*[np.arange(48) - 23.5] * 2)) > 26  # rays there pass through hardly anything
    assert noise[0][0, 23:25, 23:25].std() > 2 * noise[0][0][edge].std()


def test_metal_lies_in_the_body_and_never_in_the_label():
    chosen, scan = SETS["ct"], a_scan("CT", (48, 48, 6), (3.0, 3.0, 5.0))
    for seed in range(5):
        drawn = draw(chosen, "metal", 5, scan, seed=seed)
        found = apply(chosen, drawn, scan).image[0]
        rod = found == 3000
        assert rod.any()
        assert not (rod & (scan.label > 0)).any()
        assert scan.image[0][tuple(drawn.parameters[0]["place"])] > -300
    assert (np.abs(found - scan.image[0])[scan.label > 0] > 5).any()  # the streaks reach the organ


def test_metal_without_room_is_left_out():
    scan = a_scan("CT", (24, 24, 4), (1.0, 1.0, 1.0))
    full = Scan(scan.image, scan.spacing, scan.channels, label=np.ones((24, 24, 4), np.uint8))
    with pytest.raises(InapplicableError, match="no room"):
        draw(SETS["ct"], "metal", 1, full)


def test_the_axis_of_the_body_follows_the_affine():
    assert axial_axis(np.diag([-1.0, 1.0, 3.0, 1.0])) == 2
    assert axial_axis(np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-2, 0.1, 0, 0], [0, 0, 0, 1.0]])) == 0


def test_a_faulty_set_is_refused_with_all_problems():
    text = """
    name: mine
    version: 1
    channels: [MRX]
    corruptions:
      blur: {kind: smothing}
      gamma: {options: {gama: 2}}
    """
    with pytest.raises(UserError) as error:
        from_data(CorruptionSet, read_yaml(text, "mine.yaml"), "mine.yaml")
    for part in ("MRX", "Did you mean 'smoothing'", "gamma is missing", "unknown gama"):
        assert part in str(error.value)
    short = "{name: mine, version: 1, corruptions: {smoothing: {severities: {sd_mm: [1, 2]}}}}"
    with pytest.raises(UserError, match="sd_mm must hold 5 values, for the severities 1 to 5, got 2"):
        from_data(CorruptionSet, read_yaml(short, "mine.yaml"), "mine.yaml")


def test_without_torchio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchio", None)
    with pytest.raises(MissingPackageError, match=r"corruptions need TorchIO: pip install 'voxward\[corruptions\]'"):
        refuse_missing()


@pytest.mark.parametrize("shape", [(16, 13), (13, 16), (15, 12), (12, 15), (16, 14), (15, 13)])
def test_what_is_projected_comes_back_to_its_place(shape):
    beam, plane = Beam(16, 60, 0.02), np.full(shape, -1000.0)
    plane[5, 8] = 1000.0
    back = beam.hounsfield(beam.lines(plane, 1.0), 1.0, shape)
    assert np.unravel_index(back.argmax(), shape) == (5, 8)
