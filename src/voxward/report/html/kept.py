"""What an attack folder keeps of its cases: where their images lie, and which volumes and masks were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.document import without_format
from voxward.core.errors import UserError
from voxward.core.files import name_fault
from voxward.core.labels import LabelSet
from voxward.core.reading import read_json
from voxward.data.content import digest_of
from voxward.data.formats import open_dataset
from voxward.data.io import SUFFIXES
from voxward.report.html.strings import STRINGS
from voxward.robustness.description import CASES, CaseFiles, SystemFiles, read_cases
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.unit import safe_name, size_name

_SAID = STRINGS["volumes"]


class NotShown(Exception):  # noqa: N818 - nothing is wrong
    """Why the volumes of a case cannot be shown, as a sentence for the reader of the page."""


@dataclass(frozen=True)
class Kept:
    """The cases of an attack folder, as its `cases.json` says.

    Attributes:
        folder: The attack folder.
        systems: How each system reads the cases, and which values its masks hold.
        cases: The files of each case, by its id.
        digests: A digest of the files of each case, as they were when the case was attacked.
        moved: The dataset in its new place, where the user named it.
    """

    folder: Path
    systems: Mapping[str, SystemFiles]
    cases: Mapping[str, Case]
    digests: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, Case] = field(default_factory=dict)

    @property
    def first(self) -> SystemFiles:
        """How the first system reads the cases; its classes and channels are those that the viewer names."""
        return next(iter(self.systems.values()))

    def labels(self, model: str) -> LabelSet:
        """Return which values the masks of a system hold."""
        return self.systems.get(model, self.first).labels

    def channel(self, model: str, id: str) -> int | None:
        """Return where a system has the first channel of the image of a case; None where it does not read it."""
        shown = (self.cases[id].order or (0,))[0]
        order = self.systems.get(model, self.first).orders.get(id) or self.cases[id].order
        if order is None:
            return shown
        return order.index(shown) if shown in order else None

    def case(self, id: str) -> Case:
        """Return a case whose files are there and are those that were attacked.

        Raises:
            NotShown: They are not.
        """
        known = self.cases.get(id)
        if known is None:
            raise NotShown(_SAID["unknown_case"].format(case=id))
        case = known
        if id in self.moved:
            case = replace(known, images=self.moved[id].images, label=self.moved[id].label)
        files = [*case.images, *([] if case.label is None else [case.label])]
        if missing := [path for path in files if not path.is_file()]:
            raise NotShown(_SAID["moved"].format(path=missing[0]))
        if id in self.digests and digest_of(files) != self.digests[id]:
            raise NotShown(_SAID["changed"].format(path=files[0].parent))
        return case

    def volume(self, record: Record, seeds: Sequence[int]) -> Path | None:
        """Return the adversarial volume of an attack; None where it was not kept."""
        if name_fault(record.case) is not None:  # it would lead elsewhere
            return None
        folder = self._folder("volumes", record, seeds)
        # The suffix is that of the image's file, which may have been converted since.
        return next((path for suffix in SUFFIXES if (path := folder / f"{record.case}{suffix}").is_file()), None)

    def mask(self, record: Record, seeds: Sequence[int]) -> Path | None:
        """Return the mask of a system, under an attack or of the clean image; None where it was not kept."""
        if name_fault(record.case) is not None:
            return None
        if record.attack == CLEAN:
            folder = self.folder / "segmentations" / safe_name(record.model) / CLEAN
        else:
            folder = self._folder("segmentations", record, seeds)
        path = folder / f"{record.case}.nii.gz"
        return path if path.is_file() else None

    def _folder(self, kind: str, record: Record, seeds: Sequence[int]) -> Path:
        parts = (safe_name(record.model), safe_name(record.attack), size_name(record.eps))
        folder = self.folder.joinpath(kind, *parts)
        return folder if not seeds or record.seed == seeds[0] else folder / f"seed{record.seed}"


def read_kept(folder: Path, data: Path | None = None) -> Kept:
    """Read where the images of an attack folder lie.

    Args:
        folder: The attack folder.
        data: The folder of the dataset, where it was moved since.

    Raises:
        NotShown: An earlier version of voxward wrote the folder, or its file is damaged.
    """
    try:
        found = read_cases(folder)
        # Files outside of the folder were refused before, unless the user allows them.
        moved = {} if data is None else {case.id: case for case in open_dataset(data, follow_links=True).every}
        settings = _settings(folder)
    except (UserError, OSError) as error:
        raise NotShown(_SAID["damaged"].format(path=folder / CASES, error=error)) from error
    if found is None or not found.systems:
        raise NotShown(_SAID["old_folder"].format(folder=folder))
    zero = settings.get("nan") == "zero"
    cases = {id: _case(id, files, folder, zero) for id, files in found.cases.items()}
    digests = settings.get("cases", {})
    return Kept(folder, found.systems, cases, digests if isinstance(digests, dict) else {}, moved)


def _case(id: str, files: CaseFiles, folder: Path, zero: bool) -> Case:
    """A case; a path that is relative begins at the attack folder."""
    images = tuple(folder / path for path in files.images)
    return Case(id, images, folder / files.label, order=files.order, nan_as_zero=zero)


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / "settings.json"
    found: Any = without_format(read_json(path), str(path)) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
