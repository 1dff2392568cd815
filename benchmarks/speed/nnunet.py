"""Ours against nnU-Net's own: a training step, and the prediction of the hippocampus validation cases.

Both sides have one network with the same weights: a run of `dynunet` is trained for a minute and exported as a results
folder of nnU-Net, whose PlainConvUNet computes the same.

- Training step: `nnUNetTrainer.train_step` with what its trainer makes for that folder (deep supervision, Dice and
  cross-entropy, SGD with momentum, gradients clipped), against a step of `voxward train` with the recipe's loss and
  optimiser, which has no deep supervision. Both get the same patches. nnU-Net computes in fp32 on a CPU; ours in fp32,
  and in bf16, too, where `training.precision: auto` takes that on this processor.
- Prediction: `nnUNetv2_predict_from_modelfolder` against `voxward predict`, from the start of the command to its end,
  importing PyTorch included: without mirroring, which is our default, and with it, which is nnU-Net's. nnU-Net gets
  the faster of its default, three processes for reading and three for writing, and one for each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import voxward
from benchmarks.speed.harness import Duel
from benchmarks.speed.loading import hippocampus
from benchmarks.speed.network import our_step
from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import load_run_recipe
from voxward.core.types import Size3
from voxward.data.formats import open_dataset
from voxward.data.io import read_label
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, RunSplit, load_weights
from voxward.systems.nnunet.weights import read_content
from voxward.training.setup import training_precision

MINUTES = 1.0
PROCESSES = (3, 1)
CONFIGURATION, CHECKPOINT = "3d_fullres", "fold_0/checkpoint_final.pth"
STEP_AT_LEAST, PREDICT_AT_LEAST = 1.5, 2.0
# What two programs make of one network in fp32 may differ by rounding, relative to the largest logit.
SAME = 1e-3


@dataclass(frozen=True)
class Sides:
    """One network for both: the run, its export for nnU-Net, and a folder of validation cases with nnU-Net's names."""

    run: RunFolder
    exported: Path
    images: Path
    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Sides:
        root = hippocampus(folder)
        known = ["preparation.normalization=zscore"]  # which nnU-Net has, too
        run = RunFolder(voxward.train(root, out=folder / "run", recipe="dynunet", overrides=known, minutes=MINUTES))
        # nnU-Net mirrors along the axes that the folder names; --disable_tta leaves it out.
        voxward.export(run.root, out=folder / "exported", to="nnunet", overrides=["tta=mirrors"])
        dataset, images = open_dataset(root), folder / "images"
        images.mkdir()
        for id in load_json(RunSplit, run.splits).validation:
            for n, image in enumerate(dataset.case(id).images):
                shutil.copy(image, images / f"{id}_{n:04d}.nii.gz")
        return cls(run, folder / "exported", images, folder)


def duels() -> Iterator[Duel]:
    with TemporaryDirectory() as name:
        os.environ["nnUNet_results"] = str(Path(name) / "nnunet")  # noqa: SIM112  (nnU-Net reads it when it is imported)
        sides = Sides.of(Path(name))
        yield from _steps(sides)
        for mirrors in (False, True):
            yield _prediction(sides, mirrors)


def _steps(sides: Sides) -> Iterator[Duel]:
    plan, recipe = load_plan(sides.run.plan), load_run_recipe(sides.run.recipe)
    images, labels = _patches(plan.batch_size, len(plan.channels), plan.patch_size, plan.labels.outputs)
    size = " x ".join((str(plan.batch_size), "x".join(map(str, plan.patch_size))))
    resolved = training_precision(recipe, plan, images.device)
    for precision in dict.fromkeys(("fp32", resolved)):
        network = network_for_plan(recipe.network.name, plan, recipe.network.options)
        load_weights(network, sides.run.weights("best"))
        trainer = _trainer(sides.exported)
        with torch.no_grad():
            trainer.set_deep_supervision_enabled(False)
            expected = trainer.network.eval()(images)
            error = float((network.eval()(images) - expected).abs().max() / expected.abs().max())
        assert error < SAME, f"the two networks' logits differ by {error:.1e} of the largest"
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        batch = {"data": images, "target": _at_scales(labels, trainer._get_deep_supervision_scales())}
        quality = f"fp32 logits differ by {error:.0e} of the largest; nnU-Net's step has deep supervision, ours has not"
        yield Duel(
            f"training step as nnU-Net's, dynunet, {size}, {precision}", our_step(network, images, labels, precision),
            partial(trainer.train_step, batch), "nnUNetTrainer.train_step, fp32", STEP_AT_LEAST, quality,
        )  # fmt: skip


