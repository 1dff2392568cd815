"""Groups of choices that several commands take: where they compute, on which part of the data, and what they reuse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from voxward.core.errors import UserError
from voxward.core.progress import Progress, silent
from voxward.core.wording import eps_number

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
"""Where a command may compute: `auto` is a CUDA device if there is one, else the CPU; `mps` is a GPU of Apple, and
`xpu` one of Intel."""
SCORED_SPLITS = ("validation", "test", "all")
"""The parts of a dataset that can be scored or attacked."""
Nan = Literal["refuse", "zero"]
"""What is done about NaN in an image: it is refused, or read as 0."""
Embed = Literal["auto", "all", "none"]
"""Which volumes are inside the page of a report: those that fit into it, all, or none."""
FoldNumber = int | Literal["all"]
"""The number of a fold, from 0; or `all`: every case is trained on, and none is held out."""

AFFINE_TOLERANCE = 0.05
"""How far the corners of two files of one case may lie apart, in the smallest voxel edge, unless the user says more."""


def refuse_tolerance(tolerance: float) -> None:
    """Refuse a tolerance of places that is no number of voxels.

    Raises:
        UserError: It is negative, infinite or NaN.
    """
    if not 0 <= tolerance < math.inf:
        raise UserError(f"affine_tolerance must be a number of voxels from 0, got {tolerance}")


@dataclass(frozen=True)
class Cluster:
    """The cluster on which a command does its units of work, and what each unit needs there.

    Args:
        address: `local:N` starts N processes on this machine; `tcp://HOST:PORT` is a Dask scheduler that runs; a path
            is the file that such a scheduler wrote (`--scheduler-file`). Only give the address of a scheduler that you
            trust like a shell: Dask runs what it is sent.
        resources: What a worker must offer to be given a unit, such as {"GPU": 1, "MEMORY": 16e9}. A worker says what
            it offers when it is started. The workers of `local:N` offer whatever is asked for.
        attempts: How many workers a unit may be lost with before it counts as failed.

    Raises:
        UserError: A resource or the number of attempts is not positive.

    Example:
        >>> Cluster("scheduler.json", {"GPU": 1}).resources
        {'GPU': 1}
    """

    address: str
    resources: Mapping[str, int | float] = field(default_factory=dict)
    attempts: int = 3

    def __post_init__(self) -> None:
        for name, amount in self.resources.items():
            if not (name and 0 < amount < math.inf):
                raise UserError(f"resources must be positive numbers by name, got {name}={amount}")
        if self.attempts < 1:
            raise UserError(f"attempts must be at least 1, got {self.attempts}")

    @classmethod
    def of(cls, cluster: str | Path | Cluster | None) -> Cluster | None:
        """Return what was given as `cluster`, which may be the address alone; None for this process."""
        return cluster if cluster is None or isinstance(cluster, Cluster) else cls(str(cluster))


@dataclass(frozen=True)
class Compute:
    """Where a command computes, and with how many processes.

    Args:
        device: `auto` (a CUDA device if there is one, else the CPU), `cpu`, `cuda`, `mps` (a GPU of Apple) or `xpu`
            (one of Intel).
        devices: The number of processes on each node that train one network together, at least 1.
        workers: The number of cases that are read and prepared at once, at least 1.
        cluster: The cluster whose workers do the units of `cv` (the runs), of `search` (the candidates) and of `suite`
            (the trainings and attacks), or its address, such as `local:4`; None: this process does them. One training
            does not run on such a cluster.
        nodes: The number of nodes that train one network together. With more than one, torchrun or SLURM's srun starts
            the same command on each.

    Example:
        >>> Compute(device="cuda", workers=8)
        Compute(device='cuda', devices=1, workers=8, cluster=None, nodes=1)
    """

    device: str = "auto"
    devices: int = 1
    workers: int = 2
    cluster: Cluster | str | None = None
    nodes: int = 1

    @property
    def processes(self) -> int:
        """The number of processes that train one network together, on all nodes."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class Fold:
    """The part of a dataset that a command learns from, and the seed of everything that is drawn at random.

    Args:
        fold: The fold that is held out, counted from 0. `all` holds none out: every labelled case is trained on, and
            no case of this dataset but those of its test set is left for `evaluate`.
        folds: The number of folds that a dataset without splits of its own is divided into.
        seed: The seed of the split, of the initial weights and of all that is drawn while training.
        exclude: A CSV file whose cases are left out of the training; `voxward suspects` writes a first version of it.
        follow_links: Whether files of the dataset may lie outside of its folder, see `Reading`.

    Example:
        >>> Fold(fold=1, seed=3)
        Fold(fold=1, folds=5, seed=3, exclude=None, follow_links=False)
    """

    fold: FoldNumber = 0
    folds: int = 5
    seed: int = 0
    exclude: Path | str | None = None
    follow_links: bool = False


