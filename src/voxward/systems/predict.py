"""Volume files are segmented by a system, each into a file of its own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from voxward.core.case import Case
from voxward.core.choices import Reading
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import inside
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.channels import files_in_order_of, in_order_of, names_beside
from voxward.data.formats import open_dataset
from voxward.data.formats.outside import refuse_outside
from voxward.data.io import (
    order_fault,
    read_case,
    read_header,
    volume_stem,
    volume_suffix,
    write_image,
    write_label,
)
from voxward.data.places import apart
from voxward.data.volume_file import PICTURE_SUFFIXES, header_path, result_suffix, volumes_among, without_partners
from voxward.systems.digest import case_digest, digest
from voxward.systems.inputs import (
    refuse_alike,
    refuse_one_output,
    warn_of_channels,
    warn_of_pictures,
    warn_of_subfolders,
)
from voxward.systems.probability_files import begin_probabilities, probability_file
from voxward.systems.system import System


def predict_cases(
    system: System,
    cases: Sequence[Case],
    outputs: Outputs,
    resume: bool = False,
    progress: Progress = silent,
    failures: Failures | None = None,
    probabilities: Outputs | None = None,
    around: AbstractContextManager[None] | None = None,
) -> tuple[Path, ...]:
    """Segment cases; the headers of all are checked before the first is read whole.

    A case that fails does not stop the others.

    Args:
        system: The system.
        cases: The cases.
        outputs: The folder, in which a prediction is called like its case and has its input's file type.
        resume: Keep predictions that the same system has made of the same files; a warning counts the others, which are
            made again.
        progress: Told about windows and cases.
        failures: Gets the cases that fail; None raises them together, after the others are written.
        probabilities: The folder that gets the probabilities of every case as CASE.nii.gz, before post-processing, with
            a channel per class or region, and channels.json, which says what each channel is; None writes none.
        around: A block that is entered after all checks, before the first case is segmented, and left after the last.

    Returns:
        The files of the cases that did not fail, in the order of the cases.

    Raises:
        UserError: Another file would be replaced, or the system has no probabilities; then nothing is written.
        CasesFailed: Cases failed, and `failures` is None; its result are the files of the others.
    """
    kept = Failures() if failures is None else failures
    targets = [inside(outputs.folder, f"{case.id}{result_suffix(case.images[0])}") for case in cases]
    _refuse_overwriting(cases, targets)
    outputs.check(target.name for target in targets)
    if probabilities is not None:
        begin_probabilities(probabilities, system, cases)
    for case in cases:
        with kept.of(case):
            _check(system, case)
    made_by, again = system.fingerprint(), list[str]()
    with around if around is not None and kept.left(cases) else nullcontext():
        for n, (case, path) in enumerate(zip(cases, targets, strict=True)):
            progress("predict", n, len(cases), running=case.id)
            if case.id not in kept.cases:
                with kept.of(case):
                    how = digest(made_by, case_digest(case))
                    if not (resume and _is_done(case, path, how, outputs, probabilities)):
                        other = path.exists() and not outputs.made(path.name, how)
                        again += [case.id] if resume and other else []
                        _segment_file(system, case, (outputs, probabilities), path.name, how, progress)
    progress("predict", len(cases), len(cases))
    _warn_of_others(again, outputs)
    kept.found[:] = kept.ordered(cases)
    written = tuple(path for case, path in zip(cases, targets, strict=True) if case.id not in kept.cases)
    if failures is None:
        kept.raise_any(len(cases), written)
    return written


def _warn_of_others(again: Sequence[str], outputs: Outputs) -> None:
    if again:
        warnings.warn(
            f"{len(again)} predictions in {outputs.folder} were not made by this system, with these settings, of these "
            f"files: they are made again ({', '.join(again[:5])}{', ...' if len(again) > 5 else ''})",
            stacklevel=3,
        )


def collect_inputs(
    inputs: Iterable[Path | str], wanted: Sequence[str], reading: Reading = Reading()
) -> tuple[Case, ...]:
    """Return the cases that files, folders of volumes and dataset folders hold, with their channels in order.

    Args:
        inputs: The files and folders.
        wanted: The names of the system's channels; files CASE_0000 to CASE_(n-1) of one folder are one case.
        reading: What the user says about the files.

    Raises:
        FileNotFoundError: An input is missing.
        UserError: Two inputs would be written as the same file, there is no volume, or an input lacks a channel.
    """
    cases: list[Case] = []
    files: list[Path] = []
    for entry in map(Path, inputs):
        if entry.is_file():
            volume_suffix(entry)  # refuses what is no volume by its name
            files.append(entry)
        elif not entry.is_dir():
            raise FileNotFoundError(f"no file or folder {entry}")
        elif found := volumes_in(entry):
            if (entry / "dataset.json").is_file():
                raise UserError(
                    f"{entry} is a dataset, and holds volumes of its own, e.g. {found[0].name}: name the files, or "
                    "move them away"
                )
            if not reading.follow_links:
                refuse_outside(entry, found)
            warn_of_subfolders(entry)
            warn_of_pictures(entry, found)
            files += found
        else:
            cases += in_order_of(open_dataset(entry, reading.follow_links), wanted, reading.channels).every
    files = [
        path if (header := header_path(path)) is path or not header.is_file() else header
        for path in without_partners(files)
    ]
    refuse_alike(files)
    for folder in dict.fromkeys(path.parent for path in files):
        cases += _in_folder(folder, [path for path in files if path.parent == folder], wanted, reading.channels)
    refuse_one_output(cases)
    if not cases:
        raise UserError("there is no volume to segment")
    return tuple(cases)


def volumes_in(folder: Path) -> list[Path]:
    """Return a folder's volume files, sorted; names that begin with a dot are other programs' notes.

    A link to a file that is gone is a volume that cannot be read, and not none at all.
    """
    return volumes_among(
        path for path in folder.iterdir() if path.is_file() or (path.is_symlink() and not path.exists())
    )


def _in_folder(folder: Path, files: Sequence[Path], wanted: Sequence[str], names: Sequence[str]) -> Sequence[Case]:
    """The cases of files of one folder, in the order of what the user or the folder's dataset calls their channels."""
    forced = bool(names)
    names = names or names_beside(folder)
    count = len(names) or len(wanted)
    warn_of_channels(files, count)
    cases = _grouped(files, count)
    return files_in_order_of(cases, wanted, str(folder), names, forced)


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
        elif [*found] == wanted[:1] and found[wanted[0]].name.lower().endswith(PICTURE_SUFFIXES):
            cases.append(Case(base, (found[wanted[0]],)))  # nnU-Net's colour pictures hold all channels in one file
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
    first, *others = (read_header(path) for path in case.images)
    for header in others:
        if header.shape != first.shape:
            raise UserError(f"its channels disagree in shape: {', '.join(map(str, case.images))}")
        if (found := apart(header.affine, first.affine, first.shape)).exceeds(case.affine_tolerance):
            raise UserError(f"its channels disagree in affine: {found} ({', '.join(map(str, case.images))})")
    count = first.channels + sum(header.channels for header in others)
    if fault := order_fault(case, count):
        raise UserError(fault)
    system.check(count if case.order is None else len(case.order), first.affine)


def _is_done(case: Case, path: Path, how: str, outputs: Outputs, probabilities: Outputs | None) -> bool:
    return outputs.made(path.name, how) and (probabilities is None or probabilities.made(probability_file(case), how))


def _segment_file(
    system: System, case: Case, folders: tuple[Outputs, Outputs | None], name: str, how: str, progress: Progress
) -> None:
    outputs, probabilities = folders
    volume = read_case(case)
    wanted = probabilities is not None
    found = system.segment(volume, lambda done, of: progress("windows", done, of), probabilities=wanted)
    if found.warning:
        warnings.warn(f"{case.id}: {found.warning}", stacklevel=2)
    with outputs.write(name, how) as path:
        write_label(path, system.labels.to_values(found.label), volume.affine, case.images[0])
    if probabilities is not None and found.probabilities is not None:
        with probabilities.write(probability_file(case), how) as path:
            write_image(path, found.probabilities, volume.affine, template=case.images[0])
