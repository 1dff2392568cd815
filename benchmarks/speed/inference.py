"""Our sweep of overlapping windows against MONAI's, from a prepared volume to its class map: time, and peak memory.

Both blend with a Gaussian, see the same windows (sizes are chosen so that neither has to shift one) and run the same
network in float32. What they differ in: ours keeps one layer of windows and hands out finished rows, which become
classes at once; MONAI's keeps the whole volume's logits and takes their classes at the end.

Memory is the peak of a process of its own (`python -m benchmarks.speed.inference --child SIDE CLASSES THREADS`), above
that of a process that imports the same packages, holds the same volume and runs the network on one window. In all of
them the C library is told to give large blocks back at once (what it keeps for later is neither side's); the figure
with its own settings stands beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import voxward
from benchmarks.scaling import peak_bytes
from benchmarks.speed.harness import Duel
from voxward.core.case import Frame, PreparedCase
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.recipe import load_recipe
from voxward.core.types import Size3
from voxward.pipeline.predictor import Predictor, restore_argmax_of
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess

SHAPE, WINDOW = (256, 256, 200), (128, 128, 80)
SMALL_SHAPE, SMALL_WINDOW = (96, 96, 72), (64, 64, 48)
OVERLAP = 0.5
BATCHES = (1, 2, 4)
# In standard deviations of the logits: with the same weights, and each with its own Gaussian (ours is scaled to a peak
# of one before it is held at a thousandth, MONAI's is not, which makes up to 0.3 % of those least weights).
SAME, OWN = 1e-5, 2e-2
MEBIBYTE = 2**20
# Of glibc: blocks from one megabyte on are the operating system's again as soon as they are freed.
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}


@dataclass(frozen=True, eq=False)
class Bout:
    """A network and a prepared volume (1, d, h, w) that both sides are given. window: voxels per axis."""

    network: nn.Module
    image: Tensor
    window: Size3
    classes: int

    @property
    def predictor(self) -> Predictor:
        """Ours, with a Gaussian and half an overlap, as MONAI's."""
        recipe = load_recipe("rog", ["inference.weights=gaussian", f"inference.overlap={OVERLAP}"])
        model = TrainedModel(_plan(self.window, self.classes), recipe.inference, self.network, PostProcess())
        return Predictor(model, self.image.device, "fp32")

    @property
    def prepared(self) -> PreparedCase:
        """The volume in a frame that has nothing to crop or to resample."""
        d, h, w = self.image.shape[1:]
        affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
        figures = ((0.0,), (0.0,), (0.0,), (1.0,))
        frame = Frame((d, h, w), affine, (0, 1, 2), (False,) * 3, (0, 0, 0), (d, h, w), (d, h, w), *figures)
        return PreparedCase("bench", self.image, None, frame)

    def ours(self) -> object:
        """Class indices (d, h, w), streamed."""
        return restore_argmax_of(self.predictor, self.prepared)

    def blended(self, batch: int, weights: Tensor | None = None) -> Tensor:
        """MONAI's logits (1, k, d, h, w); batch: windows per forward pass. weights: instead of its own Gaussian."""
        from monai.inferers import sliding_window_inference

        with torch.inference_mode():
            return sliding_window_inference(
                self.image[None], self.window, batch, self.network, overlap=OVERLAP, mode="gaussian",
                roi_weight_map=weights,
            )  # fmt: skip

    def peer(self, batch: int) -> Tensor:
        """MONAI's class indices (1, d, h, w)."""
        with torch.inference_mode():
            return self.blended(batch).max(1).indices  # argmax(1) takes several times as long

    def bare(self) -> object:
        """One window through the network: what any sweep has to hold."""
        d, h, w = self.window
        with torch.inference_mode():
            return self.network(self.image[None, :, :d, :h, :w])


def duels() -> Iterator[Duel]:
    """Two whole CTs through a network that costs little, so that the sweep itself shows, and one through a real one."""
    for classes in (3, 30):
        bout = _cheap(classes)
        size = "x".join(map(str, SHAPE))
        yield _duel(f"sweep, {size}, {classes} classes", bout, _memory(classes), at_least=1.0)
    size = "x".join(map(str, SMALL_SHAPE))
    torch.manual_seed(0)
    network = voxward.create_network("dynunet", 1, 3).eval()
    yield _duel(f"sweep, {size}, 3 classes, dynunet", _bout(network, SMALL_SHAPE, SMALL_WINDOW, 3), "", at_least=1.0)


def _duel(name: str, bout: Bout, memory: str, at_least: float) -> Duel:
    batch = _fastest(bout)
    quality = "; ".join(filter(None, (_difference(bout), memory)))
    peer_name = f"MONAI sliding_window_inference, sw_batch_size {batch}"
    return Duel(name, bout.ours, lambda: bout.peer(batch), peer_name, at_least, quality)


