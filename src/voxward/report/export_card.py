"""The model card beside an exported network: what the folder of the training records about it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import voxward
from voxward.core.files import sha256_of, write_text
from voxward.core.plan import ChannelPlan, load_json
from voxward.core.structure import to_data
from voxward.core.wording import counted
from voxward.core.yaml import dump_yaml
from voxward.report.card import escaped
from voxward.report.export_figures import figures
from voxward.report.recipe_text import recipe_text
from voxward.report.run_source import RunSource, read_run
from voxward.report.source_files import attempt
from voxward.report.sources import AttackSource, read_sources
from voxward.runs.folder import RunFolder, RunSplit, checkpoint_of
from voxward.runs.postprocess import KINDS, PostProcess
from voxward.systems.network.entry import ChannelEntry
from voxward.systems.run import RunSystem

CARD = "MODEL_CARD.md"
UNKNOWN = "not recorded"
_FIELDS = {
    "library_name": "voxward",
    "tags": ["image-segmentation", "medical", "3d"],
    "pipeline_tag": "image-segmentation",
}
_LIMITS = (
    "The network is for research. It is not a medical device: no authority has cleared it, and it must not be used to "
    "diagnose or treat anybody.",
    "It knows images like those that it was trained on. Other scanners, protocols, resolutions, ages and diseases were "
    "not tried unless a figure above says so.",
    "It finds only the labels above. What else a scan shows becomes background, or one of these labels.",
    "The figures above are means over few or many cases, as their n says. Test the network on cases of your own before "
    "you rely on it.",
    "Whoever publishes it must add what voxward cannot know: where the images come from, who drew the labels, whether "
    "the patients consented, what the network is meant for, and under which licence.",
)


@dataclass(frozen=True)
class _Known:
    """What is known of a run that is exported.

    Attributes:
        run: The run as it is deployed.
        source: What lies in its folder; None for a model that was built in memory.
        split: Which cases trained, selected and validated; None where the folder does not say.
        attacks: The attacks that lie in the folder.
        unread: How many files of the folder could not be read.
    """

    run: RunSystem
    source: RunSource | None = None
    split: RunSplit | None = None
    attacks: tuple[AttackSource, ...] = ()
    unread: int = 0


def write_export_card(run: RunSystem, folder: Path, unsaid: Sequence[str]) -> None:
    """Write the model card of an exported run, with a digest of every file that lies beside it.

    Args:
        run: The run.
        folder: The folder of the exported files, which are all written.
        unsaid: What the exported files cannot say of how the run is deployed, one sentence each.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    parts = list(_sections(_known(run), unsaid, {path.relative_to(folder).as_posix(): path for path in files}))
    write_text(folder / CARD, f"---\n{dump_yaml(_FIELDS)}---\n\n" + "\n\n".join(parts) + "\n")


def _known(run: RunSystem) -> _Known:
    if run.folder is None:
        return _Known(run)
    problems = list[str]()
    source = read_run(run.folder.root, problems)
    splits = run.folder.splits
    split = attempt(lambda: load_json(RunSplit, splits), problems) if splits.is_file() else None
    # The second reading of the run finds the same problems again.
    unread = len(problems)
    found = read_sources([run.folder.root])
    unread += sum(problem not in problems for problem in found.problems)
    return _Known(run, source, split, tuple(found.attacked), unread)


def _sections(known: _Known, unsaid: Sequence[str], files: Mapping[str, Path]) -> Iterator[str]:
    yield f"# Model card: {escaped(known.run.name)}"
    yield (
        f"voxward {voxward.__version__} wrote this card on {datetime.now(UTC):%Y-%m-%d %H:%M} (UTC) when it exported "
        "the network. It says what the folder of the training records, and nothing else."
    )
    if known.unread:
        lost = counted(known.unread, "file")
        yield f"{lost} of that folder could not be read, so that something may be missing here."
    yield "## What it is"
    yield _table(dict(_network(known)))
    yield "## What it was trained on"
    yield _table(dict(_training_data(known)))
    yield _table(dict(_labels(known.run)), ("value in the mask", "label"))
    yield from _regions(known.run)
    yield "## How it is deployed"
    yield _table(dict(_deployment(known.run)))
    yield from _beside(unsaid, files)
    yield "## Figures"
    yield from figures(known.run, known.source, known.split, known.attacks)
    yield "## Intended use and limits"
    yield "\n".join(f"- {line}" for line in _LIMITS)
    yield "## Files"
    yield _table({name: sha256_of(path) for name, path in files.items()}, ("file", "SHA-256"))


