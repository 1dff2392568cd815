"""Too little memory in earnest: a process that may not have more, and a training whose step does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.faults.damage.conftest import TINY
from voxward.commands.train import train
from voxward.core.errors import UserError
from voxward.runs.folder import RunFolder, read_state
from voxward.training.out_of_memory import SEARCH, explained
from voxward.training.steps import StandardStep, StepInput

SCRIPT = """
import resource, sys, warnings
import numpy as np, torch
torch.set_num_threads(1)
import voxward
from tests.pipeline.plain_pipeline import Toy, a_predictor, a_volume
from voxward.pipeline import memory, predictor as module
module.VOXELS_PER_FORWARD["cpu"] = 64 * 128 ** 3
volume = a_volume()
volume = type(volume)(np.tile(volume.array, (1, 12, 11, 14)).astype(np.float32), volume.affine)
class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Conv3d(2, 24, 1), torch.nn.Conv3d(24, 3, 1)
    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))
predictor = a_predictor(Wide(), window=(64, 64, 64), overlap=0.5)
few = predictor.segment(a_volume())
if sys.argv[1] != "free":
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    most = used + int(sys.argv[1]) * 2 ** 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = predictor.segment(volume)
np.save(sys.argv[2], found)
print([str(one.message) for one in said], memory.known.most)
"""


def test_what_is_said_of_a_step_that_does_not_fit() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")
    said = (
        r"too little memory for a step on 2 patches of 8 x 8 x 4 voxels: CUDA out of memory\. Tried to .*"
        r"run holds the state of step 7.* --resume.* a smaller search\.batch_size"
    )
    with pytest.raises(UserError, match=said), explained(2, (8, 8, 4), (Path("run"), 7), SEARCH):
        raise error
    with pytest.raises(RuntimeError, match="a bug"), explained(2, (8, 8, 4), (Path("run"), 7), SEARCH):
        raise RuntimeError("a bug")


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_a_training_that_runs_out_of_memory_goes_on_later(
    phantoms: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, folder = StandardStep.__call__, RunFolder(tmp_path / "run")

    def hungry(self: StandardStep, batch: StepInput) -> torch.Tensor:
        if batch.number == 4:
            torch.empty(2**60, dtype=torch.uint8)
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(StandardStep, "__call__", hungry)
        with pytest.raises(UserError, match=r"too little memory for a step on 2 patches of .* DefaultCPUAllocator"):
            train(phantoms, out=folder.root, recipe="dynunet", overrides=TINY)
    assert read_state(folder.state)["state"]["step"] == 3
    train(phantoms, out=folder.root, resume=True)
    assert folder.weights("last").read_bytes() == RunFolder(trained).weights("last").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are those of Linux")
def test_a_process_that_may_not_have_more_memory_segments_with_fewer_windows(tmp_path: Path) -> None:
    def child(limit: str) -> str:
        command = [sys.executable, "-c", SCRIPT, limit, str(tmp_path / f"{limit}.npy")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert child("free").startswith("[] {}")
    assert "too little memory for" in child("300")
    assert np.array_equal(np.load(tmp_path / "free.npy"), np.load(tmp_path / "300.npy"))
