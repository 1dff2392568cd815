"""voxward merge: the segmentations of two systems, or of two folders, become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.choices import Reading, Trusted
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.io import read_label, write_label
from voxward.data.nan import reading_nan
from voxward.data.places import apart, within
from voxward.data.volume_file import result_suffix, volume_stem
from voxward.systems.merge import MergeRule, pairs_of
from voxward.systems.merge import merge as merged
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.open import is_system, open_system, path_of
from voxward.systems.predict import collect_inputs, predict_cases
from voxward.systems.score import PREDICTIONS
from voxward.systems.system import System


def merge(
    first: Path | str | Trusted,
    second: Path | str | Trusted,
    *,
    out: Path | str,
    inputs: Sequence[Path | str] = (),
    owned_by_first: Sequence[int] = (1, 4),
    owned_by_second: Sequence[int] = (2,),
    device: str = "auto",
    overwrite: bool = False,
    reading: Reading = Reading(),
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Merge two segmentations of every case, each believed on the classes it is better at.

    Args:
        first: A folder of segmentations, or a system (or `voxward.Trusted` of one) that segments `inputs` first.
        second: The same.
        out: The folder of the merged segmentations, which have the first one's file type and place. What systems
            predict goes into OUT/first and OUT/second.
        inputs: The volumes that systems segment: files, folders, or a dataset folder.
        owned_by_first: The label values that the first one decides on; by default necrosis and enhancing tumour of
            BraTS up to 2020, see systems.merge.MergeRule.
        owned_by_second: The label values that the second one decides on; by default oedema.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`, for systems.
        overwrite: Replace files in `out` that are no merged segmentation of voxward's, or were edited since.
        reading: What the user says about the inputs; how far the files of an input, or the two segmentations of a case,
            may lie apart (in voxels); and whether the first case that fails stops the others.
        progress: Told about cases.

    Returns:
        The written files.

    Raises:
        UserError: The two folders do not hold the same cases, or a file would be replaced; before anything is merged.
        CasesFailed: Cases failed, because a system could not segment them, or because their two segmentations differ in
            shape or place or hold other values. Its `result` are the files of the others.
        FileNotFoundError: A folder or an input is missing.
    """
    tolerance = tolerance_for((), reading)
    rule, target = MergeRule(tuple(owned_by_first), tuple(owned_by_second)), Path(out)
    folders, failures = [], Failures(reading.fail_fast)
    for given, name in ((first, "first"), (second, "second")):
        place = Outputs(target / name, PREDICTIONS, overwrite)
        if is_system(path := path_of(given)):
            cases, opened = _inputs(given, inputs, device, reading)
            predict_cases(opened, failures.left(cases), place, progress=progress, failures=failures)
        folders.append(place.folder if is_system(path) else path)
    pairs = pairs_of(folders[0], folders[1], failures.cases)
    if target.resolve() in [folder.resolve() for folder in folders]:
        raise UserError(f"out {target} is one of the two folders: choose another")
    outputs, written = Outputs(target, "a merged segmentation", overwrite), []
    outputs.check(_name(one) for one, _ in pairs.values())
    for n, (id, (one, other)) in enumerate(sorted(pairs.items())):
        with failures.of(Case(id, (one, other))):
            _merge_case((one, other), rule, outputs, tolerance)
            written.append(target / _name(one))
        progress("merge", n + 1, len(pairs))
    failures.raise_any(len(failures.found) + len(written), tuple(written))
    return tuple(written)


def _inputs(
    system: Path | str | Trusted, inputs: Sequence[Path | str], device: str, reading: Reading
) -> tuple[Sequence[Case], System]:
    """The cases that a system is to segment, and the system."""
    if not inputs:
        raise UserError(f"{path_of(system)} is a system: inputs must name the volumes that it segments")
    opened = open_system(system, device=device)
    cases = collect_inputs(inputs, opened.channels, reading)
    cases = reading_nan(cases, nan_for(opened.runs, reading))
    return within(cases, tolerance_for(opened.runs, reading)), opened


def _name(path: Path) -> str:
    """The name of the file that is made of one."""
    return f"{volume_stem(path)}{result_suffix(path)}"


def _merge_case(pair: tuple[Path, Path], rule: MergeRule, outputs: Outputs, tolerance: float) -> None:
    one, other = pair
    a, b = read_label(one), read_label(other)
    if a.shape == b.shape and (found := apart(a.affine, b.affine, a.shape)).exceeds(tolerance):
        raise UserError(f"{one} and {other} lie in different places: {found}")
    result = merged(a.array, b.array, rule)
    with outputs.write(_name(one)) as path:
        write_label(path, result, a.affine, one)
