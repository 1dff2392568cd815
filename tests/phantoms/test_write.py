from __future__ import annotations

from pathlib import Path

import pytest

from voxward.core.errors import UserError
from voxward.data.formats import open_dataset
from voxward.phantoms.write import PHANTOMS, write_phantoms

SMALL = {"organ": 16, "brain": 16, "abdomen": 64}


@pytest.mark.parametrize("kind", PHANTOMS)
def test_every_kind_is_a_dataset_that_repeats_by_seed(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, cases=2, seed=3, kind=kind, size=SMALL[kind])
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    dataset = open_dataset(tmp_path / "a")
    assert len(dataset.cases) == 2
    assert all(case.label is not None for case in dataset.cases)


@pytest.mark.parametrize(
    ("kind", "options", "fault"),
    [
        ("brian", {}, "unknown kind of phantoms 'brian'. Did you mean 'brain'"),
        ("brain", {"cysts": True}, "kind of phantoms 'brain' has no option cysts; it has: size"),
        ("organ", {"modality": "pet"}, "modality must be one of mr, ct, got 'pet'"),
        ("organ", {"size": 15}, "size must be at least 16 voxels, got 15"),
        ("brain", {"size": 15}, "size must be at least 16 voxels, got 15"),
        ("abdomen", {"size": 63}, "size must be 64 to 512 voxels, got 63"),
    ],
)
def test_wrong_kinds_and_options_are_refused_before_a_folder_is_made(
    tmp_path: Path, kind: str, options: dict[str, object], fault: str
) -> None:
    with pytest.raises(UserError, match=fault):
        write_phantoms(tmp_path / "p", cases=1, kind=kind, **options)
    assert list(tmp_path.iterdir()) == []
