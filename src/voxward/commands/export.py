"""voxward export: a trained run as files that other programs read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from voxward.core.errors import MissingPackageError, UserError
from voxward.core.files import atomic_write
from voxward.core.registry import Registry
from voxward.report.export_card import write_export_card
from voxward.systems.export import (
    CLOSE,
    DESCRIPTION,
    Exported,
    Written,
    check_whole,
    difference,
    exportable,
    noise_window,
    write_alone,
    write_onnx,
    write_pt2,
)
from voxward.systems.export_bundle import write_bundle
from voxward.systems.export_nnunet import write_nnunet
from voxward.systems.open import Given, open_system
from voxward.systems.run import RunSystem

Writer = Callable[[RunSystem, nn.Module, Path], Written]
FORMATS: Registry[Writer] = Registry(
    "format",
    {
        "pt2": partial(write_alone, write_pt2, "pt2"),
        "onnx": partial(write_alone, write_onnx, "onnx"),
        "bundle": write_bundle,
        "nnunet": write_nnunet,
    },
)
"""What a run can be exported as."""


def export(
    system: Given,
    *,
    out: Path | str,
    to: str = "pt2",
    overrides: Sequence[str] = (),
) -> Exported:
    """Write a trained run as files that other programs read.

    `pt2` and `onnx` are the network alone, for batches and windows of any size that it takes, with a `system.yaml` that
    says how it is deployed: voxward reads both again as a system. `bundle` is a bundle of MONAI and `nnunet` a results
    folder of nnU-Net; what these tools do otherwise than the run is told, one sentence each. Before anything appears,
    the network is read again and compared with the run on windows of noise, and where a `system.yaml` is written, the
    whole pipeline, too.

    Args:
        system: A run folder, or a `system.yaml` of one run.
        out: The folder, which must not exist. It gets a model card MODEL_CARD.md, too, of what the run records.
        to: `pt2` (torch.export), `onnx`, `bundle` (MONAI) or `nnunet` (nnU-Net v2; only for the network dynunet).
        overrides: Changes of the run's entries, such as `tta=none` or `checkpoint=last`.

    Returns:
        The files, and how far they are from the run.

    Raises:
        UserError: The system is not a single run, the folder is there, the tool has no such network or normalisation,
            or the file does not do what the run does; nothing is written then.
        MissingPackageError: A package that the format needs is not installed.

    Example:
        >>> voxward.export("run", out="exported", to="onnx")
    """
    write, target = FORMATS[to], Path(out)
    if target.exists():
        raise UserError(f"{target} is there already: choose another --out")
    run = exportable(open_system(system, overrides, "cpu"))
    model, window = deepcopy(run.predictor.model.network).cpu().float().eval(), noise_window(run.predictor)
    with atomic_write(target) as folder, torch.random.fork_rng():
        folder.mkdir()
        made = _written(write, to, run, model, folder)
        apart, limit = difference(model, made.network, window)
        if not apart <= limit:
            raise UserError(
                f"the logits of the exported network differ from the run's by {apart:.2g}, more than {CLOSE:g} of the "
                "largest: nothing was written. Please report this"
            )
        if made.description is not None and made.description.name == DESCRIPTION:
            check_whole(run, open_system(made.description, device="cpu"))
        write_export_card(run, folder, made.unsaid)
        names = [None if path is None else target / path.relative_to(folder) for path in (made.path, made.description)]
    if made.unsaid:
        tells = "is done otherwise there than in the run" if names[1] else f"no {DESCRIPTION} can say, so there is none"
        warnings.warn(f"{target}: this {tells}: {'; '.join(made.unsaid)}", stacklevel=2)
    assert names[0] is not None
    return Exported(names[0], names[1], apart, made.unsaid)


def _written(write: Writer, to: str, run: RunSystem, network: nn.Module, folder: Path) -> Written:
    try:
        return write(run, network, folder)
    except (UserError, MissingPackageError):
        raise
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"this network cannot be exported as {to}, nothing was written: {line}") from error
