"""voxward attack: attack one trained run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.attacks.threat import Norm, Reference, Unit
from voxward.commands.benchmark import EPS, BenchmarkResult, benchmark
from voxward.core.progress import Progress, silent
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient
from voxward.pipeline.precision import Precision
from voxward.pipeline.predictor import Tta
from voxward.robustness.subject import Mode
from voxward.runs.folder import Checkpoint
from voxward.systems.cascade import MarginUnit
from voxward.systems.cascade_model import Stage


def attack(
    run: Path | str,
    dataset: Path | str,
    out: Path | str | None = None,
    attacks: Sequence[str] = ("autoattack",),
    eps: Sequence[float] = EPS,
    mode: Mode = "volume",
    norm: Norm = "linf",
    unit: Unit = "range",
    reference: Reference = "raw",
    steps: int = 20,
    restarts: int = 1,
    queries: int = 500,
    fab_steps: int = 20,
    threshold: float | None = None,
    cases: int | None = None,
    policy: str = "ignore",
    surrogate: Path | str | None = None,
    checkpoint: Checkpoint = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    members: Sequence[Path | str] = (),
    tta: Tta | None = None,
    seed: int = 0,
    erase: str | None = None,
    save_volumes: bool = False,
    budget: bool = False,
    gradient: Gradient = "exact",
    statistics: Statistics = "frozen",
    cascade: Path | str | None = None,
    stage: Stage = "both",
    margin: float = 20.0,
    margin_unit: MarginUnit = "voxels",
    fraction: float = 0.2,
    graphs: int = 0,
    progress: Progress = silent,
    overwrite: bool = False,
) -> BenchmarkResult:
    """`benchmark` for one run; `out` is RUN/attack by default."""
    target = Path(run) / "attack" if out is None else Path(out)
    return benchmark(
        [run], dataset, target, attacks, eps, mode, norm, unit, reference, steps, restarts, queries, fab_steps,
        threshold, cases, policy, surrogate, checkpoint, device, precision, members, tta, seed, erase, save_volumes,
        budget, gradient, statistics, cascade, stage, margin, margin_unit, fraction, graphs, progress, overwrite,
    )  # fmt: skip