def _table(rows: Mapping[str, Any], heading: tuple[str, str] = ("what", "value")) -> str:
    lines = [f"| {escaped(str(name))} | {escaped(str(value))} |" for name, value in rows.items()]
    return "\n".join([f"| {heading[0]} | {heading[1]} |", "| --- | --- |", *lines])


def _network(known: _Known) -> Iterator[tuple[str, Any]]:
    model, source = known.run.predictor.model, known.source
    recipe = None if source is None else source.recipe
    yield "recipe", UNKNOWN if recipe is None else f"{recipe.name}: {recipe_text(recipe, model.plan)}"
    if (chosen := model.architecture) is not None:
        yield "architecture", f"{chosen.name}{_listed(chosen.options, ' (', ')')}"
    yield "parameters", sum(parameter.numel() for parameter in model.network.parameters())
    if recipe is not None:
        defence = recipe.defence
        yield "adversarial training", "none" if defence is None else f"{defence.method}, {_strength(defence)}"
    yield from _course(source)
    yield from _weights(known.run.folder, known.run)
    yield "fingerprint", f"{known.run.fingerprint()} (weights, plan and settings of the run that was exported)"


def _strength(defence: Any) -> str:
    """The size of what a hardened network was trained against."""
    if defence.method == "noise":
        return f"sigma {defence.sigma:g} of the intensity range"
    return f"eps {255 * defence.eps:.3g}/255 of the intensity range"


def _course(source: RunSource | None) -> Iterator[tuple[str, Any]]:
    """How long the training was, and what it began with."""
    if source is None:
        return
    if source.log:
        yield "training steps", int(source.log[-1]["step"])
    if source.progress is not None:
        yield "state of the training", f"unfinished: {source.progress}"
    if (settings := source.settings) is not None:
        yield "began with", "random weights" if settings.start is None else f"the run {Path(settings.start).name}"
        yield "seed", settings.seed
        yield "trained by", f"voxward {settings.version}"


def _weights(folder: RunFolder | None, run: RunSystem) -> Iterator[tuple[str, Any]]:
    found = None if folder is None else checkpoint_of(folder, run.predictor.model.network)
    yield "checkpoint", UNKNOWN if found is None else found.stem
    if found is not None:
        yield "SHA-256 of the checkpoint", sha256_of(found)


def _training_data(known: _Known) -> Iterator[tuple[str, Any]]:
    plan, split = known.run.predictor.model.plan, known.split
    yield "dataset", plan.dataset
    if split is None:
        yield "cases", UNKNOWN
    else:
        yield "training cases", len(split.fit)
        yield "selection cases", f"{len(split.selection)} (they chose the weights)"
        yield "validation cases", f"{len(split.validation)} (not trained on)"
    settings = None if known.source is None else known.source.settings
    if settings is not None:
        every = settings.fold == "all"
        yield "fold", "all cases were trained on" if every else f"{settings.fold} (counted from 0)"
    yield "channels", ", ".join(channel.name for channel in plan.channels)
    what = "volumes are resampled to it" if plan.resample else "the median; every volume keeps its own"
    yield "voxel size", f"{_sizes(plan.spacing)} mm ({what})"
    yield "axes", "RAS"


def _labels(run: RunSystem) -> Iterator[tuple[str, Any]]:
    labels = run.labels
    yield from ((str(value), name) for name, value in zip(labels.names, labels.values, strict=True))
    if labels.ignore is not None:
        yield str(labels.ignore), "voxels that nobody has annotated; never predicted"


