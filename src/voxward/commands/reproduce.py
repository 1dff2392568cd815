"""voxward reproduce: do again what a folder holds, and compare."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import voxward
from voxward.core.case import Case
from voxward.core.choices import Cases, Compute, Fold, Output, Reading, Trusted
from voxward.core.devices import kind_of, resolve_device
from voxward.core.errors import UserError
from voxward.core.machine import this_machine, this_software
from voxward.core.plan import load_json
from voxward.core.progress import Progress, silent
from voxward.core.provenance import FINISHED, Work, read_provenance
from voxward.core.structure import to_data
from voxward.core.yaml import dump_yaml
from voxward.data.content import contents_of
from voxward.data.dicom.door import is_dicom_folder, kept_images
from voxward.data.formats import open_dataset
from voxward.metrics.policies import Scoring
from voxward.report.reproduction import (
    Compared,
    Reproduction,
    compare_attacks,
    compare_evaluation,
    compare_predictions,
    compare_training,
)
from voxward.robustness.changes import sorted_changes
from voxward.robustness.description import read_protocol
from voxward.runs.folder import RunFolder, RunSettings
from voxward.systems.open import open_system
from voxward.systems.predict import collect_inputs
from voxward.systems.system import System
from voxward.training.again import begin_again

_LISTED = 3


@dataclass(frozen=True)
class _Job:
    """What is done again: the folder, what it says of the work, and where the data lie now."""

    folder: Path
    out: Path
    work: Work
    dataset: Path | None
    device: str
    progress: Progress


@dataclass(frozen=True)
class _Kind:
    """A kind of work: how it is done again, and how two folders are compared."""

    again: Callable[[_Job], None]
    compare: Callable[[Path, Path, bool], Iterator[Compared]]


def reproduce(
    run: Path | str,
    *,
    out: Path | str | None = None,
    dataset: Path | str | None = None,
    work: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Reproduction:
    """Do again what a folder of `train`, `harden`, `attack`, `evaluate` or `predict` holds, and compare.

    The settings are those that the folder holds: recipe, plan, split, seed, protocol, and the arguments of its call. A
    training with a time budget is done again with its number of steps, and not with its minutes. A call that was
    interrupted goes on where it stopped.

    On a CPU of the same kind, with the same number of threads and the same versions, everything must be the same to
    the last bit: weights, logs, segmentations, and records but for their times. Elsewhere the Dice of segmentations may
    differ by 0.01, and 0.1 % of a case's voxels; the Dice under attack and the validation Dice of a training by 0.05.

    Args:
        run: The folder.
        out: The folder of the new results; by default RUN-again, beside it.
        dataset: Where the dataset lies now, if it was moved; for `predict` the folder of the inputs.
        work: Which work is done again, where the folder holds several, such as `train` and `evaluate`; None: the first.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.
        progress: Told about the work.

    Returns:
        What was compared, and what differs.

    Raises:
        UserError: The folder does not say enough, or the dataset or a system is gone or has changed; before any work.

    Example:
        >>> voxward.reproduce("run", out="again").met  # doctest: +SKIP
        True
    """
    folder = Path(run)
    kind, known = _work_of(folder, work)
    target = folder.resolve().with_name(f"{folder.resolve().name}-again") if out is None else Path(out)
    if target.resolve() == folder.resolve():
        raise UserError(f"out must be another folder than {folder}, whose results are compared with")
    _refuse_ended(target, kind)
    moved = None if dataset is None else Path(dataset)
    with _threads(known):
        exact = _alike(known, device)
        _KINDS[kind].again(_Job(folder, target, known, moved, device, progress))
    return Reproduction(target, kind, exact, tuple(_KINDS[kind].compare(folder, target, exact)))


def _refuse_ended(target: Path, kind: str) -> None:
    """Refuse a folder in which the work has ended: nothing would be computed, and old results would be compared."""
    known = read_provenance(target).works.get(kind)
    if known is not None and known.sittings and known.sittings[-1].how == FINISHED:
        raise UserError(
            f"{target} holds work that has ended, so that nothing would be done again: choose another --out"
        )


def _work_of(folder: Path, wanted: str | None) -> tuple[str, Work]:
    """The work that is done again; a run of an older version says enough by its recipe, plan and split."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    works = dict(read_provenance(folder).works)
    if "train" not in works and "search" not in works and RunFolder(folder).settings.is_file():
        works = {"train": Work("steps"), **works}
    if not works:
        raise UserError(
            f"{folder} has no provenance.json, which says how it was made: an older version of voxward wrote it, or "
            "it is no folder of train, harden, attack, evaluate or predict (of cv, give one of its runs)"
        )
    kind = next(iter(works)) if wanted is None else wanted
    if kind not in works:
        raise UserError(f"work must be one of {', '.join(works)}, which {folder} holds, got {kind!r}")
    if kind not in _KINDS:
        raise UserError(f"{kind} cannot be done again by reproduce, only {', '.join(_KINDS)}: give the command again")
    return kind, works[kind]


