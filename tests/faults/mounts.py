"""Small and read-only file systems, and a process for which permissions hold; all of it needs the rights of root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NEW_MOUNTS, _PRIVATE, _BIND, _READ_ONLY, _REMOUNT = 0x20000, 0x44000, 0x1000, 0x1, 0x20

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount: run it as root")


class SmallSharedMemory:
    """Give the process a /dev/shm of its own, of some KiB."""

    def __init__(self, kib: int) -> None:
        self.kib = kib

    def __call__(self) -> None:
        """Mount it, for this process and its children only."""
        _own_mounts()
        _mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, f"size={self.kib}k".encode())


class ReadOnly:
    """Let the process see a folder on a read-only file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        """Mount it, for this process and its children only."""
        _own_mounts()
        folder = os.fsencode(self.folder)
        _mount(folder, folder, None, _BIND, None)
        _mount(None, folder, None, _BIND | _REMOUNT | _READ_ONLY, None)


class WithoutPrivileges:
    """Let the permissions of folders hold for the process, which are nothing to root otherwise."""

    def __call__(self) -> None:
        """Give up the capabilities that override them (man 2 capset)."""
        libc = ctypes.CDLL(None, use_errno=True)
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        sets[0] &= ~0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER of the effective ones
        if libc.capset(header, sets):
            raise OSError(ctypes.get_errno(), "cannot give up capabilities")


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a file system of some KiB at a folder, which is made; tests are skipped where that is impossible."""
    folder.mkdir(parents=True, exist_ok=True)
    made = _call("mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=755", "tmpfs", str(folder))
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        _call("umount", "-l", str(folder))


def enlarge(folder: Path, kib: int) -> None:
    """Give a file system of `small_disk` another size."""
    assert _call("mount", "-o", f"remount,size={kib}k", str(folder)).returncode == 0


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _own_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "cannot unshare")
    _mount(None, b"/", None, _PRIVATE, None)


def _mount(*arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(*arguments):
        raise OSError(ctypes.get_errno(), "cannot mount")
