"""Headers of NRRD and MetaImage files are checked before ITK believes them."""

import bz2
import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.memory import assert_refused_in_little_memory
from voxward.data.io import read_header, read_image
from voxward.data.itk_header import voxels_of

META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1.5 1 2",
    "DimSize": "7 6 5", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip
NRRD = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "7 6 5",
    "space directions": "(1.5,0,0) (0,1,0) (0,0,2)", "endian": "little", "encoding": "raw", "space origin": "(0,0,0)",
}  # fmt: skip
VOXELS = np.arange(7 * 6 * 5, dtype="<i2")
BYTES = VOXELS.tobytes()
PACKED = zlib.compress(BYTES)


def meta(path: Path, data: bytes = BYTES, lines: str | None = None, **changes: str | None) -> Path:
    fields = {name: value for name, value in (META | changes).items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last one
    text = "".join(f"{name} = {value}\n" for name, value in fields.items()) if lines is None else lines
    path.write_bytes(os.fsencode(text) + data)
    return path


def packed_meta(path: Path, data: bytes, **changes: str | None) -> Path:
    return meta(path, data, **({"CompressedData": "True", "CompressedDataSize": str(len(data))} | changes))


def nrrd(path: Path, data: bytes = BYTES, **changes: str | None) -> Path:
    given = {name.replace("_", " "): value for name, value in changes.items()}
    fields = {name: value for name, value in (NRRD | given).items() if value is not None}
    text = "NRRD0004\n# a comment\nkey:=value\n" + "".join(f"{name}: {value}\n" for name, value in fields.items())
    path.write_bytes(text.encode("latin-1") + b"\n" + data)
    return path


def assert_refused(path: Path, match: str) -> None:
    for read in (read_header, lambda path: read_image([path])):
        with pytest.raises(ValueError, match=match) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_sound_files_are_read(tmp_path: Path) -> None:
    expected = VOXELS.reshape(5, 6, 7).transpose(2, 1, 0)
    files = [
        meta(tmp_path / "a.mha"),
        packed_meta(tmp_path / "b.mha", PACKED),
        meta(tmp_path / "b.mhd", b"", CompressedData="True", ElementDataFile="b.zraw"),
        meta(tmp_path / "c.mha", lines="".join(f"{name} = {value}\r\n" for name, value in META.items())),
        meta(tmp_path / "d.mhd", b"", ElementDataFile="d.raw"),
        meta(tmp_path / "e.mhd", b"", ElementDataFile="deep/e.raw"),
        meta(tmp_path / "f.mhd", b"", ElementDataFile="f.raw", HeaderSize="10"),
        meta(tmp_path / "g.mha", BinaryData=None, **{"0008|0060": "MR", "note#": "a = b: c"}),
        packed_meta(tmp_path / "h.mha", PACKED, CompressedData="1"),
        meta(
            tmp_path / "i.mha",
            lines="".join(f"{name} = {value}\n \n" for name, value in META.items()).removesuffix(" \n"),
        ),
        meta(tmp_path / "Müller.mhd", b"", ElementDataFile="Müller.raw"),
        meta(tmp_path / "Lister.mhd", b"", ElementDataFile="Lister.raw"),
        nrrd(tmp_path / "a.nrrd"),
        nrrd(tmp_path / "e.nrrd", gzip.compress(BYTES[:99]) + gzip.compress(BYTES[99:]), encoding="gzip"),
        nrrd(tmp_path / "f.nrrd", b"", datafile="f.raw", byte_skip="10"),
        nrrd(tmp_path / "g.nrrd", b"", datafile="f.raw", byte_skip="-1"),
        nrrd(tmp_path / "h.nrrd", b"", datafile="h.raw.gz", byte_skip="10", encoding="gzip"),
        nrrd(tmp_path / "b.nrrd", gzip.compress(BYTES), encoding="gzip"),
        nrrd(tmp_path / "c.nrrd", " ".join(map(str, VOXELS)).encode(), encoding="ascii", endian=None),
        nrrd(tmp_path / "d.nrrd", b"", data_file="d.raw"),
    ]
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.zraw").write_bytes(PACKED)
    (tmp_path / "h.raw.gz").write_bytes(gzip.compress(bytes(10) + BYTES + b"more"))
    raw = ("d.raw", "deep/e.raw", "Lister.raw", "Müller.raw")
    for name, before in (*((name, b"") for name in raw), ("f.raw", bytes(10))):
        (tmp_path / name).write_bytes(before + BYTES)
    for file in files:
        assert read_header(file).shape == (7, 6, 5)
        np.testing.assert_array_equal(read_image([file]).array[0], expected)


def test_a_pair_of_links_into_one_store_is_read(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "data").mkdir()
    meta(tmp_path / "store" / "x.mhd", b"", ElementDataFile="x.raw")
    (tmp_path / "store" / "x.raw").write_bytes(BYTES)
    for name in ("x.mhd", "x.raw"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store" / name)
    assert read_image([tmp_path / "data" / "x.mhd"]).shape == (7, 6, 5)


def test_bzip2_is_counted(tmp_path: Path) -> None:
    """Not every ITK is built with it; what is claimed is compared all the same."""
    voxels_of(nrrd(tmp_path / "a.nrrd", bz2.compress(BYTES), encoding="bzip2")).check_stream()
    short = voxels_of(nrrd(tmp_path / "b.nrrd", bz2.compress(BYTES[:-2]), encoding="bzip2"))
    with pytest.raises(ValueError, match=f"claims {len(BYTES)} bytes of voxels, and the file holds {len(BYTES) - 2}"):
        short.check_stream()


@pytest.mark.parametrize("dimensions", ["-5", "-1", "0", "1", "5", "10", "30000", "9" * 14, "3.0", "", "3 -5", "x"])
def test_a_wrong_number_of_dimensions_is_refused(tmp_path: Path, dimensions: str) -> None:
    assert_refused(meta(tmp_path / "x.mha", NDims=dimensions), "must be a whole number from 2 to 4")
    if dimensions != "5":
        assert_refused(nrrd(tmp_path / "x.nrrd", dimension=dimensions), "must be a whole number from 2 to 5")


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("NDims = 3\n", "NDims : -5\n", "not NAME = VALUE"),
        ("NDims = 3\n", "NDims = 3\nNDims = -5\n", "'NDims' twice"),
        ("NDims = 3\n", "ndims = 3\nNDims = -5\n", "must be written NDims"),
        ("NDims = 3\n", "NDims = 3\nNDims\t= -5\n", "control character"),
        ("NDims = 3\n", "NDims = 3\nNDims\x00 = -5\n", "control character"),
        ("NDims = 3\n", "NDims = 3\nComment = x\rNDims = -5\n", "control character"),
        ("NDims = 3\n", "NDims = 3\nName: NDims = -5\n", "not NAME = VALUE"),
        ("NDims = 3\n", "NDims = := -5\n", "not NAME = VALUE"),
        ("BinaryData = True\n", "binarydata = True\n", "must be written BinaryData"),
        ("NDims = 3\n", " NDims = 3\nNDims = -5\n", "'NDims' twice"),
        ("NDims = 3\n", "", "got nothing"),
        ("NDims = 3\n", "NDims = 3\njust words\n", "which is not NAME = VALUE"),
        ("NDims = 3\n", "NDims = 3\n" + "n" * 200 + " = 1\n", "not NAME = VALUE"),
        ("ElementDataFile = LOCAL\n", "", "does not end with ElementDataFile|control character"),
    ],
)
def test_what_two_readers_may_read_differently_is_refused(tmp_path: Path, before: str, after: str, match: str) -> None:
    """ITK takes the last of two fields, and a colon for an equals sign."""
    text = "".join(f"{name} = {value}\n" for name, value in META.items())
    assert_refused(meta(tmp_path / "x.mha", lines=text.replace(before, after)), match)


