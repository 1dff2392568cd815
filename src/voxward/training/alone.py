"""One process per device: a launcher's processes must not each train the whole run."""

from __future__ import annotations

import os

from voxward.core.errors import UserError


def refuse_launcher(devices: int) -> None:
    """Refuse to train with one device each where a launcher such as torchrun started several processes.

    Each of them would train the whole run.

    Args:
        devices: The number of devices that were asked for.

    Raises:
        UserError: The environment says that there are more processes.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if devices == 1 and world.isdigit() and int(world) > 1:
        raise UserError(
            f"a launcher such as torchrun started {world} processes (WORLD_SIZE={world}), and each would train the "
            f"whole run on its own: pass --devices {world}, or start one process"
        )
