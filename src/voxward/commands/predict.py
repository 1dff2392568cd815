"""voxward predict: segment files or a folder with a trained run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.progress import Progress, silent
from voxward.data.formats import open_dataset
from voxward.data.io import SUFFIXES, read_header, read_image, volume_stem, volume_suffix, write_label
from voxward.inference.precision import Precision, resolve_device
from voxward.inference.predictor import Predictor
from voxward.inference.run_folder import Checkpoint, RunFolder, load_run


def predict(
    run: Path | str,
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    checkpoint: Checkpoint = "best",
    device: str = "auto",
    precision: Precision = "auto",
    overlap: float | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Segment volumes; no labels are needed. Returns the written files, CASE.ext in `out` (default: RUN/predictions).

    inputs: volume files, folders of volume files (several channels as CASE_0000, CASE_0001, ...), or a dataset folder
    (all its cases). Every input's channels and geometry are checked before the first is segmented. A prediction has
    its input's affine, shape and file type, and an integer number type. resume: keep predictions that an interrupted
    call has written already. overlap: of the windows, instead of the recipe's.

    Raises ValueError or FileNotFoundError, and then nothing has been written.
    """
    cases = collect_inputs([inputs] if isinstance(inputs, str | Path) else inputs)
    target = RunFolder(Path(run)).predictions if out is None else Path(out)
    return predict_cases(run, cases, target, checkpoint, device, precision, overlap, resume, progress)


def predict_cases(
    run: Path | str,
    cases: Sequence[Case],
    out: Path,
    checkpoint: Checkpoint = "best",
    device: str = "auto",
    precision: Precision = "auto",
    overlap: float | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """`predict` for cases that are already collected."""
    chosen = resolve_device(device)
    predictor = Predictor(load_run(run, checkpoint, chosen), chosen, precision, overlap)
    for case in cases:
        _check(predictor, case)
    written = []
    for n, case in enumerate(cases):
        path = out / f"{case.id}{volume_suffix(case.images[0])}"
        if not (resume and path.exists()):
            volume = read_image(case.images)
            label = predictor.segment(volume, lambda done, of: progress("windows", done, of))
            write_label(path, predictor.model.plan.labels.to_values(label), volume.affine, case.images[0])
        written.append(path)
        progress("predict", n + 1, len(cases))
    return tuple(written)


def collect_inputs(inputs: Iterable[Path | str]) -> tuple[Case, ...]:
    """The cases that files, folders and dataset folders hold. Raises when one is missing or two share a name."""
    cases: list[Case] = []
    for entry in map(Path, inputs):
        if entry.is_dir():
            cases += _folder_cases(entry)
        elif entry.is_file():
            cases.append(Case(volume_stem(entry), (entry,)))
        else:
            raise FileNotFoundError(f"no file or folder {entry}")
    ids = [case.id for case in cases]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise ValueError(f"several inputs would be written as the same file: {', '.join(twice[:5])}")
    if not cases:
        raise ValueError("there is no volume to segment")
    return tuple(cases)


def _folder_cases(folder: Path) -> list[Case]:
    files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.is_file())
    if not files:
        dataset = open_dataset(folder)
        return [*dataset.cases, *dataset.unlabelled]
    groups: dict[str, list[Path]] = {}
    for path in files:
        stem = volume_stem(path)
        numbered = len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdigit()
        groups.setdefault(stem[:-5] if numbered else stem, []).append(path)
    return [Case(id, tuple(paths)) for id, paths in groups.items()]


def _check(predictor: Predictor, case: Case) -> None:
    """Refuse a case by its files' headers, before any is read whole."""
    try:
        headers = [read_header(path) for path in case.images]
        shapes = {header.shape for header in headers}
        if len(shapes) > 1:
            raise ValueError(f"its channels differ in shape: {sorted(shapes)}")
        predictor.check(sum(header.channels for header in headers), headers[0].affine)
    except ValueError as error:
        raise ValueError(f"{case.id}: {error}") from error
