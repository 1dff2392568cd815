"""Which process of which machine is meant, and whether it still runs."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def this_host() -> str:
    """Return where a process number means something: containers share names and kernels, not the table of processes."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def runs(number: int) -> bool:
    """Return whether a process of this host may be running.

    Args:
        number: The process number.
    """
    if os.name != "posix":
        return True
    try:
        os.kill(number, 0)
        # A process that has ended, but whose parent has not asked for its exit code yet (common in containers).
        with suppress(OSError, IndexError):
            return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
