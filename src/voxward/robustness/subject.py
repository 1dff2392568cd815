"""One model on one case, ready to be attacked: as a whole deployed pipeline, or as a network on a patch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from voxward.attacks.one_class import OneClass, only
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Case, PreparedCase, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet, Region
from voxward.core.model import Box, Inputs, PatchModel, Truth, VolumeModel
from voxward.core.plan import Plan
from voxward.core.types import Float3
from voxward.data.io import read_image, read_label
from voxward.data.padding import pad_to
from voxward.data.prepare import measured, prepare
from voxward.data.volume_file import label_fault
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient, PipelineModel, legal_window
from voxward.robustness.written import Segment, Stored, segment_stored
from voxward.systems.cascade import Cascade
from voxward.systems.cascade_model import Stage, freeze_cascade
from voxward.systems.ensemble import Deployed

Mode = Literal["volume", "patch"]
# Integers above this are not exact in float32.
_EXACT = 2**24


@dataclass(frozen=True, eq=False)
class Subject:
    """What a unit of work attacks. spacing: mm, in the order of the volume's spatial axes. labels: the target's.

    threat: bounds and limits of this case, with eps 0. deploy: segments an adversarial volume (c, *spatial) after a
    round trip through a file (kept at the path that is given), its mask in the form of the target; None where there is
    no pipeline to deploy.
    """

    model: VolumeModel
    volume: Inputs
    target: Truth
    labels: LabelSet
    threat: ThreatModel
    spacing: Float3
    deploy: Callable[[np.ndarray, Path | None], Stored] | None


def volume_subject(
    predictor: Deployed,
    case: Case,
    threat: ThreatModel,
    gradient: Gradient = "exact",
    statistics: Statistics = "frozen",
) -> Subject:
    """The whole pipeline on a case's files; gradient, statistics: see PipelineModel.

    Raises ValueError when the case has no label or does not fit the model.
    Voxels that are exactly 0 stay so in channels normalised by the statistics of the others (MR).
    """
    plan = predictor.model.plan
    source, target = _read(case, plan)
    try:
        model = PipelineModel.freeze(
            predictor.members, source, plan.labels.head, predictor.mean, gradient, statistics=statistics
        )
    except UserError as error:
        raise UserError(f"case {case.id!r}: {error}") from error
    whole = _Whole(source, target, predictor, model.bounds)
    return whole.subject(model, threat, lambda volume: (predictor.segment(volume), {}))


def cascade_subject(
    cascade: Cascade,
    case: Case,
    threat: ThreatModel,
    stage: Stage = "both",
    gradient: Gradient = "exact",
    statistics: Statistics = "frozen",
) -> Subject:
    """A cascade on a case's files; `stage` of it is attacked with its box held, see `freeze_cascade`.

    Deployed is the cascade itself, which finds its box anew; the notes hold the stage, both boxes (start and stop per
    axis; None where nothing was found) and what share of their union they have in common. eps counts in the fine
    model's window. Raises ValueError as `volume_subject` does.
    """
    plan = cascade.fine.model.plan
    source, target = _read(case, plan)
    try:
        held = cascade.segment(source).box
        model = freeze_cascade(cascade, source, held, stage, gradient, statistics)
    except UserError as error:
        raise UserError(f"case {case.id!r}: {error}") from error

    def segment(volume: Volume) -> tuple[np.ndarray, Mapping[str, Any]]:
        result = cascade.segment(volume)
        boxes = {"box_held": _sides(held), "box_found": _sides(result.box)}
        return result.label, {"stage": stage, **boxes, "box_overlap": overlap(held, result.box)}

    bounds = tuple(legal_window(low, high) for low, high, _, _ in measured(source, plan))
    return _Whole(source, target, cascade.fine, bounds).subject(model, threat, segment)


@dataclass(frozen=True, eq=False)
class _Whole:
    """A case of a whole volume, read, and the windows (low, high) of its channels. predictor: whose device and plan."""

    source: Volume
    target: np.ndarray
    predictor: Deployed
    bounds: tuple[tuple[float, float], ...]

    def subject(self, model: VolumeModel, threat: ThreatModel, segment: Segment) -> Subject:
        """segment: the deployed prediction."""
        source, plan, device = self.source, self.predictor.model.plan, self.predictor.device
        kind = source.array.dtype
        exact = kind.itemsize < 4 or np.abs(source.array).max() < _EXACT or kind == np.float32
        volume = torch.from_numpy(source.array.astype(np.float32 if exact else np.float64))[None]
        limits = source.scaling.limits if source.scaling is not None else None
        if kind.kind in "iu":
            limits = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
        truth = plan.labels.target(torch.from_numpy(self.target))[None]
        zeros = tuple(channel.normalization in ("mr", "minmax", "zscore") for channel in plan.channels)
        bounded = ThreatModel(0.0, threat.norm, threat.unit, threat.reference, self.bounds, limits, zeros)
        reference = bounded.ball(volume).reference[0].numpy()

        def deploy(adversarial: np.ndarray, path: Path | None) -> Stored:
            stored = segment_stored(segment, source, reference, adversarial, path)
            return replace(stored, mask=plan.labels.target(torch.from_numpy(stored.mask)).numpy())

        return Subject(model, volume.to(device), truth.to(device), plan.labels, bounded, source.spacing, deploy)


def overlap(first: Box | None, second: Box | None) -> float:
    """The share of two boxes' union that both hold; of two None 1, of one None 0."""
    if first is None or second is None:
        return float(first is second)
    both = math.prod(max(min(a.stop, b.stop) - max(a.start, b.start), 0) for a, b in zip(first, second, strict=True))
    sizes = [math.prod(side.stop - side.start for side in box) for box in (first, second)]
    return float(both / (sum(sizes) - both))


