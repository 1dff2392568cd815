"""Shapes are checked at run time in every test; real volumes are found through VOXWARD_DATA."""

from __future__ import annotations

import gc
import os
import pkgutil
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from tests import pretend_device, shapes

# PyTorch counts its devices at the first backward pass of a process: the accelerator of tests/devices must be there.
assert pretend_device.NAME

# Triton compiles kernels from their source, so they are imported before the hook can wrap them; without a GPU its
# interpreter runs them.
if find_spec("triton") is not None:
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    import_module("voxward.nets.depthwise_triton")

shapes.check()

# tests/isa.sh has the arithmetic of an older processor tested, which has no fast bfloat16 either.
if os.environ.get("ATEN_CPU_CAPABILITY") in ("default", "avx2"):
    torch.cpu._is_avx512_bf16_supported = lambda: False

# No test cuts the power, so nothing needs to be on the disk; tests of killed commands start processes of their own.
os.fsync = lambda number: None

# To import all tests creates millions of objects that stay: the collector would look through them again and again, a
# quarter of the time. It is on again before the first test.
gc.disable()

DATA = Path(os.environ.get("VOXWARD_DATA", Path(__file__).parents[2] / "shared" / "data"))
LONG = {"test_docs.py", "end_to_end", "browser"}
_ABSENT = f"there is no folder {DATA}"
REQUIRED = os.environ.get("VOXWARD_DATA_REQUIRED") == "1"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real volumes."""
    return DATA


# Several test processes share the cores, unless a number of threads is asked for, as tests/isa.sh does.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ and "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))


@pytest.fixture(scope="module")
def blank_pages() -> Iterator[Callable[..., None]]:
    """Write empty pages and figures at the end of commands: they take seconds, and most tests look at other files.

    Figures are put together as always, but not drawn. The value of the fixture is what draws them.
    """
    from matplotlib.figure import Figure

    draw = Figure.savefig

    @wraps(draw)  # pyplot, when it is first imported, looks at the name
    def save(figure: Figure, target: str | Path | BinaryIO, **options: object) -> None:
        """Write a word for the picture; figures that a test makes itself are drawn."""
        if isinstance(target, str):
            draw(figure, target, **options)
        elif isinstance(target, Path):
            target.write_bytes(b"a blank figure")
        else:
            target.write(b"a blank figure")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voxward.report.html.write.render", lambda *_: "<!DOCTYPE html>\n")
        patch.setattr(Figure, "savefig", save)
        yield draw


@pytest.fixture
def drawn_figures(blank_pages: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures in a test although the others of its module have blank ones."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", blank_pages)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    # Without an accelerator `torch.manual_seed` keeps a note, with the stack, for each kind that may still appear.
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def _shapes() -> None:
    shapes.begin_test()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Measure the coverage of importing voxward, and not of importing the tests: tracing doubles the time of that.

    The process that only hands the tests to others has nothing to measure at all.
    """
    plugins = session.config.pluginmanager
    coverage, hands_on = getattr(plugins.getplugin("_cov"), "cov_controller", None), plugins.hasplugin("dsession")
    if coverage is None:
        return (yield)
    if not hands_on:
        _import_all()
    coverage.pause()
    try:
        return (yield)
    finally:
        if not hands_on:
            coverage.resume()


def _import_all() -> None:
    package = import_module("voxward")
    for module in pkgutil.walk_packages(package.__path__, "voxward."):
        if not module.name.endswith("__main__"):
            with suppress(ModuleNotFoundError):  # one that needs what is not installed
                import_module(module.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: a process that got one of them last would keep the others waiting."""
    items.sort(key=lambda item: LONG.isdisjoint(item.path.parts))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Let the garbage collector begin, without what all tests share."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of real volumes without them is skipped by `make test` and fails `make test-all`."""
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if item.get_closest_marker("data") is None or DATA.is_dir():
        return
    if REQUIRED:
        pytest.fail(f"needs the real volumes, and there is no folder {DATA} (set VOXWARD_DATA)", pytrace=False)
    pytest.skip(_ABSENT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests did not run."""
    _list_skipped(terminalreporter, "real volumes", _ABSENT, f"set VOXWARD_DATA to their folder (now {DATA})")
    _list_skipped(terminalreporter, "Chromium", "needs Chromium", "run tests/browser/install.sh")


def _list_skipped(terminalreporter: pytest.TerminalReporter, absent: str, reason: str, remedy: str) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    not_run = [report.nodeid for report in skipped if reason in str(report.longrepr)]
    if not_run:
        terminalreporter.section(f"did not run, for want of {absent}")
        for name in not_run:
            terminalreporter.line(name)
        terminalreporter.line(f"{len(not_run)} tests; {remedy}")
