"""A large dataset is checked, planned and prepared in little memory, and a preparation that is stopped goes on.

The full size is 500 cases of 128^3 (VOXWARD_MANY=500), which takes long and 10 GB of disk. VOXWARD_MANY_KEEP names a
folder for the dataset and the results, so that a long measurement can be looked at. `pytest -s` prints the table.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import nibabel
import numpy as np
import pytest
from scipy.ndimage import zoom

CASES = int(os.environ.get("VOXWARD_MANY", "16"))
SIDE = int(os.environ.get("VOXWARD_MANY_SIDE", "128"))
LIMIT = 4 * 2**30
"""Bytes that a command, with all its processes, may take."""
STOPS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_CODE = "import sys; from voxward.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Took:
    """What a command took.

    Attributes:
        code: Its exit code; negative for the signal that ended it.
        seconds: How long it ran.
        peak: Bytes: the largest sum over its living processes of the most that each of them ever held.
        said: What it printed.
    """

    code: int
    seconds: float
    peak: int
    said: str

    def fine(self) -> Took:
        """Return this if the command ended as it should."""
        assert self.code == 0, self.said[-2000:]
        return self


@pytest.mark.slow
def test_many_cases(tmp_path: Path) -> None:
    root = Path(os.environ.get("VOXWARD_MANY_KEEP", tmp_path))
    data, plan, wanted, out = (root / name for name in ("data", "plan", "undisturbed", "stopped"))
    write_dataset(data)
    table = {"check": voxward("check", data).fine(), "plan": voxward("plan", data, "--out", plan).fine()}
    words = ["prepare", data, "--plan", plan / "plan.json", "--out"]
    table["prepare"] = voxward(*words, wanted).fine()
    for n, number in enumerate(STOPS, start=1):
        held, enough = finished(out), CASES * n // (len(STOPS) + 1)
        table[f"prepare, {number.name}"] = took = voxward(*words, out, stop=(number, partial(holds, out, enough)))
        assert took.code != 0, took.said[-2000:]
        now = finished(out)
        assert enough <= len(now) < CASES
        assert {name: now[name] for name in held} == held  # nothing was done twice
    held = finished(out)
    table["prepare, the rest"] = voxward(*words, out).fine()
    assert {name: finished(out)[name] for name in held} == held
    print(f"\n{CASES} cases of {SIDE}^3")
    for name, took in table.items():
        print(f"{name}: {took.seconds:.0f} s, {took.peak / 2**20:.0f} MiB, exit code {took.code}")
    assert digests(wanted) == digests(out)
    assert len(finished(out)) == CASES
    assert max(took.peak for took in table.values()) < LIMIT


def write_dataset(folder: Path) -> None:
    """Write smooth random volumes with noise, and labels of two organs, in the layout of the decathlon."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rng, names = np.random.default_rng(0), [f"case_{n:03}" for n in range(CASES)]
    for name in names:
        smooth = zoom(rng.standard_normal((8, 8, 8)).astype(np.float32), SIDE / 8, order=1)
        image = 300 * smooth + rng.integers(-20, 20, smooth.shape)
        label = (smooth > 0.4).astype(np.uint8) + (smooth > 0.8)
        nibabel.Nifti1Image(image.astype(np.int16), np.eye(4)).to_filename(folder / "imagesTr" / f"{name}.nii")
        nibabel.Nifti1Image(label.astype(np.uint8), np.eye(4)).to_filename(folder / "labelsTr" / f"{name}.nii")
    described = {
        "name": "Many",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "organ", "2": "core"},
        "training": [{"image": f"./imagesTr/{name}.nii", "label": f"./labelsTr/{name}.nii"} for name in names],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def voxward(*words: str | Path, stop: tuple[int, Callable[[], bool]] | None = None) -> Took:
    """Run a command in a process of its own; `stop` is a signal and when to send it."""
    began, peak = time.monotonic(), 0
    with TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *map(str, words)],
            stdout=log,
            stderr=log,
            # A shell lets what it starts in the background ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while process.poll() is None:
            peak = max(peak, held_at_most(process.pid))
            if stop is not None and stop[1]():
                process.send_signal(stop[0])
                stop = None
            time.sleep(0.05)
        log.seek(0)
        return Took(process.returncode, time.monotonic() - began, peak, log.read())


def held_at_most(pid: int) -> int:
    """The sum over a process and its descendants of the most memory that each of them has held so far, in bytes."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (status := _status(path)):
            parents[int(path.name)] = (int(status["PPid"]), int(status.get("VmHWM", "0 kB").split()[0]) * 1024)
    tree = {pid}
    while more := {child for child, (parent, _) in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(parents[one][1] for one in tree if one in parents)


def _status(path: Path) -> dict[str, str]:
    try:
        lines = (path / "status").read_text(encoding="utf-8").splitlines()
    except OSError:  # it has ended
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def finished(out: Path) -> dict[str, int]:
    """When each case that lies prepared in a folder was written, in nanoseconds."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("case_*/case.json")}


def holds(out: Path, count: int) -> bool:
    """Return whether so many cases lie prepared in a folder."""
    return len(finished(out)) >= count


def digests(out: Path) -> dict[str, str]:
    """A checksum of every byte of every file below a folder."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
