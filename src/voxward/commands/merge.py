"""voxward merge: two folders of segmentations become one, each believed on the classes it is better at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.io import SUFFIXES, read_label, volume_stem, write_label
from voxward.data.volume_file import same_affine
from voxward.systems.merge import MergeRule
from voxward.systems.merge import merge as merged


def merge(
    first: Path | str,
    second: Path | str,
    out: Path | str,
    owned_by_first: Sequence[int] = (1, 4),
    owned_by_second: Sequence[int] = (2,),
    progress: Progress = silent,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Merge the segmentations of two folders, case by case, into the folder `out`, in the first one's type and place.

    owned_by_first, owned_by_second: label values, see systems.merge.MergeRule; by default the classes of BraTS to
    2020: necrosis and enhancing tumour are the first one's, oedema is the second one's. overwrite: replace files in
    `out` that are no merged segmentation of voxward's, or were edited since. Returns the written files.

    Raises ValueError, before anything is written, when the folders do not hold the same cases, or one, or another file,
    would be written over; and naming the case whose two segmentations differ in shape or place, or hold other values.
    """
    rule, target = MergeRule(tuple(owned_by_first), tuple(owned_by_second)), Path(out)
    pairs = _pairs(Path(first), Path(second))
    if target.resolve() in (Path(first).resolve(), Path(second).resolve()):
        raise UserError(f"out {target} is one of the two folders: choose another")
    outputs, written = Outputs(target, "a merged segmentation", overwrite), []
    outputs.check(one.name for one, _ in pairs.values())
    for n, (id, (one, other)) in enumerate(sorted(pairs.items())):
        a, b = read_label(one), read_label(other)
        try:
            if not same_affine(a.affine, b.affine, a.shape):
                raise UserError(f"{one} and {other} lie in different places")
            result = merged(a.array, b.array, rule)
        except UserError as error:
            raise UserError(f"{id}: {error}") from error
        with outputs.write(one.name) as path:
            write_label(path, result, a.affine, one)
        written.append(target / one.name)
        progress("merge", n + 1, len(pairs))
    return tuple(written)


def _pairs(first: Path, second: Path) -> dict[str, tuple[Path, Path]]:
    found = [_files(folder) for folder in (first, second)]
    lacking = sorted({*found[0]} ^ {*found[1]})
    if lacking:
        raise UserError(f"{first} and {second} must hold the same cases; only one has {', '.join(lacking[:5])}")
    if not found[0]:
        raise UserError(f"{first} holds no segmentation")
    return {id: (path, found[1][id]) for id, path in found[0].items()}


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    volumes = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(SUFFIXES)]
    found = {volume_stem(path): path for path in volumes if not path.name.startswith(".")}
    twice = [path.name for path in volumes if found.get(volume_stem(path), path) != path]
    if twice:
        raise UserError(f"{folder} holds two segmentations of a case, e.g. {twice[0]}: keep one")
    return found
