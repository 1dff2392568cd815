"""A results folder of nnU-Net v2 as a deployed system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Box, VolumeModel
from voxward.core.structure import to_data
from voxward.pipeline.model import PipelineModel, legal_range
from voxward.pipeline.predictor import Done, refuse_header
from voxward.pipeline.probabilities import certain
from voxward.runs.folder import RunFolder, TrainedModel
from voxward.runs.foreign import Foreign
from voxward.systems.digest import digest, weights_digest
from voxward.systems.nnunet import intensities, judge
from voxward.systems.nnunet.after import LargestComponents, read_after
from voxward.systems.nnunet.archive import unpacked
from voxward.systems.nnunet.geometry import geometry_of
from voxward.systems.nnunet.heldout import FoldCases, cases_of_folds, training_of
from voxward.systems.nnunet.member import NnMember, clean_figures
from voxward.systems.nnunet.results import CHECKPOINT, NnResults, is_results, read_results
from voxward.systems.opening import Opening
from voxward.systems.self_test import Stored
from voxward.systems.system import Freeze, IntensityRange, Segmentation

Mirrors = Literal["mirrors", "none"]


@dataclass(frozen=True, kw_only=True)
class NnUNetEntry:
    """A results folder of nnU-Net in a `system.yaml`.

    Attributes:
        results: The folder that holds plans.json, dataset.json and fold_0 to fold_4, or the zip file of
            nnUNetv2_export_model_to_zip.
        folds: The folds that predict together; None takes every numbered fold that is there, or else `fold_all`.
        checkpoint: The name of the checkpoint file in each fold.
        tta: `mirrors` as nnU-Net does by itself, or `none` (its --disable_tta).
        postprocessing: Whether the post-processing that nnU-Net chose by cross-validation is applied, which
            nnUNetv2_predict by itself does not do.
        graphs: How many windows' graphs a gradient may hold in memory at once; figures do not depend on it.
        name: The name in tables; None takes that of the dataset and configuration.
    """

    results: str
    folds: tuple[int | str, ...] | None = None
    checkpoint: str = CHECKPOINT
    tta: Mirrors = "mirrors"
    postprocessing: bool = False
    graphs: int = 0
    name: str | None = None


@dataclass(frozen=True, eq=False)
class NnUNetSystem:
    """An nnU-Net as it is deployed; implements System.

    A volume is segmented with nnU-Net's own arithmetic: its 16-bit sums, its order of adding up. A gradient goes
    through the same pipeline in 32 bits.

    Attributes:
        results: The results folder, with the mirror axes that are used.
        on: The device of the networks.
        after: The post-processing.
        title: The name in tables.
        graphs: How many windows' graphs a gradient may hold at once.
        trained_mirrors: The mirror axes that the checkpoint allows, whether they are used or not.
        cases: What is known about the cases of each fold, also of folds that are not used.
    """

    results: NnResults
    on: torch.device
    after: LargestComponents
    title: str
    graphs: int = 0
    trained_mirrors: tuple[int, ...] = ()
    cases: tuple[FoldCases, ...] = ()

    @property
    def name(self) -> str:
        """The title."""
        return self.title

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels in dataset.json."""
        return self.results.plan.channels

    @property
    def labels(self) -> LabelSet:
        """The classes, or regions, of dataset.json."""
        return self.results.plan.labels

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.on

    @property
    def precision(self) -> str:
        """The networks compute in float32, as nnU-Net's do on a CPU."""
        return "fp32"

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """None: this is no run of voxward."""
        return ()

    @cached_property
    def _weights(self) -> str:
        return weights_digest(self.results.networks)

    def fingerprint(self) -> str:
        """Return a digest of weights, plan and settings."""
        return digest(self._weights, to_data(self.results.plan), self.options())

    def options(self) -> Mapping[str, Any]:
        """Return how the folder is deployed."""
        return {
            "kind": "nnunet",
            "configuration": self.results.plan.configuration,
            "trainer": self.results.trainer,
            "folds": list(self.results.folds),
            "mirror_axes": list(self.results.mirrors),
            "postprocessing": [list(group) for group in self.after.groups],
        }

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header; see System."""
        refuse_header(self.channels, channels, affine)

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System."""
        _refuse_part(whole)
        self.check(len(volume.array), volume.affine)
        kept = certain(self.labels, volume.shape) if probabilities else None
        label = judge.segment(self.results, volume, done, kept)
        found = label if self.after.idle else self.after.apply(label, volume.spacing)
        notes = {"crop_box": _listed(geometry_of(volume, self.results.plan).box)}
        return Segmentation(found, notes, probabilities=kept)

    def check_probabilities(self) -> None:
        """Do nothing: an nnU-Net has probabilities."""

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind the pipeline to a clean volume; see System."""
        _refuse_part(whole)
        self.check(len(volume.array), volume.affine)
        results, plan = self.results, self.results.plan
        geometry = geometry_of(volume, plan)
        figures = clean_figures(volume, geometry, plan) if how.statistics == "frozen" else None
        limits = tuple((one.low, one.high) for one in self.ranges(volume))
        members = tuple(
            NnMember(network, plan, geometry, results.mirrors, figures, limits, self.after, kept=self.graphs)
            for network in results.networks
        )
        return PipelineModel(members, volume.spacing, self.labels.head, gradient=how.gradient)

    def check_gradient(self) -> None:
        """Do nothing: the whole pipeline has a gradient."""

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Say whether the attacked file has another crop box than the clean one, which the attack held."""
        assert isinstance(frozen, PipelineModel)
        member = frozen.members[0]
        assert isinstance(member, NnMember)
        held = _listed(member.geometry.box)
        return {} if found.notes["crop_box"] == held else {"crop_box_moved": True}

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the range of every channel; voxels that are 0 are outside for nnU-Net, and stay so."""
        geometry = geometry_of(volume, self.results.plan)
        box = geometry.cut(torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))).numpy()
        pairs = [legal_range(*pair) for pair in intensities.ranges(box, self.results.plan.schemes)]
        return [IntensityRange(low, high, keeps_zero=True) for low, high in pairs]

    def stored(self) -> tuple[Stored, ...]:
        """Return nnU-Net's own masks of the cases that each fold was validated on, with that fold alone; see HasStored.

        nnU-Net makes them with mirrored copies, and without post-processing.
        """
        known = {each.fold: each for each in self.cases}
        return tuple(
            Stored(
                f"fold_{fold}",
                replace(self, results=self._fold(n), after=LargestComponents(), title=f"{self.title}-fold_{fold}"),
                {id: path for id, path in known[fold].masks.items() if path is not None},
            )
            for n, fold in enumerate(self.results.folds)
            if fold in known
        )

    def training(self) -> Foreign:
        """Return the cases that all folds in use held out, and the others that the folder names; see KnowsItsCases."""
        return training_of(self.name, self.labels, self.cases, self.results.folds)

    def _fold(self, n: int) -> NnResults:
        one, results = slice(n, n + 1), self.results
        return replace(results, networks=results.networks[one], files=results.files[one], mirrors=self.trained_mirrors)

    def network(self) -> TrainedModel:
        """Refuse: the network's window alone is not what is deployed.

        Raises:
            UserError: Always.
        """
        raise UserError("an nnU-Net is attacked as a whole: mode 'patch' needs a run of voxward")


def open_nnunet(entry: NnUNetEntry, opening: Opening) -> NnUNetSystem:
    """Open a results folder with the settings of an entry.

    Raises:
        FileNotFoundError: There is no such folder, or a file in it is missing.
        UserError: The folder cannot be reproduced or read safely, or a setting of runs is given that it does not have.
    """
    with unpacked(opening.path(entry.results)) as folder:
        results = read_results(folder, entry.folds, entry.checkpoint, opening.device)
        after = read_after(folder, results.plan.labels) if entry.postprocessing else LargestComponents()
        cases = cases_of_folds(folder)
    mirrors = results.mirrors if entry.tta == "mirrors" else ()
    deployed, title = replace(results, mirrors=mirrors), entry.name or _title(results)
    return NnUNetSystem(deployed, opening.device, after, title, entry.graphs, results.mirrors, cases)


def _title(results: NnResults) -> str:
    return f"{results.plan.dataset}-{results.plan.configuration}"


def nnunet_alone(path: Path) -> dict[str, Any] | None:
    """Return the entries of a results folder, or of a zip file that holds one.

    Raises:
        UserError: The folder is that of a dataset, which holds results folders.
    """
    if path.is_file():
        return {"results": path.name} if path.suffix == ".zip" else None
    if is_results(path):
        return {"results": "."}
    inner = sorted(folder.name for folder in path.iterdir() if is_results(folder))
    if inner:
        raise UserError(f"{path} is a dataset's folder of nnU-Net; give a results folder in it: {', '.join(inner)}")
    return None


def nnunet_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a results folder.

    Raises:
        UserError: It is not one folder.
    """
    if len(systems) != 1:
        raise UserError(f"an nnunet is one results folder, got {len(systems)}")
    return {"results": systems[0]}


def _refuse_part(whole: Volume | None) -> None:
    if whole is not None:
        raise UserError("an nnU-Net cannot be a stage of a cascade of voxward")


def _listed(box: Sequence[slice]) -> list[list[int]]:
    return [[part.start, part.stop] for part in box]
