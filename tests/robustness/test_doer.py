"""A process elsewhere measures nothing that is not what the caller means."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import voxward
from tests.robustness.books import clean
from voxward.core.case import Case
from voxward.core.progress import silent
from voxward.data.content import digest_of
from voxward.engine.engine import Unfit
from voxward.robustness import doer
from voxward.robustness.bench import Source
from voxward.robustness.unit import Unit


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A doer as another process has it, and the settings of its caller; system and case have one name."""
    monkeypatch.setattr(doer, "identity_of", lambda system: {"fingerprint": system})
    (tmp_path / "image").write_text("image")
    case = Case("m", (tmp_path / "image",))
    bench = SimpleNamespace(
        sources={"m": Source("net")}, surrogate=Source("other"), cases={"m": case}, version=voxward.__version__
    )
    settings = {
        "systems": {"m": {"fingerprint": "net"}},
        "surrogate": {"fingerprint": "other"},
        "cases": {"m": digest_of(case.images)},
    }
    worker = SimpleNamespace(
        bench=bench, system=lambda model: "net", other=lambda: "other", write_into=lambda folder: None,
        work=lambda unit, progress: (clean("a"),),
    )  # fmt: skip
    used = doer.BenchDoer.__new__(doer.BenchDoer)
    used.worker, used.settings, used._elsewhere, used._compared = worker, settings, True, set()
    return used, settings


def do(used, tmp_path):
    return used.do(Unit("m", "clean", "m", None, 0), tmp_path, silent)


def test_what_is_the_same_there_is_measured(elsewhere, tmp_path):
    assert do(elsewhere[0], tmp_path).records == (clean("a"),)


@pytest.mark.parametrize(
    ("part", "message"),
    [("systems", "net is another system here"), ("surrogate", "other is another system here"), ("cases", "case m")],
)
def test_another_system_surrogate_or_case_is_refused(elsewhere, tmp_path, part, message):
    used, settings = elsewhere
    other = {"systems": {"m": {"fingerprint": "x"}}, "surrogate": {"fingerprint": "x"}, "cases": {"m": "x"}}
    settings[part] = other[part]
    for _ in range(2):
        with pytest.raises(Unfit, match=message):
            do(used, tmp_path)
