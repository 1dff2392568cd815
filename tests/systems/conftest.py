"""What tests of several kinds of systems share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def write_module(tmp_path):
    """Writes a module beside the files of a test, under a name that no other test has, and returns the name."""
    name, before = f"module_{tmp_path.name}".replace("-", "_"), list(sys.path)

    def write(text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    sys.path[:] = before
    sys.modules.pop(name, None)
