"""Files of prepared cases that a stranger has made."""

from __future__ import annotations

import os
from pathlib import Path

import blosc2
import numpy as np
import pytest

from voxward.data.stored_files import open_array, read_locations


def test_a_few_kilobytes_do_not_become_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "locations.npz"
    np.savez_compressed(path, **{"1": np.zeros(30_000_000, np.uint8)})
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"locations\.npz claims 30000128 bytes for the voxels of one class"):
        read_locations(path, (9, 9, 9))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("read", [lambda path: read_locations(path, (9, 9, 9)), open_array])
def test_a_pipe_is_not_waited_for(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="pipe"):
        read(tmp_path / "pipe")


def test_an_expression_is_no_array(tmp_path: Path) -> None:
    array = blosc2.asarray(np.ones((4, 4)), urlpath=str(tmp_path / "a.b2nd"), mode="w")
    blosc2.lazyexpr("a + 1", {"a": array}).save(urlpath=str(tmp_path / "lazy.b2nd"))
    with pytest.raises(ValueError, match=r"lazy\.b2nd is not a prepared array"):
        open_array(tmp_path / "lazy.b2nd")
