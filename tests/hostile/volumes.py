"""Readers of volumes: NIfTI and its pairs, NRRD, MetaImage, PNG and TIFF."""

from __future__ import annotations

import functools
import gzip
import io
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import nibabel
import numpy as np
from PIL import Image

from tests.hostile.mutations import bytes_changed, gzip_changed, lines_changed
from tests.hostile.reader import Files, Link, Pipe, Reader
from voxward.core.errors import UserError
from voxward.data.io import read_header, read_image, read_label, write_label

_ARRAY = (np.arange(5 * 6 * 7) % 200 - 20).reshape(5, 6, 7)
_AFFINE = np.diag([1.5, 1, 2, 1.0])


def _use(path: Path) -> str:
    """Read a volume in every way, and check what was read."""
    header, volume = read_header(path), read_image([path])
    assert (header.shape, header.channels) == (volume.shape, volume.array.shape[0])
    assert np.array_equal(header.affine, volume.affine, equal_nan=True)
    assert volume.array.dtype.kind in "iuf"
    assert volume.array.dtype.isnative
    held = path.stat().st_size
    assert volume.array.nbytes <= 2 * 1032 * max(held, 1000) or path.suffix in (".mhd", ".hdr")
    try:
        label = read_label(path)
    except UserError:
        return "an image"
    assert label.shape == volume.shape
    if np.isfinite(volume.affine).all() and path.stat().st_mtime_ns % 16 == 0:
        name = path.with_suffix(".nii").name if path.suffix == ".hdr" else path.name
        try:
            write_label(path.parent / f"out-{name}", label.array, volume.affine, path)
        except UserError:
            return "a label whose place cannot be written"
    return "a label"


def _pairs() -> tuple[Files, ...]:
    """NIfTI pairs of both versions, of several types, and with an extension."""
    small = _ARRAY[:3, :3, :3]
    images = [
        nibabel.Nifti1Pair(small.astype("i2"), _AFFINE), nibabel.Nifti2Pair(small.astype("f4"), _AFFINE),
        nibabel.Nifti1Pair(small.astype("i2"), _AFFINE, nibabel.nifti1.Nifti1PairHeader(endianness=">")),
        nibabel.Nifti1Pair(small.astype("u1"), _AFFINE),
    ]  # fmt: skip
    images[3].header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"hello"))
    found: list[Files] = []
    with tempfile.TemporaryDirectory() as place:
        for image in images:
            nibabel.save(image, Path(place, "a.hdr"))
            found.append({name: Path(place, name).read_bytes() for name in ("a.hdr", "a.img")})
    return tuple(found)


def _pair_changed(random: Random, files: Files) -> Files:
    """A pair of which a half was changed, or is gone."""
    found = dict(files)
    name = random.choice(("a.hdr", "a.hdr", "a.hdr", "a.img"))
    content = files[name]
    assert isinstance(content, bytes)
    if random.randrange(20) == 0:
        del found[name]
    else:
        found[name] = bytes_changed(random, content, random.choice((120, 360, None)))
    return found


@functools.cache
def nifti_sound() -> tuple[Files, ...]:
    """Return NIfTI files of both versions, byte orders and many types, packed and not, and pairs."""
    one, two = nibabel.Nifti1Image, nibabel.Nifti2Image
    images = [
        one(_ARRAY.astype("i2"), _AFFINE), one((_ARRAY % 4).astype("u1"), _AFFINE), one(_ARRAY.astype("f4"), _AFFINE),
        two(_ARRAY.astype("f8"), _AFFINE), one(np.stack([_ARRAY, _ARRAY + 1], -1).astype("i2"), _AFFINE),
        one(_ARRAY[:, :, 0].astype("i2"), _AFFINE), one(_ARRAY[..., None, None].astype("i2"), _AFFINE),
        one(_ARRAY.astype("i2"), _AFFINE, nibabel.Nifti1Header(endianness=">")),
        two(_ARRAY.astype("i4"), _AFFINE, nibabel.Nifti2Header(endianness=">")),
    ]  # fmt: skip
    scaled, extended = one(_ARRAY.astype("i2"), _AFFINE), one(_ARRAY.astype("i2"), _AFFINE)
    scaled.header.set_slope_inter(0.5, -1000)
    extended.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"hello"))
    contents = [image.to_bytes() for image in (*images, scaled, extended)]
    packed = [gzip.compress(content, 1, mtime=0) for content in contents]
    single = (*({"a.nii": content} for content in contents), *({"a.nii.gz": content} for content in packed))
    return (*single, *_pairs())


