"""Training on a device that PyTorch knows and Lightning Fabric does not, such as a GPU of Intel: one process on one."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.accelerators import Accelerator
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies import SingleDeviceStrategy


class OneDevice(Accelerator):  # type: ignore[misc]  # Fabric says no types
    """What Fabric wants to know of a kind of device; `core.devices` has looked already whether it is there."""

    def setup_device(self, device: torch.device) -> None:
        """Do nothing: PyTorch sets a device up when it is first used."""

    def teardown(self) -> None:
        """Do nothing."""

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        """Return what was given."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """Return no device: the strategy has it."""
        return []

    @staticmethod
    def auto_device_count() -> int:
        """Return 1."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """Return True."""
        return True

    @staticmethod
    def name() -> str:
        """Return the name for Fabric's messages."""
        return "one-device"


def on_one(device: torch.device, precision: str) -> SingleDeviceStrategy:
    """Return Fabric's strategy for a lone process on a device of any kind.

    Args:
        device: The device.
        precision: The precision as Fabric calls it: `32-true`, `bf16-mixed` or `16-mixed`. Fabric itself
            would compute in that of CUDA.
    """
    kind = Precision() if precision == "32-true" else MixedPrecision(precision, device.type)
    return SingleDeviceStrategy(device, OneDevice(), precision=kind)
