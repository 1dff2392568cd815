"""voxward doctor: what a bug report needs to say about a machine, and what is wrong with it already."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import torch
from torch import nn

from voxward.core import devices
from voxward.core.errors import UserError
from voxward.core.machine import Machine, Software, this_machine, this_software
from voxward.core.wording import counted
from voxward.pipeline.precision import resolve_precision

_CHANNELS, _SIZE, _RUNS = 32, (32, 48, 32), 5
_LITTLE_MEMORY_GB, _LITTLE_DISK_GB, _SLOWER = 4.0, 5.0, 0.9
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+).*extra\s*==\s*['\"]([\w.-]+)['\"]")
_DEVELOPMENT = ("dev", "test", "bench", "docs")


@dataclass(frozen=True)
class Diagnosis:
    """What voxward finds on a machine.

    Attributes:
        software: The versions of voxward, Python and the packages.
        machine: The processor, the memory, and the GPU that is computed on.
        device: The device that `auto` stands for.
        gpus: The names of all GPUs that PyTorch can compute on.
        precision: The number type that `auto` stands for on the device.
        speed: Billions of multiply-adds per second of a 3D convolution of 32 channels, by number type.
        memory_gb: The memory that is free now, in units of 1e9 bytes; None where the system does not say.
        folder: The folder whose disk was looked at.
        disk_gb: The free space of that disk, in units of 1e9 bytes.
        extras: For each extra of voxward the packages of it that are missing; none where it can be used.
    """

    software: Software
    machine: Machine
    device: str
    gpus: tuple[str, ...]
    precision: str
    speed: Mapping[str, float]
    memory_gb: float | None
    folder: Path
    disk_gb: float
    extras: Mapping[str, tuple[str, ...]]

    @property
    def problems(self) -> tuple[str, ...]:
        """What a user should know before any long work, one sentence each."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.memory_gb is not None and self.memory_gb < _LITTLE_MEMORY_GB:
            yield f"only {self.memory_gb:.1f} GB of memory are free; a training of small patches takes about 3 GB"
        if self.disk_gb < _LITTLE_DISK_GB:
            yield f"only {self.disk_gb:.1f} GB are free on the disk of {self.folder}: write results to another one"
        if self.machine.threads < self.machine.cores and self.device == "cpu":
            yield (
                f"torch computes with {counted(self.machine.threads, 'thread')}, and {self.machine.cores} cores may be "
                "used: OMP_NUM_THREADS says how many"
            )
        chosen, plain = self.speed.get(self.precision), self.speed.get("fp32")
        if chosen is not None and plain is not None and chosen < _SLOWER * plain:
            yield (
                f"{self.precision} is slower than fp32 here ({chosen:.0f} against {plain:.0f} billion multiply-adds a "
                "second): --set training.precision=fp32 is faster"
            )

    def text(self) -> str:
        """Return all of it as plain lines, to be pasted into a bug report."""
        return "\n".join(f"{name}: {value}" for name, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        software, machine = self.software, self.machine
        changed = ", with changes" if software.changed else ""
        yield "voxward", software.voxward + (f" (git {software.revision[:9]}{changed})" if software.revision else "")
        yield "Python", f"{software.python} on {machine.system}"
        yield "packages", ", ".join(f"{name} {number}" for name, number in software.packages.items())
        usable = [name for name, missing in self.extras.items() if not missing]
        yield "extras that can be used", ", ".join(usable) or "none"
        for name, missing in self.extras.items():
            if missing:
                yield f"extra {name} lacks", f'{", ".join(missing)} (pip install "voxward[{name}]")'
        yield (
            "processor",
            f"{machine.processor} ({machine.instructions}), {machine.cores} cores, {machine.threads} threads",
        )
        free = "" if self.memory_gb is None else f", {self.memory_gb:.1f} GB free"
        yield "memory", f"{machine.memory_gb:.1f} GB{free}"
        cuda = f" (CUDA {machine.cuda}, cuDNN {machine.cudnn})" if machine.cuda else ""
        yield "GPUs", (", ".join(self.gpus) or "none that torch can use") + cuda
        yield "device auto", self.device
        yield "precision auto", self.precision
        told = ", ".join(f"{name} {speed:.0f}" for name, speed in self.speed.items())
        yield "billion multiply-adds per second of a 3D convolution", told
        yield "free disk", f"{self.disk_gb:.1f} GB at {self.folder}"


def doctor(*, folder: Path | str = ".", device: str = "auto") -> Diagnosis:
    """Look at this machine: versions, devices, number types, the speed of a convolution, free memory and disk.

    It takes a few seconds, and writes nothing. `print(voxward.doctor().text())` is what a bug report needs.

    Args:
        folder: A folder on the disk that results are to be written to.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`: what the convolution is timed on.

    Returns:
        What was found, with sentences about what is wrong in `problems`.

    Raises:
        UserError: There is no such device, or no such folder.

    Example:
        >>> voxward.doctor().software.voxward == voxward.__version__
        True
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is no folder: name one on the disk that results are to be written to")
    on = devices.resolve_device(device)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return Diagnosis(
        software=this_software(), machine=this_machine(on), device=on.type, gpus=devices.accelerators(),
        precision=resolve_precision("auto", on), speed={name: _speed(on, dtype) for name, dtype in dtypes.items()},
        memory_gb=_free_memory(), folder=Path(folder).absolute(),
        disk_gb=round(shutil.disk_usage(folder).free / 1e9, 1), extras=_extras(),
    )  # fmt: skip


def _speed(device: torch.device, dtype: torch.dtype) -> float:
    """Billions of multiply-adds per second of a convolution, the median of a few calls."""
    layer = nn.Conv3d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False).to(device, dtype)
    images = torch.randn(1, _CHANNELS, *_SIZE, device=device, dtype=dtype)
    macs = images.numel() * layer.weight[0].numel()
    took = list[float]()
    with torch.inference_mode():
        for _ in range(_RUNS + 1):
            began = time.perf_counter()
            layer(images)
            devices.wait_for(device)
            took.append(time.perf_counter() - began)
    return macs / statistics.median(took[1:]) / 1e9  # the first call chooses and loads the kernel


def _free_memory() -> float | None:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return round(int(line.split()[1]) * 1024 / 1e9, 1)
    with suppress(AttributeError, ValueError, OSError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9, 1)
    return None


def _extras() -> dict[str, tuple[str, ...]]:
    """Each extra of users with the packages of it that are not installed, from the metadata of voxward."""
    try:
        names, wanted = metadata("voxward").get_all("Provides-Extra") or [], requires("voxward") or []
    except PackageNotFoundError:  # run from a checkout that was never installed
        return {}
    found: dict[str, list[str]] = {name: [] for name in names if name not in _DEVELOPMENT}
    for package, extra in (match.groups() for line in wanted if (match := _REQUIREMENT.match(line))):
        if extra in found and package != "voxward" and not _installed(package):
            found[extra].append(package)
    return {name: tuple(missing) for name, missing in found.items()}


def _installed(package: str) -> bool:
    with suppress(PackageNotFoundError):
        return bool(version(package))
    return False
