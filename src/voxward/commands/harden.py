"""voxward harden: from a trained run to one that is harder to attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from voxward.commands.train import train
from voxward.core.plan import load_json
from voxward.core.progress import Progress, silent
from voxward.core.recipe import load_recipe
from voxward.inference.run_folder import RunFolder, RunSettings, load_run

# Of the recipe's learning rate: the weights are good already, and are to move, not to be thrown about.
LEARNING_RATE = 0.5


def harden(
    run: Path | str,
    out: Path | str,
    dataset: Path | str | None = None,
    method: Literal["free", "pgd", "trades"] = "free",
    eps: float = 8 / 255,
    minutes: float | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Train a run on adversarial patches, from its deployed weights into the new run folder `out`.

    Recipe, plan and split are the run's, so that its validation cases stay unseen; prepared cases are shared with it.
    dataset: where the run's dataset lies now, if it was moved. method and eps: see core.recipe.Defence; eps is a share
    of the intensity window. The learning rate starts at half the recipe's. minutes: time budget, without it the
    recipe's epochs. resume: continue the run in `out`, by its own method and eps. overrides: `dotted.key=value` changes
    to the recipe, such as defence.steps=5. Returns the run folder.

    Raises ValueError or FileNotFoundError as `train` does, and for a folder that is no trained run.
    """
    load_run(run)  # refuses what is no trained run
    before = RunFolder(Path(run))
    settings, rate = load_json(RunSettings, before.settings), _learning_rate(before)
    begun = () if resume else (f"defence.eps={eps!r}", *([] if rate is None else [f"optimizer.options.lr={rate!r}"]))
    prepared = before.root / "prepared"
    return train(
        settings.dataset if dataset is None else dataset, out, str(before.recipe), minutes, resume,
        prepared=prepared if prepared.is_dir() else None, fold=settings.fold, seed=seed, device=device,
        devices=devices, workers=workers, start=before.root, defence=None if resume else method,
        overrides=(*begun, *overrides), progress=progress,
    )  # fmt: skip


def _learning_rate(before: RunFolder) -> float | None:
    rate = load_recipe(before.recipe).optimizer.options.get("lr")
    return None if rate is None else LEARNING_RATE * float(rate)
