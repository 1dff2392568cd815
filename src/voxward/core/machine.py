"""What computes: this machine, the software on it, and the state of voxward's source."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import voxward
from voxward.core import devices

# What may change a figure, or a file: arithmetic, networks, reading and writing.
_PACKAGES = (
    "torch", "numpy", "scipy", "monai", "lightning-fabric", "nibabel", "blosc2", "safetensors", "scikit-image",
    "SimpleITK", "pytorch_optimizer", "onnx", "onnxruntime", "triton", "distributed",
)  # fmt: skip
_GIT_SECONDS = 10.0


@dataclass(frozen=True)
class Machine:
    """What a piece of work computes on.

    Attributes:
        processor: The processor's name.
        instructions: The instruction set that torch uses of it, such as AVX512.
        cores: How many cores this process may use.
        threads: How many threads torch computes with.
        memory_gb: The memory of the machine in units of 1e9 bytes; 0 where it is not known.
        system: The operating system, its version, and the kind of processor.
        gpu: The name of the GPU that is computed on; empty without one.
        gpu_memory_gb: Its memory in units of 1e9 bytes.
        cuda: The version of CUDA that torch was built with; empty without a CUDA device.
        cudnn: The version of cuDNN; empty without a CUDA device.
    """

    processor: str
    instructions: str
    cores: int
    threads: int
    memory_gb: float
    system: str
    gpu: str = ""
    gpu_memory_gb: float = 0.0
    cuda: str = ""
    cudnn: str = ""

    @property
    def name(self) -> str:
        """Return what the arithmetic runs on: the GPU's name, or the processor's with its instruction set."""
        return self.gpu or f"{self.processor} ({self.instructions})"


@dataclass(frozen=True)
class Software:
    """The versions of what a piece of work was done with.

    Attributes:
        voxward: The version of voxward.
        python: The version of Python.
        packages: The versions of those packages that are installed and that may change a figure or a file.
        revision: The git revision of voxward's source, where that is a checkout; empty otherwise.
        changed: Whether files of the checkout differ from that revision; None without one.
    """

    voxward: str
    python: str
    packages: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    changed: bool | None = None


def this_machine(device: torch.device | str = "cpu") -> Machine:
    """Return what this machine is.

    Args:
        device: What is computed on; a GPU is described only where it is that.
    """
    on, threads = torch.device(device), torch.get_num_threads()
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    gpu = "", 0.0, "", ""
    if not devices.kind_of(on).host and devices.is_there(on.type):
        gpu = devices.name_of(on), _gb(devices.memory_of(on)), *_cuda(on)
    instructions = torch.backends.cpu.get_cpu_capability()
    return Machine(_processor(), instructions, _cores(), threads, _gb(_memory()), system, *gpu)


@lru_cache(maxsize=8)
def computes_on(device: torch.device) -> str:
    """Return the name of what computes on a device, see `Machine.name`; asked again it costs nothing.

    Args:
        device: The device.
    """
    return this_machine(device).name


@lru_cache(maxsize=1)
def this_software() -> Software:
    """Return the versions of voxward and of the packages that it computes with."""
    packages = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    packages["torch"] = str(torch.__version__)  # with the kind of build, such as +cpu
    return Software(voxward.__version__, platform.python_version(), packages, *source_revision(_checkout()))


def source_revision(checkout: Path) -> tuple[str, bool | None]:
    """Return the git revision of a checkout, and whether its files differ from it; nothing where it is no checkout.

    Args:
        checkout: The folder that holds voxward's `pyproject.toml`. A folder inside somebody else's checkout is none.
    """
    if not ((checkout / ".git").exists() and (checkout / "pyproject.toml").is_file()):
        return "", None
    # The variables of a git hook, for one, would make git speak of another checkout.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words], capture_output=True, text=True, check=True, timeout=_GIT_SECONDS,
            env={**clean, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "", None


def _cuda(on: torch.device) -> tuple[str, str]:
    """The versions of CUDA and cuDNN, where they compute."""
    if on.type != "cuda":
        return "", ""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return torch.version.cuda or "", "" if cudnn is None else str(cudnn)


def _checkout() -> Path:
    return Path(voxward.__file__).resolve().parents[2]


@lru_cache(maxsize=1)
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        with suppress(OSError, subprocess.SubprocessError):
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def _gb(count: int) -> float:
    return round(count / 1e9, 1)
