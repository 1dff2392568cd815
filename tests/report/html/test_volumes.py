"""The packed volumes are those of the files, at the same place in space."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from tests.report.html.folders import AFFINE, attacked
from voxward.data.io import write_image
from voxward.report.html.case_rows import case_rows
from voxward.report.html.kept import NotShown, read_kept
from voxward.report.html.nifti_bytes import Box, box_around, image_bytes, mask_bytes, perturbation_bytes
from voxward.report.html.sections.cases import job_of
from voxward.report.html.volumes import Quality, pack, read_shown

CUT = Quality(margin_mm=2.0, whole_below=0)


def opened(text):
    """The NIfTI image in base64 text or in bytes."""
    content = base64.b64decode(text) if isinstance(text, str) else text
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


def packed(folder, quality=CUT, case="a"):
    source = folder.source()
    job = job_of(0, source, read_kept(source.folder), case, case_rows(source))
    return pack(read_shown(job.kept, job.wanted, quality), quality)


def test_box_has_the_affine_of_a_nibabel_slice():
    image = nibabel.Nifti1Image(np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8), AFFINE)
    box = Box((1, 2, 3), (5, 6, 8))
    sliced = image.slicer[1:5, 2:6, 3:8]
    found = opened(image_bytes(box.cut(np.asarray(image.dataobj)), box.affine(AFFINE), 4095))
    np.testing.assert_array_equal(found.affine, sliced.affine)
    np.testing.assert_array_equal(found.get_fdata(), sliced.get_fdata())
    assert found.get_data_dtype() == np.int16


def test_box_reaches_the_margin_in_mm_and_stays_inside():
    found = np.zeros((20, 20, 20), bool)
    found[8:10, 1, 5] = True
    assert box_around(found, (1.0, 1.0, 2.0), 3.0) == Box((5, 0, 3), (13, 5, 8))
    assert box_around(~found & False, (1.0, 1.0, 2.0), 3.0) == Box.whole((20, 20, 20))


@pytest.mark.parametrize(("low", "high"), [(0.0, 2776.88), (-1e6, 3e-2), (5.0, 5.0)])
def test_intensities_keep_their_range(low, high):
    image = np.linspace(low, high, 60, dtype=np.float32).reshape(3, 4, 5)
    found = opened(image_bytes(image, AFFINE, 1023)).get_fdata()
    step = (float(image.max()) - float(image.min())) / 1023
    assert np.abs(found - image).max() <= 0.51 * step + 1e-6 * max(abs(low), abs(high))


def test_integers_of_16_bits_are_kept_as_they_are():
    image = np.array([[[-1000, 3000]]], np.int16)
    np.testing.assert_array_equal(opened(image_bytes(image, AFFINE, 65535)).get_fdata(), image)
    large = np.array([[[0, 60000]]], np.uint16)
    assert np.abs(opened(image_bytes(large, AFFINE, 65535)).get_fdata() - large).max() <= 1


def test_no_change_stays_no_change():
    difference = np.array([[[-3.0, 0.0, 1.5, 3.0]]])
    found = opened(perturbation_bytes(difference, AFFINE, 2)).get_fdata()
    np.testing.assert_allclose(found, [[[-3.0, 0.0, 1.5, 3.0]]], rtol=1e-6)
    assert not opened(perturbation_bytes(0 * difference, AFFINE, 7)).get_fdata().any()


def test_masks_are_bytes():
    found = opened(mask_bytes(np.array([[[0, 1, 255]]], np.uint16), AFFINE))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.get_fdata(), [[[0, 1, 255]]])


def test_a_case_has_image_truth_masks_and_perturbation_in_one_box(tmp_path):
    folder = attacked(tmp_path).add("a", change=10.0)
    found = packed(folder)
    image = nibabel.load(folder.cases["a"]["images"][0])
    # Truth and masks reach from 2 to 4 voxels, to 5 along the first axis; 2 mm are 2, 2 and 1 voxels.
    part = image.slicer[0:6, 0:6, 1:5]
    for text in (found["image"], found["truth"], found["clean"]["m"], found["attacked"][0]["mask"],
                 found["attacked"][0]["perturbation"]):  # fmt: skip
        np.testing.assert_allclose(opened(text).affine, part.affine)
        assert opened(text).shape == part.shape
    np.testing.assert_array_equal(opened(found["image"]).get_fdata(), part.get_fdata())
    # Files hold 5 and 9; the viewer gets the classes 1 and 2.
    assert set(np.unique(opened(found["truth"]).get_fdata())) == {0, 1, 2}
    np.testing.assert_allclose(opened(found["attacked"][0]["perturbation"]).get_fdata(), 10.0, rtol=1e-6)
    assert found["attacked"][0]["largest"] == 10.0
    assert any("6 x 6 x 4 of 6 x 7 x 8" in note for note in found["notes"])


def test_a_small_volume_is_whole(tmp_path):
    found = packed(attacked(tmp_path).add("a"), Quality())
    assert opened(found["image"]).shape == (6, 7, 8)
    assert found["notes"] == []


def test_the_first_place_lies_in_the_difference(tmp_path):
    folder = attacked(tmp_path).add("a")
    found = packed(folder)
    x, y, z = found["attacked"][0]["start"]
    voxel = np.rint(np.linalg.inv(AFFINE) @ [x, y, z, 1])[:3].astype(int)
    before, after = (
        np.asarray(nibabel.load(folder.folder / "segmentations" / place / "a.nii.gz").dataobj)
        for place in ("m/clean", "m/pgd/0.10000")
    )
    assert before[tuple(voxel)] != after[tuple(voxel)]


def test_a_volume_of_another_scan_is_not_shown_as_a_perturbation(tmp_path):
    found = packed(attacked(tmp_path).add("a", change=40.0))
    assert found["attacked"][0]["perturbation"] is None
    assert any("by more than the attack was allowed to" in note for note in found["attacked"][0]["notes"])


def test_only_the_first_channel_is_shown_and_that_is_said(tmp_path):
    image = np.arange(2 * 6 * 7 * 8, dtype=np.int16).reshape(2, 6, 7, 8) % 90
    found = packed(attacked(tmp_path).add("a", image=image), Quality())
    np.testing.assert_array_equal(opened(found["image"]).get_fdata(), image[0])
    assert any("2 channels" in note and "T1" in note for note in found["notes"])


def test_the_change_of_a_system_with_channels_in_its_own_order_is_that_of_the_shown_channel(tmp_path):
    image = np.stack([np.full((6, 7, 8), 10, np.int16), np.full((6, 7, 8), 80, np.int16)])
    folder = attacked(tmp_path).add("a", image=image)
    folder.orders["a"] = [1, 0]
    folder._write("volumes/m/pgd/0.10000/a.nii.gz", write_image, image[::-1] + np.int16(4))
    assert packed(folder)["attacked"][0]["largest"] == 4.0
    folder.orders["a"] = [1]
    found = packed(folder)["attacked"][0]
    assert found["perturbation"] is None
    assert any("does not read the channel" in note for note in found["notes"])


def test_values_that_are_no_class_are_background(tmp_path):
    truth = np.zeros((6, 7, 8), np.uint8)
    truth[2:4, 2:4, 2:4], truth[0, 0, 0] = 5, 255
    found = packed(attacked(tmp_path).add("a", truth=truth), Quality())
    assert set(np.unique(opened(found["truth"]).get_fdata())) == {0, 1}


def test_a_2d_image_is_one_slice(tmp_path):
    truth = np.zeros((6, 7, 1), np.uint8)
    truth[2:4, 2:4] = 5
    found = packed(attacked(tmp_path, shape=(6, 7, 1)).add("a", truth=truth))
    assert opened(found["image"]).shape[2] == 1
    assert any("single slice" in note for note in found["notes"])


def test_what_was_not_kept_is_said(tmp_path):
    folder = attacked(tmp_path).add("a")
    (folder.folder / "volumes/m/pgd/0.10000/a.nii.gz").unlink()
    found = packed(folder)
    assert found["attacked"][0]["mask"] is not None
    assert any("The attacked image was not kept" in note for note in found["attacked"][0]["notes"])
    (folder.folder / "segmentations/m/pgd/0.10000/a.nii.gz").unlink()
    found = packed(folder)
    assert found["attacked"][0]["mask"] is None
    assert any("Neither" in note for note in found["attacked"][0]["notes"])


def test_the_strongest_attack_that_was_kept_is_shown_and_named(tmp_path):
    folder = attacked(tmp_path).add("a")
    stronger = replace(folder.records[-1], attack="apgd", adversarial=(0.0, 0.0), deployed=(0.0, 0.0))
    folder.records.append(stronger)
    found = packed(folder)["attacked"][0]
    assert found["attack"] == "pgd"
    assert any("stronger apgd" in note for note in found["notes"])


def test_fewer_steps_and_sizes_are_said(tmp_path):
    folder = attacked(tmp_path).add("a").add("a", eps=0.05, change=5.0)
    found = packed(folder, Quality(steps=3, image_steps=255, every_eps=False))
    small, large = found["attacked"]
    assert small["perturbation"] is None
    assert large["perturbation"] is not None
    assert any("largest attack only" in note for note in small["notes"])
    assert any("256 steps" in note for note in found["notes"])


def test_masks_of_another_shape_are_refused(tmp_path):
    folder = attacked(tmp_path).add("a")
    folder._write("segmentations/m/clean/a.nii.gz", _label, np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(NotShown, match="not of the same scan"):
        packed(folder)


def _label(path, array, affine):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def test_the_attacked_image_can_be_put_together_from_the_image_and_the_change(tmp_path):
    rng = np.random.default_rng(3)
    image = rng.normal(50, 40, (6, 7, 8)).astype(np.float32)
    folder = attacked(tmp_path).add("a", image=image, change=10.0)
    folder.records = [replace(r, threat=replace(r.threat, reference="window")) for r in folder.records]
    written = image.clip(0, 100) + rng.uniform(-10, 10, image.shape).astype(np.float32)
    folder._write("volumes/m/pgd/0.10000/a.nii.gz", write_image, written)
    found = packed(folder, Quality())
    one = found["attacked"][0]
    together = opened(found["image"]).get_fdata().clip(*one["clip"]) + opened(one["perturbation"]).get_fdata()
    rounding = (image.max() - image.min()) / Quality().image_steps
    assert np.abs(together - written).max() <= one["step"] / 2 + rounding
    assert one["step"] == pytest.approx(one["largest"] / 127)


def test_an_image_that_was_not_cut_for_the_attack_is_not_cut_here(tmp_path):
    assert packed(attacked(tmp_path).add("a"))["attacked"][0]["clip"] is None


def test_the_dice_of_all_structures_as_one_is_told_where_there_are_several(tmp_path):
    truth = np.zeros((6, 7, 8), np.uint8)
    truth[2:4, 2:4, 2:4], truth[2:4, 2:4, 4] = 5, 9
    folder = attacked(tmp_path).add("a", truth=truth)
    exchanged = np.where(truth == 5, 9, np.where(truth == 9, 5, 0)).astype(np.uint8)
    exchanged[2, 2, 2] = 0
    folder._write("segmentations/m/pgd/0.10000/a.nii.gz", _label, exchanged)
    assert packed(folder)["attacked"][0]["union"] == (1.0, 2 * 11 / (12 + 11))
    (tmp_path / "one").mkdir()
    assert packed(attacked(tmp_path / "one").add("a", truth=(truth == 5) * np.uint8(5)))["attacked"][0]["union"] is None