def _cheap(classes: int) -> Bout:
    """Two levels: a strided convolution of 8 channels, and back. What a window's rim sees differs between windows."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose3d(8, classes, 2, stride=2)
    )
    return _bout(network.eval(), SHAPE, WINDOW, classes)


def _bout(network: nn.Module, shape: Size3, window: Size3, classes: int) -> Bout:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    image = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))
    return Bout(network.to(device), image.to(device), window, classes)


def _plan(window: Size3, classes: int) -> Plan:
    names = tuple(f"class {n}" if n else "background" for n in range(classes))
    return Plan(
        dataset="bench", labels=LabelSet(names, tuple(range(classes))), channels=(ChannelPlan("CT", "none"),),
        spacing=(1.0, 1.0, 1.0), spline_order=(3, 3, 3), crop_nonzero=False, patch_size=window, window_size=window,
        source_size=window, strides=((2, 2, 2),), kernel_sizes=((3, 3, 3),) * 2, padding="zero", batch_size=2,
        min_object_mm3=(0.0,) * (classes - 1),
    )  # fmt: skip


def _fastest(bout: Bout) -> int:
    """The sw_batch_size that MONAI's is quickest with."""
    bout.peer(BATCHES[0])
    return min(BATCHES, key=lambda batch: _seconds(lambda: bout.peer(batch)))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _difference(bout: Bout) -> str:
    """How far the two results are apart. Raises AssertionError where that is more than rounding and the Gaussians."""
    # As many windows at a time as ours takes: another batch makes the convolutions round differently.
    batch, (d, h, w) = bout.predictor.batch, bout.image.shape[1:]
    weights = bout.predictor.windows((d, h, w)).weights.to(bout.image)
    same, _ = _distance(bout, bout.blended(batch, weights)[0])
    own, changed = _distance(bout, bout.blended(batch)[0])
    assert same < SAME, f"with the same weights, blended logits differ by {same:.1e} of their deviation"
    assert own < OWN, f"blended logits differ by {own:.1e} of their deviation"
    return f"logits within {own:.0e} of their deviation ({same:.0e} with one Gaussian), {changed:.0e} of classes differ"


def _distance(bout: Bout, theirs: Tensor) -> tuple[float, float]:
    """Greatest difference from our logits, slab by slab, in standard deviations, and the share of other classes."""
    d, h, w = theirs.shape[1:]
    axis, row, worst, changed = bout.predictor.windows((d, h, w)).axis, 0, 0.0, 0
    for slab in bout.predictor.slabs(bout.prepared):
        other = theirs.narrow(axis + 1, row, slab.shape[axis + 1])
        row += slab.shape[axis + 1]
        worst = max(worst, float((slab - other).abs().max()))
        changed += int((slab.max(0).indices != other.max(0).indices).sum())
    assert row == theirs.shape[axis + 1], f"our slabs end at row {row} of {theirs.shape[axis + 1]}"
    return worst / float(theirs.std()), changed / (d * h * w)


def _memory(classes: int) -> str:
    """Both peaks above the bare network's, in MB, and whether ours is at most half of MONAI's."""
    held, kept = _above_bare(classes, _GIVE_BACK), _above_bare(classes, {})
    verdict = "at most half: yes" if 2 * held[0] <= held[1] else "at most half: NO"
    return (
        f"memory ours {held[0]:.0f} MB, MONAI {held[1]:.0f} MB ({verdict}); "
        f"with what the allocator keeps {kept[0]:.0f} and {kept[1]:.0f}"
    )


def _above_bare(classes: int, environment: Mapping[str, str]) -> tuple[float, float]:
    """The peaks of our process and of MONAI's above the bare network's, in MB."""
    bare, ours, peer = (_peak(side, classes, environment) / MEBIBYTE for side in ("bare", "ours", "monai"))
    return ours - bare, peer - bare


def _peak(side: str, classes: int, environment: Mapping[str, str]) -> int:
    """Peak memory in bytes of a process that does that side's work once."""
    command = [sys.executable, "-m", "benchmarks.speed.inference", "--child", side, str(classes)]
    command += [str(torch.get_num_threads())]
    root, environment = Path(__file__).parents[2], {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
    return int(done.stdout.split()[-1])


def _child(side: str, classes: int, threads: int) -> None:
    import monai.inferers  # noqa: F401  (in every child, or its size would count against MONAI alone)

    torch.set_num_threads(threads)
    bout = _cheap(classes)
    bout = replace(bout, network=bout.network.cpu(), image=bout.image.cpu())
    # MONAI's with one window at a time, which needs the least memory.
    {"bare": bout.bare, "ours": bout.ours, "monai": lambda: bout.peer(1)}[side]()
    print(peak_bytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=3, required=True, metavar=("SIDE", "CLASSES", "THREADS"))
    side, *numbers = parser.parse_args().child
    _child(side, *map(int, numbers))
