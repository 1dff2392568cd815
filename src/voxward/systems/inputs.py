"""What the names of input files say: which of them mean the same, and which look like something else than given."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.names import composed
from voxward.core.wording import counted
from voxward.data.formats.collisions import volumes_by_stem
from voxward.data.volume_file import PICTURE_SUFFIXES, volume_stem


def refuse_alike(files: Sequence[Path]) -> None:
    """Refuse a file that is named twice, and two files of one folder that differ in their type only.

    Args:
        files: The volume files that were given.

    Raises:
        UserError: There are such files; the message names them.
    """
    found: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for path in files:
        names = found[path.parent.resolve(), volume_stem(path)]
        if path.name in names:
            raise UserError(f"the input {path} is named twice: both would be written as the same file")
        names.add(path.name)
        if len(names) > 1:
            raise UserError(
                f"{path.parent}: {' and '.join(sorted(names))} mean one case: keep one of them, and move the other away"
            )


def refuse_one_output(cases: Sequence[Case]) -> None:
    """Refuse cases that would be written as the same file, and warn of those that would be on Windows and macOS.

    Args:
        cases: The cases, whose results are named after their ids.

    Raises:
        UserError: There are such cases; the message names some of them with their files.
    """
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        found[composed(case.id)].append(case)
    twice = [f"{id} ({' and '.join(str(case.images[0]) for case in same)})" for id, same in found.items() if same[1:]]
    if twice:
        raise UserError(f"several inputs would be written as the same file: {'; '.join(twice[:5])}")
    alike: dict[str, list[str]] = defaultdict(list)
    for id in found:
        alike[id.casefold()].append(id)
    if pairs := [" and ".join(ids) for ids in alike.values() if ids[1:]]:
        warnings.warn(
            f"the inputs {', '.join(pairs[:3])} differ in capital letters only; on Windows and macOS their results "
            "would be one file",
            stacklevel=3,
        )


def warn_of_subfolders(folder: Path) -> None:
    """Warn of volumes in the folders of a folder of volumes: they are not read.

    Args:
        folder: The folder.
    """
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    left = {path.name: sum(map(len, volumes_by_stem(path).values())) for path in inner}
    if named := [f"{name} ({count})" for name, count in left.items() if count]:
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        warnings.warn(
            f"{folder}: the volumes of its folders {', '.join(named[:5])}{more} are not read; name these folders, too",
            stacklevel=3,
        )


def warn_of_pictures(folder: Path, volumes: Sequence[Path]) -> None:
    """Warn of PNG and TIFF files beside volumes: they are taken for pictures of these, and not read.

    Args:
        folder: The folder.
        volumes: The files in it that are read.
    """
    named = sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(PICTURE_SUFFIXES))
    if left := [path.name for path in named if path not in volumes and not path.name.startswith(".")]:
        warnings.warn(
            f"{folder}: {counted(len(left), 'PNG or TIFF file')} ({', '.join(left[:3])}{', ...' if left[3:] else ''}) "
            f"beside volumes such as {volumes[0].name} are not read; name these files, too, if they are images",
            stacklevel=3,
        )


def warn_of_channels(files: Sequence[Path], channels: int) -> None:
    """Warn where files are named like cases of several channels, but not of as many as a system takes.

    Args:
        files: The files.
        channels: How many channels the system takes.
    """
    numbers: dict[tuple[Path, str], set[int]] = defaultdict(set)
    for path in files:
        if (match := re.fullmatch(r"(.+)_(\d{4})", volume_stem(path))) is not None:
            numbers[path.parent, match[1]].add(int(match[2]))
    cases = {place: len(found) for place, found in numbers.items() if 1 < len(found) == max(found) + 1}
    counted = Counter(cases.values()).most_common(1)
    # One name alone may number cases: case_0000 to case_0199.
    if len(cases) < 2 or counted[0][0] == channels:
        return
    count, times = counted[0]
    folder, name = next(place for place, found in cases.items() if found == count)
    warnings.warn(
        f"{folder}: the files are named like {times} cases of {count} channels ({name}_0000 to "
        f"{name}_{count - 1:04d}), but {channels} are wanted: each file is read as a case of its own",
        stacklevel=3,
    )
