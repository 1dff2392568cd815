"""voxward predict: segment files or a folder with a trained run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from voxward.core.case import Case, Volume
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.plan import load_plan
from voxward.core.progress import Progress, silent
from voxward.data.formats import open_dataset
from voxward.data.io import SUFFIXES, read_header, read_image, volume_stem, volume_suffix, write_label
from voxward.data.volume_file import same_affine
from voxward.pipeline.precision import Precision, resolve_device
from voxward.pipeline.predictor import Tta
from voxward.runs.folder import Checkpoint, RunFolder
from voxward.systems.cascade import Cascade, MarginUnit
from voxward.systems.ensemble import Deployed, load_deployed

Segment = Callable[[Volume, Callable[[int, int], None]], tuple[np.ndarray, str]]
"""From a volume to class indices (i, j, k) in its geometry and a warning, if any; reports windows done and in all."""


def predict(
    run: Path | str,
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    checkpoint: Checkpoint = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    overlap: float | None = None,
    cascade: Path | str | None = None,
    margin: float = 20.0,
    margin_unit: MarginUnit = "voxels",
    fraction: float = 0.2,
    members: Sequence[Path | str] = (),
    tta: Tta | None = None,
    resume: bool = False,
    progress: Progress = silent,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Segment volumes; no labels are needed. Returns the written files, CASE.ext in `out`.

    inputs: volume files, folders of volume files, or a dataset folder (all its cases). For a model of n channels,
    files CASE_0000 to CASE_(n-1) in one folder are the channels of one case. The headers of all inputs are checked
    before the first is segmented: channels, shapes and affines. A prediction has its input's affine, shape and file
    type, and an integer number type. out: by default RUN/predictions; it must be given where other runs predict with
    `run`. resume: keep predictions that an interrupted call has written already, and nobody edited since. overlap: of
    the windows, instead of the recipe's. cascade: another run that finds the region first, which `run` then segments;
    a warning names a case in which it finds none, and the prediction is empty; margin, margin_unit and fraction: see
    systems.cascade.Cascade. members: other runs, the mean of whose predictions and of `run`'s is taken. checkpoint:
    `auto` is what a recipe deploys. tta: copies of every window that are averaged, instead of the recipe's; see
    pipeline.predictor.Predictor.
    overwrite: replace files in `out` that are no prediction of voxward's, or were edited since; an input is never.

    Raises ValueError or FileNotFoundError; for what the headers tell, and for files in `out` that are not replaced,
    before anything is written; and naming the case for which the model returns NaN or infinite logits.
    """
    folder = RunFolder(Path(run))
    if out is None and (members or cascade is not None):
        raise UserError("out must be given where several runs predict together: RUN/predictions are RUN's own")
    channels = len(load_plan(folder.plan).channels) if folder.plan.is_file() else 1
    cases = collect_inputs([inputs] if isinstance(inputs, str | Path) else inputs, channels)
    return predict_cases(
        run, cases, folder.predictions if out is None else Path(out), checkpoint, device, precision, overlap,
        cascade, margin, margin_unit, fraction, members, tta, resume, progress, overwrite,
    )  # fmt: skip


