"""What is drawn of a finished training."""

from __future__ import annotations

from voxward.report.figures import training_curve
from voxward.runs.folder import RunFolder
from voxward.training.log import read_log


def draw_curve(run: RunFolder) -> None:
    """Draw losses, validation Dice and learning rate of a run into logs/curve.png."""
    training_curve(read_log(run.log), run.log.with_name("curve.png"))