@dataclass(frozen=True)
class Reuse:
    """Results of earlier work that a command uses instead of computing them itself.

    Args:
        plan: A `plan.json`, which may have been edited, in place of the planner's decisions.
        prepared: The folder of the prepared cases, which several runs may share. The default is a folder inside the
            run.
        start: The folder of a run. The new run begins with the weights that the old one deploys. On the dataset of
            the old run it has its plan and its split. On another dataset it has its geometry, channels and
            normalisation, a split of its own, and new last layers where the classes are others.

    Example:
        >>> Reuse(prepared="prepared/liver")
        Reuse(plan=None, prepared='prepared/liver', start=None)
    """

    plan: Path | str | None = None
    prepared: Path | str | None = None
    start: Path | str | None = None


@dataclass(frozen=True)
class DicomSeries:
    """Which series of a case are read.

    Args:
        series: For each channel `NAME=TEXT`, or the text alone: the one image series whose description holds the text,
            in capital or small letters, or whose SeriesInstanceUID it is. Empty: there must be one image series, which
            is called after its modality.
        truth: The text for the series that holds the ground truth, a segmentation (SEG) or contours (RTSTRUCT). Empty:
            the only one, where there is one.

    Raises:
        UserError: A channel has no text, or a name is given twice.
    """

    series: Sequence[str] = ()
    truth: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", tuple(self.series))
        names = [name for name, _ in self.channels]
        if len(set(names)) < len(names) or not all(text.strip() for _, text in self.channels):
            raise UserError(f"series must be NAME=TEXT, each name once, got {', '.join(self.series)}")

    @property
    def channels(self) -> tuple[tuple[str, str], ...]:
        """The name of each channel, and the text by which its series is found."""
        parts = (one.partition("=") for one in self.series)
        return tuple((name, text if between else name) for name, between, text in parts)


@dataclass(frozen=True)
class Output:
    """The folder that a command writes into, what may be replaced there, and who is told how far the work is.

    Args:
        folder: The folder; it need not exist. None takes the command's own default, where it has one.
        overwrite: True replaces files that voxward did not write, or that were edited since. The default refuses to.
        progress: A function that is told about every step of the work, such as `voxward.ShowProgress()`.
        report: Whether a command that measures also writes its report, as one page for a browser, into the folder.

    Example:
        >>> Output("found", overwrite=True).folder
        'found'
    """

    folder: Path | str | None = None
    overwrite: bool = False
    progress: Progress = silent
    report: bool = True

    @classmethod
    def of(cls, out: Path | str | Output | None) -> Output:
        """Return what was given as `out`, which may be a folder alone."""
        return out if isinstance(out, Output) else cls(out)

    @property
    def root(self) -> Path:
        """The folder.

        Raises:
            UserError: No folder is given.
        """
        if self.folder is None:
            raise UserError("out must be given: the folder to write into")
        return Path(self.folder)


@dataclass(frozen=True)
class Look:
    """What a user may choose about the page of a report.

    Args:
        title: The heading of the page; empty: one that follows from the folders.
        embed: Which volumes are inside the page: `auto` those that fit, `all`, or `none`. The others lie beside it.
        data: The folder of the dataset, where it was moved since.
        follow_links: Whether files of `data` may lie outside of that folder, see `Reading`.
        eps: The size at which the courses of the attacks are drawn, and shown first, such as `8/255` or `20` HU; None:
            the largest one.

    Raises:
        UserError: `embed` is none of these, or `eps` is no size.

    Example:
        >>> Look(title="Hippocampus, two models").embed
        'auto'
    """

    title: str = ""
    embed: Embed = "auto"
    data: Path | str | None = None
    follow_links: bool = False
    eps: str | float | None = None

    def __post_init__(self) -> None:
        if self.embed not in get_args(Embed):
            raise UserError(f"embed must be one of {', '.join(get_args(Embed))}, got {self.embed!r}")
        if self.eps is not None:
            object.__setattr__(self, "eps", eps_number(self.eps))


