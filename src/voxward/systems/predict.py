"""Volume files are segmented by a system, each into a file of its own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.formats import open_dataset
from voxward.data.io import SUFFIXES, read_case, read_header, volume_stem, volume_suffix, write_label
from voxward.data.places import apart
from voxward.systems.system import System


def predict_cases(
    system: System, cases: Sequence[Case], outputs: Outputs, resume: bool = False, progress: Progress = silent
) -> tuple[Path, ...]:
    """Segment cases; the headers of all are checked before the first is read whole.

    Args:
        system: The system.
        cases: The cases.
        outputs: The folder, in which a prediction is called like its case and has its input's file type.
        resume: Keep predictions that are there already.
        progress: Told about windows and cases.

    Returns:
        The files, in the order of the cases.

    Raises:
        UserError: A case does not fit the system, or another file would be replaced.
    """
    targets = [inside(outputs.folder, f"{case.id}{volume_suffix(case.images[0])}") for case in cases]
    _refuse_overwriting(cases, targets)
    outputs.check(target.name for target in targets)
    for case in cases:
        _check(system, case)
    for n, (case, path) in enumerate(zip(cases, targets, strict=True)):
        if not (resume and path.exists()):
            _segment_file(system, case, outputs, path.name, progress)
        progress("predict", n + 1, len(cases))
    return tuple(targets)


def collect_inputs(inputs: Iterable[Path | str], channels: int) -> tuple[Case, ...]:
    """Return the cases that files, folders of volumes and dataset folders hold.

    Args:
        inputs: The files and folders.
        channels: How many channels the system takes; files CASE_0000 to CASE_(n-1) of one folder are one case.

    Raises:
        FileNotFoundError: An input is missing.
        UserError: Two inputs would be written as the same file, or there is no volume.
    """
    cases: list[Case] = []
    files: list[Path] = []
    for entry in map(Path, inputs):
        if entry.is_file():
            files.append(entry)
        elif not entry.is_dir():
            raise FileNotFoundError(f"no file or folder {entry}")
        elif found := volumes_in(entry):
            if (entry / "dataset.json").is_file():
                raise UserError(
                    f"{entry} is a dataset, and holds volumes of its own, e.g. {found[0].name}: name the files, or "
                    "move them away"
                )
            files += found
        else:
            dataset = open_dataset(entry)
            cases += dataset.every
    if len({path.resolve() for path in files}) < len(files):
        raise UserError("an input is named twice: both would be written as the same file")
    cases += _grouped(files, channels)
    ids = [case.id for case in cases]
    twice = sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise UserError(f"several inputs would be written as the same file: {', '.join(twice[:5])}")
    if not cases:
        raise UserError("there is no volume to segment")
    return tuple(cases)


def volumes_in(folder: Path) -> list[Path]:
    """Return a folder's volume files, sorted; names that begin with a dot are other programs' notes."""
    files = (path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _grouped(files: Iterable[Path], channels: int) -> list[Case]:
    """Files CASE_0000, ..., CASE_(channels - 1) of one folder are one case; every other file is a case of its own."""
    groups: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in files:
        stem = volume_stem(path)
        numbered = re.fullmatch(r"(.+)_(\d{4})", stem)
        base, number = numbered.groups() if numbered else (stem, "")
        groups.setdefault((path.parent, base), {})[number or path.name] = path
    wanted = [f"{n:04d}" for n in range(channels)]
    cases = []
    for (_, base), found in groups.items():
        if sorted(found) == wanted:
            cases.append(Case(base, tuple(found[number] for number in wanted)))
        else:
            cases += [Case(volume_stem(path), (path,)) for path in found.values()]
    return cases


def _refuse_overwriting(cases: Sequence[Case], targets: Sequence[Path]) -> None:
    sources = {path.resolve() for case in cases for path in (*case.images, *([case.label] if case.label else []))}
    lost = [str(target) for target in targets if target.resolve() in sources]
    if lost:
        raise UserError(f"predictions would overwrite their own input, e.g. {lost[0]}: choose another --out")


def _check(system: System, case: Case) -> None:
    """Refuse a case by its files' headers, before any is read whole."""
    try:
        first, *others = (read_header(path) for path in case.images)
        for header in others:
            if header.shape != first.shape:
                raise UserError(f"its channels disagree in shape: {', '.join(map(str, case.images))}")
            if (found := apart(header.affine, first.affine, first.shape)).exceeds(case.affine_tolerance):
                raise UserError(f"its channels disagree in affine: {found} ({', '.join(map(str, case.images))})")
        system.check(first.channels + sum(header.channels for header in others), first.affine)
    except UserError as error:
        raise UserError(f"{case.id}: {error}") from error


def _segment_file(system: System, case: Case, outputs: Outputs, name: str, progress: Progress) -> None:
    try:
        volume = read_case(case)
        found = system.segment(volume, lambda done, of: progress("windows", done, of))
    except UserError as error:
        raise UserError(f"{case.id}: {error}") from error
    if found.warning:
        warnings.warn(f"{case.id}: {found.warning}", stacklevel=2)
    with outputs.write(name) as path:
        write_label(path, system.labels.to_values(found.label), volume.affine, case.images[0])
