"""Time and peak memory of prepare, predict and attack as the volume grows: `python -m benchmarks.scaling`.

    python -m benchmarks.scaling [--largest 512 512 400] [--largest-attack 256 256 200] [--stages predict] [--out FILE]
                                 [--network thin] [--recipe rog]

One case, random weights and one plan for all sizes (by the rules for a small CT), so that only the number of voxels
changes; resampling in both directions is part of it. `prepare` is the whole command (read, resample, write), `predict`
reads, segments and writes one file, `attack` is five gradients of the whole pipeline and the three sweeps around them.
What is measured is everything around the network, so that it is by default two convolutions (thin). Each measurement
is a process of its own; beside the peak that the operating system reports stands what it is above a process that only
loaded the run.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

import voxward
from benchmarks.predict_large import SPACING, make_run, make_volume
from voxward.core.files import write_text
from voxward.core.types import Size3
from voxward.data.io import write_image, write_label
from voxward.pipeline.predictor import Predictor
from voxward.runs.folder import RunFolder, load_run

SIZES: tuple[Size3, ...] = (
    (64, 64, 64), (96, 96, 96), (128, 128, 128), (192, 192, 192), (256, 256, 200), (384, 384, 300), (512, 512, 400),
)  # fmt: skip
PLANNED_FOR: Size3 = (96, 96, 96)
STEPS = 5
IMAGE, LABEL = "data/images/case.nii", "data/labels/case.nii"
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Measurement:
    """One stage at one size. windows: how many the network is run on (0: none); peak: bytes of the process.

    idle: bytes of a process that only loaded the run.
    """

    size: Size3
    seconds: float
    windows: int
    peak: int
    idle: int

    @property
    def voxels(self) -> int:
        """Of the file."""
        return math.prod(self.size)


def peak_bytes() -> int:
    """Peak memory of this process so far.

    Linux hands a child the peak of the process that started it in `ru_maxrss`; the figure of its own address space is
    exact, so that one is taken where the system has it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    unit = 1 if sys.platform == "darwin" else 1024
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, nargs=3, default=(256, 256, 200), help="volume (default 256 256 200)")
    parser.add_argument("--largest-attack", type=int, nargs=3, default=(256, 256, 200), help="the same for the attack")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default 2)")
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--network", choices=("thin", "recipe"), default="thin")
    parser.add_argument("--recipe", default="rog", help="whose preparation, windows and perhaps network")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.child:
        print(json.dumps(_measure(given.child[0], Path(given.child[1]), given.network)))
        return
    text = "\n\n".join(_table(stage, _grown(stage, given)) for stage in given.stages)
    if given.out is not None:
        head = f"`python -m benchmarks.scaling {' '.join(sys.argv[1:])}`, {given.threads} threads"
        write_text(given.out, f"{head}, torch {torch.__version__}.\n\n{text}\n")


def _grown(stage: str, given: argparse.Namespace) -> list[Measurement]:
    """The stage at all sizes up to the largest, each printed as soon as it is there."""
    print(f"\n{stage}", flush=True)
    largest, found = given.largest_attack if stage == "attack" else given.largest, []
    for size in (size for size in SIZES if math.prod(size) <= math.prod(largest)):
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder), size, given.recipe)
            idle, busy = _child("idle", folder, given), _child(stage, folder, given)
            counts = int(busy["windows"]), int(busy["peak"]), int(idle["peak"])
            found.append(Measurement(size, busy["seconds"], *counts))
        print(_row(found[-1], found[0]), flush=True)
    print(_slopes(found), flush=True)
    return found


def _make(root: Path, size: Size3, recipe: str) -> None:
    """A run and a data set of one CT, its label two nested balls."""
    make_run(root / "run", PLANNED_FOR, recipe)
    for folder in ("images", "labels"):
        (root / "data" / folder).mkdir(parents=True)
    make_volume(root / IMAGE, size)
    write_text(root / "data" / "labels.json", json.dumps({"background": 0, "organ": 1, "tumour": 2}))
    write_text(root / "data" / "channels.json", json.dumps(["CT"]))
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) ** 2 for n in size)
    radius = x[:, None, None] + y[:, None] + z
    affine = voxward.read_image([root / IMAGE]).affine
    label = (radius < 0.5).astype(np.uint8) + (radius < 0.1).astype(np.uint8)
    write_image(root / LABEL, label, affine)


def _child(stage: str, folder: str, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--threads", str(given.threads), "--network", given.network]
    command += ["--child", stage, folder]
    root = Path(__file__).parents[1]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root).stdout
    return dict(json.loads(found.splitlines()[-1]))