def nifti_changed(random: Random, files: Files) -> Files:
    """Return a NIfTI file whose header, extension, voxels or stream was changed, or such a pair."""
    if len(files) == 2:
        return _pair_changed(random, files)
    ((name, content),) = files.items()
    assert isinstance(content, bytes)

    def inner(random: Random, data: bytes) -> bytes:
        return bytes_changed(random, data, random.choice((120, 360, 360, 560, None)))

    found = gzip_changed(random, content, inner) if name.endswith(".gz") else inner(random, content)
    other = {"a.nii": "a.nii.gz", "a.nii.gz": "a.nii"}[name]
    return {other if random.randrange(40) == 0 else name: found}


def use_nifti(folder: Path) -> str:
    """Read the NIfTI file or pair in a folder."""
    return _use(min(folder.iterdir()))


WORDS = tuple(
    word.encode()
    for word in (
        "-1", "0", "99999999999", "nan", "inf", "1e308", "", "LOCAL", "LIST", "LIST 2", "/etc/passwd", "../x", "a.raw",
        "../../../../etc/passwd", "-", "pipe", "link", "folder", "%03d.raw 1 5 1", "a.raw\0b", "MET_DOUBLE",
        "MET_STRING",
        "MET_UCHAR", "MET_SHORT_ARRAY", "True", "False", "2", "3", "4", "5", "17", "(nan,0,0)",
        "(0,0,0) (0,0,0) (0,0,0)", "none (1,0,0) (0,1,0) (0,0,1)", "left-posterior-superior", "scanner-xyz", "gzip",
        "raw",
        "ascii", "hex", "bzip2", "block", "double", "signed char", "none", "30000 30000 30000", "2147483647 1 1",
        "-5 6 7", "0 0 0", "1 1 1", "5 6 7", "1 5 6 7", "4294967297 1 1", "vector domain domain domain", "little",
        "big",
        "1 0 0 0 1 0 0 0 1", "1000000000000", "5  6\t7",
    )
)  # fmt: skip


@functools.cache
def itk_sound() -> tuple[Files, ...]:
    """Return NRRD and MetaImage files, packed and not, of scalars and vectors, in one file and in two."""
    import SimpleITK

    found: list[Files] = []
    volumes = [(_ARRAY.astype("i2"), False), (_ARRAY.astype("f4"), False), ((_ARRAY % 4).astype("u1"), False)]
    volumes.append((np.stack([_ARRAY, _ARRAY], -1).astype("i2"), True))
    with tempfile.TemporaryDirectory() as place:
        for suffix in (".nrrd", ".mha", ".mhd"):
            for packed in (False, True):
                for array, vector in volumes:
                    image = SimpleITK.GetImageFromArray(array, isVector=vector)
                    image.SetSpacing((1.5, 1, 2))
                    folder = Path(place, f"{suffix}{packed}{array.dtype}{vector}")
                    folder.mkdir()
                    SimpleITK.WriteImage(image, str(folder / f"a{suffix}"), packed)
                    found.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    body = _ARRAY.astype("<i2").tobytes()
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: little\nspace: left-posterior-superior\n"
    header += b"space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n"
    found.append({"a.nrrd": header + b"encoding: raw\ndata file: a.raw\n\n", "a.raw": body})
    text = " ".join(map(str, _ARRAY.ravel())).encode()
    found.append({"a.nrrd": header + b"encoding: ascii\n\n" + text})
    return tuple(found)


