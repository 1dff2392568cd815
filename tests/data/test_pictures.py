"""PNG and TIFF files, against Pillow, SimpleITK and tifffile."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

import voxward
from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.data.formats import open_dataset
from voxward.data.io import read_case, read_header, read_image, read_label, write_image, write_label
from voxward.data.volume_file import changed_suffix, volumes_among
from voxward.systems.predict import collect_inputs

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (7, 5)
KINDS = {".png": ("uint8", "uint16"), ".tif": ("uint8", "uint16", "int16", "int32", "float32")}
GREY = [(suffix, kind) for suffix, kinds in KINDS.items() for kind in kinds]


def values(kind: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Values over the whole range of a number type."""
    random = np.random.default_rng(0)
    if kind == "float32":
        return random.normal(scale=1000, size=shape).astype(np.float32)
    limits = np.iinfo(kind)
    found = random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    found.flat[:2] = limits.min, limits.max
    return found


@pytest.mark.parametrize(("suffix", "kind"), GREY)
def test_what_is_written_is_what_others_read(tmp_path: Path, suffix: str, kind: str) -> None:
    path, array = tmp_path / f"a{suffix}", values(kind)
    write_image(path, array[None, :, :, None], AFFINE)
    image = SimpleITK.ReadImage(str(path))
    found = SimpleITK.GetArrayFromImage(image)
    assert (found.dtype, image.GetSize()) == (array.dtype, SHAPE)
    np.testing.assert_array_equal(found.T, array)
    np.testing.assert_array_equal(np.asarray(Image.open(path)).T, array)
    if suffix == ".tif":
        assert tifffile.imread(path).dtype == array.dtype
        np.testing.assert_array_equal(tifffile.imread(path).T, array)
    volume, header = read_image([path]), read_header(path)
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array[0, :, :, 0], array)
    assert (header.shape, header.channels, header.dimensions) == ((*SHAPE, 1), 1, 2)
    # The same picture by way of SimpleITK lies in the same place.
    SimpleITK.WriteImage(image, str(tmp_path / "b.mha"))
    np.testing.assert_array_equal(read_image([tmp_path / "b.mha"]).affine, volume.affine)
    np.testing.assert_array_equal(read_image([tmp_path / "b.mha"]).array, volume.array)


@pytest.mark.parametrize(("suffix", "kind"), GREY)
def test_what_others_write_is_read(tmp_path: Path, suffix: str, kind: str) -> None:
    path, array = tmp_path / f"a{suffix}", values(kind, (40, 30))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    np.testing.assert_array_equal(read_image([path]).array[0, :, :, 0].T, array)
    if suffix == ".tif":
        for options in ({}, {"tile": (16, 16)}, {"rowsperstrip": 7}, {"compression": "zlib"}, {"byteorder": ">"}):
            tifffile.imwrite(path, array, **options)
            found = read_image([path]).array
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found[0, :, :, 0].T, array)


@pytest.mark.parametrize("packed", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
def test_every_compression_and_three_colours(tmp_path: Path, packed: str | None) -> None:
    path, rows = tmp_path / "a.tiff", values("uint8", (5, 7, 3))
    Image.fromarray(rows).save(path, compression=packed)
    np.testing.assert_array_equal(read_image([path]).array[..., 0], rows.transpose(2, 1, 0))


def test_big_endian_packed_numbers_are_never_read_wrongly(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values("uint16"), byteorder=">", compression="zlib")
    np.testing.assert_array_equal(read_image([path]).array[0, :, :, 0].T, values("uint16"))
    tifffile.imwrite(path, values("int16"), byteorder=">", compression="zlib")
    with pytest.raises(UserError, match=r"a\.tif: its pixels are packed int16 with the greatest byte first"):
        read_image([path])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_are_three_channels(tmp_path: Path, suffix: str) -> None:
    path, array = tmp_path / f"a{suffix}", values("uint8", (3, *SHAPE, 1))
    write_image(path, array, AFFINE)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), array[..., 0].transpose(2, 1, 0))
    np.testing.assert_array_equal(read_image([path]).array, array)
    assert read_header(path).channels == 3
    with pytest.raises(UserError, match=r"a\.\w+: a label has one channel"):
        read_label(path)


