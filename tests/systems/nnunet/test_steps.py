"""Each step of nnU-Net's pipeline against plain NumPy and SciPy, which nnU-Net itself calls."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation
from scipy import ndimage
from torch import nn

from tests.systems.nnunet.build import checkpoint, flat, plans, results, volume
from voxward.core.case import Volume
from voxward.nets.nnunet import NnUNet
from voxward.systems.nnunet import judge
from voxward.systems.nnunet.geometry import geometry_of
from voxward.systems.nnunet.halves import gaussian, mirrored_mean, starts
from voxward.systems.nnunet.plans import Resampling, read_plan
from voxward.systems.nnunet.resampling import resampled, separate_axis
from voxward.systems.nnunet.results import read_results
from voxward.systems.nnunet.weights import _with_batch_norm
from voxward.systems.open import open_system

SPLINES = "resample_data_or_seg_to_shape"


def zoomed(x, grid, order):
    """skimage.transform.resize with mode edge and no anti-aliasing, which clips to the range of what came in."""
    factors = [after / before for before, after in zip(x.shape, grid, strict=True)]
    found = ndimage.zoom(x.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(found, x.min(), x.max())


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 50, shape).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("grid", [(9, 14, 5), (3, 5, 12), (7, 11, 6), (8, 10, 6)])
def test_all_axes_together(order, grid):
    x = noise((2, 7, 10, 6))
    found = resampled(torch.from_numpy(x), grid, (1.0, 1.0, 1.0), (1.0, 1.0, 2.0), Resampling(SPLINES, order, 0, None))
    for channel, expected in zip(found, x, strict=True):
        np.testing.assert_allclose(channel, zoomed(expected, grid, order), rtol=1e-6, atol=1e-4)


def test_channels_one_after_the_other_are_channels_together():
    """Where a gradient is wanted they are resampled together."""
    x, how = torch.from_numpy(noise((3, 7, 10, 6))), Resampling(SPLINES, 3, 0, None)
    for spacing in ((1.0, 1.0, 1.0), (5.0, 1.0, 1.0)):
        apart = resampled(x, (9, 14, 5), spacing, (1.0, 1.0, 1.0), how)
        together = resampled(x.clone().requires_grad_(), (9, 14, 5), spacing, (1.0, 1.0, 1.0), how)
        torch.testing.assert_close(apart, together.detach(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("order_z", [0, 1])
@pytest.mark.parametrize("depth", [4, 7, 12])
def test_a_thick_axis_apart(order_z, depth):
    """Slice by slice, each within its own range; then across, at places whose scale is computed first."""
    x, grid = noise((1, 7, 10, 6)), (depth, 13, 9)
    found = resampled(
        torch.from_numpy(x), grid, (5.0, 1.0, 1.0), (1.0, 1.0, 1.0), Resampling(SPLINES, 3, order_z, None)
    )[0]
    slices = np.stack([zoomed(each, grid[1:], 3) for each in x[0]])
    if depth != 7:
        places = (7 / depth) * (np.arange(depth) + 0.5) - 0.5
        points = np.meshgrid(places, np.arange(grid[1]), np.arange(grid[2]), indexing="ij")
        slices = ndimage.map_coordinates(slices, points, order=order_z, mode="nearest")
    np.testing.assert_allclose(found, slices, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("spacing", "target", "force", "axis"), [
    ((3, 1, 1), (1, 1, 1), None, None),  # not more than three times
    ((3.01, 1, 1), (1, 1, 1), None, 0),
    ((1, 1, 1), (1, 1, 4), None, 2),
    ((1, 5, 1), (4, 1, 1), None, 1),  # the present spacing decides first
    ((5, 5, 1), (1, 1, 1), None, None),  # two axes are as thick
    ((5, 1, 1), (1, 1, 1), False, None),
    ((2, 1, 1), (1, 1, 1), True, 0),
])  # fmt: skip
def test_when_an_axis_is_apart(spacing, target, force, axis):
    assert separate_axis([float(s) for s in spacing], [float(s) for s in target], force) == axis


def test_without_resampling_nothing_changes():
    x = torch.from_numpy(noise((1, 5, 6, 7)))
    assert resampled(x, (9, 9, 9), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0), Resampling("no_resampling_hack", 3, 0, None)) is x


@pytest.mark.parametrize(("length", "window"), [(8, 8), (9, 8), (21, 8), (36, 40 - 4), (50, 11), (13, 7), (100, 32)])
def test_windows_start_where_nnunet_has_them(length, window):
    count = int(np.ceil((length - window) / (window * 0.5))) + 1
    step = (length - window) / (count - 1) if count > 1 else 99999
    assert list(starts(length, window)) == [int(np.round(step * n)) for n in range(count)]


def test_the_weights_of_a_window():
    """The centre of an even axis is the voxel after the middle; the least weight is the least half above 0."""
    shape = (8, 13, 6)
    weights = np.zeros(shape)
    weights[4, 6, 3] = 1
    weights = ndimage.gaussian_filter(weights, [length / 8 for length in shape], 0, mode="constant", cval=0)
    half = (weights / (weights.max() / 10)).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    assert np.array_equal(gaussian(shape).numpy(), half)
    assert gaussian(shape)[4, 6, 3] == 10


def test_mirrored_copies_are_averaged():
    network = nn.Conv3d(1, 2, 3, padding=1)
    x = torch.from_numpy(noise((1, 1, 4, 5, 6)))
    with torch.no_grad():
        found = mirrored_mean(network, (0, 2))(x)
        copies = [network(x.flip(dims)).flip(dims) for dims in ([], [2], [4], [2, 4])]
    torch.testing.assert_close(found, sum(copies) / 4)


def test_folds_are_averaged_as_halves(tmp_path):
    folder = results(tmp_path / "r", folds=(0, 1), mirrors=())
    image = torch.from_numpy(noise((1, 9, 13, 8)))
    one, other = (judge.half_logits(read_results(folder, [fold]), image).numpy() for fold in (0, 1))
    both = judge.half_logits(read_results(folder), image).numpy()
    assert np.array_equal(both, (one + other) / np.float16(2))


@pytest.mark.parametrize("masked", [False, True])
def test_zscores(tmp_path, masked):
    """Over the box, or over the scan in it; the hole inside the scan counts, the air outside keeps its 0."""
    array = np.zeros((1, 9, 10, 11), np.float32)
    array[:, 1:8, 2:9, 3:10] = noise((7, 7, 7)) + 100
    array[0, 1, 2, 3:10] = 0  # an edge of the box, which is air
    array[0, 4, 5, 6] = 0  # a hole
    found, _, geometry = prepared(tmp_path, Volume(array, np.eye(4)), masked, "ZScoreNormalization")
    box = array[0, 1:8, 2:9, 3:10].T
    inside = ndimage.binary_fill_holes(box != 0)
    chosen = box[inside] if masked else box
    expected = (box - chosen.mean()) / chosen.std()
    expected = np.where(inside, expected, box) if masked else expected
    assert [(part.start, part.stop) for part in geometry.box] == [(3, 10), (2, 9), (1, 8)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scheme", "expected"), [
    ("CTNormalization", lambda x: (np.clip(x, -60, 70) - 3) / 30),
    ("RescaleTo01Normalization", lambda x: (x - x.min()) / (x.max() - x.min())),
    ("RGBTo01Normalization", lambda x: x / 255),
    ("NoNormalization", lambda x: x),
])  # fmt: skip
def test_other_normalisations(tmp_path, scheme, expected):
    array = np.abs(noise((1, 5, 6, 7))) + 1
    found, _, _ = prepared(tmp_path, Volume(array, np.eye(4)), False, scheme)
    np.testing.assert_allclose(found[0], expected(array[0].T), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scheme", ["CTNormalization", "RescaleTo01Normalization"])
def test_the_mask_decides_about_zscores_only(tmp_path, scheme):
    """As in nnU-Net, which asks for it in ZScoreNormalization alone: all else is clipped and shifted like the scan."""
    array = noise((1, 5, 6, 7))
    array[0, 0, 0, :-1] = 0  # an edge of the box
    one, other = (
        prepared(tmp_path / str(masked), Volume(array, np.eye(4)), masked, scheme)[0] for masked in (False, True)
    )
    assert np.array_equal(one, other)


def prepared(tmp_path, source, masked, scheme):
    folder = results(
        tmp_path / "r", spacing=[1.0, 1.0, 1.0], normalization_schemes=[scheme], use_mask_for_norm=[masked]
    )
    plan = read_plan(folder, "3d_fullres")
    geometry = geometry_of(source, plan)
    return judge.prepared(source, geometry, plan).numpy(), plan, geometry


def test_headers_hold_single_precision(tmp_path):
    """15 voxels of 0.9 mm: 13.5 in double precision becomes 14, and 13.4999 as the header holds it 13."""
    plan = read_plan(results(tmp_path / "r", spacing=[1.0, 1.0, 1.0]), "3d_fullres")
    source = Volume(np.ones((1, 15, 5, 5), np.float32), np.diag([0.9, 0.9, 0.9, 1]))
    assert geometry_of(source, plan).grid == (4, 4, 13)


def test_windows_are_moved_to_where_the_network_is(tmp_path, monkeypatch):
    """The image is prepared on the CPU, wherever the network lies."""
    devices = set()

    def forward(self, x):
        devices.add(x.device.type)
        return torch.zeros(len(x), 3, *x.shape[2:])

    monkeypatch.setattr(NnUNet, "forward", forward)
    read = read_results(results(tmp_path / "r", mirrors=()), device=torch.device("meta"))
    judge.segment(read, volume())
    assert devices == {"meta"}


def test_the_axes_are_transposed_and_not_turned(tmp_path):
    """Of a file that runs backwards the array is taken as it is stored, z first, and then in the plan's order."""
    described = {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    folder = results(tmp_path / "r", plan=described, spacing=[1.0, 1.0, 1.0], normalization_schemes=["NoNormalization"])
    plan, array = read_plan(folder, "3d_fullres"), noise((1, 4, 5, 6))
    source = Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    found = judge.prepared(source, geometry_of(source, plan), plan).numpy()
    assert np.array_equal(found[0], array[0].transpose(2, 1, 0).transpose(2, 0, 1))


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_a_reader_that_reorients(tmp_path, reader):
    """What it finds in a turned file is what is found in the file that nibabel turned to RAS, turned back."""
    system = open_system(results(tmp_path / "r", plan={"image_reader_writer": reader}, mirrors=(0,)))
    ras = volume()
    turned = nib.Nifti1Image(ras.array[0], ras.affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    source = Volume(np.asarray(turned.dataobj)[None], turned.affine)
    back = nib.io_orientation(turned.affine)
    found = apply_orientation(system.segment(source).label, back)
    assert np.array_equal(found, system.segment(ras).label)


def test_slices_are_segmented_apart(tmp_path):
    """A configuration of two axes: the neighbours of a slice decide nothing."""
    system = open_system(results(tmp_path / "r", flat(normalization_schemes=["NoNormalization"]), mirrors=(0, 1)))
    array = noise((1, 12, 14, 5))
    found = system.segment(Volume(array, np.eye(4))).label
    alone = [system.segment(Volume(array[..., k : k + 1], np.eye(4))).label for k in range(5)]
    assert len(np.unique(found)) > 1
    assert np.array_equal(found, np.concatenate(alone, 2))


def test_the_batch_norm_trainer_is_known_by_its_weights(tmp_path):
    """Its plan still says instance norm; the running means in the file say otherwise."""
    folder = results(tmp_path / "r")
    architecture = read_plan(folder, "3d_fullres").architecture
    trained = NnUNet(_with_batch_norm(architecture, {"x.norm.running_mean": torch.zeros(1)}), 1, 3)
    assert any(isinstance(layer, nn.BatchNorm3d) for layer in trained.modules())
    trained(torch.from_numpy(noise((2, 1, 8, 12, 8))))  # in training mode: moves the running means
    torch.save(checkpoint(trained.state_dict()), folder / "fold_0/checkpoint_final.pth")
    (network,) = read_results(folder).networks
    x = torch.from_numpy(noise((1, 1, 8, 12, 8), 1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), trained.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_parallel_and_compiled_training(tmp_path, prefix):
    folder = results(tmp_path / "r")
    before, path = open_system(folder).fingerprint(), folder / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["network_weights"] = {f"{prefix}{name}": value for name, value in content["network_weights"].items()}
    torch.save(content, path)
    assert open_system(folder).fingerprint() == before


def test_the_checkpoint_names_the_configuration_and_not_the_folder(tmp_path):
    described = plans()
    described["configurations"]["my__2d"] = described["configurations"].pop("3d_fullres")
    folder = tmp_path / "Trainer__a__b__3d_lowres"
    described["configurations"]["3d_fullres"] = {"inherits_from": "my__2d"}
    results(folder, described)
    path = folder / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "init_args": {"configuration": "my__2d"}}, path)
    assert open_system(folder).options()["configuration"] == "my__2d"


def test_fold_all_is_used_alone_or_when_it_is_asked_for(tmp_path):
    both = results(tmp_path / "both", folds=(0, 1, "all"))
    assert open_system(both).options()["folds"] == ["0", "1"]
    assert open_system(both, ["folds=[all]"]).options()["folds"] == ["all"]
    assert open_system(results(tmp_path / "one", folds=("all",))).options()["folds"] == ["all"]
