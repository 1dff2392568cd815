"""The files of a run: who may read them, and what happens when the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from voxward.core.errors import UserError
from voxward.runs.folder import load_weights, save_weights


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX systems")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_have_the_permissions_that_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_weights(nn.Linear(2, 2), tmp_path / "best.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "best.safetensors").stat().st_mode & 0o777 == mode


def test_weights_are_read_by_the_library_itself(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    save_weights(network, tmp_path / "w.safetensors")
    assert torch.equal(load_file(tmp_path / "w.safetensors")["weight"], network.weight)


def test_a_full_disk_is_an_error_of_the_system_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_weights(nn.Linear(2, 2), tmp_path / "best.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"\xff" * 100, (2**62).to_bytes(8, "little") + b"{}"])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    """The last one claims a header of 4 exabytes."""
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"best\.safetensors is damaged, or no safetensors file"):
        load_weights(nn.Linear(2, 2), path)


def test_one_flipped_bit_in_any_weight_is_found(tmp_path: Path) -> None:
    network, path = nn.BatchNorm1d(3), tmp_path / "best.safetensors"
    save_weights(network, path)
    whole = path.read_bytes()
    values = len(whole) - sum(value.numel() * value.element_size() for value in network.state_dict().values())
    for place in range(values, len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"best\.safetensors is damaged: its weights do not have the checksum"):
            load_weights(nn.BatchNorm1d(3), path)
    path.write_bytes(whole)
    load_weights(nn.BatchNorm1d(3), path)


def test_weights_without_a_checksum_are_read(tmp_path: Path) -> None:
    """Version 0.2 and other programs write none."""
    network, path = nn.Linear(3, 2), tmp_path / "best.safetensors"
    save_file(nn.Linear(3, 2).state_dict(), path)
    load_weights(network, path)
    assert torch.equal(load_file(path)["weight"], network.weight)
