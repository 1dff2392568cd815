"""nnU-Net's own masks of the cases that it validated a fold on, and the names of these cases."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath

from voxward.core.errors import UserError
from voxward.data.formats.description import read_object
from voxward.data.io import SUFFIXES
from voxward.data.volume_file import volume_stem


def validated_cases(fold: Path) -> dict[str, Path | None]:
    """Return the cases that nnU-Net validated a fold on.

    Args:
        fold: The folder of the fold, such as `fold_0` in a results folder.

    Returns:
        The mask of each case by its id, in their order; None for a case that only the summary names, as in a zip file
        of nnU-Net. Empty where the folder does not say.
    """
    place = fold / "validation"
    if not place.is_dir():
        return {}
    found: dict[str, Path | None] = dict.fromkeys(_summarised(place / "summary.json"))
    found |= {id: path for path in place.iterdir() if path.is_file() and (id := _id(path.name))}
    return {id: found[id] for id in sorted(found)}


def _summarised(path: Path) -> list[str]:
    """The ids that a summary names; none where it is damaged or has another form, since no prediction needs it."""
    found: list[str] = []
    with suppress(UserError, OSError):
        cases = read_object(path).get("metric_per_case")
        listed = cases if isinstance(cases, list) else []
        files = [case.get("prediction_file") for case in listed if isinstance(case, Mapping)]
        # Paths of the machine that trained, which may have been one of either kind.
        found = [id for file in files if (id := _id(PureWindowsPath(str(file)).name))]
    return found


def _id(name: str) -> str | None:
    """The id of a prediction; None for any other file."""
    if not name.lower().endswith(SUFFIXES) or name.startswith("."):
        return None
    try:
        return volume_stem(Path(name))
    except UserError:
        return None
