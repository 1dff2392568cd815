"""The recipe of a hardened nnU-Net: the parts that its results folder does not decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.recipe import Choice, Recipe, load_recipe, load_run_recipe
from voxward.systems.nnunet.results import NnResults
from voxward.training.begin import refuse_other_channels, refuse_unused
from voxward.training.harden import LEARNING_RATE, begun_with
from voxward.training.setup import check_recipe

# Its training of an nnU-Net-like network: Dice and cross-entropy, patches and augmentation as nnU-Net's.
_BASE = "dynunet"
_DESCRIPTION = (
    "The training of a hardened nnU-Net; its results folder decides the rest (preparation, network, inference)"
)
_OPEN = ("defence", "loss", "optimizer", "schedule", "sampling", "augmentation", "training")
_CLOSED = {
    "augmentation.sides": "nnU-Net's axes are not those of the body",
    "augmentation.mirror_pairs": "nnU-Net's axes are not those of the body",
    "training.auxiliary": "an nnU-Net is hardened on its last output alone",
}


def hardening_recipe(results: NnResults, method: str, eps: float | None, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a hardening that begins.

    Patches are mirrored along the axes that the network is mirrored along when it predicts.

    Args:
        results: The results folder.
        method: The name of the defence.
        eps: The radius of the defence, see `begun_with`.
        overrides: Changes, each as `dotted.key=value`.

    Raises:
        UserError: A change is about something that the results folder decides, or a name or an option is wrong.
    """
    _refuse_decided(overrides)
    rate = LEARNING_RATE * float(load_recipe(_BASE).optimizer.options["lr"])
    begun = (
        *begun_with(method, eps),
        f"optimizer.options.lr={rate!r}",
        f"augmentation.mirror_axes={list(results.mirrors)}",
        "augmentation.sides=none",
    )
    recipe = load_recipe(_BASE, (*begun, *overrides))
    refuse_unused(recipe, (*begun, *overrides))
    check_recipe(recipe, results.plan.labels)
    refuse_other_channels(recipe.defence, results.plan.channels)
    network = Choice("nnunet", {"configuration": results.plan.configuration, "trainer": results.trainer})
    return replace(recipe, name="nnunet", description=_DESCRIPTION, network=network)


def resumed_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that a hardening was started with; overrides may be repeated, but not changed.

    Args:
        path: The recipe.yaml of the training.
        overrides: The changes that were asked for now.

    Raises:
        UserError: They contradict the recipe.
    """
    kept = load_run_recipe(path)
    if load_run_recipe(path, overrides) != kept:
        raise UserError(
            f"{' '.join(overrides)} contradicts the recipe that the training was started with, {path}: resume without "
            "it, or begin again with another --out"
        )
    return kept


def _refuse_decided(overrides: Sequence[str]) -> None:
    for change in overrides:
        key = change.partition("=")[0].strip()
        if key.split(".")[0] not in _OPEN:
            raise UserError(
                f"{change!r}: the results folder of an nnU-Net decides this; what can be changed: {', '.join(_OPEN)}"
            )
        if (reason := _CLOSED.get(key)) is not None:
            raise UserError(f"{change!r}: {key} cannot be set: {reason}")
