"""A tiny phantom dataset and a run on it, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxward.commands.train import train
from voxward.core.choices import Fold
from voxward.phantoms.write import write_phantoms

HERE = Path(__file__).parent
TRACED = ("test_cv", "test_reproduce", "test_search", "test_transfer", "test_unfinished")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Leave most of these tests and their fixtures out of the coverage: tracing doubles their time.

    Most lines have a test of their own to cover them; what only a whole command reaches is in files that are traced.
    """
    coverage = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if coverage is None or HERE not in item.path.parents or item.path.stem in TRACED:
        return (yield)
    coverage.pause()
    try:
        return (yield)
    finally:
        coverage.resume()


# The smallest honest training: flat networks on small patches, in float32 so that it is the same on every machine.
TINY = (
    "training.workers=0", "training.precision=fp32", "network.options.filters=[4,8,8,8,8,8]",
    "preparation.batch_size=2", "training.epochs=2",
)  # fmt: skip

WHOLE_PAGES = ("test_cv", "test_search", "test_suite", "test_unseen")


@pytest.fixture(scope="module", autouse=True)
def _pages(request):
    if request.module.__name__.rpartition(".")[2] not in WHOLE_PAGES:
        request.getfixturevalue("blank_pages")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(root, 8, size=24)
    return root


@pytest.fixture(scope="session")
def trained(phantoms, tmp_path_factory):
    return train(
        phantoms, out=tmp_path_factory.mktemp("run") / "run", recipe="dynunet", overrides=TINY, fold=Fold(seed=1)
    )
