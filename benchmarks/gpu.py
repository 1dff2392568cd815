"""What only a GPU can measure, in nine minutes at most: `benchmarks/gpu.sh DATASET [OUT]`, or

    python -m benchmarks.gpu DATASET [--out results/speed] [--parts depthwise memory] [--device cuda] [--small]

Each part is a process of its own with a limit of time, so that one that fails or takes too long costs no other, and
the report OUT/gpu.md is written again after each. `--small` is a rehearsal: the same parts at a size that two cores of
a CPU do in minutes, with --device cpu. DATASET is the hippocampus data of the Decathlon.

    tests       the tests that need CUDA
    kernels     depthwise convolutions, the lattice and dynunet against PyTorch's own and MONAI's, by turns
    wide        depthwise kernels of 5x5x5 and the sizes of MedNeXt: what PyTorch's own routines reach of a copy's speed
    dynunet     Dice on the validation cases after 60 s of training
    strong      the protocol `strong` on all validation cases of that run, as far as its time allows
    step        peak memory of a training step, and what the planner took it to be
    volume      time and peak memory of a prediction and of one gradient of a 512 x 512 x 400 CT
    search      peak memory of a step of the architecture search at the paper's setting
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import voxward
from benchmarks.predict_large import make_run, make_volume
from benchmarks.speed.__main__ import commit, machine
from voxward.core.choices import Compute
from voxward.core.files import write_text
from voxward.core.model import VolumeModel
from voxward.core.plan import load_plan
from voxward.data.io import read_image
from voxward.nets.registry import network_for_plan
from voxward.pipeline.model import PipelineModel
from voxward.pipeline.predictor import Predictor
from voxward.runs.folder import RunFolder, load_run

GIB = 2**30
WIDE = (((2, 32, 128, 128, 128), 5), ((2, 64, 64, 64, 64), 5), ((2, 256, 16, 16, 16), 5), ((2, 32, 128, 128, 128), 3))


@dataclass(frozen=True)
class Given:
    """What the parts are told. work: a folder that all parts share, in which `dynunet` leaves its run for `strong`."""

    dataset: Path
    work: Path
    device: str
    small: bool

    @property
    def run(self) -> Path:
        """The run that the part `dynunet` trains."""
        return self.work / "dynunet"


@dataclass(frozen=True)
class Part:
    """seconds: its limit. title: of its section. command: what is run; the lines that it prints are its section."""

    seconds: int
    title: str
    command: list[str] = field(default_factory=list)


def parts(given: Given) -> dict[str, Part]:
    """All parts in the order in which they are run; their limits add up to less than nine minutes."""
    python, cli = sys.executable, [sys.executable, "-m", "voxward"]
    rounds = ["--rounds", "1" if given.small else "5"]
    attack = [*cli, "attack", str(given.run), "--dataset", str(given.dataset), "--out", str(given.work / "attack")]
    attack += ["--protocol", "quick" if given.small else "strong", "--device", given.device]
    own = [python, "-m", "benchmarks.gpu", str(given.dataset), "--work", str(given.work), "--device", given.device]
    own += ["--small"] * given.small
    speed = ["depthwise", *([] if given.small else ["lattice", "dynunet"])]
    return {
        "tests": Part(
            45, "Tests that need CUDA",
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/nets", "tests/end_to_end"],
        ),
        "kernels": Part(
            80, "Kernels and steps, by turns with PyTorch's own and MONAI's",
            [python, "-m", "benchmarks.speed", "--only", *speed, *rounds],
        ),
        "wide": Part(15, "PyTorch's own depthwise convolutions, in times of a copy", [*own, "--only", "wide"]),
        "dynunet": Part(100, "dynunet after 60 s of training", [*own, "--only", "dynunet"]),
        "strong": Part(
            100, "The protocol strong", [*attack, *(["--cases", "1"] if given.small else ["--set", "keep=none"])]
        ),
        "step": Part(30, "Memory of a training step", [*own, "--only", "step"]),
        "volume": Part(70, "A whole CT", [*own, "--only", "volume"]),
        "search": Part(
            90, "A step of the architecture search",
            [python, "-m", "benchmarks.search_memory", "--filters", "4" if given.small else "32", "--batch", "1",
             "--device", given.device],
        ),
    }  # fmt: skip


def wide(given: Given) -> Iterator[str]:
    """A forward pass and both gradients in bf16, each divided by the time of a copy of the tensor."""
    yield "| size | kernel | forward | input gradient | weight gradient |\n| --- | --- | ---: | ---: | ---: |"
    for shape, edge in WIDE[2:3] if given.small else WIDE:
        x = torch.randn(shape, device=given.device, dtype=torch.bfloat16)
        kernel = torch.randn(shape[1], 1, edge, edge, edge, device=given.device, dtype=torch.bfloat16)
        gradient, other = torch.randn_like(x), torch.empty_like(x)
        copy = _seconds(lambda other=other, x=x: other.copy_(x), given)
        found = [
            _seconds(lambda x=x, k=kernel, g=gradient, which=which: _wide_pass(x, k, g, which), given) / copy
            for which in ("", "x", "w")
        ]
        size = " x ".join(map(str, shape))
        yield f"| {size} | {edge}^3 | " + " | ".join(f"{one:.1f}" for one in found) + " |"


def _wide_pass(x: Tensor, kernel: Tensor, gradient: Tensor, which: str) -> None:
    pad, groups = kernel.shape[-1] // 2, x.shape[1]
    if not which:
        F.conv3d(x, kernel, padding=pad, groups=groups)
        return
    torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, [1] * 3, [pad] * 3, [1] * 3, transposed=False, output_padding=[0] * 3, groups=groups,
        output_mask=[which == "x", which == "w", False],
    )  # fmt: skip


def dynunet(given: Given) -> Iterator[str]:
    """Train for a minute, and score the validation cases."""
    minutes = 0.2 if given.small else 1.0
    began = time.perf_counter()
    compute = Compute(device=given.device)
    voxward.train(given.dataset, recipe="dynunet", minutes=minutes, compute=compute, out=given.run)
    trained = time.perf_counter() - began
    found = voxward.evaluate(given.run, compute=compute).foreground
    assert found is not None
    yield f"{60 * minutes:g} s of steps, {trained:.0f} s with planning, preparation and the end of the training."
    yield f"Mean foreground Dice {found.mean:.4f} [{found.low:.4f}, {found.high:.4f}] over {found.n} cases."


def step(given: Given) -> Iterator[str]:
    """The peak of one training step of a large CT's plan, beside the memory that the planner was given."""
    yield "| recipe | patch | batch | planner's limit GiB | peak GiB |\n| --- | --- | ---: | ---: | ---: |"
    for recipe in ("rog", "dynunet"):
        root = given.work / f"step-{recipe}"
        make_run(root, (64, 64, 48) if given.small else (512, 512, 300), recipe)
        used, plan = voxward.load_recipe(recipe), load_plan(RunFolder(root).plan)
        network = network_for_plan(used.network.name, plan, used.network.options).to(given.device)
        batch = used.preparation.batch_size or plan.batch_size
        peak = _peak(
            lambda network=network, batch=batch, plan=plan: _step(network, batch, plan.patch_size, given), given
        )
        size = " x ".join(map(str, plan.patch_size))
        yield f"| {recipe} | {size} | {batch} | {used.preparation.memory_gib:g} | {peak} |"


