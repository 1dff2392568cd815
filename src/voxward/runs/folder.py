"""A run's folder: the files in it and its weights. Training writes it, and inference reads it."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import nn

from voxward.core.archive import refuse_damaged
from voxward.core.choices import FoldNumber
from voxward.core.errors import UserError
from voxward.core.files import atomic_write
from voxward.core.plan import Plan, load_json, load_plan
from voxward.core.recipe import Choice, Inference, load_run_recipe
from voxward.nets.counted import refuse_larger
from voxward.nets.registry import network_for_plan
from voxward.runs.postprocess import PostProcess

Checkpoint = Literal["auto", "best", "last", "swa"]

# The entry of a checkpoint's metadata that tells weights with a changed bit from whole ones.
_CHECKSUM = "checksum"
# Where torch.save puts everything but the numbers of the tensors, in a folder named like the file.
_PICKLE = "/data.pkl"
# What the readers of archives, of pickles and of tensors make of a damaged file.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, AssertionError, OverflowError, struct.error,
)  # fmt: skip
_MEND = "Restore it from a copy, take another checkpoint of the run (--set checkpoint=last), or train the run again"


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files.

    Attributes:
        root: The run's folder.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """Return the path of the recipe, as YAML."""
        return self.root / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """Return the path of the plan, as JSON."""
        return self.root / "plan.json"

    @property
    def settings(self) -> Path:
        """Return the path of the settings (where the data lie and how long the run is), as JSON."""
        return self.root / "run.json"

    @property
    def splits(self) -> Path:
        """Return the path of the split (which cases train, select and validate), as JSON."""
        return self.root / "splits.json"

    @property
    def cases(self) -> Path:
        """Return the path of what the cases' images are recognised by, as JSON; version 0.2 wrote none."""
        return self.root / "cases.json"

    @property
    def state(self) -> Path:
        """Return the path of everything that a resumed run needs; it is loaded with weights_only."""
        return self.root / "checkpoints" / "state.pt"

    @property
    def log(self) -> Path:
        """Return the path of the training log, which has one row per validation."""
        return self.root / "logs" / "training.csv"

    @property
    def kept(self) -> Path:
        """Return the path of what is known of the best weights, as JSON; version 0.2 wrote none."""
        return self.root / "logs" / "kept.json"

    @property
    def ledger(self) -> Path:
        """Return the path of the loss of every case in every epoch."""
        return self.root / "logs" / "ledger.csv"

    @property
    def postprocess(self) -> Path:
        """Return the path of the post-processing that helped on the selection cases, as JSON."""
        return self.root / "postprocess.json"

    @property
    def predictions(self) -> Path:
        """Return the folder that predictions go to by default."""
        return self.root / "predictions"

    @property
    def search_log(self) -> Path:
        """Return the path of the log of an architecture search, which has one row per epoch."""
        return self.root / "logs" / "search.csv"

    @property
    def trained(self) -> tuple[Path, ...]:
        """Return the files that show that a training or search has begun: weights, and logs with at least one row."""
        found = [path for name in ("best", "last", "swa") if (path := self._checkpoint(name)).is_file()]
        logs = (self.log, self.search_log)
        return (*found, *(log for log in logs if log.is_file() and log.read_bytes().count(b"\n") > 1))

    def _checkpoint(self, name: str) -> Path:
        return self.root / "checkpoints" / f"{name}.safetensors"

    def weights(self, checkpoint: Checkpoint) -> Path:
        """Return the path of a checkpoint's weights, as safetensors.

        Args:
            checkpoint: `best` or `last` for the best or the last step, `swa` for the mean of the snapshots (of recipes
                that average), `auto` for what the recipe deploys.
        """
        if checkpoint == "auto":
            checkpoint = load_run_recipe(self.recipe).inference.checkpoint if self.recipe.is_file() else "best"
        return self._checkpoint(checkpoint)


