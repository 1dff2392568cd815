"""Several trained models segment one volume together: their mean, a few rows of the file at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from voxward.core.case import PreparedCase, Volume
from voxward.core.types import CaseLogits, Size3
from voxward.data.orient import box_slices, orient
from voxward.data.prepare import measured, prepare, restored_rows
from voxward.pipeline.mean import Mean, mean_logits
from voxward.pipeline.member import background
from voxward.pipeline.predictor import Done, Predictor
from voxward.pipeline.probabilities import reader_of

# Logits (all classes of some rows of the whole volume) that are averaged at once: 8 MiB in float32.
_SLAB = 2**21


def segment_together(
    predictors: Sequence[Predictor],
    volume: Volume,
    mean: Mean,
    weights: Sequence[float] | None = None,
    done: Done | None = None,
    whole: Volume | None = None,
    probabilities: np.ndarray | None = None,
) -> np.ndarray:
    """Segment a volume by the mean of several models, without ever holding all logits of any model.

    Every model prepares the volume by its own plan and returns its logits in the voxels of the file; they are averaged
    there. Memory holds one layer of windows per model and some rows of logits.

    Args:
        predictors: The models; their classes must be the same.
        volume: The volume (c, i, j, k) as its file stores it.
        mean: What is averaged, `logits` or `probabilities`.
        weights: The share of each model, which sum to 1; None gives all the same share.
        done: Called with the windows that are finished and the windows of all models together.
        whole: The volume that this one is a part of; its statistics then normalise the part.
        probabilities: An array (k, i, j, k) that gets the probabilities, see `pipeline.probabilities`; None keeps none.

    Returns:
        Class indices (i, j, k) in the file's shape and voxel order, without post-processing.

    Raises:
        UserError: The volume does not fit one of the models.
    """
    labels, prepared = predictors[0].model.plan.labels, [_prepared(one, volume, whole) for one in predictors]
    frame = prepared[0].frame
    axis = predictors[0].windows(frame.shape).axis
    count = _counter(len(predictors), done)
    streams = [_Rows(one, case, axis, count(n)) for n, (one, case) in enumerate(zip(predictors, prepared, strict=True))]
    index = np.zeros(frame.source_shape, np.uint8 if labels.outputs <= 256 else np.uint16)
    oriented = orient(index, frame.axes, frame.flips)
    read = labels.read if probabilities is None else reader_of(labels, probabilities, frame, axis, box=False)
    step = max(1, _SLAB * oriented.shape[axis] // (labels.outputs * oriented.size))
    for start in range(0, oriented.shape[axis], step):
        rows = range(start, min(start + step, oriented.shape[axis]))
        logits = mean_logits([stream.take(rows)[None] for stream in streams], labels.head, mean, weights)[0]
        oriented[_along(axis, rows)] = read(logits).cpu().numpy()
    for stream in streams:
        stream.finish()
    return index


def _prepared(predictor: Predictor, volume: Volume, whole: Volume | None) -> PreparedCase:
    plan = predictor.model.plan
    return prepare(volume, None, plan, figures=None if whole is None else measured(whole, plan))


def _counter(models: int, done: Done | None) -> Callable[[int], Done | None]:
    """Return a function that gives each model a counter of its windows; `done` is told the sums over all models."""
    finished, totals = [0] * models, [0] * models

    def of(model: int) -> Done | None:
        def count(windows: int, total: int) -> None:
            finished[model], totals[model] = windows, total
            if done is not None and all(totals):
                done(sum(finished), sum(totals))

        return None if done is None else count

    return of


class _Rows:
    """One model's logits of the whole volume, in RAS order, taken in rows that follow each other along `axis`."""

    def __init__(self, predictor: Predictor, case: PreparedCase, axis: int, done: Done | None) -> None:
        self.frame, self.axis, self.labels = case.frame, axis, predictor.model.plan.labels
        i, j, k = (self.frame.source_shape[place] for place in self.frame.axes)
        self.shape: Size3 = (i, j, k)
        self.like = case.image.new_zeros(self.labels.outputs)
        self.stream = restored_rows(predictor.slabs(case, done, axis), self.frame, axis)
        self.held: list[tuple[int, Tensor]] = []

    def take(self, rows: range) -> CaseLogits:
        """Return the logits (k, ...) of these rows; outside the model's crop box they are those of background."""
        size = [len(rows) if n == self.axis else length for n, length in enumerate(self.shape)]
        outside = background(self.like, self.labels.head).view(-1, 1, 1, 1)
        found: Tensor = outside.expand(-1, *size).clone()
        start, stop = self.frame.box_start[self.axis], self.frame.box_stop[self.axis]
        inside = range(max(rows.start, start), min(rows.stop, stop))
        if len(inside):
            self._read(inside.stop - start)
            for first, logits in self.held:
                found = self._pasted(found, rows, first + start, logits)
            self.held = [(first, part) for first, part in self.held if first + start + self._length(part) > rows.stop]
        return found

    def finish(self) -> None:
        """Let the model report its last windows; no row is left."""
        for _ in self.stream:
            pass

    def _read(self, until: int) -> None:
        """Hold what the model has to say up to row `until` of its crop box."""
        while not self.held or self.held[-1][0] + self._length(self.held[-1][1]) < until:
            self.held.append(next(self.stream))

    def _pasted(self, found: Tensor, rows: range, first: int, logits: Tensor) -> Tensor:
        """Paste what is held from row `first` of the volume on, as far as it lies in `rows`."""
        both = range(max(rows.start, first), min(rows.stop, first + self._length(logits)))
        if len(both):
            part = logits.narrow(self.axis + 1, both.start - first, len(both))
            box = [*box_slices(self.frame.box_start, self.frame.box_stop)]
            box[self.axis] = slice(both.start - rows.start, both.stop - rows.start)
            found[(slice(None), *box)] = part.to(found)
        return found

    def _length(self, logits: Tensor) -> int:
        return int(logits.shape[self.axis + 1])


def _along(axis: int, rows: range) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(rows.start, rows.stop))