def _regions(run: RunSystem) -> Iterator[str]:
    if run.labels.regions:
        yield _table(
            {one.name: ", ".join(map(str, one.values)) for one in run.labels.regions}, ("region", "values in it")
        )


def _deployment(run: RunSystem) -> Iterator[tuple[str, Any]]:
    predictor = run.predictor
    plan, inference = predictor.model.plan, predictor.model.inference
    yield "window", f"{_sizes(plan.window_size)} voxels"
    if inference.placement == "step":
        yield "overlap", inference.overlap if predictor.overlap is None else predictor.overlap
    else:
        yield "placement", f"{inference.placement}, {inference.extra_windows} extra windows per axis"
    yield "blending", inference.weights if inference.combine == "mean" else inference.combine
    mirrored = predictor.augmentation == "mirrors" and predictor.mirrors
    copies = f"mirrors along the axes {_numbers(predictor.mirrors)}" if mirrored else "none"
    yield "test-time augmentation", "symmetries" if predictor.augmentation == "symmetries" else copies
    if copies != "none" or predictor.augmentation == "symmetries":
        yield "mean of", predictor.mean
    orders = f"splines of the orders {_numbers(plan.spline_order)} per axis"
    yield "resampling", f"to {_sizes(plan.spacing)} mm by {orders}" if plan.resample else "none"
    yield "crop", "the margin of zeros" if plan.crop_nonzero else "none"
    yield "padding", plan.padding
    names = [channel.name for channel in plan.channels]
    for n, channel in enumerate(plan.channels):
        number = f" (channel {n})" if names.count(channel.name) > 1 else ""
        yield f"intensities of {channel.name}{number}", _normalization(channel)
    yield from _post_processing(run)
    yield "number type of the run", run.precision


def _normalization(channel: ChannelPlan) -> str:
    used = ChannelEntry(**to_data(channel)).used
    return channel.normalization + _listed({name: f"{value:g}" for name, value in used.items()}, " (", ")")


def _post_processing(run: RunSystem) -> Iterator[tuple[str, Any]]:
    """What is done to the class map, and what the training chose where the export leaves that out."""
    used, folder = run.predictor.model.postprocess, run.folder
    yield "post-processing", _steps(used, run.labels.foreground)
    if folder is not None and folder.postprocess.is_file():
        chosen = attempt(lambda: load_json(PostProcess, folder.postprocess), [])
        if chosen is not None and chosen != used and not chosen.idle:
            yield "post-processing that was left out", _steps(chosen, run.labels.foreground)


def _steps(chosen: PostProcess, classes: Sequence[str]) -> str:
    kinds = zip(classes, chosen.kinds, strict=False)
    found = [f"{name} by the rule {kind}" for name, kind in kinds if KINDS[kind].changes]
    found += [f"holes of {name} are filled" for name, filled in zip(classes, chosen.filled, strict=False) if filled]
    if chosen.islands:
        found.append(f"parts below {chosen.islands:g} of the largest part of the foreground are dropped")
    return "; ".join(found) or "none"


def _beside(unsaid: Sequence[str], files: Mapping[str, Path]) -> Iterator[str]:
    """What the exported files say of the deployment, and what they cannot."""
    if unsaid:
        described = {"configs/inference.json", "plans.json"} & set(files)
        yield (
            "As the exported files are deployed, this is done otherwise than in the run, whose figures are below:"
            if described
            else "The exported files cannot say all of this. Whoever runs the network must do by other means:"
        )
        yield "\n".join(f"- {escaped(line)}" for line in unsaid)
    elif "system.yaml" in files:
        yield (
            "The file system.yaml beside the network tells voxward all of this, and the exported network computes in "
            "float32. Another program that reads the network alone must prepare volumes and put windows together."
        )


def _sizes(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _listed(options: Mapping[str, Any], before: str, after: str) -> str:
    return f"{before}{', '.join(f'{name} {value}' for name, value in options.items())}{after}" if options else ""
