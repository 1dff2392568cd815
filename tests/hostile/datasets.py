"""Readers of datasets: their descriptions, and the folders themselves."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import nibabel
import numpy as np

from tests.hostile.mutations import bytes_changed, json_changed
from tests.hostile.reader import Content, Files, Link, Pipe, Reader
from voxward.commands.evaluate_segmentations import evaluate_segmentations
from voxward.core.errors import UserError
from voxward.core.files import name_fault
from voxward.data.check import check_dataset
from voxward.data.formats import declared, open_dataset, raise_refused
from voxward.data.splits import load_split

CASES = ("a", "b", "c")
LISTS = ("dataset.json", "splits.json", "labels.json", "channels.json")


@functools.cache
def _volume(n: int, label: bool) -> bytes:
    array = np.random.default_rng(n).integers(0, 4, (4, 3, 2)).astype("u1" if label else "i2")
    return bytes(nibabel.Nifti1Image(array, np.eye(4)).to_bytes())


def _laid(image: str, label: str, **documents: Any) -> Files:
    found: dict[str, Content] = {
        f"{name.replace('_json', '')}.json": json.dumps(value).encode() for name, value in documents.items()
    }
    for n, case in enumerate(CASES):
        found[image.format(case)] = _volume(n, label=False)
        found[label.format(case)] = _volume(n + 100, label=True)
    return found


@functools.cache
def sound() -> tuple[Files, ...]:
    """Return a dataset in each of the layouts, with all that may stand beside it."""
    msd = {
        "name": "Heart", "modality": {"0": "MRI"}, "numTraining": 3, "numTest": 0,
        "labels": {"0": "background", "1": "x", "2": "y", "3": "z"}, "regions": {"A": [1], "B": [1, 2], "C": [1, 2, 3]},
        "training": [{"image": f"./imagesTr/{c}.nii", "label": f"./labelsTr/{c}.nii"} for c in CASES], "test": [],
    }  # fmt: skip
    folds = [{**entry, "fold": n} for n, entry in enumerate(msd["training"])]
    nnunet = {
        "name": "x", "channel_names": {"0": "MRI"}, "labels": {"background": 0, "w": [1, 2, 3], "t": [2, 3], "e": [3]},
        "regions_class_order": [1, 2, 3], "file_ending": ".nii", "numTraining": 3,
    }  # fmt: skip
    listed = {c: {"images": [f"imagesTr/{c}_0000.nii"], "label": f"labelsTr/{c}.nii"} for c in CASES}
    splits = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["b"], "val": ["a"]}]
    labels, plain = {"background": 0, "x": 1, "y": 2, "z": 3}, {key: msd[key] for key in msd if key != "regions"}
    return (
        _laid("imagesTr/{}.nii", "labelsTr/{}.nii", dataset=msd, splits=splits),
        _laid("imagesTr/{}.nii", "labelsTr/{}.nii", dataset={**plain, "training": folds, "validation": []}),
        _laid("imagesTr/{}_0000.nii", "labelsTr/{}.nii", dataset=nnunet, splits=splits),
        _laid("imagesTr/{}_0000.nii", "labelsTr/{}.nii", dataset={**nnunet, "labels": labels, "dataset": listed}),
        _laid("images/{}.nii", "labels/{}.nii", labels=labels, channels=["MRI"]),
        _laid("images/{}.nii", "labels/{}.nii", splits=splits),
        _laid("{0}/{0}_t1.nii", "{0}/{0}_seg.nii", labels={**labels, "regions_class_order": [1, 2, 3]}),
        _laid("{0}/{0}-t1n.nii", "{0}/{0}-seg.nii"),
    )


def description_changed(random: Random, files: Files) -> Files:
    """Return a dataset of which a JSON file was changed; one without any gets those of another layout."""
    found = dict(files)
    names = [name for name in LISTS if name in found]
    if not names or random.randrange(30) == 0:
        other = random.choice(sound())
        found |= {name: other[name] for name in LISTS if name in other}
        found.setdefault("labels.json", b'{"background": 0, "x": 1, "y": 2, "z": 3}')
        names = [name for name in LISTS if name in found]
    name = random.choice(names)
    content = found[name]
    assert isinstance(content, bytes)
    found[name] = json_changed(random, content)
    return found


NAMES = (
    "..", "x/../../y", "._a", ".hidden", "a b", "é", "e\u0301", "A", "NUL", "a.", "a_0000", "a_0001", "a\nb", "-rf",
    "x" * 200,
    "a;b", "\u202ea", "$(x)", "%2e%2e", "a.nii", "con", "a.nii.gz", "a.nrrd", "²", "HGG", "dataset.json",
)  # fmt: skip
ELSEWHERE = (
    "/etc/passwd",
    "/etc",
    "/dev/zero",
    "/proc/self/mem",
    "..",
    ".",
    "nowhere",
    "{folder}",
    "{folder}/..",
    "../../x",
)


def folder_changed(random: Random, files: Files) -> Files:
    """Return a dataset's folder with files that are renamed, gone, links, pipes, folders, or of other bytes."""
    found = dict(files)
    for _ in range(random.choice((1, 1, 2, 4))):
        if not found:
            break
        name = random.choice(sorted(found))
        content, kind = found[name], random.randrange(8)
        folder, _, own = name.rpartition("/")
        suffix = own[own.find(".") :] if "." in own else ""
        if kind <= 1:
            other = random.choice(NAMES).replace("/", "_" if random.randrange(2) else "/").replace("..", "_")
            found[f"{folder}/{other}{random.choice((suffix, '.nii.gz', '.nrrd', ''))}".lstrip("/")] = found.pop(name)
        elif kind == 2:
            del found[name]
        elif kind == 3:
            found[name] = Link(random.choice(ELSEWHERE))
        elif kind == 4:
            found[name] = random.choice((Pipe(), None, b""))
        elif kind == 5 and isinstance(content, bytes):
            found[name] = bytes_changed(random, content)
        elif kind == 6:
            found[
                random.choice(("", "images/", "imagesTs/", "labelsTs/", "a/")) + random.choice(NAMES[2:]) + suffix
            ] = b"x"
        else:
            found[f"{folder}/{own.replace('.nii', '.nii.gz')}".lstrip("/")] = content
    return _apart(found)


