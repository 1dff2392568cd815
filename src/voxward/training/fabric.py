"""Starting the processes of a training with Lightning Fabric, which is slow to import: only trainings import this."""

from __future__ import annotations

import logging
import os
import warnings

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.plugins.precision import Precision as FullPrecision

from voxward.core.choices import Compute
from voxward.core.devices import KINDS, kind_of, resolve_device
from voxward.core.errors import UserError
from voxward.core.launcher import started_by_srun
from voxward.core.recipe import Recipe
from voxward.pipeline.precision import resolve_precision
from voxward.training.one_device import on_one

# What PyTorch warns of in every training by several processes, and which nobody can mend from outside.
_NO_NEWS = ("Grad strides do not match bucket view strides", "torch.distributed.nn.functional.all_gather is deprecated")
_FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def start_fabric(recipe: Recipe, compute: Compute = Compute()) -> Fabric:
    """Start the processes of a training and choose its precision.

    Args:
        recipe: The recipe, which may ask for a precision.
        compute: The device, and the number of processes that train one network together.

    Returns:
        A launched Fabric. From here on there may be several processes.

    Raises:
        UserError: The device is not there, or cannot compute in that precision, or there may be one process only on a
            device of its kind.
    """
    device = resolve_device(compute.device)
    precision = _FABRIC_PRECISION[resolve_precision(recipe.training.precision, device)]
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision on its own
    if kind_of(device).together:
        fabric = Fabric(
            accelerator=device.type, devices=compute.devices, num_nodes=compute.nodes,
            strategy="ddp" if compute.processes > 1 else "auto", precision=precision, plugins=[_environment(compute)],
        )  # fmt: skip
    elif compute.processes == 1:
        fabric = Fabric(strategy=on_one(device, precision), devices=1, plugins=[_environment(compute)])
    else:
        several = " or ".join(name for name, kind in KINDS.items() if kind.together)
        raise UserError(
            f"several processes train one network together on {several}, not on device {device.type!r}: devices and "
            f"nodes must be 1, got {compute.devices} and {compute.nodes}"
        )
    if compute.processes > 1:
        for message in _NO_NEWS:
            warnings.filterwarnings("ignore", message=message)
    fabric.launch()
    return fabric


def _environment(compute: Compute) -> ClusterEnvironment:
    """Who has started the processes. Fabric alone takes the shell of a batch script for one of several tasks."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if compute.processes > 1 and started_by_srun():
        # What the job was asked for; Fabric compares it with the step, and refuses a step without it.
        os.environ["SLURM_NTASKS_PER_NODE"] = str(compute.devices)
        return SLURMEnvironment()
    return LightningEnvironment()


def compute_in_fp32(fabric: Fabric) -> None:
    """Set a launched Fabric to fp32; the plan, which decides this, is known only after the processes have started.

    Args:
        fabric: The Fabric, which is changed.
    """
    fabric.strategy.precision = fabric._precision = FullPrecision()
