"""No reader takes memory that the size of its file does not justify, whatever its header claims."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.hostile.documents import trained
from tests.hostile.models import bundles, nnunets, prepared
from tests.hostile.reader import Files, lay
from voxward.core.errors import UserError
from voxward.data.io import read_header, read_image
from voxward.data.store import open_case
from voxward.runs.folder import load_run
from voxward.systems.open import open_system

MOST = 32 << 20
"""Bytes for files of some kilobytes."""


def refused(read: Callable[[], object]) -> int:
    """Have a file refused, and return the most bytes that this takes."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def folder() -> Path:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def nifti(shape: tuple[int, ...], version: int = 1, extension: int = 0) -> bytes:
    """A NIfTI file that claims a shape and holds no voxels."""
    header = (nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header)()
    header.set_data_shape(shape)
    header.set_data_dtype("f8")
    header["vox_offset"] = header.sizeof_hdr + 4 + extension
    header["magic"] = b"n+1" if version == 1 else b"n+2\0\r\n\x1a\n"
    flag = b"\1\0\0\0" + extension.to_bytes(4, "little") + b"\0" * 8 if extension else b"\0" * 4
    return bytes(header.binaryblock) + flag + b"\0" * 64


HUGE = (2000, 2000, 2000)
NRRD = "NRRD0004\ntype: double\ndimension: 3\nsizes: 2000 2000 2000\nencoding: {}\nendian: little\n\n"
META = (
    "ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_DOUBLE\nCompressedData = {packed}\n"
    "{more}ElementDataFile = LOCAL\n"
)
ZEROS = 200 << 20  # of zeros, which pack to 200 kB

VOLUMES: dict[str, bytes] = {
    "claims.nii": nifti(HUGE),
    "claims.nii.gz": gzip.compress(nifti(HUGE)),
    "two.nii": nifti(HUGE, 2),
    "extended.nii": nifti((2, 2, 2), extension=1 << 30),
    "raw.nrrd": NRRD.format("raw").encode() + b"\0" * 100,
    "packed.nrrd": NRRD.format("gzip").encode() + gzip.compress(b"\0" * 100),
    "bzip.nrrd": NRRD.format("bzip2").encode() + b"BZh9" + b"\0" * 100,
    "text.nrrd": NRRD.format("ascii").encode() + b"1 2 3",
    "raw.mha": META.format(size="2000 2000 2000", packed="False", more="").encode() + b"\0" * 100,
    "packed.mha": META.format(size="2000 2000 2000", packed="True", more="CompressedDataSize = 50\n").encode()
    + b"\0" * 50,
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_header_that_claims_too_much(name: str, folder: Path):
    (folder / name).write_bytes(VOLUMES[name])
    assert refused(lambda: read_image([folder / name])) < MOST


@pytest.fixture(scope="module")
def zeros() -> bytes:
    return zlib.compress(b"\0" * ZEROS, 1)


@pytest.mark.parametrize("name", ["bomb.mha", "bomb.nrrd"])
def test_a_stream_that_unpacks_to_more_than_the_header_needs(name: str, zeros: bytes, folder: Path):
    if name.endswith("mha"):
        more = f"CompressedDataSize = {len(zeros)}\n"
        content = META.format(size="10 10 5", packed="True", more=more).encode() + zeros
    else:
        stream = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zeros[2:-4] + b"\0" * 8
        content = NRRD.format("gzip").replace("2000 2000 2000", "10 10 5").encode() + stream
    (folder / name).write_bytes(content)
    assert refused(lambda: read_image([folder / name])) < MOST


def test_a_packed_scan_with_much_behind_its_voxels_is_read_in_little_memory(folder: Path):
    image = nibabel.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)).to_bytes()
    (folder / "more.nii.gz").write_bytes(gzip.compress(image + b"\0" * ZEROS, 1))
    tracemalloc.start()
    try:
        with pytest.warns(UserWarning, match="bytes after its voxels"):
            assert read_image([folder / "more.nii.gz"]).array.max() == 1
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert read_header(folder / "more.nii.gz").shape == (4, 4, 4)


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def array(shape: str, kind: str = "<i4") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "content",
    [array("(900000000, 3)"), array("(3, 900000000)"), array("(9,)", "<M8[s]"), b"\0" * ZEROS, array("(3, 3)", "|O")],
)
def test_locations_of_a_prepared_case(content: bytes, folder: Path):
    lay({**prepared()[0], "locations.npz": archive({"1.npy": content})}, folder)
    assert refused(lambda: open_case(folder, "phantom_000").locations(1)) < MOST


def test_a_chunk_of_a_prepared_case(folder: Path):
    import blosc2

    lay(prepared()[0], folder)
    case = open_case(folder, "phantom_000")
    shape = (1, *case.shape)
    os.unlink(folder / "image.b2nd")
    # Zeros of any number are a few bytes, and reading one voxel unpacks the whole chunk.
    blosc2.zeros(
        (1, *case.shape[:2], 10**6), np.float32, urlpath=str(folder / "image.b2nd"), chunks=(1, *case.shape[:2], 10**6)
    )
    assert refused(lambda: case.image_region((0, 0, 0), (1, 1, 1))) < MOST
    assert shape[0] == 1


def changed(files: Files, name: str, change: Callable[[dict], None]) -> Files:
    content = files[name]
    assert isinstance(content, bytes)
    found = json.loads(content)
    change(found)
    return {**files, name: json.dumps(found).encode()}


def widened(plans: dict) -> None:
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [3000, 3000]


def deepened(plans: dict) -> None:
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_conv_per_stage"] = [10**6, 1]


@pytest.mark.parametrize("change", [widened, deepened])
def test_a_network_of_nnunet_is_no_larger_than_its_weights(change: Callable[[dict], None], folder: Path, monkeypatch):
    lay(changed(nnunets()[0], "m/plans.json", change), folder)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)
    assert refused(lambda: open_system(folder / "m", device="cpu")) < MOST


def test_a_weight_that_stands_for_more_numbers_than_its_file_has(folder: Path):
    lay(nnunets()[0], folder)
    path = folder / "m" / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    name = next(iter(content["network_weights"]))
    content["network_weights"][name] = torch.zeros(1).expand(1 << 40)
    torch.save(content, path)
    assert refused(lambda: open_system(folder / "m", device="cpu")) < MOST


def test_a_network_of_a_bundle_is_no_larger_than_its_weights(folder: Path):
    files = changed(
        bundles()[0], "b/configs/inference.json", lambda found: found["network_def"].update(channels=[9000, 9000])
    )
    lay(files, folder)
    assert refused(lambda: open_system(folder / "b", device="cpu")) < MOST


@pytest.mark.parametrize("filters", ["[9000, 9000, 9000]", "[900000000, 4, 4]"])
def test_the_network_of_a_run_is_no_larger_than_its_weights(filters: str, folder: Path):
    recipe = trained()["recipe.yaml"]
    assert isinstance(recipe, bytes)
    lines = recipe.decode().splitlines()
    place = next(n for n, line in enumerate(lines) if "filters:" in line)
    stop = next(n for n in range(place + 1, len(lines)) if not lines[n].strip().startswith("- "))
    lines[place:stop] = [lines[place].split("filters:")[0] + f"filters: {filters}"]
    lay({**trained(), "recipe.yaml": "\n".join(lines).encode()}, folder)
    assert refused(lambda: load_run(folder, "best")) < MOST