def _patches(batch: int, channels: int, patch: Size3, classes: int) -> tuple[Tensor, Tensor]:
    """Noise, and labels that are noise as well: what is in them does not change the time."""
    source = torch.Generator().manual_seed(0)
    images = torch.randn((batch, channels, *patch), generator=source)
    return images, torch.randint(0, classes, (batch, *patch), generator=source)


def _at_scales(labels: Tensor, scales: Sequence[Sequence[float]]) -> list[Tensor]:
    """Labels (b, d, h, w) as nnU-Net's loader gives them: (b, 1, d, h, w), the nearest voxel at every scale."""
    sizes = [[round(n * share) for n, share in zip(labels.shape[1:], scale, strict=True)] for scale in scales]
    return [F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact") for size in sizes]


def _trainer(exported: Path) -> Any:
    """nnU-Net's trainer with the network, the optimiser and the loss that its `initialize` makes, and our weights."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans, described = (json.loads((exported / name).read_text()) for name in ("plans.json", "dataset.json"))
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, CONFIGURATION, 0, described, torch.device("cpu"))
    trainer.network = trainer.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, len(described["channel_names"]),
        trainer.label_manager.num_segmentation_heads, trainer.enable_deep_supervision,
    )  # fmt: skip
    trainer.network.load_state_dict(read_content(exported / CHECKPOINT)["network_weights"])
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    trainer.loss = trainer._build_loss()
    return trainer


def _prediction(sides: Sides, mirrors: bool) -> Duel:
    ours, kind = sides.folder / f"ours-{mirrors}", "mirrored" if mirrors else "not mirrored"
    tta = ("--set", f"tta={'mirrors' if mirrors else 'none'}")
    command = ("voxward", "predict", str(sides.run.root), str(sides.images), "--out", str(ours), *tta)
    peers = {
        n: (
            "nnUNetv2_predict_from_modelfolder", "-i", str(sides.images), "-o", str(sides.folder / f"theirs-{mirrors}"),
            "-m", str(sides.exported), "-f", "0", "-device", "cpu", "-npp", str(n), "-nps", str(n),
            *(() if mirrors else ("--disable_tta",)),
        )
        for n in PROCESSES
    }  # fmt: skip
    _run(peers[PROCESSES[0]])  # the first call reads its packages from the disk
    seconds = {n: _seconds(peer) for n, peer in peers.items()}
    fastest = min(seconds, key=lambda n: seconds[n])
    _run(command)
    cases = len(list(sides.images.glob("*_0000.nii.gz")))
    return Duel(
        f"predict {cases} hippocampus cases, dynunet, {kind}", partial(_run, command), partial(_run, peers[fastest]),
        f"nnUNetv2_predict_from_modelfolder, -npp {fastest} -nps {fastest}", PREDICT_AT_LEAST,
        _unlike(ours, sides.folder / f"theirs-{mirrors}"),
    )  # fmt: skip


def _run(command: Sequence[str]) -> None:
    """Run a command of this environment; what it says is shown where it fails."""
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    _run(command)
    return time.perf_counter() - began


def _unlike(ours: Path, theirs: Path) -> str:
    """The share of the voxels of all cases in which the two sides' masks differ."""
    unlike, voxels = 0, 0
    for path in sorted(theirs.glob("*.nii.gz")):
        pair = [read_label(folder / path.name).array for folder in (ours, theirs)]
        unlike, voxels = unlike + int(np.sum(pair[0] != pair[1])), voxels + pair[0].size
    assert voxels, f"there is no mask in {theirs}"
    return f"{unlike} of {voxels} voxels differ"
