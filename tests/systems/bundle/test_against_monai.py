"""Every transform and inferer against MONAI's own, on small volumes and on the fixture."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity

from tests.conftest import DATA
from tests.systems.bundle.build import (
    ARGMAX,
    CLASSES,
    FIXTURES,
    HIPPOCAMPUS,
    ORACLE,
    SIGMOID,
    SOFTMAX,
    UNET,
    WINDOWS,
    alike,
    bundle,
    by_monai,
    config,
    invert,
    rotated,
    scan,
    step,
)
from voxward.data.io import read_image, read_label
from voxward.systems.bundle.config import read_config
from voxward.systems.bundle.definition import read_definition
from voxward.systems.bundle.intensities import Normalize
from voxward.systems.bundle.steps import prepare
from voxward.systems.open import open_system

TURNED = rotated((1.3, 0.8, 2.1), (2, 0, 1), (-1, 1, -1))
OBLIQUE = rotated((1.3, 0.8, 2.1), (1, 2, 0), (1, -1, -1), degrees=17)
SHEARED = OBLIQUE @ np.array([[1, 0.1, 0, 0], [0, 1, 0.05, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
RAS, SPACING = step("Orientationd", axcodes="RAS"), step("Spacingd", pixdim=[1.2, 1.0, 1.5], mode="bilinear")

STEPS = {
    "orientation": [RAS],
    "other directions": [step("Orientationd", axcodes="PLI")],
    "spacing": [SPACING],
    "one size for all": [step("Spacingd", pixdim=1.4, mode="bilinear")],
    "two sizes": [step("Spacingd", pixdim=[1.4, 1.1], mode=["bilinear"])],
    "a size that stays": [step("Spacingd", pixdim=[-1, 2.0, 1.1], mode="bilinear")],
    "sizes within limits": [step("Spacingd", pixdim=[1.5, 1.5, 1.5], min_pixdim=[1.0, 1.0, 1.0], mode="bilinear")],
    "the spacing it has": [step("Spacingd", pixdim=[1.1, 0.9, 1.0], mode="bilinear")],
    "orientation and spacing": [RAS, SPACING],
    "range": [step("ScaleIntensityRanged", a_min=-20, a_max=60, b_min=0, b_max=1, clip=True)],
    "range without ends": [step("ScaleIntensityRanged", a_min=-20, a_max=60)],
    "to one": [step("ScaleIntensityd")],
    "to another range": [step("ScaleIntensityd", minv=-1.0, maxv=1.0, channel_wise=True)],
    "factor": [step("ScaleIntensityd", minv=None, maxv=None, factor=0.3)],
    "z-score": [step("NormalizeIntensityd")],
    "z-score of a channel": [step("NormalizeIntensityd", channel_wise=True)],
    "z-score of what is not 0": [step("NormalizeIntensityd", nonzero=True, channel_wise="True")],
    "z-score by given numbers": [step("NormalizeIntensityd", subtrahend=3.0, divisor=7.0)],
    "given per channel": [step("NormalizeIntensityd", subtrahend=[3.0], divisor=[7.0], channel_wise=True)],
    "percentiles": [step("ScaleIntensityRangePercentilesd", lower=3, upper=95.5, b_min=0, b_max=1, clip=True)],
    "relative percentiles": [
        step("ScaleIntensityRangePercentilesd", lower=3, upper=95, b_min=-1, b_max=1, relative=True, channel_wise=True)
    ],
    "crop": [step("CropForegroundd", source_key="image")],
    "crop with margin": [step("CropForegroundd", source_key="image", margin=[3, 0, 2], k_divisible=4)],
    "crop inside": [step("CropForegroundd", source_key="image", margin=4, allow_smaller=True)],
    "pad": [step("SpatialPadd", spatial_size=[20, -1, 18])],
    "pad behind": [step("SpatialPadd", spatial_size=[20, 17, 18], method="end", mode="edge")],
    "pad to multiples": [step("DivisiblePadd", k=[8, 5, 4], mode="reflect")],
    "resize": [step("Resized", spatial_size=[9, 20, 16], mode="trilinear")],
    "resize aligned": [step("Resized", spatial_size=[9, 20, 16], mode="bilinear", align_corners=True)],
    "resize the longest": [step("Resized", spatial_size=12, size_mode="longest", mode="trilinear")],
    "types": [step("EnsureTyped", device="$torch.device('cuda')"), step("CastToTyped", dtype="$torch.float32")],
    "many": [
        RAS, SPACING, step("ScaleIntensityRanged", a_min=-50, a_max=90, b_min=0, b_max=1, clip=True),
        step("CropForegroundd", source_key="image"), step("SpatialPadd", spatial_size=[12, 12, 12]),
        step("NormalizeIntensityd", nonzero=True), step("DivisiblePadd", k=4),
    ],
}  # fmt: skip


def prepared(folder, path):
    volume = read_image([path])
    x = torch.from_numpy(volume.array).float()
    return prepare(read_definition(read_config(folder)).steps, x, volume.affine, False)


@pytest.mark.parametrize("affine", [None, TURNED, OBLIQUE], ids=["straight", "turned", "oblique"])
@pytest.mark.parametrize("case", STEPS)
def test_the_prepared_image_is_that_of_monai(tmp_path, case, affine):
    folder = bundle(tmp_path / "b", config(STEPS[case]))
    if case == "types":  # MONAI would go to the GPU
        folder = bundle(tmp_path / "oracle", config())
    path = scan(tmp_path / "x.nii.gz", affine=affine)
    expected = by_monai(folder, path, "image")
    preparation, found = prepared(tmp_path / "b", path)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=2e-5 * float(expected.abs().max()))
    # What the network says comes back to the file's voxels.
    assert preparation.undo(found, "linear", 0.0).shape[1:] == read_image([path]).shape


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("nonzero", [False, True])
@pytest.mark.parametrize("value", [1.0, 0.1, -7.7, 1e-30, 1e30])
def test_equal_intensities_are_normalised_as_by_monai(value, nonzero, channel_wise):
    """A mask, one voxel, nothing, a channel beside one that varies: the deviation is 0, or nearly so."""
    images = torch.zeros(4, 2, 11, 13, 17)
    images[0, :, 3:8, 2:9, 5:11] = images[1, :, 1, 1, 1] = images[3, 0] = value
    images[3, 1] = torch.linspace(-1, 2, 11 * 13 * 17).reshape(11, 13, 17)
    ours = Normalize(nonzero=nonzero, each=channel_wise)
    for image in images:
        expected = NormalizeIntensity(nonzero=nonzero, channel_wise=channel_wise)(image.clone())
        found = ours.change(image, ours.measure(image))
        torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-5, atol=1e-6)


def test_a_sheared_scan_is_prepared_as_by_monai(tmp_path):
    folder, path = bundle(tmp_path / "b", config([RAS, SPACING])), scan(tmp_path / "x.nii.gz", affine=SHEARED)
    expected, (_, found) = by_monai(folder, path, "image"), prepared(folder, path)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=2e-5 * float(expected.abs().max()))


def test_several_channels_and_scaled_integers(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "x.nii.gz"
    image = nibabel.Nifti1Image(rng.integers(-50, 300, (11, 16, 13, 2)).astype(np.int16), TURNED)
    image.header.set_slope_inter(0.37, -4.5)
    nibabel.save(image, path)
    steps = [RAS, SPACING, step("NormalizeIntensityd", nonzero=True, channel_wise=True)]
    steps.append(step("ScaleIntensityd", minv=-1.0, maxv=1.0))
    folder = bundle(tmp_path / "b", config(steps, {**UNET, "in_channels": 2}))
    system, expected = open_system(folder), by_monai(folder, path)[0]
    assert system.channels == ("channel 0", "channel 1")
    assert len(np.unique(expected)) == 3
    assert alike(system.segment(read_image([path])).label, expected)


def compared(tmp_path, described, affine=None, shape=(11, 16, 13), overrides=(), **more):
    """The class map of the file, and what MONAI makes of it."""
    folder, path = bundle(tmp_path / "b", described, **more), scan(tmp_path / "x.nii.gz", shape, affine)
    system, volume = open_system(folder, overrides), read_image([path])
    found = system.segment(volume)
    model = system.freeze(volume)
    z = model.logits(torch.from_numpy(volume.array)[None].float())
    return found.label, by_monai(folder, path), model.classes(z)[0].numpy()


@pytest.mark.parametrize("affine", [None, TURNED, OBLIQUE, SHEARED], ids=["straight", "turned", "oblique", "sheared"])
@pytest.mark.parametrize("case", ["spacing", "orientation and spacing", "crop with margin", "resize", "many"])
def test_the_mask_is_that_of_monai(tmp_path, case, affine):
    found, expected, frozen = compared(tmp_path, config(STEPS[case]), affine)
    assert len(np.unique(expected)) == 3
    assert alike(found, expected[0])
    assert (frozen == found).mean() > 0.999


INFERERS = {
    "constant": {"_target_": "SlidingWindowInferer", "roi_size": [8, 12, 8]},
    "one number": {"_target_": "SlidingWindowInferer", "roi_size": 8, "overlap": [0.5, 0.25, 0.0]},
    "whole axis": {"_target_": "SlidingWindowInferer", "roi_size": [8, -1, 8], "overlap": 0.6, "mode": "gaussian"},
    "padded": {"_target_": "SlidingWindowInferer", "roi_size": [16, 20, 20], "padding_mode": "replicate"},
    "padded with a value": {"_target_": "SlidingWindowInferer", "roi_size": [16, 20, 20], "cval": 0.5},
    "sigma": {**WINDOWS, "sigma_scale": 0.3, "sw_batch_size": 3},
    "adapt": {**WINDOWS, "_target_": "monai.inferers.SlidingWindowInfererAdapt"},
    "simple": {"_target_": "SimpleInferer"},
}


@pytest.mark.parametrize("case", INFERERS)
def test_every_inferer(tmp_path, case):
    shape = (12, 16, 8) if case in ("simple", "whole axis") else (11, 17, 13)
    found, expected, frozen = compared(tmp_path, config([step("NormalizeIntensityd")], inferer=INFERERS[case]),
                                       shape=shape)  # fmt: skip
    assert len(np.unique(expected)) == 3
    assert alike(found, expected[0])
    assert alike(frozen, found)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices(tmp_path, axis):
    inferer = {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": axis, "padding_mode": "replicate",
               "mode": "gaussian"}  # fmt: skip
    described = config([step("ScaleIntensityd")], {**UNET, "spatial_dims": 2}, inferer)
    found, expected, frozen = compared(tmp_path, described)
    assert len(np.unique(expected)) == 3
    assert alike(found, expected[0])
    assert alike(frozen, found)


KEEP = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
POSTS = {
    "probabilities": [SOFTMAX, invert(), ARGMAX],
    "logits": [invert(), ARGMAX],
    "nearest": [SOFTMAX, ARGMAX, invert(True)],
    "probabilities of the nearest": [SOFTMAX, invert(True), ARGMAX],
    "largest component": [SOFTMAX, invert(), ARGMAX, {**KEEP, "applied_labels": [1, 2]}],
    "largest of all together": [SOFTMAX, invert(), ARGMAX, {**KEEP, "independent": False, "connectivity": 1}],
    "component, then nearest": [ARGMAX, KEEP, invert(True)],
}


@pytest.mark.parametrize("affine", [None, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("case", POSTS)
def test_every_order_of_post_processing(tmp_path, case, affine):
    steps = [RAS, step("Spacingd", pixdim=[2.2, 0.45, 2.0], mode="bilinear"), step("NormalizeIntensityd")]
    pytest.importorskip("skimage") if "omponent" in case or "largest" in case else None
    found, expected, frozen = compared(tmp_path, config(steps, post=POSTS[case]), affine)
    assert len(np.unique(expected)) == 3
    assert alike(found, expected[0])
    if case != "component, then nearest":  # components of the network's grid are not those of the file's
        assert (frozen == found).mean() > 0.999


def test_interpolated_class_numbers_are_rounded_with_a_warning(tmp_path):
    described = config([step("Spacingd", pixdim=[2.2, 0.45, 2.0])], post=[SOFTMAX, ARGMAX, invert()])
    folder, path = bundle(tmp_path / "b", described), scan(tmp_path / "x.nii.gz")
    found = open_system(folder).segment(read_image([path]))
    expected = by_monai(folder, path)[0]
    assert (expected != expected.round()).any()
    assert alike(found.label, expected.round())
    assert "interpolates class numbers" in found.warning


REGIONS = "regions={core: [1, 4], whole: [1, 2, 4], enhancing: [4]}"


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize("nearest", [False, True])
def test_regions(tmp_path, threshold, nearest):
    post = [SIGMOID, invert(nearest), {"_target_": "AsDiscreted", "keys": "pred", "threshold": threshold}]
    classes = {"0": "core", "1": "whole", "2": "enhancing"}
    described = config([SPACING, step("NormalizeIntensityd", nonzero=True)], post=post)
    found, masks, frozen = compared(tmp_path, described, overrides=[REGIONS], classes=classes)
    assert 0.005 < masks.mean() < 0.995
    # What a lambda of the real bundle does: enhancing over core over the rest of the whole.
    expected = np.where(masks[2] > 0, 4, np.where(masks[0] > 0, 1, np.where(masks[1] > 0, 2, 0)))
    system = open_system(tmp_path / "b", [REGIONS])
    assert [region.name for region in system.labels.regions] == ["enhancing", "core", "whole"]
    assert alike(system.labels.to_values(found), expected)
    assert (frozen == found).mean() > 0.999


@pytest.mark.parametrize("options", [
    {}, {"applied_labels": [0, 2]}, {"independent": False}, {"is_onehot": True}, {"applied_labels": [1]},
], ids=str)  # fmt: skip
def test_components_of_regions(tmp_path, options):
    """By itself MONAI takes channel 0 for the background, also where it is a region."""
    pytest.importorskip("skimage")
    post = [SIGMOID, invert(), {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}, {**KEEP, **options}]
    classes = {"0": "core", "1": "whole", "2": "enhancing"}
    described = config([SPACING, step("NormalizeIntensityd")], post=post)
    folder, path = bundle(tmp_path / "b", described, classes=classes), scan(tmp_path / "x.nii.gz")
    masks = by_monai(folder, path)
    expected = np.where(masks[2] > 0, 4, np.where(masks[0] > 0, 1, np.where(masks[1] > 0, 2, 0)))
    system = open_system(folder, [REGIONS])
    assert alike(system.labels.to_values(system.segment(read_image([path])).label), expected)


def test_one_region_needs_no_values(tmp_path):
    post = [SIGMOID, invert(), {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]
    described = config([SPACING], {**UNET, "out_channels": 1}, post=post)
    found, masks, _ = compared(tmp_path, described, classes={"0": "lesion"})
    assert alike(found, masks[0])
    assert open_system(tmp_path / "b").labels.names == ("background", "lesion")


NETWORKS = {
    "SegResNet": {"init_filters": 8, "in_channels": 1, "out_channels": 3, "blocks_down": [1, 1], "blocks_up": [1]},
    "DynUNet": {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2], "norm_name": "instance", "filters": [4, 6, 8],
    },
    "BasicUNet": {"in_channels": 1, "out_channels": 3, "features": [4, 4, 4, 4, 4, 4], "norm": "batch"},
    "AttentionUnet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 6], "strides": [2]},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks(tmp_path, name):
    inferer = {**WINDOWS, "roi_size": [16, 16, 16]}
    described = config([step("NormalizeIntensityd")], {"_target_": name, **NETWORKS[name]}, inferer)
    found, expected, _ = compared(tmp_path, described, scale=1.5)
    assert len(np.unique(expected)) > 1
    assert alike(found, expected[0])


@pytest.mark.data
@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"there is no folder {FIXTURES}")
@pytest.mark.parametrize("name", ["hippocampus_004", "hippocampus_019", "hippocampus_033"])
def test_the_masks_that_the_command_of_monai_wrote(name):
    system, volume = open_system(HIPPOCAMPUS), read_image([DATA / f"Task04_Hippocampus/imagesTr/{name}.nii.gz"])
    expected = read_label(ORACLE / f"{name}_seg.nii.gz").array
    assert system.labels.names == ("background", "anterior", "posterior")
    found = system.segment(volume, probabilities=True)
    assert np.array_equal(found.label, expected.reshape(volume.shape))
    assert np.array_equal(found.probabilities.argmax(0), found.label)


def test_classes_have_the_names_of_the_metadata(tmp_path):
    system = open_system(bundle(tmp_path / "b"))
    assert (system.name, system.channels, system.labels.names) == ("b", ("MR",), tuple(CLASSES.values()))
