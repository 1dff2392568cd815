"""voxward to-dicom: masks and attacked volumes of a dataset that was made of DICOM files, as DICOM files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.choices import Output
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import atomic_write
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.data.dicom.source import read_book, source_of
from voxward.data.dicom.write import codes_of, write_segmentation, write_series
from voxward.data.formats import open_dataset
from voxward.data.formats.description import read_description
from voxward.data.io import read_image, read_label, volume_stem
from voxward.systems.predict import volumes_in

KINDS = ("segmentation", "image")
KIND = "a DICOM file made of a volume"


def to_dicom(
    inputs: Sequence[Path | str] | Path | str,
    *,
    dataset: Path | str,
    out: Path | str | Output,
    kind: str = "segmentation",
    fail_fast: bool = False,
) -> tuple[Path, ...]:
    """Write masks as DICOM segmentations, or attacked volumes as DICOM series, that belong to their source's study.

    Args:
        inputs: Files that are called like cases of the dataset, such as `predict` or `attack` write them, or folders of
            such files.
        dataset: The dataset, which `from_dicom` made, or OUT/from-dicom of a command that took DICOM files as they are;
            these files must still be where they were. Its dataset.json names the classes, and may say in "codes" what
            each is.
        out: The folder that gets CASE.dcm for each mask, or a new folder CASE for each image. Or a `voxward.Output`.
        kind: `segmentation` or `image`. An image gets new identifiers and calls itself a derived, adversarial test
            image; the patient and the study stay those of the source. Nothing is de-identified.
        fail_fast: Whether the first case that fails stops the others.

    Returns:
        The files, or the folders.

    Raises:
        UserError: An input is no volume of a case, or a file would be replaced; nothing is written then.
        CasesFailed: Cases failed; its `result` is what was written of the others.
        FileNotFoundError: An input is missing.
        MissingPackageError: pydicom or highdicom is not installed.

    Example:
        >>> voxward.to_dicom("segmentations", dataset="dataset", out="for-the-viewer")
    """
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    output, root = Output.of(out), Path(dataset)
    book = read_book(root)
    files = _files([inputs] if isinstance(inputs, str | Path) else inputs, book)
    described = (open_dataset(root).labels, _codes(root)) if kind == "segmentation" else None
    top, failures, written = Outputs(output.root, KIND, output.overwrite), Failures(fail_fast), list[Path]()
    _refuse_sources(output.root, book)
    if described is not None:
        top.check([f"{case}.dcm" for case in files])
    elif full := [folder for case in files if (folder := output.root / case).exists()]:
        raise UserError(f"{full[0]} is there already: choose another --out")
    for n, (case, path) in enumerate(files.items()):
        output.progress("to-dicom", n, len(files), running=case)
        with failures.of(Case(case, (path,))):
            found = _mask(top, case, path, book, described) if described else _image(top, case, path, book)
            written.append(found)
    output.progress("to-dicom", len(files), len(files))
    failures.raise_any(len(files), tuple(written))
    return tuple(written)


def _files(inputs: Sequence[Path | str], book: Mapping[str, Any]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in map(Path, inputs):
        if not entry.exists():
            raise FileNotFoundError(f"no file or folder {entry}")
        for path in volumes_in(entry) if entry.is_dir() else [entry]:
            case = volume_stem(path)
            if case not in book:
                raise UserError(f"{path} is called like no case of the dataset: {', '.join(list(book)[:5])}, ...")
            if case in found:
                raise UserError(f"{found[case]} and {path} are of one case: give one of them")
            found[case] = path
    if not found:
        raise UserError("there is no volume to write")
    return found


def _codes(root: Path) -> Mapping[str, Any]:
    return codes_of(read_description(root).get("codes"), root / "dataset.json", open_dataset(root).labels.names[1:])


def _mask(
    top: Outputs, case: str, path: Path, book: Mapping[str, Any], described: tuple[LabelSet, Mapping[str, Any]]
) -> Path:
    label, source = read_label(path), source_of(case, book)
    source.refuse_elsewhere(path, label.shape, label.affine)
    with top.write(f"{case}.dcm") as unfinished:
        write_segmentation(unfinished, label, described[0], source, described[1])
    return top.folder / f"{case}.dcm"


def _refuse_sources(out: Path, book: Mapping[str, Any]) -> None:
    """Refuse to write among the files that the dataset was made of."""
    for entry in book.values():
        source = Path(str(entry.get("folder", ""))).resolve() if isinstance(entry, Mapping) else out
        if out.resolve() == source or source in out.resolve().parents:
            raise UserError(f"out {out} lies among the DICOM files that the dataset was made of: choose another --out")


def _image(top: Outputs, case: str, path: Path, book: Mapping[str, Any]) -> Path:
    volume, source = read_image([path]), source_of(case, book)
    source.refuse_elsewhere(path, volume.shape, volume.affine)
    if len(source.images) != 1 or len(volume.array) != 1:
        raise UserError(f"case {case} has {len(source.images)} series: only an image of one can be written")
    with atomic_write(top.folder / case) as folder:
        folder.mkdir()
        write_series(folder, volume, source)
    return top.folder / case