def predict_cases(
    run: Path | str,
    cases: Sequence[Case],
    out: Path,
    checkpoint: Checkpoint = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    overlap: float | None = None,
    cascade: Path | str | None = None,
    margin: float = 20.0,
    margin_unit: MarginUnit = "voxels",
    fraction: float = 0.2,
    members: Sequence[Path | str] = (),
    tta: Tta | None = None,
    resume: bool = False,
    progress: Progress = silent,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """`predict` for cases that are already collected."""
    load = partial(
        load_deployed, checkpoint=checkpoint, device=resolve_device(device), precision=precision, overlap=overlap,
        tta=tta,
    )  # fmt: skip
    predictor = load(run, members)
    segment = _alone(predictor)
    if cascade is not None:
        segment = _refined(Cascade(load(cascade, ()), predictor, margin, margin_unit, fraction))
    return _predict_all(predictor, segment, cases, Outputs(out, "a prediction", overwrite), resume, progress)


def _alone(predictor: Deployed) -> Segment:
    return lambda volume, done: (predictor.segment(volume, done), "")


def _refined(cascade: Cascade) -> Segment:
    def segment(volume: Volume, done: Callable[[int, int], None]) -> tuple[np.ndarray, str]:
        result = cascade.segment(volume, done)
        return result.label, "" if result.refined else "the coarse model found nothing: the prediction is empty"

    return segment


def _predict_all(
    predictor: Deployed, segment: Segment, cases: Sequence[Case], outputs: Outputs, resume: bool, progress: Progress
) -> tuple[Path, ...]:
    """Segment every case; the predictor checks the headers and names the classes."""
    targets = [inside(outputs.folder, f"{case.id}{volume_suffix(case.images[0])}") for case in cases]
    _refuse_overwriting(cases, targets)
    outputs.check(target.name for target in targets)
    for case in cases:
        _check(predictor, case)
    for n, (case, path) in enumerate(zip(cases, targets, strict=True)):
        if not (resume and path.exists()):
            _segment_file(segment, predictor.model.plan.labels, case, outputs, path.name, progress)
        progress("predict", n + 1, len(cases))
    return tuple(targets)


def collect_inputs(inputs: Iterable[Path | str], channels: int) -> tuple[Case, ...]:
    """The cases that files, folders and dataset folders hold. Raises when one is missing or two share a name."""
    cases: list[Case] = []
    files: list[Path] = []
    for entry in map(Path, inputs):
        if entry.is_file():
            files.append(entry)
        elif not entry.is_dir():
            raise FileNotFoundError(f"no file or folder {entry}")
        elif found := volumes_in(entry):
            files += found
        else:
            dataset = open_dataset(entry)
            cases += [*dataset.cases, *dataset.unlabelled]
    if len({path.resolve() for path in files}) < len(files):
        raise UserError("an input is named twice: both would be written as the same file")
    cases += _grouped(files, channels)
    ids = [case.id for case in cases]
    twice = sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise UserError(f"several inputs would be written as the same file: {', '.join(twice[:5])}")
    if not cases:
        raise UserError("there is no volume to segment")
    return tuple(cases)


def volumes_in(folder: Path) -> list[Path]:
    """The folder's volume files; names that begin with a dot are other programs' notes."""
    files = (path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _grouped(files: Iterable[Path], channels: int) -> list[Case]:
    """Files CASE_0000, ..., CASE_(channels - 1) of one folder are one case; every other file is a case of its own."""
    groups: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in files:
        stem = volume_stem(path)
        numbered = re.fullmatch(r"(.+)_(\d{4})", stem)
        base, number = numbered.groups() if numbered else (stem, "")
        groups.setdefault((path.parent, base), {})[number or path.name] = path
    wanted = [f"{n:04d}" for n in range(channels)]
    cases = []
    for (_, base), found in groups.items():
        if sorted(found) == wanted:
            cases.append(Case(base, tuple(found[number] for number in wanted)))
        else:
            cases += [Case(volume_stem(path), (path,)) for path in found.values()]
    return cases


def _refuse_overwriting(cases: Sequence[Case], targets: Sequence[Path]) -> None:
    sources = {path.resolve() for case in cases for path in (*case.images, *([case.label] if case.label else []))}
    lost = [str(target) for target in targets if target.resolve() in sources]
    if lost:
        raise UserError(f"predictions would overwrite their own input, e.g. {lost[0]}: choose another --out")


def _check(predictor: Deployed, case: Case) -> None:
    """Refuse a case by its files' headers, before any is read whole."""
    try:
        first, *others = (read_header(path) for path in case.images)
        for header in others:
            if header.shape != first.shape or not same_affine(header.affine, first.affine, first.shape):
                raise UserError(f"its channels disagree in shape or affine: {', '.join(map(str, case.images))}")
        predictor.check(first.channels + sum(header.channels for header in others), first.affine)
    except UserError as error:
        raise UserError(f"{case.id}: {error}") from error


def _segment_file(
    segment: Segment, labels: LabelSet, case: Case, outputs: Outputs, name: str, progress: Progress
) -> None:
    try:
        volume = read_image(case.images)
        label, warning = segment(volume, lambda done, of: progress("windows", done, of))
    except UserError as error:
        raise UserError(f"{case.id}: {error}") from error
    if warning:
        warnings.warn(f"{case.id}: {warning}", stacklevel=2)
    with outputs.write(name) as path:
        write_label(path, labels.to_values(label), volume.affine, case.images[0])
