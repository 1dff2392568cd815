"""voxward corrupt: a contact sheet of what corruptions do to a case, to look at before any system is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.registry import unknown_name
from voxward.corruptions.corrupt import no_channel
from voxward.corruptions.corruption_set import SEVERITIES, CorruptionSet, check_severities, load_corruption_set
from voxward.corruptions.packages import refuse_missing
from voxward.corruptions.scan import Scan, axial_axis
from voxward.data.dicom.cases import case_folders, case_id
from voxward.data.dicom.door import Wanted, converted, is_dicom_folder
from voxward.data.formats import open_dataset
from voxward.data.io import read_case, read_truth
from voxward.report.corruption_sheet import SheetRequest, corruption_sheet
from voxward.report.style import write

KIND = "a contact sheet of corruptions"
_FORMS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class ContactSheet:
    """A contact sheet that was written.

    Attributes:
        path: The file.
        case: The id of the case.
        corruptions: The corruptions on it, a row each.
        channel: The name of the channel that is drawn.
    """

    path: Path
    case: str
    corruptions: tuple[str, ...]
    channel: str


def corrupt(
    dataset: Path | str,
    *,
    out: Path | str = "corruptions.png",
    set: Path | str = "rood-mri",
    case: str | None = None,
    names: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    channel: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> ContactSheet:
    """Draw one slice of a case under every corruption of a set: a row per corruption, a column per severity.

    With the same seed, a case looks here as in `voxward attack --protocol corruptions-mri`.

    Args:
        dataset: The folder of the dataset, or of DICOM files.
        out: The picture: PNG, PDF or SVG, by its suffix.
        set: A packaged set of corruptions, `rood-mri` or `ct`, or the path of a .yaml file.
        case: The id of the case; None: the first one.
        names: The corruptions; empty: all of the set.
        severities: The severities, of 1 to 5.
        channel: The name of the channel that is drawn; None: the first one that the set changes.
        seed: The seed of what is drawn.
        overwrite: Replace a file that voxward did not write, or that was edited since.

    Returns:
        What was written.

    Raises:
        UserError: A name is unknown, the case cannot be read or has no channel that the set changes, or a file would be
            replaced.
        MissingPackageError: A package that corruptions need is not installed.

    Example:
        >>> voxward.corrupt("Task04_Hippocampus", case="hippocampus_001", out="sheet.png")  # doctest: +SKIP
    """
    target = Path(out)
    if target.suffix.lower() not in _FORMS:
        raise UserError(f"out must end with {', '.join(_FORMS)}, got {out}")
    chosen = load_corruption_set(set)
    for name in names:
        chosen.corruption(name)
    check_severities(severities, lowest=1)
    refuse_missing()
    outputs = Outputs(target.parent, KIND, overwrite)
    outputs.check([target.name])
    one, scan = _read(dataset, case)
    number = _channel(chosen, scan, channel)
    asked = SheetRequest(chosen, tuple(names) or tuple(chosen.corruptions), tuple(severities), number, one, seed)
    figure = corruption_sheet(scan, asked)
    with outputs.write(target.name) as path:
        write(figure, path, target.suffix[1:].lower())
    return ContactSheet(target, one, asked.names, scan.channels[number])


def _read(place: Path | str, id: str | None) -> tuple[str, Scan]:
    """The id of the case, and the case; where it is one of DICOM files, no other is read."""
    if not is_dicom_folder(place):
        source = open_dataset(place)
        one = _case(source, id)
        return one.id, _scan(source, one)
    folders = {case_id(folder): folder for folder in case_folders([Path(place)])}
    if id is not None and id not in folders:
        raise UserError(unknown_name("case", id, folders))
    with converted([next(iter(folders.values())) if id is None else folders[id]], Wanted()) as made:
        source = made.dataset()
        return source.every[0].id, _scan(source, source.every[0])


def _case(source: Dataset, id: str | None) -> Case:
    cases = [*source.cases, *source.test]
    if not cases:
        raise UserError(f"{source.root} has no cases")
    return cases[0] if id is None else source.case(id)


def _scan(source: Dataset, case: Case) -> Scan:
    volume = read_case(case)
    label = None if case.label is None else read_truth(case, volume).array
    names = tuple(source.channels)
    channels = names if len(names) == len(volume.array) else tuple(f"channel {n}" for n in range(len(volume.array)))
    kind = np.float64 if volume.array.dtype.itemsize > 4 else np.float32
    return Scan(volume.array.astype(kind), volume.spacing, channels, axial_axis(volume.affine), label)


def _channel(chosen: CorruptionSet, scan: Scan, name: str | None) -> int:
    if name is not None:
        if name not in scan.channels:
            raise UserError(unknown_name("channel", name, dict.fromkeys(scan.channels)))
        return scan.channels.index(name)
    changed = chosen.changes(scan.channels)
    if not changed:
        raise UserError(no_channel(chosen, scan.channels))
    return changed[0]
