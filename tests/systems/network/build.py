"""Tiny networks with random weights, exported in every form, and the `system.yaml` around them."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from voxward.core.case import Volume
from voxward.core.yaml import dump_yaml

FIXTURES = Path(os.environ.get("VOXWARD_FIXTURES", Path(__file__).parents[4] / "shared" / "fixtures"))
EXPORTED = FIXTURES / "monai_bundle" / "exported_networks"
WINDOW = (8, 6, 4)
LABELS = {"background": 0, "a": 1, "b": 2}


class Tiny(nn.Module):
    """A network whose axes are told apart by its kernel and strides, and that ends with a tensor constant."""

    def __init__(self, channels=1, outputs=3, flat=False):
        super().__init__()
        torch.manual_seed(0)
        conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if flat else (nn.Conv3d, nn.InstanceNorm3d)
        self.first = conv(channels, 4, (3, 3) if flat else (3, 3, 1), padding=(1, 1) if flat else (1, 1, 0))
        self.norm, self.act = norm(4, affine=True), nn.LeakyReLU(0.1, inplace=True)
        self.down, self.up = nn.AvgPool2d(2) if flat else nn.AvgPool3d(2), nn.Upsample(scale_factor=2)
        self.last = conv(8, outputs, 1)
        self.register_buffer("scale", torch.tensor([1.5]), persistent=False)

    def forward(self, x):
        y = self.norm(self.first(x))
        self.act(y)
        return self.last(torch.cat([y, self.up(self.down(y))], 1)) * self.scale


def exported(path: Path, network=None, window=WINDOW, dynamic=False, channels=1) -> Path:
    """A .pt2 file of torch.export, for one window or for every size."""
    network = (network or Tiny(channels)).eval()
    shapes = (
        ({n + 2: 2 * torch.export.Dim(f"half{n}", min=1, max=64) for n in range(len(window))},) if dynamic else None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (torch.zeros(1, channels, *window),), dynamic_shapes=shapes)
        torch.export.save(program, path)
    return path


def scripted(path: Path, network=None, trace=True) -> Path:
    """A TorchScript file."""
    network = (network or Tiny()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(network, torch.zeros(1, 1, *WINDOW)) if trace else torch.jit.script(network)
        torch.jit.save(made, path)
    return path


def described(folder: Path, network: str, leaving_out=(), **entries) -> Path:
    """A `system.yaml` of the kind `network`."""
    data = {
        "format": 1, "kind": "network", "network": network, "channels": [{"name": "MR"}], "labels": LABELS,
        "window": list(WINDOW), **entries,
    }  # fmt: skip
    path = folder / "net.yaml"
    path.write_text(dump_yaml({name: value for name, value in data.items() if name not in leaving_out}))
    return path


def volume(channels=1, shape=(13, 9, 10), seed=0, affine=None) -> Volume:
    """Noise with a few exact zeros."""
    array = np.random.default_rng(seed).normal(5, 30, (channels, *shape)).astype(np.float32)
    array[:, :2] = 0
    return Volume(array, np.diag([1.1, 0.9, 2.0, 1.0]) if affine is None else affine)


def changed(source: Path, target: Path, change, *, add=(), compression=zipfile.ZIP_STORED) -> Path:
    """A copy of a .pt2 file whose JSON documents were changed in place by `change(name, document)`.

    A change that returns bytes replaces the whole entry.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".json"):
                document = json.loads(content)
                found = change(name, document)
                content = found if isinstance(found, bytes) else json.dumps(document).encode()
            new.writestr(name, content)
        for name, content in add:
            new.writestr(name, content)
    return target