@pytest.mark.parametrize(
    ("shape", "kind", "affine", "message"),
    [
        ((1, 7, 5, 2), "uint8", AFFINE, "a picture is one slice"),
        ((2, 7, 5, 1), "uint8", AFFINE, "a picture is one slice with 1 or 3 channels"),
        ((1, 7, 5, 1), "float32", AFFINE, "its numbers are float32; legal: uint8, uint16"),
        ((3, 7, 5, 1), "uint16", AFFINE, "its numbers are uint16; legal: uint8"),
        ((1, 7, 5, 1), "uint8", np.eye(4), r"cannot say how large its pixels are and where it lies.*\.nii\.gz"),
        ((1, 7, 5, 1), "uint8", AFFINE @ np.diag([0.5, 0.5, 1, 1]), "cannot say how large"),
    ],
)
def test_what_a_picture_cannot_hold_is_not_written(tmp_path, shape, kind, affine, message) -> None:
    with pytest.raises(UserError, match=message):
        write_image(tmp_path / "a.png", np.zeros(shape, kind), affine)
    assert list(tmp_path.iterdir()) == []


def test_labels_keep_their_values(tmp_path: Path) -> None:
    for name, most in (("a.png", 255), ("b.png", 65535), ("c.tif", 65536), ("d.tif", 300)):
        label = np.array([[[0], [1], [most]]])
        write_label(tmp_path / name, label, AFFINE)
        np.testing.assert_array_equal(read_label(tmp_path / name).array, label)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)).T, label[..., 0])
    with pytest.raises(UserError, match="must lie within uint16, got 0 to 65536"):
        write_label(tmp_path / "e.png", np.array([[[0], [65536]]]), AFFINE)


def png(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG file of parts whose checksums fit."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + zlib.crc32(name + data).to_bytes(4, "big") for name, data in parts
    )


def start(width: int, height: int, depth: int = 8, colour: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def pixels(rows: int, columns: int) -> tuple[bytes, bytes]:
    return b"IDAT", zlib.compress(b"\0" * rows * (columns + 1))


END = (b"IEND", b"")
SOUND = png(start(5, 4), pixels(4, 5), END)
BAD_PNG = {
    "is animated": png(start(5, 4), (b"acTL", struct.pack(">II", 2, 0)), pixels(4, 5), END),
    "a palette": png(start(5, 4, 8, 3), (b"PLTE", b"\0" * 6), pixels(4, 5), END),
    "RGBA": png(start(5, 4, 8, 6), pixels(4, 20), END),
    "grey with transparency": png(start(5, 4, 8, 4), pixels(4, 10), END),
    "16 bits for red, green and blue": png(start(5, 4, 16, 2), pixels(4, 30), END),
    "1 bits for grey": png(start(8, 4, 1), pixels(4, 1), END),
    "is damaged": SOUND[:45] + bytes([SOUND[45] ^ 1]) + SOUND[46:],
    "ends before its last part": SOUND[:-12],
    "claims 24 bytes of pixels, and it holds 18": png(start(5, 4), pixels(3, 5), END),
    "claims 24 bytes of pixels, and it holds 30": png(start(5, 4), pixels(5, 5), END),
    "cannot hold": png(start(60000, 60000), pixels(4, 5), END),
    "claims 0 x 4 pixels": png(start(0, 4), pixels(4, 0), END),
    "it is no PNG file": b"GIF89a" + SOUND,
}


@pytest.mark.parametrize("reason", BAD_PNG)
def test_a_png_file_that_is_not_read_says_why(tmp_path: Path, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(SOUND)
    assert read_image([tmp_path / "a.png"]).array.shape == (1, 5, 4, 1)
    (tmp_path / "a.png").write_bytes(BAD_PNG[reason])
    with pytest.raises(UserError, match=rf"a\.png.*{reason}"):
        read_image([tmp_path / "a.png"])


def test_an_interlaced_file_and_one_of_many_parts_are_read(tmp_path: Path) -> None:
    packed = pixels(4, 5)[1]
    (tmp_path / "a.png").write_bytes(png(start(5, 4), (b"IDAT", packed[:3]), (b"IDAT", packed[3:]), END))
    assert read_image([tmp_path / "a.png"]).array.shape == (1, 5, 4, 1)
    # The rows of Adam7's passes over 5 x 4 pixels: the third pass has none, the last two have two each.
    rows = b"".join(b"\0" + bytes(range(n)) for n in (1, 1, 1, 3, 2, 2, 5, 5))
    content = png((b"IHDR", start(5, 4)[1][:-1] + b"\1"), (b"IDAT", zlib.compress(rows)), END)
    (tmp_path / "b.png").write_bytes(content)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "b.png")))
    assert expected[1].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(read_image([tmp_path / "b.png"]).array[0, :, :, 0].T, expected)


