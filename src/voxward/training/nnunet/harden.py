"""A network of an nnU-Net results folder, trained on with a defence, into a results folder that nnU-Net loads.

OUT/plans.json, dataset.json            as they were
OUT/fold_N/checkpoint_final.pth         the hardened network, with the names and entries of nnU-Net's own checkpoint
OUT/fold_N/hardening.json               how it was hardened, and which cases are still unseen
OUT/fold_N/hardening/                   the training: recipe, prepared cases, log, state; nnU-Net does not need it
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import voxward
from voxward.core.alone import alone
from voxward.core.case import Dataset
from voxward.core.choices import FoldNumber
from voxward.core.devices import resolve_device
from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.launcher import refuse_launcher
from voxward.core.names import composed
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import Recipe, dump_recipe
from voxward.core.structure import to_data
from voxward.data.splits import selection_split
from voxward.pipeline.precision import resolve_precision
from voxward.runs.cases import listed
from voxward.runs.folder import RunFolder, RunSplit, load_weights
from voxward.systems.digest import weights_digest
from voxward.systems.nnunet.archive import unpacked
from voxward.systems.nnunet.heldout import HARDENING, Hardening, held_out
from voxward.systems.nnunet.plans import batch_size_of
from voxward.systems.nnunet.results import CHECKPOINT, NnResults
from voxward.systems.nnunet.weights import read_content
from voxward.systems.nnunet.written import with_weights, write_checkpoint
from voxward.training.begin import Request
from voxward.training.budget import check_minutes
from voxward.training.fabric import start_fabric
from voxward.training.loop import fit
from voxward.training.nnunet.cases import fitting, prepare_cases, training_plan
from voxward.training.nnunet.network import PatchNetwork, read_fold, trainable
from voxward.training.nnunet.recipe import hardening_recipe, resumed_recipe
from voxward.training.setup import TrainingCases, TrainingRun, set_up

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_KIND, _TRAINING = "a hardened nnU-Net", "part of a training"


@dataclass(frozen=True)
class NnSource:
    """The network of an nnU-Net that is hardened.

    Attributes:
        path: The results folder, or its zip file.
        fold: The fold; None takes the only one that is there.
        checkpoint: The name of the checkpoint file in the fold.
    """

    path: Path
    fold: FoldNumber | None = None
    checkpoint: str = CHECKPOINT


@dataclass(frozen=True)
class NnSettings:
    """What the hardening of an nnU-Net was started with: the content of its run.json.

    Attributes:
        source: The results folder, or its zip file.
        weights: The SHA-256 of the weights that it began with.
        dataset: The absolute path of the dataset's folder.
        seed: The seed of every random number.
        minutes: The time budget; None for the recipe's number of epochs.
        version: The version of voxward.
    """

    source: str
    weights: str
    dataset: str
    seed: int
    minutes: float | None
    version: str


@dataclass(frozen=True, eq=False)
class _Work:
    """What one call works on.

    Attributes:
        source: What was given.
        asked: The request.
        results: The results folder, with the one fold that is hardened.
        dataset: The dataset as the network takes it.
        weights: The SHA-256 of the weights to begin with.
    """

    source: NnSource
    asked: Request
    results: NnResults
    dataset: Dataset
    weights: str

    @property
    def out(self) -> Path:
        """Return the results folder that is written."""
        return self.asked.out.root

    @property
    def fold(self) -> Path:
        """Return the folder of the hardened fold."""
        return self.out / f"fold_{self.results.folds[0]}"

    @property
    def folder(self) -> RunFolder:
        """Return the folder of the training."""
        return RunFolder(self.fold / "hardening")

    @property
    def prepared(self) -> Path:
        """Return the folder of the prepared cases."""
        return self.folder.root / "prepared"

    @property
    def description(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents of the files that describe the network, which are copied."""
        for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
            if (path := self.results.folder / name).is_file():
                yield name, path.read_bytes()


