"""What a folder of predictions or of metrics says about where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from voxward.core.case import Case, Dataset
from voxward.core.invocation import Invocation
from voxward.core.provenance import CASES, Work, read_provenance, same_call, sitting
from voxward.data.content import contents_of
from voxward.data.volume_file import result_suffix
from voxward.systems.system import System

EVALUATE, PREDICT = "evaluate", "predict"
"""The kinds of work."""

# How a call goes on with another one, and not what it makes.
_FREE = ("resume", "overwrite", "compute", "device", "out", "progress")


def noted_cases(
    folder: Path, kind: str, call: Invocation, source: Dataset | Sequence[Case], ids: Sequence[str] = (), *,
    system: System, resume: bool,
) -> AbstractContextManager[None]:  # fmt: skip
    """Return a block that notes in a folder what segments cases into it, see `core.provenance.sitting`.

    Args:
        folder: The folder.
        kind: The kind of work; segmentations of EVALUATE lie in the subfolder `predictions`.
        call: How the command was called.
        source: The dataset, or cases that are files.
        ids: The ids of the dataset's cases that are segmented.
        system: The system.
        resume: Whether segmentations that are there already are kept, if they are of the same call.
    """
    cases = [source.case(id) for id in ids] if isinstance(source, Dataset) else source
    place = folder / "predictions" if kind == EVALUATE else folder
    files = [place / f"{case.id}{result_suffix(case.images[0])}" for case in cases]

    def begin() -> Work:
        root = str(source.root.resolve()) if isinstance(source, Dataset) else ""
        return Work(CASES, root, contents_of(cases), {system.name: system.fingerprint()})

    def done() -> int:
        return sum(path.is_file() for path in files)

    fresh = not (resume and same_call(read_provenance(folder).works.get(kind), call, _FREE))
    return sitting(folder, kind, call, begin, device=system.device, done=done, fresh=fresh)
