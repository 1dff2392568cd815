"""Systems of models that were built in memory."""

from __future__ import annotations

from dataclasses import replace

from voxward.pipeline.predictor import Predictor
from voxward.systems.cascade import CascadeSystem
from voxward.systems.ensemble import EnsembleSystem
from voxward.systems.region import Region
from voxward.systems.run import RunSystem
from voxward.systems.system import Freeze


def system(model):
    """A predictor as a system; a system as it is."""
    return RunSystem(model) if isinstance(model, Predictor) else model


def ensemble(models, mean=None):
    return EnsembleSystem(tuple(map(system, models)), mean)


def cascade(coarse, fine, **region):
    return CascadeSystem(system(coarse), system(fine), Region(**region))


def frozen(of, volume, box, stage="both", gradient="exact", statistics="frozen"):
    """What an attack on a stage of a cascade sees, with a box that is given."""
    staged = replace(of, region=replace(of.region, stage=stage))
    return staged.frozen(volume, box, Freeze(gradient, statistics))
