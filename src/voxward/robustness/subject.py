"""One model on one case, ready to be attacked: as a whole deployed pipeline, or as a network on a patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from voxward.attacks.one_class import OneClass, only
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Case, PreparedCase, Volume
from voxward.core.labels import LabelSet, Region
from voxward.core.model import Inputs, PatchModel, Truth, VolumeModel
from voxward.core.plan import Plan
from voxward.core.types import Float3
from voxward.data.io import read_image, read_label
from voxward.data.padding import pad_to
from voxward.data.prepare import prepare
from voxward.data.volume_file import label_fault
from voxward.inference.pipeline import PipelineModel, legal_window
from voxward.inference.together import Deployed
from voxward.robustness.deployed import segment_stored

Mode = Literal["volume", "patch"]
# Integers above this are not exact in float32.
_EXACT = 2**24


@dataclass(frozen=True, eq=False)
class Subject:
    """What a unit of work attacks. spacing: mm, in the order of the volume's spatial axes. labels: the target's.

    threat: bounds and limits of this case, with eps 0. deploy: segments an adversarial volume (c, *spatial) after a
    round trip through a file (kept at the path that is given) and returns the mask, in the form of the target, and
    what the file holds; None where there is no pipeline to deploy.
    """

    model: VolumeModel
    volume: Inputs
    target: Truth
    labels: LabelSet
    threat: ThreatModel
    spacing: Float3
    deploy: Callable[[np.ndarray, Path | None], tuple[np.ndarray, np.ndarray]] | None


def volume_subject(predictor: Deployed, case: Case, threat: ThreatModel) -> Subject:
    """The whole pipeline on a case's files. Raises ValueError when the case has no label or does not fit the model.

    Voxels that are exactly 0 stay so in channels normalised by the statistics of the others (MR).
    """
    plan = predictor.model.plan
    source, target = _read(case, plan)
    try:
        model = PipelineModel.freeze(predictor.members, source, plan.labels.head, predictor.mean)
    except ValueError as error:
        raise ValueError(f"case {case.id!r}: {error}") from error
    exact = source.array.dtype.itemsize < 4 or np.abs(source.array).max() < _EXACT or source.array.dtype == np.float32
    volume = torch.from_numpy(source.array.astype(np.float32 if exact else np.float64))[None]
    limits = None
    if source.array.dtype.kind in "iu":
        kind = np.iinfo(source.array.dtype)
        limits = (float(kind.min), float(kind.max))

    truth = plan.labels.target(torch.from_numpy(target))[None]
    zeros = tuple(channel.normalization in ("mr", "minmax", "zscore") for channel in plan.channels)
    bounded = ThreatModel(0.0, threat.norm, threat.unit, threat.reference, model.bounds, limits, zeros)
    reference = bounded.ball(volume).reference[0].numpy()

    def deploy(adversarial: np.ndarray, path: Path | None) -> tuple[np.ndarray, np.ndarray]:
        mask, written = segment_stored(predictor, source, reference, adversarial, path)
        return plan.labels.target(torch.from_numpy(mask)).numpy(), written

    return Subject(
        model, volume.to(predictor.device), truth.to(predictor.device), plan.labels, bounded, source.spacing, deploy
    )


def patch_subject(predictor: Deployed, case: Case, threat: ThreatModel) -> Subject:
    """The network on one window around the truth's centre of mass, in normalised intensities (the papers' setting).

    The intensity window [low, high] is normalised like the image, so that eps as a share of it means the same as for a
    volume; the unit `native` would mean something else here. In float32, whatever the predictor's precision.
    """
    assert threat.unit == "range"
    if len(predictor.members) > 1:
        raise ValueError("mode 'patch' attacks one network: an ensemble is attacked in mode 'volume'")
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


SUBJECTS: dict[Mode, Callable[[Deployed, Case, ThreatModel], Subject]] = {
    "volume": volume_subject,
    "patch": patch_subject,
}


def labels_under_attack(labels: LabelSet, erase: str | None) -> LabelSet:
    """All of them, or with `erase` that class (or region) and everything else as the background.

    Raises ValueError for a name that is none of those scored.
    """
    if erase is None:
        return labels
    if erase not in labels.scored:
        raise ValueError(f"erase must name one of the classes {', '.join(labels.scored)}, got {erase!r}")
    return LabelSet((f"not {erase}", erase), (0, 1), (Region(erase, (1,)),) if labels.regions else ())


def erasing(subject: Subject, name: str) -> Subject:
    """The subject of an attack on one class, see `OneClass`."""
    labels, inner = subject.labels, subject.deploy
    index = labels.scored.index(name) if labels.regions else labels.names.index(name)
    # A deployed mask is read from a file of classes, where regions are nested; a network's own need not be.
    nested = len(labels.regions) if inner is not None else 0

    def deploy(adversarial: np.ndarray, path: Path | None) -> tuple[np.ndarray, np.ndarray]:
        assert inner is not None
        mask, written = inner(adversarial, path)
        return mask[index : index + 1] if labels.regions else (mask == index).astype(np.uint8), written

    return replace(
        subject,
        model=OneClass(subject.model, index, nested),
        target=only(subject.target, index, subject.model.head),
        labels=labels_under_attack(subject.labels, name),
        deploy=None if inner is None else deploy,
    )


def _read(case: Case, plan: Plan) -> tuple[Volume, np.ndarray]:
    if case.label is None:
        raise ValueError(f"case {case.id!r} has no label: an attack needs the truth")
    source, label = read_image(case.images), read_label(case.label)
    fault = label_fault(source, label)
    if fault is not None:
        raise ValueError(f"case {case.id!r}: {fault}")
    try:
        target = plan.labels.to_index(label.array)
    except ValueError as error:
        raise ValueError(f"case {case.id!r}: {error}") from error
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