def _sides(box: Box | None) -> list[list[int]] | None:
    return None if box is None else [[side.start, side.stop] for side in box]


def patch_subject(predictor: Deployed, case: Case, threat: ThreatModel) -> Subject:
    """The network on one window around the truth's centre of mass, in normalised intensities (the papers' setting).

    The intensity window [low, high] is normalised like the image, so that eps as a share of it means the same as for a
    volume; the unit `native` would mean something else here. In float32, whatever the predictor's precision.
    """
    assert threat.unit == "range"
    assert len(predictor.members) == 1
    plan = predictor.model.plan
    source, _ = _read(case, plan)
    assert case.label is not None
    prepared = prepare(source, read_label(case.label), plan, case.id)
    image, label = _centre_patch(prepared, plan)
    frame = prepared.frame
    pairs = zip(frame.low, frame.high, frame.mean, frame.std, strict=True)
    bounds = tuple(legal_window((low - mean) / std, (high - mean) / std) for low, high, mean, std in pairs)
    bounded = ThreatModel(0.0, threat.norm, threat.unit, threat.reference, bounds)
    device = predictor.device
    return Subject(
        PatchModel(predictor.model.network, plan.labels.head),
        image[None].to(device),
        plan.labels.target(label)[None].to(device),
        plan.labels,
        bounded,
        plan.spacing,
        None,
    )


def labels_under_attack(labels: LabelSet, erase: str | None) -> LabelSet:
    """All of them, or with `erase` that class (or region) and everything else as the background.

    Raises ValueError for a name that is none of those scored.
    """
    if erase is None:
        return labels
    if erase not in labels.scored:
        raise UserError(f"erase must name one of the classes {', '.join(labels.scored)}, got {erase!r}")
    return LabelSet((f"not {erase}", erase), (0, 1), (Region(erase, (1,)),) if labels.regions else ())


def erasing(subject: Subject, name: str) -> Subject:
    """The subject of an attack on one class, see `OneClass`."""
    labels, inner = subject.labels, subject.deploy
    index = labels.scored.index(name) if labels.regions else labels.names.index(name)
    # A deployed mask is read from a file of classes, where regions are nested; a network's own need not be.
    nested = len(labels.regions) if inner is not None else 0

    def deploy(adversarial: np.ndarray, path: Path | None) -> Stored:
        assert inner is not None
        stored = inner(adversarial, path)
        mask = stored.mask[index : index + 1] if labels.regions else (stored.mask == index).astype(np.uint8)
        return replace(stored, mask=mask)

    return replace(
        subject,
        model=OneClass(subject.model, index, nested),
        target=only(subject.target, index, subject.model.head),
        labels=labels_under_attack(subject.labels, name),
        deploy=None if inner is None else deploy,
    )


def _read(case: Case, plan: Plan) -> tuple[Volume, np.ndarray]:
    if case.label is None:
        raise UserError(f"case {case.id!r} has no label: an attack needs the truth")
    source, label = read_image(case.images), read_label(case.label)
    fault = label_fault(source, label)
    if fault is not None:
        raise UserError(f"case {case.id!r}: {fault}")
    try:
        target = plan.labels.to_index(label.array)
    except UserError as error:
        raise UserError(f"case {case.id!r}: {error}") from error
    return source, target


def _centre_patch(prepared: PreparedCase, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (c, *window) and label (*window) around the centre of the foreground (of the volume, where there is none).

    A case smaller than the window is padded as the plan says; the label's padding is background.
    """
    assert prepared.label is not None
    image, _ = pad_to(prepared.image, plan.window_size, plan.padding)
    label, _ = pad_to(prepared.label, plan.window_size, "zero")
    voxels = torch.nonzero(label).double()
    centre = voxels.mean(0).tolist() if len(voxels) else [length / 2 for length in label.shape]
    corner = [
        min(max(round(middle - window / 2), 0), length - window)
        for middle, window, length in zip(centre, plan.window_size, label.shape, strict=True)
    ]
    place = tuple(slice(start, start + window) for start, window in zip(corner, plan.window_size, strict=True))
    return image[(slice(None), *place)], label[place]