def _step(network: torch.nn.Module, batch: int, size: Sequence[int], given: Given) -> None:
    """Forward, backward and Adam in float32."""
    optimizer = torch.optim.Adam(network.train().requires_grad_(True).parameters())
    images = torch.randn(batch, 1, *size, device=given.device)
    labels = torch.randint(0, 3, (batch, *size), device=given.device)
    output = network(images)
    logits = output[0] if isinstance(output, list | tuple) else output
    F.cross_entropy(logits, labels).backward()
    optimizer.step()


def volume(given: Given) -> Iterator[str]:
    """A prediction, and one gradient of the whole pipeline, each with its peak on the device."""
    shape, root = ((64, 64, 48) if given.small else (512, 512, 400)), given.work / "large"
    make_run(root / "run", shape, "rog")
    make_volume(root / "case.nii", shape)
    predictor = Predictor(load_run(root / "run", "auto", torch.device(given.device)), torch.device(given.device))
    image = read_image([root / "case.nii"])
    yield "| what | s | peak GiB on the device |\n| --- | ---: | ---: |"
    yield _timed_row("prediction", lambda: predictor.segment(image), given)
    model = PipelineModel.freeze([predictor], image)
    scan = torch.from_numpy(image.array)[None].float().to(given.device)
    target = (scan[:, 0] > 0).long()
    yield _timed_row("one gradient", lambda: _gradient(model, scan, target), given)