def harden_nnunet(
    source: NnSource,
    asked: Request,
    method: str,
    eps: float | None,
    trained: Callable[[RunFolder], object] = lambda folder: None,
    progress: Progress = silent,
) -> Path:
    """Train a network of an nnU-Net further on adversarial patches, into a results folder that nnU-Net loads.

    Args:
        source: The network.
        asked: The request: the dataset, the results folder that is written, the overrides, the time budget, the seed.
            The recipe and the fold in it do not matter.
        method: The name of the defence, which does not matter for a training that is resumed.
        eps: The radius of the defence, see `training.harden.begun_with`, which does not matter either.
        trained: A function that is called with the folder of the training after its last step.
        progress: A function that is told about every step.

    Returns:
        The results folder that was written.

    Raises:
        UserError: The folder, the dataset or the request does not fit; then no network was written.
        FileNotFoundError: The folder lacks a fold or a file, or there is nothing to resume.
        Interrupted: A signal stopped the training, which can be resumed.
        FloatingPointError: The loss is not finite.
    """
    with unpacked(source.path) as folder:
        work = _checked(source, asked, read_fold(folder, source.fold, source.checkpoint))
        recipe = _recipe(work, method, eps)
        begun = _begun(work, recipe)
        fabric = start_fabric(recipe, asked.compute)
        with alone(work.folder.root, "hardening"):
            _prepare(work, recipe, begun, progress)
            run = _set_up(work, recipe, begun, fabric)
            fit(run, begun[0].minutes, progress)
            trained(work.folder)
            _write(work, run, begun)
    return work.out


def _checked(source: NnSource, asked: Request, results: NnResults) -> _Work:
    """Refuse a request that does not fit, before anything is written."""
    check_minutes(asked.minutes)
    if asked.compute.processes != 1:
        raise UserError(f"an nnU-Net is hardened by one process, got devices {asked.compute.processes}")
    refuse_launcher(1)
    out = asked.out.root
    for other, name in ((source.path, "the network's own folder"), (asked.dataset.root, "the dataset's own folder")):
        if out.resolve() == other.resolve():
            raise UserError(f"{out} is {name}; choose another --out")
    work = _Work(source, asked, results, fitting(asked.dataset, results.plan), weights_digest(results.networks))
    for name, content in work.description:
        if (path := out / name).is_file() and path.read_bytes() != content:
            raise UserError(f"{path} describes another network than that of {source.path}: choose another --out")
    Outputs(work.fold, _KIND).check([CHECKPOINT, HARDENING])
    return work


def _recipe(work: _Work, method: str, eps: float | None) -> Recipe:
    asked, folder = work.asked, work.folder
    if not asked.resume:
        if folder.recipe.exists():
            raise UserError(f"{folder.root} already holds a training: pass --resume to continue it, or another --out")
        recipe = hardening_recipe(work.results, method, eps, asked.overrides)
        resolve_precision(recipe.training.precision, resolve_device(asked.compute.device))
        return recipe
    if not folder.recipe.exists():
        raise FileNotFoundError(f"{folder.root} holds no training to resume: start it without --resume")
    if (left := folder.trained) and not folder.state.is_file():
        raise UserError(f"{folder.root} holds {listed([path.name for path in left])}, but not its {folder.state.name}")
    if load_json(NnSettings, folder.settings).weights != work.weights:
        raise UserError(
            f"{folder.root} did not begin with the weights of {work.source.path}: give the network that it began with"
        )
    return resumed_recipe(folder.recipe, asked.overrides)


def _begun(work: _Work, recipe: Recipe) -> tuple[NnSettings, RunSplit]:
    """Decide what a training begins with, or read what it began with."""
    asked, folder = work.asked, work.folder
    if asked.resume:
        return load_json(NnSettings, folder.settings), load_json(RunSplit, folder.splits)
    settings = NnSettings(
        source=str(work.source.path.resolve()), weights=work.weights, dataset=str(asked.dataset.root.resolve()),
        seed=asked.fold.seed, minutes=asked.minutes, version=voxward.__version__,
    )  # fmt: skip
    return settings, split_of_fold(
        work.dataset, work.results.files[0].parent, recipe.training.selection, asked.fold.seed
    )


