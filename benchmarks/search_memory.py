"""What a step of the super-net search keeps in memory: `python -m benchmarks.search_memory [--device cuda]`.

MS-NAS at the paper's setting: 10 layers, 5 scales, slices of 256 x 256, a quarter of the channels; a weight step by SGD
with momentum in float32, as the step that keeps most. Per row, in GiB:

    layers      outputs of all layers by the cost model (`voxward.architecture_search.cost`), no sums or joins
    counted     the most that lives at once, all storages counted on the meta device, where nothing is computed
    measured    --device cuda: the allocator's peak. On a CPU, where --measure is given: what a fresh process grows by,
                its libraries' scratch memory included

Counting takes half a minute a row.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from voxward.architecture_search.cost import profile
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.nets.layout import Layout, stage_strides

GIB = 2**30
LIMIT = 11.0


class LiveBytes(TorchDispatchMode):
    """Counts the storages that exist: `now`, and at most at a time, `peak`, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def add(self, values: Any) -> None:
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and (storage := value.untyped_storage()) not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage.nbytes())

    def _gone(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(out)
        return out


def super_net(filters: int, checkpointing: bool) -> SuperNet:
    """The paper's space in 2D, binary segmentation of one channel."""
    layout = Layout(2, stage_strides(2, 5), filters)
    return SuperNet(1, 2, MacroSpace(10, 5), layout, 4, "uniform-edge", checkpointing)


def step(net: SuperNet, images: Tensor, target: Tensor) -> None:
    """Two weight steps of the search: the second has the momentum. A step of alpha, p or beta keeps less."""
    parameters = net.weight_parameters()
    optimizer = torch.optim.SGD(parameters, lr=0.025, momentum=0.9)
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(net(images), target)
        slopes = torch.autograd.grad(loss, parameters)
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = slope
        del slopes, loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def counted(filters: int, checkpointing: bool, batch: int, size: int) -> int:
    """Bytes, on the meta device."""
    live = LiveBytes()
    with live, torch.device("meta"):
        net = super_net(filters, checkpointing)
        live.add([*net.parameters(), *net.buffers()])
        step(net, torch.empty(batch, 1, size, size), torch.zeros(batch, size, size, dtype=torch.long))
    return live.peak


def measured(filters: int, checkpointing: bool, batch: int, size: int, device: str) -> int:
    """Bytes, computed: how much this process's peak has grown. Call it once in a process."""
    torch.manual_seed(0)
    before = peak(device)
    net = super_net(filters, checkpointing).to(device)
    images = torch.randn(batch, 1, size, size, device=device)
    step(net, images, (images[:, 0] > 1).long())
    return peak(device) - before


def peak(device: str) -> int:
    """The most that this process has held so far, in bytes."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(filters: int, checkpointing: bool, batch: int, size: int, device: str) -> int:
    """`measured` in a process of its own, so that each measurement starts with nothing allocated."""
    call = f"measured({filters}, {checkpointing}, {batch}, {size}, {device!r})"
    code = f"from benchmarks.search_memory import measured; print({call})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, nargs="+", default=[32, 48])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--measure", action="store_true", help="on a CPU, too: needs as much memory as it finds")
    given = parser.parse_args()
    measure = given.measure or given.device == "cuda"
    print(f"| filters | batch | cells recomputed | layers | counted | measured ({given.device}) | fits {LIMIT:g} GiB |")
    print("|---" * 7 + "|")
    for filters in given.filters:
        with torch.device("meta"):
            layers = 4 * profile(super_net(filters, False), 1, (given.size, given.size)).activations / GIB
        for batch in given.batch:
            for checkpointing in (True, False):
                count = counted(filters, checkpointing, batch, given.size) / GIB
                found = apart(filters, checkpointing, batch, given.size, given.device) / GIB if measure else None
                most = max(count, found or 0.0)
                print(
                    f"| {filters} | {batch} | {'yes' if checkpointing else 'no'} | {batch * layers:.2f} | {count:.2f}"
                    f" | {'-' if found is None else f'{found:.2f}'} | {'yes' if most <= LIMIT else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
