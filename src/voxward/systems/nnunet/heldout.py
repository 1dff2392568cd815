"""Which cases the network of a fold has not seen: its validation cases, which its folder names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxward.core.labels import LabelSet
from voxward.core.plan import load_json
from voxward.runs.foreign import Foreign
from voxward.systems.nnunet.validation import validated_cases

HARDENING = "hardening.json"
"""The file in a fold that voxward hardened which says how."""


@dataclass(frozen=True)
class Hardening:
    """How the network of a fold was hardened: the content of its hardening.json.

    Attributes:
        method: The name of the defence.
        eps: The largest change of a voxel, as a share (0 to 1) of the intensity range of a case; None for a defence
            that bounds no voxel.
        seed: The seed of all that was drawn.
        minutes: The time budget; None for a length in epochs.
        steps: The number of training steps.
        seconds: How long the training took.
        source: The results folder, or its zip file, whose network this one began with.
        source_weights: The SHA-256 of the weights that it began with.
        checkpoint: The file that these were read from.
        fold: The fold.
        dataset: The folder of the dataset.
        version: The version of voxward.
        trained: Ids of the cases that it was trained on.
        selection: Ids of the cases that chose the best weights.
        unseen: Ids of the cases that neither this network nor the one that it began with has seen.
        sigma: The standard deviation of the noise, as a share (0 to 1) of the intensity range; None for a defence
            without noise.
    """

    method: str
    eps: float | None
    seed: int
    minutes: float | None
    steps: int
    seconds: float
    source: str
    source_weights: str
    checkpoint: str
    fold: str
    dataset: str
    version: str
    trained: tuple[str, ...]
    selection: tuple[str, ...]
    unseen: tuple[str, ...]
    sigma: float | None = None


@dataclass(frozen=True)
class FoldCases:
    """What is known about the cases of a fold.

    Attributes:
        fold: The name of the fold: its number, or `all`.
        masks: nnU-Net's own mask of each case that it validated the fold on, by the case's id; None where only the name
            is known. Empty for a hardened fold, whose masks would be those of the network before.
        held_out: The ids of the cases that its network has not seen.
        trained: The ids of other cases, which its network has seen.
    """

    fold: str
    masks: Mapping[str, Path | None]
    held_out: tuple[str, ...]
    trained: tuple[str, ...] = ()


def cases_of_fold(fold: Path) -> FoldCases:
    """Return what the folder of a fold says about its cases.

    Args:
        fold: The folder of the fold, such as `fold_0` in a results folder.

    Raises:
        UserError: The fold's hardening.json cannot be used.
    """
    name = fold.name.removeprefix("fold_")
    if (fold / HARDENING).is_file():
        record = load_json(Hardening, fold / HARDENING)
        return FoldCases(name, {}, tuple(sorted(record.unseen)), (*record.trained, *record.selection))
    masks = validated_cases(fold)
    if name == "all":  # it is validated on what it was trained on
        return FoldCases(name, masks, (), tuple(masks))
    return FoldCases(name, masks, tuple(masks))


def cases_of_folds(folder: Path) -> tuple[FoldCases, ...]:
    """Return what a results folder says about the cases of its folds; a fold that says nothing is left out.

    Args:
        folder: The results folder.

    Raises:
        UserError: A hardening.json cannot be used.
    """
    found = [cases_of_fold(path) for path in sorted(folder.glob("fold_*")) if path.is_dir()]
    return tuple(fold for fold in found if fold.held_out or fold.trained)


def held_out(fold: Path) -> tuple[str, ...] | None:
    """Return the cases that the network of a fold has not seen.

    nnU-Net leaves its predictions of them in the fold. A fold that voxward hardened lists them in its hardening.json,
    because such predictions would be those of the network before.

    Args:
        fold: The folder of the fold, such as `fold_0` in a results folder.

    Returns:
        Their ids, sorted; None where the folder does not say, or there are none.

    Raises:
        UserError: The fold's hardening.json cannot be used.
    """
    return cases_of_fold(fold).held_out or None


def training_of(name: str, labels: LabelSet, known: Sequence[FoldCases], folds: Sequence[str]) -> Foreign:
    """Return what a results folder says about the cases that some of its folds were trained on.

    A case is unseen if every one of these folds held it out. All others that the folder names, also by folds that are
    not used, are cases of the dataset that the folds were trained on.

    Args:
        name: The name of the model.
        labels: Its classes.
        known: The cases of each fold.
        folds: The folds that predict together.
    """
    named = {id: None for fold in known for id in (*fold.trained, *fold.held_out)}
    masks = {**named, **{id: mask for fold in known for id, mask in fold.masks.items()}}
    by_fold = {fold.fold: set(fold.held_out) for fold in known}
    common = set.intersection(*(by_fold.get(fold, set()) for fold in folds))
    alone = [f"folds=[{fold}]" for fold in folds if by_fold.get(fold) and len(folds) > 1]
    return Foreign(
        name=name,
        labels=labels,
        held_out={id: mask for id, mask in masks.items() if id in common},
        trained={id: mask for id, mask in masks.items() if id not in common},
        advice=f"use a fold alone, which held out cases (--set {' or '.join(alone)})" if alone else "",
    )