@dataclass(frozen=True)
class RunSettings:
    """What a run was started with, besides its recipe and plan.

    Attributes:
        dataset: The absolute path of the dataset's folder.
        fold: The number of the fold, from 0; `all` where all cases are trained on.
        seed: The seed of every random number.
        minutes: The time budget; None for the recipe's number of epochs.
        version: The version of voxward.
        start: The run whose deployed weights this one began with; None for random ones.
        start_weights: The SHA-256 of the file of those weights; empty in runs that do not say it.
        folds: The number of folds, if the dataset has no list of its own.
        new_layers: The names of the network's tensors that did not begin with the weights of `start`, because they
            belong to classes that it does not know.
        patches: The number of patches in a step, over all processes; None in runs that do not say it.
        lengths: Of a run that follows another one with a time budget, each correction of its length: the step at which
            it comes, how many steps are left from there, and the number of steps between two validations.
        judged: Of such a run, how many batches of patches its validations are of; None: all.
    """

    dataset: str
    fold: FoldNumber
    seed: int
    minutes: float | None
    version: str
    start: str | None = None
    folds: int = 5
    new_layers: tuple[str, ...] = ()
    patches: int | None = None
    lengths: tuple[tuple[int, int, int], ...] = ()
    start_weights: str = ""
    judged: int | None = None


@dataclass(frozen=True)
class RunSplit:
    """The cases of a run, by what they are used for.

    Attributes:
        fit: Ids of the cases that the network is trained on.
        selection: Ids of the cases that select the best checkpoint.
        validation: Ids of the cases of the fold, which only `evaluate` reads.
    """

    fit: tuple[str, ...]
    selection: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A run read back: all that predicting with it needs.

    Attributes:
        plan: How volumes are prepared.
        inference: The part of the recipe that says how windows are placed, blended and averaged.
        network: The network with its weights, in evaluation mode.
        postprocess: What is done to the class map.
        architecture: The name and the options of the network: two that differ in an option may have the same weights.
    """

    plan: Plan
    inference: Inference
    network: nn.Module
    postprocess: PostProcess
    architecture: Choice | None = None


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers atomically, as safetensors with a checksum in the metadata.

    Args:
        network: The network, as it is or wrapped by Fabric.
        path: The file, which is replaced if it exists.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in _own_tensors(network).items()}
    # safetensors' own `save_file` makes a file that only its owner can read, and hides that the disk is full.
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(serialized(tensors, {_CHECKSUM: _checksum(tensors)}))


def load_weights(network: nn.Module, path: Path, leaving_out: Collection[str] = ()) -> None:
    """Read parameters and buffers from safetensors into a network.

    Args:
        network: The network, which is changed.
        path: The file.
        leaving_out: The names of parameters and buffers that keep their values.

    Raises:
        UserError: The file is damaged, or names or shapes do not match.
    """
    tensors, own = _tensors(path), _own_tensors(network)
    wrong = sorted(
        name for name in tensors.keys() | own.keys()
        if name not in leaving_out
        and (name not in tensors or name not in own or tensors[name].shape != own[name].shape)
    )  # fmt: skip
    if wrong:
        raise UserError(f"{path} does not fit the network: names or shapes differ, e.g. {', '.join(wrong[:3])}")
    with torch.no_grad():
        for name, value in tensors.items():
            if name not in leaving_out:
                own[name].copy_(value)


def checkpoint_of(run: RunFolder, network: nn.Module) -> Path | None:
    """Return the file of a run whose weights a network has; None where no file has them.

    Args:
        run: The run.
        network: The network, with the weights as they were read.
    """
    tensors = {name: value.detach().cpu() for name, value in _own_tensors(network).items()}
    for path in map(run._checkpoint, ("best", "last", "swa")):
        with suppress(UserError, FileNotFoundError):
            if _checksum(_tensors(path)) == _checksum(tensors):
                return path
    return None


def read_state(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read what a resumed run needs: tensors, numbers and texts, never code.

    The checksums that torch.save writes are compared, which torch.load does not do.

    Args:
        path: The file.
        mapped: Whether tensors are read only when they are used; their checksums are then not compared.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, or holds something else.
    """
    try:
        refuse_damaged(path, only=_PICKLE if mapped else "")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except _DAMAGED as error:
        raise unusable_state(path, error) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the state of a run, got {type(content).__name__}")
    return content


