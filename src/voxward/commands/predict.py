"""voxward predict: segment volumes with a system."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.case import Case
from voxward.core.choices import Reading
from voxward.core.errors import CasesFailed, UserError
from voxward.core.failures import Failures
from voxward.core.invocation import invocation
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.dicom.door import Converted, Wanted, converted, failures_before, is_dicom_folder, named_out
from voxward.data.formats import refuse_dataset_folder
from voxward.data.nan import reading_nan
from voxward.data.places import within
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.open import Given, open_system
from voxward.systems.predict import collect_inputs, predict_cases
from voxward.systems.provenance import PREDICT, noted_cases
from voxward.systems.score import PREDICTIONS
from voxward.systems.system import System


def predict(
    system: Given,
    inputs: Sequence[Path | str] | Path | str,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    reading: Reading = Reading(),
    device: str = "auto",
    save_probabilities: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Segment volumes with a trained run, an ensemble or a cascade; no labels are needed.

    The headers of all inputs are checked before the first is segmented: channels, shapes and affines. Channels whose
    names an input's dataset declares are put into the system's order, see docs/data.md. A case that fails does not stop
    the others. A prediction has its input's affine, shape and file type, and an integer number type.

    Args:
        system: A run folder, model of another tool or `system.yaml`, or `voxward.Trusted` of one; or an open system.
        inputs: Volume files, folders of volume files, a dataset folder (all its cases), or folders of DICOM files. For
            a system of n channels, files CASE_0000 to CASE_(n-1) in one folder are the channels of one case.
        out: The folder of the predictions; by default RUN/predictions, where the system is a single run. OUT/from-dicom
            keeps the volumes of DICOM files, with which `to_dicom` takes predictions back; see docs/dicom.md.
        overrides: Changes of the system's entries, such as `tta=mirrors`, `overlap=0.6` or `checkpoint=last`.
        reading: What the channels of the inputs are, where they do not declare it or declare it wrongly; what is done
            about NaN; and whether the first case that fails stops the others.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.
        save_probabilities: Write the probabilities of every case, too, as OUT/probabilities/CASE.nii.gz: float32 in the
            voxels of the input, a channel per class or region, before post-processing. OUT/probabilities/channels.json
            says what the channels are.
        resume: Keep predictions that the same system has made of the same files, and nobody edited since.
        overwrite: Replace files in `out` that are no prediction of voxward's, or were edited since; an input is never
            replaced.
        progress: Told about windows and cases.

    Returns:
        The written files, CASE.ext in `out`.

    Raises:
        UserError: The system is wrong, an input is no volume, or a file would be replaced; nothing is written then.
        CasesFailed: Cases failed; its `result` are the files of the others.
        FileNotFoundError: The system or an input is missing.

    Example:
        >>> voxward.predict("run", ["case.nii.gz"], out="segmentations", overrides=["tta=mirrors"])
    """
    call, opened = invocation(predict, locals()), open_system(system, overrides, device)
    places, scans = _places(inputs)
    folder = _folder(opened, out, scans)
    if not overwrite:
        refuse_dataset_folder(folder)
    wanted = Wanted(folder, truth=False, again=True, reading=reading, progress=progress)
    (cases, made), outputs = _cases(places, scans, opened, wanted), Outputs(folder, PREDICTIONS, overwrite)
    failures, scores = failures_before(made, reading.fail_fast), _scores(folder, save_probabilities, overwrite)
    around = noted_cases(folder, PREDICT, call, cases, system=opened, resume=resume)
    written = predict_cases(opened, cases, outputs, resume, progress, failures, probabilities=scores, around=around)
    _named(failures, made).raise_any(len({case.id for case in cases} | failures.cases), written)
    return written


def _named(failures: Failures, made: Converted | None) -> Failures:
    return failures if made is None else made.renamed(failures)


def _places(inputs: Sequence[Path | str] | Path | str) -> tuple[list[Path], list[Path]]:
    """The inputs, and those of them that are folders of DICOM files."""
    places = [Path(one) for one in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    return places, [place for place in places if is_dicom_folder(place)]


def _folder(system: System, out: Path | str | None, scans: Sequence[Path]) -> Path:
    for place in scans:
        named_out(out, place)
    if out is None and len(system.runs) != 1:
        raise UserError("out must be given where several runs predict together: RUN/predictions are RUN's own")
    return system.runs[0].predictions if out is None else Path(out)


def _cases(
    places: list[Path], scans: list[Path], system: System, wanted: Wanted
) -> tuple[tuple[Case, ...], Converted | None]:
    """The cases, and the volumes that were made of folders of DICOM files among them."""
    made, reading = None, wanted.reading
    if scans:
        with converted(scans, replace(wanted, labels=system.labels, system=system.name)) as made:
            places = [place for place in places if place not in scans] + made.images()
        if not places:
            raise CasesFailed(made.failures, len(made.failures))
    found = collect_inputs(places, system.channels, reading)
    return within(reading_nan(found, nan_for(system.runs, reading)), tolerance_for(system.runs, reading)), made


def _scores(out: Path, wanted: bool, overwrite: bool) -> Outputs | None:
    """Where probabilities are written; without them, a warning if there are those of an earlier prediction."""
    folder = out / "probabilities"
    if wanted:
        return Outputs(folder, "probabilities", overwrite)
    if folder.is_dir():
        warnings.warn(
            f"{folder} is of an earlier prediction and stays as it is: it may not belong to the segmentations "
            "that are now beside it; add --save-probabilities, or delete it",
            stacklevel=3,
        )
    return None
