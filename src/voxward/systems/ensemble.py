"""Several runs that predict together: the mean of their predictions, in the file's geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.pipeline.mean import Mean
from voxward.pipeline.model import PipelineModel
from voxward.pipeline.precision import Precision
from voxward.pipeline.predictor import Predictor, Tta
from voxward.runs.folder import Checkpoint, TrainedModel, load_run


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Predictors whose logits, or probabilities, are averaged (as the first one's recipe says), voxel by voxel.

    Each prepares the volume by its own plan, so that runs of different recipes may be mixed. Labels and post-processing
    are the first one's. Raises ValueError for none, for members whose channels or labels differ, and for one whose
    windows vote: a vote has no score to average.
    """

    members: tuple[Predictor, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("an ensemble needs at least one member, got none")
        if any(member.model.recipe.inference.combine == "vote" for member in self.members):
            raise UserError(
                "the members of an ensemble must average their windows, got a recipe with inference.combine 'vote': "
                "train it with 'mean', or let it predict alone"
            )
        for what, values in (
            ("labels", {member.model.plan.labels for member in self.members}),
            ("channels", {tuple(c.name for c in member.model.plan.channels) for member in self.members}),
        ):
            if len(values) > 1:
                raise UserError(
                    f"the members of an ensemble must agree on their {what}, got {sorted(map(str, values))}"
                )

    @property
    def model(self) -> TrainedModel:
        """The first member's."""
        return self.members[0].model

    @property
    def device(self) -> torch.device:
        """Where they all work."""
        return self.members[0].device

    @property
    def precision(self) -> Precision:
        """The first member's."""
        return self.members[0].precision

    @property
    def mean(self) -> Mean:
        """What is averaged."""
        return self.members[0].mean

    def check(self, channels: int, affine: np.ndarray) -> None:
        """See Predictor."""
        self.members[0].check(channels, affine)

    def segment(
        self, volume: Volume, done: Callable[[int, int], None] | None = None, whole: Volume | None = None
    ) -> np.ndarray:
        """Class indices (i, j, k) in the volume's own voxel order and shape, post-processed; see Predictor."""
        head = self.model.plan.labels.head
        model = PipelineModel.freeze(self.members, volume, head, self.mean, whole=whole)
        intensities = torch.from_numpy(volume.array.astype(np.float32))[None].to(self.device)
        segmentation: np.ndarray = model.classes(model.logits(intensities))[0].cpu().numpy()
        if done is not None:
            done(len(self.members), len(self.members))
        return segmentation


Deployed = Predictor | Ensemble
"""What is deployed: one trained model, or several."""


def load_deployed(
    run: Path | str,
    members: Sequence[Path | str],
    checkpoint: Checkpoint,
    device: torch.device,
    precision: Precision = "auto",
    overlap: float | None = None,
    tta: Tta | None = None,
    graphs: int = 0,
) -> Deployed:
    """A run, together with other ones where there are any. Raises as `load_run`, and see Predictor and Ensemble."""
    loaded = [
        Predictor(load_run(folder, checkpoint, device), device, precision, overlap, tta=tta, graphs=graphs)
        for folder in (run, *members)
    ]
    return loaded[0] if len(loaded) == 1 else Ensemble(tuple(loaded))