@pytest.mark.parametrize("sizes", ["7 6", "7 6 5 4", "7 -6 5", "7 0 5", "7 6 5.5", "", "7 6 4294967296"])
def test_wrong_sizes_are_refused(tmp_path: Path, sizes: str) -> None:
    assert_refused(meta(tmp_path / "x.mha", DimSize=sizes), "DimSize must be")
    assert_refused(nrrd(tmp_path / "x.nrrd", sizes=sizes), "sizes must be")


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("named", ["/etc/passwd", "../secret.raw", "deep/../../secret.raw", "linked.raw"])
def test_a_data_file_outside_of_the_folder_is_refused(tmp_path: Path, suffix: str, named: str) -> None:
    (tmp_path / "secret.raw").write_bytes(BYTES)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "linked.raw").symlink_to(tmp_path / "secret.raw")
    path = tmp_path / "in" / f"x{suffix}"
    written = nrrd(path, b"", data_file=named) if suffix == ".nrrd" else meta(path, b"", ElementDataFile=named)
    assert_refused(written, "same folder")


@pytest.mark.parametrize(
    "named", ["LIST", "LIST 2", "x%03d.raw 1 5 1", "gone.raw", "pipe", ".", "", "-", "C:x", "x ", "é", "LoCaL"]
)
def test_a_data_file_that_is_no_ordinary_file_is_refused(tmp_path: Path, named: str) -> None:
    """Or that ITK would look for under another name."""
    os.mkfifo(tmp_path / "pipe")
    for decoy in ("-", "C:x", "x ", "é"):
        (tmp_path / decoy).write_bytes(BYTES)
    match = "several files|no ordinary file|same folder|not NAME = VALUE"
    if named == "x ":  # a MetaImage's ends at its last letter
        (tmp_path / "x").symlink_to("/etc/passwd")
    assert_refused(meta(tmp_path / "x.mhd", b"", ElementDataFile=named), match)
    assert_refused(nrrd(tmp_path / "x.nrrd", b"", datafile=named), match)


