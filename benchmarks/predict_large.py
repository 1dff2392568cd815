"""Time and peak memory of a prediction for a whole-size CT: `python benchmarks/predict_large.py [--size 512 512 300]`.

The run has random weights, a plan made by ROG's rules for a CT data set of that size, and a target spacing that differs
from the volume's, so that resampling in both directions is part of the measurement. The prediction runs in a process
of its own, whose peak memory the operating system reports.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import voxward
from voxward.core.files import write_text
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.recipe import dump_recipe, load_recipe
from voxward.data.io import write_image
from voxward.data.planner_rog import rog_sizes
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, save_weights

SPACING, TARGET = (0.8, 0.8, 1.25), (0.85, 0.85, 1.5)


def make_run(root: Path, shape: tuple[int, int, int], recipe: str) -> None:
    """A run folder with random weights and the plan that ROG's rules give for a data set of such volumes."""
    i, j, k = (n * s / t for n, s, t in zip(shape, SPACING, TARGET, strict=True))
    sizes = rog_sizes((i, j, k), (60.0, 60.0, 40.0), 50_000.0)
    plan = Plan(
        dataset="large CT", labels=LabelSet(("background", "organ", "tumour"), (0, 1, 2)),
        channels=(ChannelPlan("CT", "ct", -100.0, 240.0, 60.0, 70.0),), spacing=TARGET, spline_order=(3, 3, 3),
        crop_nonzero=True, patch_size=sizes.patch, window_size=sizes.window, source_size=sizes.source,
        strides=sizes.strides, kernel_sizes=((3, 3, 3),) * (len(sizes.strides) + 1), padding="reflect", batch_size=2,
        min_object_mm3=(0.0, 0.0),
    )  # fmt: skip
    folder, used = RunFolder(root), load_recipe(recipe)
    plan.save(folder.plan)
    torch.manual_seed(0)
    save_weights(network_for_plan(used.network.name, plan, used.network.options), folder.weights("best"))
    write_text(folder.recipe, dump_recipe(used))


def make_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """An int16 CT: air, a body of soft tissue, and noise, oblique and with a flipped axis."""
    rng = np.random.default_rng(0)
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    body = (x[:, None] / 0.9) ** 2 + (y[None, :] / 0.7) ** 2 < 1
    array = np.where(body[:, :, None], np.int16(40), np.int16(-1000))
    array = array + rng.integers(-30, 30, shape, dtype=np.int16)
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = (200, -180, -300)
    write_image(path, array, affine)


def predict_alone(run: Path, volume: Path, out: Path) -> None:
    """What the child process does: predict, then print seconds and peak memory as JSON."""
    torch.set_num_threads(2)
    started = time.perf_counter()
    voxward.predict(run, volume, out=out)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": round(seconds, 1), "peak_gib": round(peak, 2)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--recipe", default="rog")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        predict_alone(*map(Path, arguments.child))
        return
    shape = tuple(arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_run(root / "run", shape, arguments.recipe)
        make_volume(root / "ct.nii.gz", shape)
        command = [sys.executable, __file__, "--child", str(root / "run"), str(root / "ct.nii.gz"), str(root / "out")]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        source, prediction = nib.load(root / "ct.nii.gz"), nib.load(root / "out" / "ct.nii.gz")
        plan = json.loads((root / "run" / "plan.json").read_text())
        same = prediction.shape == source.shape and np.array_equal(prediction.affine, source.affine)
        same = same and nib.aff2axcodes(prediction.affine) == nib.aff2axcodes(source.affine)
    size = "x".join(map(str, shape))
    print(f"{arguments.recipe}, {size} int16, window {plan['window_size']}, strides {plan['strides']}")
    print(f"{result['seconds']} s, peak {result['peak_gib']} GiB of memory")
    print(f"geometry kept: {same}; number type {prediction.get_data_dtype()}")
    print(f"{platform.machine()}, 2 threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
