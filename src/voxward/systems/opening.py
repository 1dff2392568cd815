"""What is needed to open an entry of a `system.yaml`, which may hold other entries."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from voxward.core.errors import UserError
from voxward.systems.deployment import Deployment

if TYPE_CHECKING:
    from voxward.systems.system import System


@dataclass(frozen=True)
class Opening:
    """Where an entry of a `system.yaml` stands.

    Attributes:
        source: The name of the file, for error messages.
        name: The name of a system that has none of its own.
        base: The folder that relative paths start from.
        device: The device that every network is loaded to.
        outer: The deployment settings that hold inside.
        files: The files and folders that are being opened, this one last: none may be inside itself.
        inner: Opens a path, or an entry that is written out, inside this one.
        trust: Whether the user allows programs that a system consists of to run. No entry of a file can say so.
    """

    source: str
    name: str
    base: Path
    device: torch.device
    outer: Deployment
    files: tuple[Path, ...]
    inner: Callable[[str | Mapping[str, Any], Opening], System]
    trust: bool = False

    def path(self, given: str) -> Path:
        """Return a path of the file, which starts from the file's own folder.

        Raises:
            UserError: No file can have such a name.
        """
        found = self.base / given
        # The folder of a file that is about to be written may not be there yet, and `new/..` is then nowhere.
        try:
            there = found.exists()
        except OSError as error:  # a name that is too long for the disk
            raise UserError(f"{self.source}: {given[:50]!r} cannot be a path: {error.strerror}") from error
        return found if there else Path(os.path.normpath(found))

    def open(self, entry: str | Mapping[str, Any], settings: Deployment) -> System:
        """Open what stands inside an entry that has these settings."""
        return self.inner(entry, replace(self, outer=settings.within(self.outer)))
