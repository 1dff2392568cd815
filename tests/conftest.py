"""Shapes and types are checked at run time in every test; real volumes are found through VOXWARD_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("voxward", "beartype.beartype")

DATA = Path(os.environ.get("VOXWARD_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real volumes."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real volumes, and {DATA} does not exist")
    return DATA


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