@contextmanager
def _threads(work: Work) -> Iterator[None]:
    """Compute with as many threads as before: their number decides in which order figures are added up."""
    before = torch.get_num_threads()
    if work.sittings:
        torch.set_num_threads(work.sittings[0].machine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alike(work: Work, device: str) -> bool:
    """Whether the machine is of the same kind; says what is not as it was."""
    here, now, others = this_machine(), this_software(), list[str]()
    if not work.sittings:
        others.append("it is not known on which machine, and with which versions, the results were made")
    for one in work.sittings:
        old, then = one.machine, one.software
        if old.gpu or not kind_of(resolve_device(device)).host:
            others.append("a GPU computed or computes, which does not give the same bits each time")
        elif (old.processor, old.instructions, old.threads) != (here.processor, here.instructions, here.threads):
            others.append(f"it was {old.name} with {old.threads} threads, and is {here.name} with {here.threads}")
        if (then.voxward, then.revision, then.changed) != (now.voxward, now.revision, now.changed):
            others.append(f"voxward was {_version(then.voxward, then.revision)}, and is "
                          f"{_version(now.voxward, now.revision)}")  # fmt: skip
        packages = sorted({*then.packages, *now.packages})
        other = [name for name in packages if then.packages.get(name) != now.packages.get(name)]
        if other:
            told = (f"{n} was {then.packages.get(n, 'absent')}, is {now.packages.get(n, 'absent')}" for n in other)
            others.append("; ".join(told))
    if others:
        warnings.warn(f"not everything is as it was: {'; '.join(dict.fromkeys(others))}", stacklevel=3)
    return not others


def _version(version: str, revision: str) -> str:
    return f"{version} at {revision[:9]}" if revision else version


def _train(job: _Job) -> None:
    before, out = RunFolder(job.folder), RunFolder(job.out)
    settings = load_json(RunSettings, before.settings)
    root = job.dataset or Path(settings.dataset)
    _check_data(job, root)
    begin_again(before, out, root)
    compute = Compute(**{**job.work.arguments.get("compute", {}), "device": job.device})
    voxward.train(root, out=out.root, resume=True, compute=compute, fold=_links(job), progress=job.progress)


def _links(job: _Job) -> Fold:
    """Whether files of the dataset may lie outside of its folder, as the first call said."""
    asked = (job.work.arguments.get(name, {}) for name in ("fold", "change", "reading"))
    return Fold(follow_links=any(one.get("follow_links", False) for one in asked))


def _attack(job: _Job) -> None:
    described = read_protocol(job.folder)
    if described is None:
        raise UserError(f"{job.folder} has no protocol.json, which says how it was attacked")
    _refuse_other_call(job, "attack")
    arguments = _arguments(job)
    _check_systems(job, arguments["systems"], sorted_changes(arguments.get("overrides", ()))[1])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "protocol.yaml"
        path.write_text(dump_yaml({"format": 1, **to_data(described.protocol)}), encoding="utf-8")
        output = Output(job.out, progress=job.progress)
        voxward.attack(**{**arguments, "protocol": path, "out": output, "device": job.device, "cluster": None})


def _evaluate(job: _Job) -> None:
    _refuse_other_call(job, "evaluate")
    arguments = _arguments(job)
    _check_systems(job, [arguments["system"]], arguments.get("overrides", ()))
    compute = Compute(**{**job.work.arguments.get("compute", {}), "device": job.device})
    fresh = {"out": job.out, "compute": compute, "resume": True, "overwrite": False, "progress": job.progress}
    voxward.evaluate(**{**arguments, **fresh})


def _predict(job: _Job) -> None:
    _refuse_other_call(job, "predict")
    arguments = _arguments(job)
    (opened,) = _check_systems(job, [arguments["system"]], arguments.get("overrides", ()))
    others = [one for one in arguments["inputs"] if not is_dicom_folder(one)]
    if len(others) < len(arguments["inputs"]):  # what is predicted are the volumes that were made of the folders
        arguments["inputs"] = [*others, *map(str, kept_images(job.folder, job.work.contents))]
    _refuse_changed(job, collect_inputs(arguments["inputs"], opened.channels, arguments.get("reading", Reading())))
    fresh = {"out": job.out, "device": job.device, "resume": True, "overwrite": False, "progress": job.progress}
    voxward.predict(**{**arguments, **fresh})


_KINDS: Mapping[str, _Kind] = {
    "train": _Kind(_train, compare_training),
    "attack": _Kind(_attack, compare_attacks),
    "evaluate": _Kind(_evaluate, compare_evaluation),
    "predict": _Kind(_predict, compare_predictions),
}


def _refuse_other_call(job: _Job, command: str) -> None:
    if job.work.command != command:
        raise UserError(
            f"{job.folder} was written by voxward {job.work.command or '(unknown)'}, and only folders of voxward "
            f"{command} itself say enough to be done again: give that command again with another --out"
        )


def _arguments(job: _Job) -> dict[str, Any]:
    """The arguments of the call, with the paths of today, and checked data."""
    found = dict(job.work.arguments)
    for name, cls in (("reading", Reading), ("scoring", Scoring)):
        if name in found:
            found[name] = cls(**{key: _tupled(value) for key, value in found[name].items()})
    for name in {"system", "systems"} & found.keys():
        held = found[name]
        found[name] = [_system(job, one) for one in held] if isinstance(held, list) else _system(job, held)
    if isinstance(found.get("systems"), str | Trusted):
        found["systems"] = [found["systems"]]
    if "inputs" in found:
        held = found["inputs"] if isinstance(found["inputs"], list) else [found["inputs"]]
        found["inputs"] = [str(_there(job, one)) for one in held] if job.dataset is None else [str(job.dataset)]
    else:
        root = job.dataset or Path(job.work.dataset)
        asked = found.get("dataset")
        _check_data(job, root)
        found["dataset"] = Cases(**{**(asked if isinstance(asked, Mapping) else {}), "dataset": root})
    return found


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _there(job: _Job, path: str) -> Path:
    found = Path(job.work.started_in) / path
    if not found.exists():
        raise UserError(f"{found} is not there: if it was moved, say where to (--dataset)")
    return found


def _system(job: _Job, held: Any) -> str | Trusted:
    """The path of a system, also where it was moved together with the folder."""
    trust = isinstance(held, Mapping) and bool(held.get("trust"))
    named = str(held["system"] if isinstance(held, Mapping) else held)
    places = [Path(job.work.started_in) / named, job.folder, job.folder.resolve().parent]
    for place in places:
        if (place == places[0] and place.exists()) or (place / "recipe.yaml").is_file():
            return Trusted(place) if trust else str(place)
    raise UserError(f"the system {named} is not there (looked for at {places[0]}): put it back")


def _check_systems(job: _Job, systems: Sequence[Any], overrides: Sequence[str]) -> list[System]:
    """Open the systems; refuse systems that are not those of the folder, by their fingerprints."""
    before, opened = set(job.work.systems.values()), list[System]()
    for one in systems:
        trusted = isinstance(one, Trusted)
        path = one.system if isinstance(one, Trusted) else one
        opened.append(open_system(path, overrides, job.device, trusted))
        if opened[-1].fingerprint() not in before:
            raise UserError(f"the system {path} has changed since: its fingerprint is not that of {job.folder}")
    return opened


def _check_data(job: _Job, root: Path) -> None:
    """Refuse a dataset that is gone, or whose files have changed since."""
    if not root.is_dir():
        raise UserError(f"the dataset {root} is not there: if it was moved, say where to (--dataset)")
    _refuse_changed(job, open_dataset(root, _links(job).follow_links).every)


def _refuse_changed(job: _Job, cases: Sequence[Case]) -> None:
    here = {case.id: case for case in cases}
    gone = [id for id in job.work.contents if id not in here]
    now = contents_of([here[id] for id in job.work.contents if id in here])
    changed = [*gone, *(id for id, digest in now.items() if digest != job.work.contents[id])]
    if changed:
        named = ", ".join(changed[:_LISTED]) + (", ..." if len(changed) > _LISTED else "")
        raise UserError(
            f"the data are not those that {job.folder} was made from: {len(changed)} of {len(job.work.contents)} cases "
            f"are gone or have changed ({named})"
        )
