"""voxward merge: the segmentations of two systems, or of two folders, become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import AFFINE_TOLERANCE, refuse_tolerance
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.io import read_label, write_label
from voxward.data.places import apart
from voxward.systems.merge import MergeRule, pairs_of
from voxward.systems.merge import merge as merged
from voxward.systems.open import is_system, open_system
from voxward.systems.predict import collect_inputs, predict_cases
from voxward.systems.score import PREDICTIONS


def merge(
    first: Path | str,
    second: Path | str,
    *,
    out: Path | str,
    inputs: Sequence[Path | str] = (),
    owned_by_first: Sequence[int] = (1, 4),
    owned_by_second: Sequence[int] = (2,),
    device: str = "auto",
    overwrite: bool = False,
    affine_tolerance: float = AFFINE_TOLERANCE,
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Merge two segmentations of every case, each believed on the classes it is better at.

    Args:
        first: A folder of segmentations, or a system whose segmentations of `inputs` are made first.
        second: The same.
        out: The folder of the merged segmentations, which have the first one's file type and place. What systems
            predict goes into OUT/first and OUT/second.
        inputs: The volumes that systems segment: files, folders, or a dataset folder.
        owned_by_first: The label values that the first one decides on; by default necrosis and enhancing tumour of
            BraTS up to 2020, see systems.merge.MergeRule.
        owned_by_second: The label values that the second one decides on; by default oedema.
        device: `auto`, `cpu` or `cuda`, for systems.
        overwrite: Replace files in `out` that are no merged segmentation of voxward's, or were edited since.
        affine_tolerance: How far the corners of the two segmentations of a case may lie apart, in voxels.
        progress: Told about cases.

    Returns:
        The written files.

    Raises:
        UserError: The two do not hold the same cases, or a file would be replaced, before anything is merged; or two
            segmentations of a case differ in shape or place, or hold other values.
        FileNotFoundError: A folder or an input is missing.
    """
    refuse_tolerance(affine_tolerance)
    rule, target = MergeRule(tuple(owned_by_first), tuple(owned_by_second)), Path(out)
    folders = []
    for given, name in ((first, "first"), (second, "second")):
        if is_system(Path(given)):
            folders.append(_predicted(given, inputs, Outputs(target / name, PREDICTIONS, overwrite), device, progress))
        else:
            folders.append(Path(given))
    pairs = pairs_of(*folders)
    if target.resolve() in [folder.resolve() for folder in folders]:
        raise UserError(f"out {target} is one of the two folders: choose another")
    outputs, written = Outputs(target, "a merged segmentation", overwrite), []
    outputs.check(one.name for one, _ in pairs.values())
    for n, (id, (one, other)) in enumerate(sorted(pairs.items())):
        _merge_case(id, (one, other), rule, outputs, affine_tolerance)
        written.append(target / one.name)
        progress("merge", n + 1, len(pairs))
    return tuple(written)


def _predicted(
    system: Path | str, inputs: Sequence[Path | str], outputs: Outputs, device: str, progress: Progress
) -> Path:
    if not inputs:
        raise UserError(f"{system} is a system: inputs must name the volumes that it segments")
    opened = open_system(system, device=device)
    predict_cases(opened, collect_inputs(inputs, opened.channels), outputs, progress=progress)
    return outputs.folder


def _merge_case(id: str, pair: tuple[Path, Path], rule: MergeRule, outputs: Outputs, affine_tolerance: float) -> None:
    one, other = pair
    a, b = read_label(one), read_label(other)
    try:
        if a.shape == b.shape and (found := apart(a.affine, b.affine, a.shape)).exceeds(affine_tolerance):
            raise UserError(f"{one} and {other} lie in different places: {found}")
        result = merged(a.array, b.array, rule)
    except UserError as error:
        raise UserError(f"{id}: {error}") from error
    with outputs.write(one.name) as path:
        write_label(path, result, a.affine, one)
