"""Files that come from a worker are written as the worker wrote them, and nowhere else."""

from __future__ import annotations

import os

import pytest

from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.engine.delivery import deliver, packed

PLACES = ["run/recipe.yaml", "run/checkpoints/last.pt", "run/predictions/a.nii.gz", "run/metrics.json"]


def test_files_are_written_in_the_order_in_which_the_worker_wrote_them(tmp_path):
    """Metrics say that a run is finished: of a caller that is killed meanwhile there must be no metrics alone."""
    (scratch := tmp_path / "scratch").mkdir()
    for n, place in enumerate(PLACES):
        (scratch / place).parent.mkdir(parents=True, exist_ok=True)
        (scratch / place).write_text(place)
        os.utime(scratch / place, (n, n))
    files = packed(scratch)
    assert list(files) == PLACES
    assert list(scratch.iterdir()) == []
    (target := tmp_path / "target" / "run").mkdir(parents=True)
    (target / "predictions").write_text("in the way")
    with pytest.raises(OSError, match="predictions"):
        deliver(tmp_path / "target", files)
    assert (target / "checkpoints" / "last.pt").read_text() == PLACES[1]
    assert not (target / "metrics.json").exists()


def test_the_marker_of_a_folder_holds_for_all_of_its_files(tmp_path):
    (scratch := tmp_path / "scratch").mkdir()
    for n, name in enumerate(["b.json", "a.json"]):
        with Outputs(scratch, "a table").write(name, how="first") as path:
            path.write_text("1")
        with Outputs(scratch, "a table").write(name, how="second") as path:
            path.write_text("2")
        os.utime(scratch / name, (n, n))
    deliver(tmp_path / "target", packed(scratch))
    found = Outputs(tmp_path / "target", "a table")
    found.check(["a.json", "b.json"])
    assert found.made("a.json", "second")
    assert not found.made("a.json", "first")


@pytest.mark.parametrize("place", ["../x", "a/../../x", "/x/y"])
def test_no_file_leaves_the_folder(tmp_path, place):
    with pytest.raises(UserError, match="outside"):
        deliver(tmp_path / "target", {place: b""})
