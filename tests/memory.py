"""What reading a file takes, in a process of its own, whose peak no other test has raised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_READ = """
from pathlib import Path
from voxward.data.io import read_header, read_image
for read in (read_header, lambda path: read_image([path])):
    try:
        read(Path(sys.argv[1]))
    except ValueError as error:
        print(error)
    else:
        print("was read")
"""
_MEASURED = """
import resource, sys
import numpy, nibabel, torch, SimpleITK
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    exec(sys.argv[2])
except ValueError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def refused_in_little_memory(path: Path, match: str, code: str = _READ) -> None:
    """Reading the file, its header alone and all of it (or `code`), is refused and takes less than 150 MB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(path), code], capture_output=True, text=True, check=True
    )
    *messages, kilobytes = done.stdout.splitlines()
    assert messages
    assert all(match in message for message in messages), messages
    assert int(kilobytes) < 150_000
