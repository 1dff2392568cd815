"""What is asked of every reader of files: it reads them, or says in a documented way why it does not."""

from __future__ import annotations

import os
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from voxward.core.errors import CasesFailed, MissingPackageError, UserError

DOCUMENTED = (UserError, CasesFailed, FileNotFoundError, MissingPackageError)
"""All exceptions that a reader may raise for what a file holds: the first two for what is wrong in it, the third for a
file that it names and that is not there, the last for a kind of file that needs a package which is not installed."""

READ = "read"
"""The outcome of files that are read."""
BAD = ("undocumented", "names no file", "too little memory")


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


class Pipe:
    """A pipe, which nobody writes to."""


Content = bytes | Link | Pipe | None
"""What is at a path: a file, a link, a pipe, or (None) an empty folder."""
Files = Mapping[str, Content]
"""Files by their paths in the folder that is read."""


@dataclass(frozen=True)
class Reader:
    """A reader, and what it is given.

    Attributes:
        name: The name.
        sound: Returns sound files, several of which cover what the format can do.
        change: Makes them hostile.
        use: Reads the files in a folder, checks that what it gets is sane, and says in a word what it was.
        target: The file that takes arbitrary bytes, out of the first sound files.
    """

    name: str
    sound: Callable[[], tuple[Files, ...]]
    change: Callable[[Random, Files], Files]
    use: Callable[[Path], str]
    target: str


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        kind: `read`, the name of a documented exception, or one of BAD with what was raised and where.
        text: What the reader said.
        seconds: How long it took.
        grown: By how many bytes the most memory that this process ever took has grown.
    """

    kind: str
    text: str
    seconds: float
    grown: int

    @property
    def bad(self) -> bool:
        """Whether no document says that this may happen."""
        return self.kind.startswith(BAD)


def lay(files: Files, folder: Path) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, Link):
            path.symlink_to(content.target.replace("{folder}", str(folder)))
        elif isinstance(content, Pipe):
            os.mkfifo(path)
        else:
            path.write_bytes(content)


def judged(reader: Reader, files: Files, folder: Path) -> Outcome:
    """Have a reader read files, and say what became of them.

    Args:
        reader: The reader.
        files: The files.
        folder: An empty folder, which gets them.
    """
    lay(files, folder)
    before, started = _most(), time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind, text = READ, reader.use(folder)
    except DOCUMENTED as error:
        kind, text = _documented(error, files, folder), str(error)
    except Exception as error:
        kind, text = f"undocumented {type(error).__name__} in {_place(error)}", str(error)
    return Outcome(kind, text, time.perf_counter() - started, _most() - before)


def _documented(error: Exception, files: Files, folder: Path) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "allocate memory" in str(cause):
            return f"too little memory, in {_place(error)}"
        cause = cause.__cause__
    text = str(error)
    named = str(folder) in text or any(Path(name).name in text for name in files)
    return type(error).__name__ if named else f"names no file: {type(error).__name__} in {_place(error)}"


def _place(error: BaseException) -> str:
    """The last line of voxward's own that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "voxward" in frame.filename]
    last = (frames or traceback.extract_tb(error.__traceback__))[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _most() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