@pytest.mark.parametrize("named", [":/etc/passwd", "=/etc/passwd", ": /etc/passwd", "= = secret.raw"])
def test_a_data_file_behind_further_separators_is_refused(tmp_path: Path, named: str) -> None:
    """ITK skips any number of them, and would open another file than the one that lies there."""
    decoy = tmp_path / named
    decoy.parent.mkdir(parents=True, exist_ok=True)
    decoy.write_bytes(BYTES)
    assert_refused(meta(tmp_path / "x.mhd", b"", ElementDataFile=named), "not NAME = VALUE|same folder")


@pytest.mark.parametrize(
    "line",
    [
        "content: x\rdata file: /etc/passwd", "data file: /etc/passwd\x00:=", "data file: a:=/../../etc/passwd",
        "datafile: /etc/passwd", "Data File: /etc/passwd", "content: x\ndata file: /etc/passwd",
        "data file: -", "content: x\vdata file: /etc/passwd",
    ],
)  # fmt: skip
def test_an_nrrd_line_that_itk_reads_differently_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "-").write_bytes(BYTES)
    (tmp_path / "a:=").mkdir()
    path = nrrd(tmp_path / "x.nrrd")
    path.write_bytes(path.read_bytes().replace(b"# a comment", line.encode("latin-1")))
    assert_refused(path, "control character|same folder")


def test_a_key_is_no_field(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "x.nrrd")
    path.write_bytes(path.read_bytes().replace(b"# a comment", b"data file:=/etc/passwd\nnote:=a: b"))
    np.testing.assert_array_equal(read_image([path]).array[0].ravel("F"), VOXELS)