def _prepare(work: _Work, recipe: Recipe, begun: tuple[NnSettings, RunSplit], progress: Progress) -> None:
    """Prepare the cases; what was decided is written once all of them are prepared."""
    asked, folder, (settings, split) = work.asked, work.folder, begun
    if not asked.resume and folder.recipe.exists():  # another process may have begun here meanwhile
        raise UserError(f"{folder.root} already holds a training: choose another --out")
    prepare_cases(
        work.dataset, (*split.fit, *split.selection), work.results.plan, work.prepared, asked.compute.workers,
        counter(progress, "prepare"), begun=asked.resume,
    )  # fmt: skip
    if not asked.resume:
        outputs = Outputs(folder.root, _TRAINING)
        outputs.json(folder.splits.name, with_checksum(to_data(split)))
        outputs.json(folder.settings.name, with_checksum(to_data(settings)))
        # Last: a folder with a recipe holds a training.
        outputs.text(folder.recipe.name, dump_recipe(recipe, checksum=True))


def split_of_fold(dataset: Dataset, fold: Path, selection: float, seed: int) -> RunSplit:
    """Return which cases a hardening learns from: none that the network has not seen, so that these stay unseen.

    Args:
        dataset: The dataset.
        fold: The folder of the fold, which names its validation cases.
        selection: The share of the others that chooses the best weights.
        seed: The seed of that choice.

    Raises:
        UserError: Every labelled case is one of the validation cases.
    """
    held, ids = held_out(fold), [case.id for case in dataset.cases]
    unseen = set(map(composed, held or ()))
    train = [id for id in ids if composed(id) not in unseen]
    if not train:
        raise UserError(f"{dataset.root} holds no labelled case but the validation cases of {fold}, which stay unseen")
    if held is None:
        warnings.warn(
            f"{fold} does not say which cases its network has not seen (it has no predictions in validation): all "
            f"{len(ids)} labelled cases of {dataset.root} are trained on, and none is left to evaluate on",
            stacklevel=3,
        )
    if absent := sorted(unseen - set(map(composed, ids))):
        warnings.warn(
            f"{len(absent)} of {len(unseen)} validation cases of {fold} are not in {dataset.root} "
            f"({listed(absent)}): under another name they would be trained on",
            stacklevel=3,
        )
    fit_on, choosing = selection_split(train, selection, seed)
    return RunSplit(fit_on, choosing, tuple(sorted(held or ())))


def _set_up(work: _Work, recipe: Recipe, begun: tuple[NnSettings, RunSplit], fabric: Fabric) -> TrainingRun:
    (settings, split), plan = begun, work.results.plan
    run = set_up(
        work.folder,
        recipe,
        training_plan(plan, batch_size_of(work.results.folder, plan.configuration)),
        TrainingCases(work.prepared, split.fit, split.selection),
        settings.seed,
        fabric,
        network=trainable(work.results),
    )
    return replace(run, judges_start=True)


def _write(work: _Work, run: TrainingRun, begun: tuple[NnSettings, RunSplit]) -> None:
    """Write the best weights of the training as nnU-Net's own checkpoint, last of all files."""
    results, (settings, split) = work.results, begun
    trained = PatchNetwork(results.networks[0], results.plan)
    load_weights(trained, work.folder.weights("best"))
    content = with_weights(read_content(results.files[0]), trained.network)
    defence = run.recipe.defence
    assert defence is not None
    record = Hardening(
        method=defence.method,
        eps=None if defence.unused(["eps"]) else defence.eps,
        sigma=None if defence.unused(["sigma"]) else defence.sigma,
        seed=settings.seed,
        minutes=settings.minutes,
        steps=run.state.step,
        seconds=round(run.state.seconds, 1),
        source=settings.source,
        source_weights=settings.weights,
        checkpoint=results.files[0].name,
        fold=results.folds[0],
        dataset=settings.dataset,
        version=settings.version,
        trained=split.fit,
        selection=split.selection,
        unseen=split.validation,
    )
    root, fold = Outputs(work.out, _KIND), Outputs(work.fold, _KIND)
    for name, described in work.description:
        if not (work.out / name).is_file():
            with root.write(name) as path:
                path.write_bytes(described)
    fold.json(HARDENING, with_checksum(to_data(record)))
    with fold.write(CHECKPOINT) as path:
        write_checkpoint(path, content)