def test_a_tiff_file_that_is_not_read_says_why(tmp_path: Path) -> None:
    path, grey = tmp_path / "a.tif", values("uint8")

    def refused(reason: str) -> None:
        for read in (read_header, lambda path: read_image([path])):
            with pytest.raises(UserError, match=rf"a\.tif.*{reason}"):
                read(path)

    tifffile.imwrite(path, np.stack([grey, grey]), photometric="minisblack")
    refused("several pages, and nothing says how far apart")
    for one_page in ({"imagej": True, "truncate": True}, {"truncate": True}, {"volumetric": True}):
        tifffile.imwrite(path, np.stack([grey] * 16), photometric="minisblack", **one_page)
        refused("several pages, and nothing says how far apart")
    tifffile.imwrite(path, grey, photometric="miniswhite")
    refused("grey in which 0 is white")
    tifffile.imwrite(path, values("uint8", (5, 7, 4)), photometric="rgb")
    refused("4 values for each pixel, one of which may be transparency")
    tifffile.imwrite(path, grey.astype(np.float64))
    refused("unknown pixel mode")
    tifffile.imwrite(path, grey.astype(np.uint32))
    refused("integers of 32 bits")
    tifffile.imwrite(path, values("uint16", (5, 7, 3)), photometric="rgb")
    refused("integers of 16 and 16 and 16 bits")
    tifffile.imwrite(path, grey, extratags=[(274, "H", 1, 3, True)])
    refused("Orientation is 3")
    Image.fromarray(grey).convert("P").save(path)
    refused("colours of a palette")
    Image.fromarray(grey).save(path, compression="jpeg")
    refused("compression is number 7")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(grey), str(tmp_path / "b.png"))
    path.write_bytes((tmp_path / "b.png").read_bytes())
    refused("not a TIFF file")
    tifffile.imwrite(path, grey)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 10])
    with pytest.raises(UserError, match=r"a\.tif is truncated"):
        read_image([path])


def test_a_tiff_file_that_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for packed in (None, "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        Image.new("L", (4, 4)).save(path, compression=packed)
        content = bytearray(path.read_bytes())
        (begin,) = struct.unpack_from("<I", content, 4)
        for place in range(begin + 2, begin + 2 + 12 * content[begin], 12):
            if struct.unpack_from("<H", content, place)[0] in (256, 257):  # width and height
                struct.pack_into("<HII", content, place + 2, 4, 1, 200_000)
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.tif.*cannot hold"):
            read_image([path])


def nnunet(root: Path, ending: str, channels: list[str], cases: int = 5) -> Path:
    """A dataset of slices with a bright square, in nnU-Net's layout."""
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for n in range(cases):
        label = np.zeros((32, 32), np.uint8)
        i, j = random.integers(4, 16, 2)
        label[i : i + 10, j : j + 12] = 1
        grey = (60 + 120 * label + random.integers(0, 30, label.shape)).astype(np.uint8)
        image = np.stack([grey] * 3, -1) if len(channels) == 3 else grey
        Image.fromarray(image).save(root / "imagesTr" / f"c{n}_0000{ending}")
        Image.fromarray(label).save(root / "labelsTr" / f"c{n}{ending}")
    described = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0, "square": 1}}
    (root / "dataset.json").write_text(json.dumps(described | {"file_ending": ending, "numTraining": cases}))
    return root


