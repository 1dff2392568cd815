"""Images that were attacked and are no longer where they were."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from voxward.report.attack_source import AttackSource
from voxward.report.source_files import attempt, few
from voxward.robustness.description import read_cases


def absent_images(source: AttackSource) -> Iterator[str]:
    """Say which cases have files that are gone, and what to do; nothing where the folder does not list its files.

    Args:
        source: The folder of the attack.
    """
    described = attempt(partial(read_cases, source.folder), [])
    if described is None:
        return
    paths = {id: [source.folder / name for name in (*files.images, files.label)]
             for id, files in described.cases.items()}  # fmt: skip
    gone = {id: missing[0] for id, own in paths.items() if (missing := [path for path in own if not path.is_file()])}
    if gone:
        yield (
            f"The files of {len(gone)} of {len(paths)} cases of {source.folder} are no longer where they were attacked "
            f"({few([str(path) for path in gone.values()])}): these scans cannot be shown. Give the folder where the "
            "dataset lies now with --data (in Python: look=voxward.Look(data=...))."
        )
