"""Small folders of every kind that a report is written from, made without a training."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch

import voxward
from voxward.core.files import write_json
from voxward.core.recipe import dump_recipe
from voxward.runs.folder import RunFolder
from voxward.training.log import COLUMNS

ATTACK = (
    "attacks=[fgsm-ce, pgd-dice]", "threat.eps=[4/255, 32/255]", "budget.steps=2", "cases=3",
    "controls=[clip, noise, gaussian]",
)  # fmt: skip
LABELS = {"background": 0, "organ": 1, "tumour": 2}
_SIZE = 16


class Bright(torch.nn.Module):
    """A network that needs no training: bright voxels are the organ, the brightest ones its tumour."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0 * x, self.slope * (x - 0.3), 2 * self.slope * (x - 0.5)], 1)


def scans(root: Path) -> Path:
    """A dataset of three scans: a box inside a box inside noise, in three sizes."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for number, size in enumerate((2, 4, 6)):
        label = np.zeros((_SIZE,) * 3, np.uint8)
        label[3:13, 3:13, 3:13], label[5 : 5 + size, 6 : 6 + size, 7 : 7 + size] = 1, 2
        image = 400.0 * label + random.integers(0, 120, label.shape) + 10
        image[0, 0, 0], image[0, 0, 1] = 0, 1000
        for folder, array in (("images", image.astype(np.int16)), ("labels", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / folder / f"scan_{number}.nii.gz")
    write_json(root / "labels.json", LABELS)
    write_json(root / "channels.json", ["MRI"])
    return root


def attacked(root: Path) -> Path:
    """The folder of an attack on two systems."""
    data = scans(root / "scans")
    channels = [{"name": "MRI", "normalization": "rescale"}]
    systems = [
        voxward.network_system(Bright(slope), name=name, window=(_SIZE,) * 3, channels=channels, labels=LABELS)
        for name, slope in (("steep", 12.0), ("gentle", 4.0))
    ]
    out = voxward.Output(root / "attack", report=False)
    return voxward.attack(systems, data, out=out, protocol="quick", overrides=ATTACK).out


def trained(root: Path, name: str = "run", columns: tuple[str, ...] = ()) -> Path:
    """The folder of a training, of which only the recipe and the log are there."""
    run = RunFolder(root / name)
    run.log.parent.mkdir(parents=True)
    run.recipe.write_text(dump_recipe(voxward.load_recipe("dynunet")), encoding="utf-8")
    rows = [(10 * n, n, 1 / n, 1.1 / n, 1 - 1 / n, 1e-3 / n, 2.0 * n, *(0.5 for _ in columns)) for n in range(1, 6)]
    lines = [",".join((*COLUMNS, *columns)), *(",".join(map(str, row)) for row in rows)]
    run.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return run.root
