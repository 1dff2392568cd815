"""voxward export: a trained run as files that other programs read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from voxward.core.errors import MissingPackageError, UserError
from voxward.core.files import atomic_write
from voxward.core.registry import unknown_name
from voxward.report.export_card import write_export_card
from voxward.systems.export import (
    CLOSE,
    WRITERS,
    Exported,
    check_whole,
    description_of,
    difference,
    exportable,
    noise_window,
    unsaid,
)
from voxward.systems.network.files import read_network
from voxward.systems.open import Given, open_system

DESCRIPTION = "system.yaml"


def export(
    system: Given,
    *,
    out: Path | str,
    to: str = "pt2",
    overrides: Sequence[str] = (),
) -> Exported:
    """Write the network of a trained run as a file, with a `system.yaml` that says how it is deployed.

    The file takes batches and windows of any size that the network takes. voxward reads both again as a system, through
    which `predict`, `evaluate` and `attack` then work; other programs read the network alone. Before anything appears,
    the file is read again and compared with the run: on a window of noise, and through the whole pipeline.

    Args:
        system: A run folder, or a `system.yaml` of one run.
        out: The folder, which must not exist. It gets network.pt2 or network.onnx, system.yaml, and a model
            card MODEL_CARD.md of what the folder of the run records.
        to: `pt2` (torch.export) or `onnx`.
        overrides: Changes of the run's entries, such as `tta=none` or `checkpoint=last`.

    Returns:
        The files, and how far they are from the run.

    Raises:
        UserError: The system is not a single run, the folder is there, or the file does not do what the run does;
            nothing is written then.
        MissingPackageError: A package that the format needs is not installed.

    Example:
        >>> voxward.export("run", out="exported", to="onnx")
    """
    if to not in WRITERS:
        raise UserError(unknown_name("format", to, WRITERS))
    target = Path(out)
    if target.exists():
        raise UserError(f"{target} is there already: choose another --out")
    run = exportable(open_system(system, overrides, "cpu"))
    lost, window = tuple(unsaid(run)), noise_window(run.predictor)
    model = deepcopy(run.predictor.model.network).float().eval()
    name = f"network.{to}"
    with atomic_write(target) as folder, torch.random.fork_rng():
        folder.mkdir()
        apart, limit = _written(WRITERS[to], model, window, folder / name)
        if not apart <= limit:
            raise UserError(
                f"the logits of the exported network differ from the run's by {apart:.2g}, more than {CLOSE:g} of the "
                "largest: nothing was written. Please report this"
            )
        if not lost:
            (folder / DESCRIPTION).write_text(description_of(run, name), encoding="utf-8")
            check_whole(run, open_system(folder / DESCRIPTION, device="cpu"))
        write_export_card(run, folder, lost)
    if lost:
        warnings.warn(
            f"{target} holds the network alone, without a {DESCRIPTION}, which cannot say how this run is deployed: "
            f"{'; '.join(lost)}",
            stacklevel=2,
        )
    return Exported(target / name, None if lost else target / DESCRIPTION, apart, lost)


def _written(
    write: Callable[[nn.Module, Tensor, Path], None], network: nn.Module, window: Tensor, path: Path
) -> tuple[float, float]:
    """Write a network, read it again, and return how far its logits lie from the network's, and how far they may."""
    try:
        write(network, window, path)
        return difference(network, read_network(path), window)
    except (UserError, MissingPackageError):
        raise
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"this network cannot be exported as {path.suffix}, nothing was written: {line}") from error
