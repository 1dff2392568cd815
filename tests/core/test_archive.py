import zipfile

import pytest
import torch

from voxward.core.archive import refuse_damaged


@pytest.fixture
def path(tmp_path):
    with (tmp_path / "x.pt").open("wb") as file:
        torch.save({"a": torch.arange(100.0), "b": 1.5}, file)
    return tmp_path / "x.pt"


def _flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_of_a_tensor_is_found_which_torch_does_not(path):
    refuse_damaged(path)
    _flipped(path, path.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 50)
    torch.load(path, weights_only=True)
    with pytest.raises(zipfile.BadZipFile, match=r"the checksum of its part '.*/data/0' is wrong"):
        refuse_damaged(path)
    refuse_damaged(path, only="/data.pkl")


def test_a_file_without_checksums_is_not_refused(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(100.0)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "x.pt") as archive, pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):
        archive.read(next(name for name in archive.namelist() if name.endswith("/data/0")))
    assert refuse_damaged(tmp_path / "x.pt") is None
