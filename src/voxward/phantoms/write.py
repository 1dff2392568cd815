"""Datasets of phantoms: every kind by its name, and the one function that writes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.files import atomic_write
from voxward.core.registry import Registry
from voxward.phantoms.abdomen import AbdomenPhantoms
from voxward.phantoms.brain import BrainPhantoms
from voxward.phantoms.layouts import Layout
from voxward.phantoms.organ import OrganPhantoms


@runtime_checkable
class Phantoms(Protocol):
    """A kind of phantoms with its options, as `write_phantoms` uses it."""

    def case(self, number: int, seed: int) -> tuple[Volume, Volume]:
        """Make a case.

        Args:
            number: The number of the case in its dataset, from 0.
            seed: The seed of the case.

        Returns:
            The image (c, i, j, k), and the ground truth (i, j, k) in the values of the files.
        """
        ...

    def layout(self, seed: int) -> Layout:
        """Return how the files are arranged.

        Args:
            seed: The seed of the dataset, for its description.
        """
        ...


PHANTOMS: Registry[Callable[..., Phantoms]] = Registry(
    "kind of phantoms", {"organ": OrganPhantoms, "brain": BrainPhantoms, "abdomen": AbdomenPhantoms}
)


def write_phantoms(folder: Path | str, cases: int = 20, seed: int = 0, kind: str = "organ", **options: Any) -> None:
    """Write a dataset of synthetic volumes whose ground truth is known. It appears complete or not at all.

    The same arguments give the same files.

    Args:
        folder: The folder of the dataset, which must be new or empty.
        cases: The number of cases, at least 1.
        seed: The seed of all that is drawn.
        kind: `organ`: two organs and a lesion, as MR or CT; every fourth case has no lesion. `brain`: gliomas in four
            MR sequences, as a BraTS folder; every fifth case has no enhancing tumour. `abdomen`: a small organ among
            look-alikes in CT. `organ` and `abdomen` are written as the Medical Segmentation Decathlon does.
        **options: Of all kinds: `size`, the number of voxels along the longest axis (organ: at least 16, default 48;
            brain: at least 16, default 64; abdomen: 64 to 512, default 128). Of `organ`: `modality`, "mr" (default) or
            "ct". Of `abdomen`: `cysts`, True for cysts as a second class (default False).

    Raises:
        UserError: An argument is out of range, or the kind or an option is unknown.
        FileExistsError: The folder is not empty.

    Example:
        >>> voxward.write_phantoms("phantoms", cases=8, size=24)
        >>> voxward.write_phantoms("scans", cases=5, kind="abdomen", size=64, cysts=True)
    """
    phantoms, root = PHANTOMS.build(kind, **options), Path(folder)
    if cases < 1:
        raise UserError(f"cases must be at least 1, got {cases}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} exists and is not empty: phantoms are written to a new folder")
    layout = phantoms.layout(seed)
    with atomic_write(root) as unfinished:
        for number in range(cases):
            own_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
            layout.write_case(unfinished, number, *phantoms.case(number, own_seed))
        layout.finish(unfinished, cases)


def write_brain_phantoms(folder: Path | str, cases: int = 20, seed: int = 0, size: int = 64) -> None:
    """Call `write_phantoms` with the kind `brain`, whose former name this is; it will be removed."""
    warnings.warn("write_brain_phantoms(...) is now write_phantoms(..., kind='brain')", stacklevel=2)
    write_phantoms(folder, cases, seed, "brain", size=size)


def write_abdomen_phantoms(
    folder: Path | str, cases: int = 20, seed: int = 0, size: int = 128, cysts: bool = False
) -> None:
    """Call `write_phantoms` with the kind `abdomen`, whose former name this is; it will be removed."""
    warnings.warn("write_abdomen_phantoms(...) is now write_phantoms(..., kind='abdomen')", stacklevel=2)
    write_phantoms(folder, cases, seed, "abdomen", size=size, cysts=cysts)