def unusable_state(path: Path, error: Exception) -> UserError:
    """Return what is said of a state that cannot be read, or that does not fit the run.

    Args:
        path: The file.
        error: What reading it raised.
    """
    return UserError(
        f"{path} is damaged, or no state of this run: {_first_line(error)}. Without it the run cannot go on, but its "
        "weights can be used as they are. Restore the file from a copy, or begin again with another --out"
    )


def unfinished(run: RunFolder) -> str | None:
    """Return how far a run is whose training has not ended, such as `step 12 of 180`; None for any other one.

    Args:
        run: The run. Without a state, which may have been deleted to save space, it counts as finished.
    """
    if not run.state.is_file() or run.postprocess.is_file():
        return None
    try:
        found = read_state(run.state, mapped=True).get("state")
    except UserError:
        return "its state is damaged"
    if not isinstance(found, dict) or "step" not in found or found["step"] == found.get("total_steps"):
        return None
    return f"step {found['step']} of {found.get('total_steps') or 'a time budget'}"


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights {path}")
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = file.keys(), file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is damaged, or no safetensors file: {_first_line(error)}. {_MEND}") from error
    # Version 0.2 and earlier ones wrote none, nor do other programs.
    if _CHECKSUM in metadata and metadata[_CHECKSUM] != _checksum(tensors):
        raise UserError(f"{path} is damaged: its weights do not have the checksum that stands in it. {_MEND}")
    return tensors


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, number types, shapes and bytes of tensors in host memory."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _own_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, each once (MONAI's DynUNet registers its blocks under two names)."""
    inner = getattr(network, "module", network)  # Fabric's wrapper would put a prefix before each name
    return dict(inner.named_parameters()) | dict(inner.named_buffers())


def load_run(root: Path | str, checkpoint: Checkpoint = "auto", device: torch.device | None = None) -> TrainedModel:
    """Read a run from its folder.

    Args:
        root: The run's folder.
        checkpoint: Which weights (see `RunFolder.weights`).
        device: Where the network goes; None for the CPU.

    Returns:
        The run's plan, recipe, network and post-processing.

    Raises:
        FileNotFoundError: The folder is not that of a trained run; the message names what is missing.
        UserError: A file of the run cannot be read, or the weights do not fit the network.

    Warns:
        UserWarning: The training of the run has not ended.

    Example:
        >>> run = voxward.load_run("runs/liver")
        >>> run.plan.spacing
        >>> run.network(images)
    """
    run = RunFolder(Path(root))
    weights = run.weights(checkpoint)
    missing = [str(path) for path in (run.recipe, run.plan, weights) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{root} is not a trained run: it has no {', '.join(missing)}")
    plan, recipe = load_plan(run.plan), load_run_recipe(run.recipe)
    network = _network(run, recipe.network, plan, weights)
    load_weights(network, weights)
    if (progress := unfinished(run)) is not None:
        warnings.warn(
            f"{root} is an unfinished run ({progress}): its weights are those of an early step, and no post-processing "
            "was chosen; finish it with `voxward train --resume`",
            stacklevel=2,
        )
    postprocess = load_json(PostProcess, run.postprocess) if run.postprocess.is_file() else PostProcess()
    on = device or torch.device("cpu")
    return TrainedModel(plan, recipe.inference, network.to(on).eval(), postprocess, recipe.network)


def _network(run: RunFolder, chosen: Choice, plan: Plan, weights: Path) -> nn.Module:
    """Build the network of a run, which is no larger than its weights are."""
    build = partial(network_for_plan, chosen.name, plan, chosen.options)
    try:
        refuse_larger(build, weights, (chosen.name, plan, repr(chosen.options)))
        return build()
    except (UserError, RuntimeError) as error:  # torch refuses sizes that no memory can have
        raise UserError(f"{run.recipe}: the network cannot be built: {_first_line(error)}") from error