@pytest.mark.parametrize(("ending", "channels"), [(".png", ["red", "green", "blue"]), (".tif", ["X-ray"])])
def test_nnunets_folders_and_plain_ones(tmp_path: Path, ending: str, channels: list[str]) -> None:
    root = nnunet(tmp_path / "data", ending, channels)
    dataset = open_dataset(root)
    assert [case.images[0].name for case in dataset.cases] == [f"c{n}_0000{ending}" for n in range(5)]
    assert read_case(dataset.cases[0]).array.shape == (len(channels), 32, 32, 1)
    found = voxward.check(root)
    assert [problem for problem in found.problems if problem.severity == "error"] == []
    (said,) = [problem for problem in found.problems if problem.kind == "pixel size"]
    assert "says nowhere how large a pixel is: 1 mm is taken" in said.message
    plain = tmp_path / "plain"
    plain.mkdir()
    (root / "imagesTr").rename(plain / "images")
    (root / "labelsTr").rename(plain / "labels")
    assert [case.id for case in open_dataset(plain).cases] == [f"c{n}" for n in range(5)]
    assert len(open_dataset(plain).channels) == len(channels)


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    root = nnunet(tmp_path, ".png", ["a", "b"])
    messages = [problem.message for problem in voxward.check(root).problems if problem.severity == "error"]
    assert messages == ["1 channels, but the dataset declares 2"] * 5


def test_a_folder_of_colours_is_a_case_for_each_file(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, ".png", ["red", "green", "blue"], cases=2) / "imagesTr"
    cases = collect_inputs([folder], ["red", "green", "blue"])
    assert [(case.id, len(read_case(case).array)) for case in cases] == [("c0", 3), ("c1", 3)]


def test_several_files_of_a_case_become_one_volume(tmp_path: Path) -> None:
    planes = [values("uint8", (2, *SHAPE))[n] for n in range(2)]
    for n, plane in enumerate(planes):
        write_image(tmp_path / f"a_{n:04d}.png", plane[:, :, None], AFFINE)
    case = Case("a", tuple(sorted(tmp_path.glob("*.png"))))
    volume, path = read_case(case), tmp_path / f"a{changed_suffix(case)}"
    write_image(path, volume.array, volume.affine, template=case.images[0])
    again = read_image([path])
    assert path.name == "a.nii.gz"
    np.testing.assert_array_equal(again.array[..., 0], planes)
    np.testing.assert_array_equal(again.affine, AFFINE)


def test_pictures_beside_volumes_are_no_volumes(tmp_path: Path) -> None:
    names = ["a.nii.gz", "a.png", "b.hdr", "b.img", "c.img", ".d.nii", "e.txt"]
    assert [path.name for path in volumes_among(map(Path, names))] == ["a.nii.gz", "b.hdr", "c.img"]
    assert [path.name for path in volumes_among(map(Path, ["b.tif", "a.png", "t.txt"]))] == ["a.png", "b.tif"]
    for images, order, suffix in (
        (("a.png",), None, ".png"), (("a.png", "b.png"), None, ".nii.gz"), (("a.png",), (2, 0), ".nii.gz"),
        (("a.nrrd", "b.nrrd"), (1, 0), ".nrrd"), (("a.hdr",), None, ".nii.gz"),
    ):  # fmt: skip
        assert changed_suffix(Case("a", tuple(map(Path, images)), order=order)) == suffix