def _measure(stage: str, root: Path, network: str) -> dict[str, float]:
    model = load_run(root / "run")
    predictor = Predictor(replace(model, network=_thin()) if network == "thin" else model, torch.device("cpu"), "fp32")
    if stage == "idle":
        return {"peak": peak_bytes()}
    seconds = STAGES[stage](root, predictor)
    peak, shape = peak_bytes(), voxward.read_label(root / LABEL).shape
    i, j, k = (round(n * old / new) for n, old, new in zip(shape, SPACING, model.plan.spacing, strict=True))
    return {
        "seconds": seconds,
        "windows": 0 if stage == "prepare" else predictor.windows((i, j, k)).count,
        "peak": peak,
    }


def _thin() -> nn.Module:
    torch.manual_seed(0)
    down, up = nn.Conv3d(1, 8, 3, stride=2, padding=1), nn.ConvTranspose3d(8, 3, 2, stride=2)
    return nn.Sequential(down, nn.ReLU(), up).eval()


def _prepare(root: Path, predictor: Predictor) -> float:
    began = time.perf_counter()
    voxward.prepare(root / "data", out=root / "prepared", plan=RunFolder(root / "run").plan, workers=1)
    return time.perf_counter() - began


def _predict(root: Path, predictor: Predictor) -> float:
    began = time.perf_counter()
    volume = voxward.read_image([root / IMAGE])
    write_label(root / "out" / "case.nii", predictor.segment(volume), volume.affine, root / IMAGE)
    return time.perf_counter() - began


def _attack(root: Path, predictor: Predictor) -> float:
    """Seconds of PGD on the soft Dice. The random network's own mask is no truth, the balls of the label are."""
    source = voxward.read_image([root / IMAGE])
    truth = voxward.read_label(root / LABEL).array
    model = voxward.PipelineModel.freeze([predictor], source)
    volume, target = torch.from_numpy(source.array).float()[None], torch.from_numpy(truth).long()[None]
    threat = voxward.ThreatModel(1 / 255, bounds=model.bounds)
    result = voxward.attacks.create("pgd-dice", steps=STEPS)(model, volume, target, threat)
    if result.gradients != STEPS:
        raise RuntimeError(f"the attack was to take {STEPS} gradients, it took {result.gradients}")
    return result.seconds


STAGES = {"prepare": _prepare, "predict": _predict, "attack": _attack}


def _table(stage: str, found: Sequence[Measurement]) -> str:
    lines = [
        f"### {stage}",
        "",
        "| size | voxels | windows | s | s per million voxels | peak MiB | above idle MiB | bytes per voxel more |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_row(one, found[0]) for one in found),
        "",
        _slopes(found),
    ]
    return "\n".join(lines)


def _row(one: Measurement, smallest: Measurement) -> str:
    """The last column: by how many bytes the peak grew per voxel more than the smallest volume has."""
    more = one.voxels - smallest.voxels
    growth = f"{(one.peak - smallest.peak) / more:.1f}" if more else "-"
    return (
        f"| {'x'.join(map(str, one.size))} | {one.voxels:,} | {one.windows or '-'} | {one.seconds:.2f} "
        f"| {1e6 * one.seconds / one.voxels:.2f} | {one.peak / MEBIBYTE:.0f} | {(one.peak - one.idle) / MEBIBYTE:.0f} "
        f"| {growth} |"
    )


def _slopes(found: Sequence[Measurement]) -> str:
    """How time and memory grow with the voxels: exponents fitted to the logarithms; 1 is linear."""
    if len(found) < 2:
        return "one size has no slope"
    voxels, seconds = [one.voxels for one in found], [one.seconds for one in found]
    memory = [max(1, one.peak - one.idle) for one in found]
    text = f"exponents: time {_exponent(voxels, seconds):.2f}, memory above idle {_exponent(voxels, memory):.2f}"
    if len(found) > 3:
        text += f"; of the three largest {_exponent(voxels[-3:], seconds[-3:]):.2f}"
        text += f" and {_exponent(voxels[-3:], memory[-3:]):.2f}"
    return text if not found[0].windows else text + f"; time per window {_exponent(*_per_window(found)):.2f}"


def _per_window(found: Sequence[Measurement]) -> tuple[list[float], list[float]]:
    return [one.windows for one in found], [one.seconds for one in found]


def _exponent(x: Sequence[float], y: Sequence[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


if __name__ == "__main__":
    main()
