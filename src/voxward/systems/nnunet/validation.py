"""What a results folder says about its folds: the cases that each of them held out, and nnU-Net's own masks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from types import MappingProxyType

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.data.formats.description import read_object
from voxward.runs.foreign import Foreign


@dataclass(frozen=True)
class FoldCases:
    """The cases that nnU-Net validated a fold on.

    Attributes:
        fold: The name of the fold: its number, or `all`.
        masks: nnU-Net's prediction of each of these cases, by the case's id; None where only its name is known.
    """

    fold: str
    masks: Mapping[str, Path | None]

    @property
    def held_out(self) -> bool:
        """Return whether the fold was not trained on these cases: `fold_all` is validated on what it was trained on."""
        return self.fold != "all"


def read_fold_cases(folder: Path, ending: str) -> tuple[FoldCases, ...]:
    """Read which cases the folds of a results folder were validated on.

    Args:
        folder: The results folder.
        ending: How the names of its image files end.

    Returns:
        An entry for each fold that says so, by the masks in `fold_N/validation` or the names in its summary.json.

    Raises:
        UserError: A summary.json is damaged.
    """
    places = sorted(path for path in folder.glob("fold_*/validation") if path.is_dir())
    read = (FoldCases(place.parent.name.removeprefix("fold_"), _cases(place, ending)) for place in places)
    return tuple(fold for fold in read if fold.masks)


def training_of(name: str, labels: LabelSet, validated: Sequence[FoldCases], folds: Sequence[str]) -> Foreign:
    """Return what a results folder says about the cases that some of its folds were trained on.

    A case is unseen if every one of these folds was validated on it. All others that the folder names, also by folds
    that are not used, are cases of the dataset that the folds were trained on.

    Args:
        name: The name of the model.
        labels: Its classes.
        validated: The cases that each fold was validated on.
        folds: The folds that predict together.
    """
    every = {id: mask for fold in validated for id, mask in fold.masks.items()}
    by_fold = {fold.fold: fold.masks.keys() if fold.held_out else set() for fold in validated}
    common = set.intersection(*(set(by_fold.get(fold, ())) for fold in folds))
    alone = [f"folds=[{fold}]" for fold in folds if by_fold.get(fold) and len(folds) > 1]
    return Foreign(
        name=name,
        labels=labels,
        held_out={id: mask for id, mask in every.items() if id in common},
        trained={id: mask for id, mask in every.items() if id not in common},
        advice=f"use one fold alone, which held out cases (--set {' or '.join(alone)})"
        if len(folds) > 1 and alone
        else "",
    )


def _cases(place: Path, ending: str) -> Mapping[str, Path | None]:
    named = dict.fromkeys(_summarised(place / "summary.json", ending))
    files = [path for path in place.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")]
    masks = {path.name.removesuffix(ending): path for path in files if path.is_file()}
    found: dict[str, Path | None] = {**named, **masks}
    return MappingProxyType({id: found[id] for id in sorted(found)})


def _summarised(path: Path, ending: str) -> list[str]:
    """The ids in a summary.json; all that is left of the validation in a zip file of nnU-Net."""
    if not path.is_file():
        return []
    cases = read_object(path).get("metric_per_case", [])
    files = [case.get("prediction_file") for case in cases if isinstance(case, Mapping)]
    if not isinstance(cases, list) or not all(isinstance(file, str) for file in files):
        raise UserError(f"{path}: metric_per_case must name a prediction_file for each case")
    # A path of the machine that trained, which may have been one of either kind.
    return [PureWindowsPath(str(file)).name.removesuffix(ending) for file in files]