def itk_changed(random: Random, files: Files) -> Files:
    """Return a NRRD or MetaImage file of which header or voxels were changed."""
    found = dict(files)
    name = next(name for name in files if not name.endswith("raw"))
    content = files[name]
    assert isinstance(content, bytes)
    end = _header_end(name, content)
    head, body = content[:end], content[end:]
    kind = random.randrange(10)
    if kind < 6:
        head = lines_changed(random, head, WORDS, (b": ", b" = "))
        body = bytes_changed(random, body) if body and random.randrange(5) == 0 else body
        found[name] = head + body
    elif kind < 9 or name == next(reversed(files)):
        found[name] = bytes_changed(random, content, random.choice((end, end, None)))
    else:
        data = next(each for each in files if each.endswith("raw"))
        inner = found[data]
        assert isinstance(inner, bytes)
        found[data] = random.choice((bytes_changed(random, inner), b"", None, Link("/etc/passwd"), Pipe()))
    if random.randrange(4) == 0:
        found |= {"pipe": Pipe(), "link": Link("/etc/passwd"), "folder": None}
    return found


def _header_end(name: str, content: bytes) -> int:
    if name.endswith(".nrrd"):
        return content.find(b"\n\n") + 2 if b"\n\n" in content else len(content)
    return content.find(b"\n", content.find(b"ElementDataFile")) + 1


def use_itk(folder: Path) -> str:
    """Read the NRRD or MetaImage file in a folder."""
    secret = Path("/etc/passwd").read_bytes()
    path = next(path for path in folder.iterdir() if path.suffix in (".nrrd", ".mha", ".mhd"))
    said = _use(path)
    assert secret[:40] not in read_image([path]).array.tobytes(), "it holds another file of the machine"
    return said


_PICTURES = (
    ("a.png", "u1", {}), ("a.png", "u2", {}), ("a.tif", "u1", {}), ("a.tif", "u2", {"compression": "tiff_lzw"}),
    ("a.tif", "f4", {"compression": "tiff_adobe_deflate"}), ("a.tif", "i4", {"compression": "packbits"}),
    ("a.tif", "f4", {}),
)  # fmt: skip


@functools.cache
def picture_sound() -> tuple[Files, ...]:
    """Return PNG and TIFF files of grey and of colours, packed and not."""
    plane = np.abs(_ARRAY[:, :, 0])
    images = [(name, Image.fromarray(plane.astype(kind)), options) for name, kind, options in _PICTURES]
    colours = Image.fromarray(np.stack([plane, plane + 1, plane + 2], -1).astype("u1"))
    images += [("a.png", colours, {}), ("a.tif", colours, {"compression": "tiff_lzw"})]
    found: list[Files] = []
    for name, image, options in images:
        made = io.BytesIO()
        image.save(made, format="PNG" if name == "a.png" else "TIFF", **options)
        found.append({name: made.getvalue()})
    return tuple(found)


def picture_changed(random: Random, files: Files) -> Files:
    """Return a PNG or TIFF file that was changed; of a PNG file mostly with checksums that fit."""
    ((name, content),) = files.items()
    assert isinstance(content, bytes)
    found = bytes_changed(random, content, random.choice((40, 200, None)))
    return {name: found if name == "a.tif" or random.randrange(4) == 0 else _summed(found)}


def _summed(content: bytes) -> bytes:
    """A PNG file whose parts have the right checksums."""
    found, place = content[:8], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        part = content[place + 4 : place + 8 + length]
        found += content[place : place + 4] + part + zlib.crc32(part).to_bytes(4, "big")
        place += 12 + length
    return found


def use_picture(folder: Path) -> str:
    """Read the PNG or TIFF file in a folder."""
    return _use(next(path for path in folder.iterdir()))


VOLUMES: Sequence[Reader] = (
    Reader("nifti", nifti_sound, nifti_changed, use_nifti, "a.nii"),
    Reader("itk", itk_sound, itk_changed, use_itk, "a.nrrd"),
    Reader("picture", picture_sound, picture_changed, use_picture, "a.png"),
)