@dataclass(frozen=True)
class Change:
    """The settings that a hardened run does not take over from the run that it begins with.

    Args:
        dataset: The folder in which the dataset of the run lies now, or None if it was not moved. A results folder of
            nnU-Net does not say where its dataset lies.
        seed: The seed of all that is drawn while training.
        fold: The fold of a results folder of nnU-Net whose network is hardened; None takes the only one that is there.
        follow_links: Whether files of the dataset may lie outside of its folder, see `Reading`.

    Example:
        >>> Change(seed=3)
        Change(dataset=None, seed=3, fold=None, follow_links=False)
    """

    dataset: Path | str | None = None
    seed: int = 0
    fold: FoldNumber | None = None
    follow_links: bool = False


@dataclass(frozen=True)
class Cases:
    """The cases of a dataset that are scored or attacked.

    Args:
        dataset: The folder of the dataset; None for the one that the first run was trained on.
        split: `validation` for the validation cases of the run's own dataset, and for all labelled cases of another one
            but its test cases; `test` for the labelled test cases; `all` for all labelled cases.
        include_seen: True scores the cases that a run was trained on as well, and says which ones they are. The default
            leaves them out.
        ids: The ids of the cases that may be among them, in the order in which the first ones are taken; empty: any.

    Raises:
        UserError: `split` is none of these.

    Example:
        >>> Cases("Task04_Hippocampus", split="test").split
        'test'
    """

    dataset: Path | str | None = None
    split: str = "validation"
    include_seen: bool = False
    ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.split not in SCORED_SPLITS:
            raise UserError(f"split must be one of {', '.join(SCORED_SPLITS)}, got {self.split!r}")
        object.__setattr__(self, "ids", tuple(self.ids))


@dataclass(frozen=True)
class Trusted:
    """A system that may consist of programs: TorchScript, or a Python function. They run when it is opened.

    Only the user can say so; nothing in a file can.

    Args:
        system: The run folder, `system.yaml`, or other path.
        trust: Whether its programs may run.

    Example:
        >>> voxward.predict(voxward.Trusted("my-network.yaml"), ["case.nii.gz"], out="found")
    """

    system: Path | str
    trust: bool = True


@dataclass(frozen=True)
class Reading:
    """What the user says about the volumes that a command reads.

    Args:
        channels: The names of the channels in the files, in their order; by default those that the dataset declares.
        nan: `zero` reads NaN in an image as 0, as some programs write it outside the field of view; `refuse` makes it
            an error. None does what the system was trained to do, and refuses where there is no system.
        fail_fast: True stops at the first case that fails, with its own error. The default goes on with the other
            cases and raises `voxward.CasesFailed` at the end.
        affine_tolerance: How far the corners of two files of one case may lie apart, in the smallest voxel edge. None
            is what the system was trained with, and 0.05 where there is no system.
        follow_links: True reads files that lie outside of the folder that was given: through a symbolic link, or
            because dataset.json names them. The default refuses, so that a folder from a stranger cannot have other
            files of this machine read.

    Raises:
        UserError: `nan` is none of these, or the tolerance is no number of voxels.

    Example:
        >>> Reading(channels=("T1w", "FLAIR")).channels
        ('T1w', 'FLAIR')
    """

    channels: tuple[str, ...] = ()
    nan: Nan | None = None
    fail_fast: bool = False
    affine_tolerance: float | None = None
    follow_links: bool = False

    def __post_init__(self) -> None:
        if self.affine_tolerance is not None:
            refuse_tolerance(self.affine_tolerance)
        if self.nan not in ("refuse", "zero", None):
            raise UserError(f"nan must be refuse or zero, got {self.nan!r}")

    def refuse_channels(self) -> None:
        """Refuse names of channels, for commands in which the dataset itself says what its channels are.

        Raises:
            UserError: There are such names.
        """
        if self.channels:
            raise UserError(f"channels cannot be named here: the dataset declares its own, got {self.channels}")
