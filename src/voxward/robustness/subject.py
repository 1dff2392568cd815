"""One model on one case, ready to be attacked: a whole deployed pipeline, or a network on a patch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxward.attacks.one_class import Elsewhere, OneClass, elsewhere, only
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Case, PreparedCase, Volume
from voxward.core.errors import UserError
from voxward.core.labels import IGNORED, LabelSet, Region
from voxward.core.model import Inputs, PatchModel, Spaced, Truth, VolumeModel
from voxward.core.plan import Plan
from voxward.core.types import Float3
from voxward.data.io import read_case, read_truth, write_label
from voxward.data.padding import pad_to
from voxward.data.prepare import prepare
from voxward.data.stored_values import as_read, what_a_file_holds
from voxward.pipeline.model import legal_range
from voxward.robustness.written import Stored, segment_stored
from voxward.systems.system import Freeze, System

# Integers above this are not exact in float32.
_EXACT = 2**24


@dataclass(frozen=True, eq=False)
class Place:
    """Where the file of a segmentation comes from, which it is written like.

    Attributes:
        affine: The image's affine (4, 4).
        template: The image's file.
        labels: The classes that the system finds, with the values that stand for them in files.
    """

    affine: np.ndarray
    template: Path
    labels: LabelSet

    def write(self, path: Path, label: np.ndarray) -> None:
        """Write class indices (i, j, k) as `voxward predict` does."""
        write_label(path, self.labels.to_values(label), self.affine, self.template)


@dataclass(frozen=True, eq=False)
class Whole:
    """The deployed system on a case, from a volume in memory to a mask, without a file between.

    Attributes:
        source: The clean volume (c, i, j, k), as its file stores it.
        truth: The class indices (i, j, k) of the truth, `core.labels.IGNORED` where nobody has annotated.
        labels: The classes or regions, with the ignore label of the truth.
        segment: Segments intensities (c, i, j, k) of the case; returns class indices (i, j, k).
    """

    source: Volume
    truth: np.ndarray
    labels: LabelSet
    segment: Callable[[np.ndarray], np.ndarray]


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


@dataclass(frozen=True, eq=False)
class Subject:
    """A model on one case, ready to be attacked by one unit of work.

    Attributes:
        model: The model as attacks see it.
        volume: The clean intensities (1, c, *spatial).
        target: The ground truth in the form that the model's head needs (see `core.model.Truth`).
        labels: The classes or regions of the target.
        threat: The threat model with the bounds and limits of this case, and eps 0.
        spacing: The voxel size in mm, in the order of the volume's spatial axes.
        deploy: Segments an adversarial volume (c, *spatial) after a round trip through a file, which is kept if a path
            is given; its mask has the form of the target. None where there is no pipeline to deploy.
        place: How segmentations are written; None where there is no pipeline to deploy.
        as_written: Turns an adversarial volume (c, *spatial) into the intensities that its file would hold.
        whole: The system on volumes in memory; None where there is no pipeline to deploy.
    """

    model: VolumeModel
    volume: Inputs
    target: Truth
    labels: LabelSet
    threat: ThreatModel
    spacing: Float3
    deploy: Callable[[np.ndarray, Path | None], Stored] | None
    place: Place | None = None
    as_written: Callable[[np.ndarray], np.ndarray] = _as_it_is
    whole: Whole | None = None


def volume_subject(
    system: System, case: Case, threat: ThreatModel, how: Freeze = Freeze(), ignore: int | None = None
) -> Subject:
    """Bind a whole deployed system to a case's files.

    Voxels that are exactly 0 stay so in the channels in which the system keeps them.

    Args:
        system: The system.
        case: The case, with a label.
        threat: Norm, unit and reference of the perturbation.
        how: Which gradient is computed, and what normalises an attacked volume.
        ignore: The value of unannotated voxels in the case's label; None: as the system's labels declare.

    Returns:
        The bound system on the case's volume, with a function that deploys an adversarial volume.

    Raises:
        UserError: The case has no label or does not fit the system.
        NotDifferentiable: The system has no gradient.
    """
    labels = system.labels.ignoring(ignore)
    source, target = _read(case, labels)
    try:
        model, ranges = system.freeze(source, how), system.ranges(source)
    except UserError as error:
        raise type(error)(f"case {case.id!r}: {error}") from error
    kind = source.array.dtype
    exact = kind.itemsize < 4 or np.abs(source.array).max() < _EXACT or kind == np.float32
    volume = torch.from_numpy(source.array.astype(np.float32 if exact else np.float64))[None]
    limits, steps = what_a_file_holds(source)
    truth = labels.target(torch.from_numpy(target))[None]
    bounds, zeros = tuple((one.low, one.high) for one in ranges), tuple(one.keeps_zero for one in ranges)
    bounded = ThreatModel(0.0, threat.norm, threat.unit, threat.reference, bounds, limits, zeros=zeros, steps=steps)
    reference = bounded.ball(volume).reference[0].numpy()

    def segment(found: Volume) -> tuple[np.ndarray, Mapping[str, Any]]:
        result = system.segment(found)
        return result.label, system.notes(model, result)

    def deploy(adversarial: np.ndarray, path: Path | None) -> Stored:
        stored = segment_stored(segment, source, reference, adversarial, path, case.images[0])
        return replace(stored, mask=labels.target(torch.from_numpy(stored.mask)).numpy())

    def as_written(adversarial: np.ndarray) -> np.ndarray:
        return as_read(adversarial, source).array

    def from_memory(values: np.ndarray) -> np.ndarray:
        return system.segment(Volume(values, source.affine.copy())).label

    device, place = system.device, Place(source.affine, case.images[0], system.labels)
    shown = volume.to(device), truth.to(device), labels, bounded, source.spacing
    spaced, whole = Spaced(model, source.spacing), Whole(source, target, labels, from_memory)
    return Subject(spaced, *shown, deploy, place, as_written if threat.reference == "raw" else _as_it_is, whole)


def patch_subject(system: System, case: Case, threat: ThreatModel, ignore: int | None = None) -> Subject:
    """Bind a system's one network to the window around the centre of mass of the ground truth (as the papers do).

    Intensities are normalised, and the intensity range [low, high] is normalised in the same way, so that eps as a
    share of it means the same as for a volume; the unit `native` would mean something else here. The network computes
    in float32, whatever the system's precision.

    Args:
        system: The system, which has one network.
        case: The case, with a label.
        threat: Norm and reference of the perturbation; the unit must be `range`.
        ignore: The value of unannotated voxels in the case's label; None: as the plan's labels declare.

    Returns:
        The network on that window, without a pipeline to deploy.

    Raises:
        UserError: The system has several networks, or the case has no label or does not fit.
    """
    assert threat.unit == "range"
    model = system.network()
    plan = replace(model.plan, labels=model.plan.labels.ignoring(ignore))
    source, _ = _read(case, plan.labels)
    prepared = prepare(source, read_truth(case, source), plan, case.id)
    image, label = _centre_patch(prepared, plan)
    frame = prepared.frame
    pairs = zip(frame.low, frame.high, frame.mean, frame.std, strict=True)
    bounds = tuple(legal_range((low - mean) / std, (high - mean) / std) for low, high, mean, std in pairs)
    bounded = ThreatModel(0.0, threat.norm, threat.unit, threat.reference, bounds)
    device = system.device
    return Subject(
        PatchModel(model.network, plan.labels.head, spacing=plan.spacing),
        image[None].to(device),
        plan.labels.target(label)[None].to(device),
        plan.labels,
        bounded,
        plan.spacing,
        None,
    )


def labels_under_attack(labels: LabelSet, erase: str | None, invent: str | None = None) -> LabelSet:
    """Return the classes that an attack is judged by: all, one class against everything else, or all but one.

    Args:
        labels: The classes or regions of the system.
        erase: The class or region that is attacked alone, everything else being the background; None for all.
        invent: The class or region that an attack finds where it is not; None for none.

    Raises:
        UserError: `erase` or `invent` is not one of the scored classes or regions, or both are given.
    """
    if erase is not None and invent is not None:
        raise UserError(f"erase and invent exclude each other, got {erase!r} and {invent!r}")
    for task, name in (("erase", erase), ("invent", invent)):
        if name is not None and name not in labels.scored:
            raise UserError(f"{task} must name one of the classes {', '.join(labels.scored)}, got {name!r}")
    if invent is not None:  # the true voxels of the class do not count
        return _two_classes(labels, invent, f"not {invent}", IGNORED)
    if erase is not None:
        return _two_classes(labels, f"not {erase}", erase, None if labels.ignore is None else IGNORED)
    return labels


def _two_classes(labels: LabelSet, background: str, name: str, ignore: int | None) -> LabelSet:
    return LabelSet((background, name), (0, 1), (Region(name, (1,)),) if labels.regions else (), ignore)


def erasing(subject: Subject, name: str) -> Subject:
    """Return the subject of an attack that erases one class (see `OneClass`).

    Args:
        subject: The subject with all its classes.
        name: The class or region to erase.

    Returns:
        A subject whose model, target, labels and deployed mask know this class only.
    """
    labels, inner = subject.labels, subject.deploy
    index = labels.scored.index(name) if labels.regions else labels.names.index(name)
    # A deployed mask is read from a file of classes, one for each voxel; a network's own masks need not fit that.
    regions = labels.region_maps if labels.regions and inner is not None else None

    def deploy(adversarial: np.ndarray, path: Path | None) -> Stored:
        assert inner is not None
        stored = inner(adversarial, path)
        mask = stored.mask[index : index + 1] if labels.regions else (stored.mask == index).astype(np.uint8)
        return replace(stored, mask=mask)

    return replace(
        subject,
        model=OneClass(subject.model, index, regions),
        target=only(subject.target, index, subject.model.head),
        labels=labels_under_attack(subject.labels, name),
        deploy=None if inner is None else deploy,
    )


def inventing(subject: Subject, name: str) -> Subject:
    """Return the subject of an attack that finds one class where it is not (see `Elsewhere`).

    Args:
        subject: The subject with all its classes.
        name: The class or region to invent.

    Returns:
        A subject whose model, target, labels and deployed mask know "not this class" only, and count no true voxel of
        the class.
    """
    alone = erasing(subject, name)
    inner, model = alone.deploy, alone.model
    assert isinstance(model, OneClass)

    def deploy(adversarial: np.ndarray, path: Path | None) -> Stored:
        assert inner is not None
        stored = inner(adversarial, path)
        return replace(stored, mask=1 - stored.mask)

    return replace(
        alone,
        model=Elsewhere(model),
        target=elsewhere(alone.target),
        labels=labels_under_attack(subject.labels, None, name),
        deploy=None if inner is None else deploy,
    )


def truth_of(case: Case, labels: LabelSet) -> np.ndarray:
    """Return the class indices (i, j, k) of a case's truth, `core.labels.IGNORED` where nobody has annotated.

    Args:
        case: The case, with a label.
        labels: The classes or regions of a system, with the ignore label of the case.

    Raises:
        UserError: The label cannot be read, or does not fit.
    """
    return _read(case, labels)[1]


def _read(case: Case, labels: LabelSet) -> tuple[Volume, np.ndarray]:
    if case.label is None:
        raise UserError(f"case {case.id!r} has no label: an attack needs the truth")
    try:
        source = read_case(case)
        label = read_truth(case, source)
        target = labels.to_index(label.array)
    except UserError as error:
        raise UserError(f"case {case.id!r}: {error}") from error
    unknown = labels.ignored(target)
    if unknown is not None and unknown.all():
        raise UserError(f"case {case.id!r}: {case.label} holds only the ignore label {labels.ignore}, and no truth")
    return source, target


def _centre_patch(prepared: PreparedCase, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image (c, *window) and label (*window) around the centre of the foreground, or of the volume without one.

    Unannotated voxels are no foreground; of a case without foreground the centre of the annotated ones is taken.

    A case smaller than the window is padded as the plan says; the label's padding is background.
    """
    assert prepared.label is not None
    image, _ = pad_to(prepared.image, plan.window_size, plan.padding)
    label, _ = pad_to(prepared.label, plan.window_size, "zero")
    unknown = torch.from_numpy(known) if (known := plan.labels.ignored(label.numpy())) is not None else None
    voxels = torch.nonzero(label if unknown is None else label.masked_fill(unknown, 0)).double()
    if unknown is not None and not len(voxels):
        voxels = torch.nonzero(~unknown).double()
    centre = voxels.mean(0).tolist() if len(voxels) else [length / 2 for length in label.shape]
    corner = [
        min(max(round(middle - window / 2), 0), length - window)
        for middle, window, length in zip(centre, plan.window_size, label.shape, strict=True)
    ]
    place = tuple(slice(start, start + window) for start, window in zip(corner, plan.window_size, strict=True))
    return image[(slice(None), *place)], label[place]
