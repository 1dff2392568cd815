"""How trained runs are deployed: settings that hold for a run, or for every run inside an ensemble or a cascade."""

from __future__ import annotations

from dataclasses import dataclass, fields

from voxward.pipeline.precision import Precision
from voxward.pipeline.predictor import Tta
from voxward.runs.folder import Checkpoint


@dataclass(frozen=True)
class Deployment:
    """How trained runs are deployed; None leaves what the recipe says.

    In a `system.yaml` these entries may stand beside a run, or beside an ensemble or a cascade, where they hold for
    every run inside and win over what stands there.

    Attributes:
        checkpoint: The weights: `best`, `last`, `swa`, or `auto`, the ones that the recipe deploys.
        tta: Test-time augmentation: `none`, `mirrors` or `symmetries`.
        overlap: The share of a window that neighbouring windows have in common, in [0, 1).
        precision: The number type that the network computes in: `auto`, `fp32`, `bf16` or `fp16`.
        postprocessing: Whether the class map is post-processed as the run has chosen.
        graphs: How many windows' graphs a gradient may hold at once, at least 0: with more of them an attack takes less
            time and more memory. Figures do not depend on it.
    """

    checkpoint: Checkpoint | None = None
    tta: Tta | None = None
    overlap: float | None = None
    precision: Precision | None = None
    postprocessing: bool | None = None
    graphs: int | None = None

    def within(self, outer: Deployment) -> Deployment:
        """Return these settings as they hold inside another system, whose own settings win."""
        names = [field.name for field in fields(self)]
        pairs = {name: (getattr(outer, name), getattr(self, name)) for name in names}
        return Deployment(**{name: inner if given is None else given for name, (given, inner) in pairs.items()})


def deployment_of(entry: Deployment) -> Deployment:
    """Return the deployment settings of an entry that has more than these."""
    return Deployment(**{field.name: getattr(entry, field.name) for field in fields(Deployment)})