def test_where_the_voxels_begin_is_said_once(tmp_path: Path) -> None:
    assert_refused(meta(tmp_path / "x.mha", HeaderSize="10"), "HeaderSize is for voxels in a file of their own")
    assert_refused(nrrd(tmp_path / "x.nrrd", line_skip="1"), "lineskip must be a whole number from 0 to 0")


def test_pipes_are_no_volumes(tmp_path: Path) -> None:
    for suffix in (".mha", ".mhd", ".nrrd", ".nii", ".nii.gz"):
        os.mkfifo(tmp_path / f"x{suffix}")
        with pytest.raises(FileNotFoundError, match="no file"):
            read_image([tmp_path / f"x{suffix}"])


@pytest.mark.parametrize(("changes", "match"), [
    ({"ElementType": "MET_OTHER"}, "legal: MET_CHAR"), ({"ElementType": "MET_STRING"}, "legal: MET_CHAR"),
    ({"ElementType": None}, "legal: MET_CHAR"), ({"ElementNumberOfChannels": "-1"}, "whole number from 1"),
])  # fmt: skip
def test_what_a_voxel_is_must_be_said(tmp_path: Path, changes, match: str) -> None:
    assert_refused(meta(tmp_path / "x.mha", **changes), match)


@pytest.mark.parametrize(("changes", "match"), [
    ({"type": "block"}, "legal: signed char"), ({"type": None}, "legal: signed char"),
    ({"encoding": "zip"}, "legal: raw"), ({"encoding": None}, "legal: raw"),
])  # fmt: skip
def test_what_an_nrrd_voxel_is_must_be_said(tmp_path: Path, changes, match: str) -> None:
    assert_refused(nrrd(tmp_path / "x.nrrd", **changes), match)


@pytest.mark.parametrize("size", [None, "0", "-1", "1000000", str(len(PACKED) // 2)])
def test_a_wrong_length_of_packed_voxels_is_refused(tmp_path: Path, size: str | None) -> None:
    """ITK would return whatever the memory held for some of these."""
    path = packed_meta(tmp_path / "x.mha", PACKED, CompressedDataSize=size)
    if size is not None:
        (tmp_path / "x.zraw").write_bytes(PACKED)
        path = packed_meta(tmp_path / "x.mhd", b"", CompressedDataSize=size, ElementDataFile="x.zraw")
        with pytest.raises(ValueError, match=r"whole number from 1|packed voxels"):
            read_image([path])
        path = packed_meta(tmp_path / "x.mha", PACKED, CompressedDataSize=size)
    with pytest.raises(ValueError, match=r"whole number from 1|packed voxels"):
        read_image([path])


def test_a_claim_that_the_file_cannot_hold_costs_no_memory(tmp_path: Path) -> None:
    large = "1500 1500 1500"
    files = [
        meta(tmp_path / "a.mha", DimSize=large),
        packed_meta(tmp_path / "b.mha", PACKED, DimSize=large),
        nrrd(tmp_path / "a.nrrd", sizes=large),
        nrrd(tmp_path / "b.nrrd", gzip.compress(BYTES), sizes=large, encoding="gzip"),
        nrrd(tmp_path / "c.nrrd", sizes=large, encoding="ascii"),
    ]
    assert_refused_in_little_memory(dict.fromkeys(files, "cannot hold"))


@pytest.mark.slow
def test_a_stream_that_holds_more_or_less_than_claimed_costs_no_memory(tmp_path: Path) -> None:
    """Half a gigabyte of packed zeros for a volume of 420 bytes; and a claim that so long a file could just reach."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    short = zlib.compress(bytes(2 << 20)) + os.urandom(400_000)
    files = {
        packed_meta(tmp_path / "x.mha", bomb): "claims 420 bytes of voxels, and the file holds more",
        nrrd(tmp_path / "x.nrrd", bomb, encoding="gzip"): "claims 420 bytes of voxels, and the file holds more",
        packed_meta(tmp_path / "y.mha", short, DimSize="512 512 600"): "and the file holds 2097152",
    }
    assert_refused_in_little_memory(files)
