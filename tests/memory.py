"""What reading files takes, in a process of its own, whose peak no other test has raised."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_READ = """
import json, resource, sys
from pathlib import Path
import nibabel, numpy, SimpleITK
from voxward.data.io import read_header, read_image
before, messages = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for name in sys.argv[1:]:
    for read in (read_header, lambda path: read_image([path])):
        try:
            read(Path(name))
        except ValueError as error:
            messages.append((name, str(error)))
print(json.dumps([messages, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def assert_refused_in_little_memory(files: Mapping[Path, str]) -> None:
    """Every file is refused, with a message that matches, and reading all of them takes less than 150 MB."""
    command = [sys.executable, "-c", _READ, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    messages, kilobytes = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, _ in messages} == set(map(str, files))
    assert [(name, message) for name, message in messages if files[Path(name)] not in message] == []
    assert kilobytes < 150_000
