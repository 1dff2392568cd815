"""voxward train: from a dataset folder to a trained run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from voxward.core.case import Dataset
from voxward.core.files import write_json, write_text
from voxward.core.plan import Plan, load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import Recipe, dump_recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.fingerprint import fingerprint
from voxward.data.formats import open_dataset
from voxward.data.planner import make_plan
from voxward.data.splits import load_split, selection_split
from voxward.data.store import prepare_dataset
from voxward.inference.precision import resolve_device
from voxward.inference.run_folder import RunFolder
from voxward.report.figures import training_curve
from voxward.training.finish import settle_postprocess
from voxward.training.log import read_log
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, check_recipe, set_up, start_fabric


@dataclass(frozen=True)
class RunSplit:
    """A run's cases: fitted, selecting the best checkpoint, and validation (read only by `evaluate`)."""

    dataset: str
    fold: int
    seed: int
    fit: tuple[str, ...]
    selection: tuple[str, ...]
    validation: tuple[str, ...]


def train(
    dataset: Path | str,
    out: Path | str,
    recipe: str = "rog",
    minutes: float | None = None,
    resume: bool = False,
    plan: Path | str | None = None,
    prepared: Path | str | None = None,
    fold: int = 0,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Train `recipe` on a dataset folder into the run folder `out`, planning and preparing when needed.

    minutes: time budget of the training itself; without it the recipe's epochs. resume: continue the run in `out`,
    exactly as it would have gone on (its own recipe, plan, split and length; recipe, plan, fold, seed and overrides
    are then ignored). plan: an edited plan.json instead of the planner's. prepared: where the prepared cases are kept
    (default: inside the run). fold, seed: which split, and all randomness. device: auto, cpu or cuda.
    overrides: `dotted.key=value` changes to the recipe. Returns the run folder.

    Raises ValueError or FileNotFoundError before anything is written when an argument or the dataset is wrong, and
    training.interrupt.Interrupted when a signal stopped the run, which can then be resumed.
    """
    folder, source = RunFolder(Path(out)), open_dataset(dataset)
    if minutes is not None and minutes <= 0:
        raise ValueError(f"minutes must be positive, got {minutes}")
    resolve_device(device)
    if resume:
        used, split, decided = _reopen(folder, source)
    else:
        used, split, decided = _open(folder, source, recipe, plan, fold, seed, workers, overrides, progress)
    cases = Path(prepared) if prepared is not None else folder.root / "prepared"
    wanted = (*split.fit, *split.selection)
    prepare_dataset(source, decided, cases, wanted, workers, counter(progress, "prepare"))
    fabric = start_fabric(used, device, devices)
    run = set_up(folder, used, decided, TrainingCases(cases, split.fit, split.selection), split.seed, fabric)
    fit(run, minutes, progress)
    if fabric.is_global_zero:
        _finish(folder, source, split, fabric.device, progress)
    fabric.barrier()
    return folder.root


def _open(
    folder: RunFolder,
    source: Dataset,
    recipe: str,
    plan: Path | str | None,
    fold: int,
    seed: int,
    workers: int,
    overrides: Sequence[str],
    progress: Progress,
) -> tuple[Recipe, RunSplit, Plan]:
    """Decide everything, then write it to the new run folder."""
    if folder.recipe.exists():
        raise ValueError(f"{folder.root} already holds a run: pass --resume to continue it, or another --out")
    used = load_recipe(recipe, overrides)
    check_recipe(used)
    given = load_split(source, fold, seed)
    fit_ids, selection = selection_split(given.train, used.training.selection, seed)
    split = RunSplit(str(source.root), fold, seed, fit_ids, selection, given.validation)
    if plan is not None:
        decided = load_plan(Path(plan))
    else:
        measured = fingerprint(source, given.train, workers, counter(progress, "fingerprint"))
        decided = make_plan(measured, used.preparation)
    decided.save(folder.plan)
    write_json(folder.splits, to_data(split))
    write_text(folder.recipe, dump_recipe(used))  # last: its presence says that the run is complete to start
    return used, split, decided


def _reopen(folder: RunFolder, source: Dataset) -> tuple[Recipe, RunSplit, Plan]:
    """Read back what an earlier sitting decided."""
    if not folder.recipe.exists():
        raise FileNotFoundError(f"{folder.root} holds no run to resume: start it without --resume")
    split = load_json(RunSplit, folder.splits)
    absent = sorted({*split.fit, *split.selection} - {case.id for case in source.cases})
    if absent:
        raise ValueError(f"the run in {folder.root} was started on cases that {source.root} lacks, e.g. {absent[:3]}")
    return load_recipe(folder.recipe), split, load_plan(folder.plan)


def _finish(folder: RunFolder, source: Dataset, split: RunSplit, device: torch.device, progress: Progress) -> None:
    training_curve(read_log(folder.log), folder.log.with_name("curve.png"))
    settle_postprocess(folder, source, split.selection, device, progress)