def _apart(files: dict[str, Content]) -> Files:
    """Files of which none has to be a folder as well."""
    return {
        name: content for name, content in files.items()
        if not any(other.startswith(f"{name}/") for other in files)
        and not any(name.startswith(f"{other}/") and files[other] is not None for other in files)
        and all(len(part.encode("utf-8", "surrogatepass")) < 250 for part in name.split("/"))
    }  # fmt: skip


def use(folder: Path) -> str:
    """Open the dataset in a folder, draw its split, and check every case of some."""
    dataset, refused = declared(folder)
    for case in dataset.every:
        assert name_fault(case.id) is None, f"the id {case.id!r} is opened"
        for path in (*case.images, *([] if case.label is None else [case.label])):
            assert not path.exists() or path.resolve().is_relative_to(folder.resolve()), f"{path} is opened"
    dataset.labels.to_index(np.array([0], np.int64))
    report = check_dataset(dataset, workers=1, refused=refused)
    assert report.cases == len(dataset.every)
    raise_refused(refused)
    split = load_split(dataset, 0)
    assert not set(split.train) & set(split.validation)
    known = {case.id for case in dataset.cases}
    assert {*split.train, *split.validation} <= known
    assert open_dataset(folder).cases == dataset.cases
    return "sound" if report.ok else "with problems"


def use_description(folder: Path) -> str:
    """Open the dataset in a folder without looking into its files."""
    dataset, refused = declared(folder)
    assert all(name_fault(case.id) is None for case in dataset.every)
    raise_refused(refused)
    try:
        load_split(dataset, 0)
    except UserError as error:
        assert folder.name in str(error) or "fold" in str(error)  # noqa: PT017
        return "no split"
    return f"{len(dataset.cases) > 0}"


@functools.cache
def predictions() -> tuple[Files, ...]:
    """Return a dataset, and segmentations of its cases by another tool."""
    data = {f"data/{name}": content for name, content in sound()[0].items()}
    found = {f"found/{case}.nii": _volume(n + 100, label=True) for n, case in enumerate(CASES)}
    return ({**data, **found}, {**data, **found, "found/metrics.json": b"{}", "found/a.txt": b"x"})


def predictions_changed(random: Random, files: Files) -> Files:
    """Return segmentations that are renamed, gone, links, pipes, folders, or of other bytes."""
    found = {name: content for name, content in files.items() if name.startswith("found/")}
    own = {name.removeprefix("found/"): content for name, content in found.items()}
    changed = folder_changed(random, own)
    return {name: content for name, content in files.items() if name not in found} | {
        f"found/{name}": content for name, content in changed.items()
    }


def use_predictions(folder: Path) -> str:
    """Score the segmentations."""
    (folder / "found").mkdir(exist_ok=True)
    result = evaluate_segmentations(folder / "found", folder / "data", out=folder / "out", workers=1)
    dice = [case.mean("dice") for case in result.cases]
    assert len(dice) == len(CASES)
    assert all(value is None or 0 <= value <= 1 for value in dice)
    return "scored"


DATASETS: Sequence[Reader] = (
    Reader("dataset", sound, description_changed, use_description, "dataset.json"),
    Reader("folder", sound, folder_changed, use, "imagesTr/a.nii"),
    Reader("predictions", predictions, predictions_changed, use_predictions, "found/a.nii"),
)