def _gradient(model: VolumeModel, scan: Tensor, target: Tensor) -> None:
    model.value_and_grad(scan, target, lambda logits, truth: -F.cross_entropy(logits, truth).expand(len(logits)))


def _timed_row(name: str, work: object, given: Given) -> str:
    assert callable(work)
    began = time.perf_counter()
    peak = _peak(work, given)
    return f"| {name} | {time.perf_counter() - began:.1f} | {peak} |"


def _peak(work: object, given: Given) -> str:
    """The most that the device's allocator held while the work was done; a CPU does not tell."""
    assert callable(work)
    if given.device != "cuda":
        work()
        return "-"
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return f"{torch.cuda.max_memory_allocated() / GIB:.2f}"


def _seconds(work: object, given: Given) -> float:
    """The shortest of five, after two that warm up."""
    assert callable(work)
    found = []
    for _ in range(7):
        if given.device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if given.device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return min(found[2:])


OWN = {"wide": wide, "dynunet": dynunet, "step": step, "volume": volume}


def section(part: Part) -> tuple[str, bool]:
    """Run a part, and return its section and whether it ended well: what it printed, and how it ended otherwise."""
    root, began = Path(__file__).parents[1], time.perf_counter()
    path = os.pathsep.join([str(root / "src"), str(root)])
    # A session of its own, so that the processes of a part are gone with it.
    work = subprocess.Popen(
        part.command, cwd=root, env={**os.environ, "PYTHONPATH": path}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        said, errors = work.communicate(timeout=part.seconds)
        end = "" if work.returncode == 0 else f"It ended with exit code {work.returncode}."
        end += f"\n\n    {errors.strip().splitlines()[-1]}" if end and errors.strip() else ""
    except subprocess.TimeoutExpired:
        os.killpg(work.pid, signal.SIGKILL)
        said, _ = work.communicate()
        end = f"It was stopped after its {part.seconds} s; what stands here was there by then."
    lines = "\n".join(line.rstrip() for line in said.strip().splitlines()[-40:])
    took = f"{time.perf_counter() - began:.0f} s of at most {part.seconds} s."
    return "\n\n".join(text for text in (f"## {part.title}", lines, end, took) if text), not end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--parts", nargs="+", help="only these (default: all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a rehearsal on a CPU")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=OWN, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device: --device cpu --small is the rehearsal")
    with tempfile.TemporaryDirectory() as folder:
        given = Given(asked.dataset.resolve(), asked.work or Path(folder), asked.device, asked.small)
        if asked.only:
            for line in OWN[asked.only](given):
                print(line, flush=True)
            return 0
        return _report(given, asked.out, asked.parts)


def _report(given: Given, out: Path, wanted: Sequence[str] | None) -> int:
    command = f"python -m benchmarks.gpu {' '.join(sys.argv[2:])}".strip()
    head = (
        f"# On a GPU\n\n`{command}` with the hippocampus data, commit {commit()}, {machine(torch.get_num_threads())}."
    )
    sections, well = [head], True
    for name, part in parts(given).items():
        if wanted is None or name in wanted:
            text, ended = section(replace(part, seconds=10 * part.seconds) if given.small else part)
            sections.append(text)
            well &= ended
            print(text, flush=True)
            write_text(out / "gpu.md", "\n\n".join(sections) + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
