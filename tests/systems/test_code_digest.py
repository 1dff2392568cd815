"""What a function holds is a part of its fingerprint, so that results of another one are never taken for its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from functools import lru_cache, partial, wraps
from pathlib import Path

import numpy as np
import pytest
import torch

import voxward
from voxward.systems.blackbox import blackbox_system
from voxward.systems.code_digest import code_digest
from voxward.systems.network.system import network_system

LOG = logging.getLogger(__name__)
LIMIT = {"low": 1.0}


def network(factor):
    torch.manual_seed(0)
    made = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        made.weight.mul_(factor)
    return made


class Tool:
    def __init__(self, threshold):
        self.threshold = threshold

    def __call__(self, volume):
        return volume > self.threshold


def times(count):
    def wrap(function):
        @wraps(function)
        def repeated(value):
            return [function(value) for _ in range(count)]

        return repeated

    return wrap


def plain(volume, threshold=1):
    return volume > threshold


def closing_over(value):
    return lambda volume: (volume, value)


MADE = {
    "number": lambda n: closing_over(0.5 * n),
    "text": lambda n: closing_over(f"weights {n}"),
    "dictionary": lambda n: closing_over({"threshold": n}),
    "array": lambda n: closing_over(np.full(9999, n)),
    "tensor": lambda n: closing_over(torch.full((3,), n)),
    "network": lambda n: closing_over(network(n)),
    "setting of a network": lambda n: closing_over(torch.nn.LeakyReLU(0.1 * n)),
    "inner function": lambda n: closing_over(closing_over(n)),
    "object": Tool,
    "method": lambda n: Tool(n).__call__,
    "partial": lambda n: partial(plain, threshold=n),
    "array in a partial": lambda n: partial(plain, np.arange(9999) == 5000 * n),
    "decorated": lambda n: times(n)(plain),
    "cached": lambda n: lru_cache(closing_over(n)),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_a_function_holds_counts(kind):
    first, again, other = (code_digest(MADE[kind](n)) for n in (1, 1, 2))
    assert first == again != other


def test_two_functions_on_one_line_are_told_apart():
    one, other = (lambda volume: volume > 1), (lambda volume: volume > 2)
    assert code_digest(one) != code_digest(other)


def uses_globals(volume):
    LOG.debug("asked")
    return plain(volume) & (volume > LIMIT["low"])


def test_global_variables_count_but_not_what_belongs_to_others(monkeypatch):
    before = code_digest(uses_globals)
    logging.getLogger("another one").setLevel(1)
    assert code_digest(uses_globals) == before
    monkeypatch.setitem(LIMIT, "low", 2.0)
    assert code_digest(uses_globals) != before


@pytest.mark.slow
def test_it_is_the_same_in_another_process(tmp_path):
    """Sets of texts have another order there."""
    (tmp_path / "counted.py").write_text(
        "from voxward.systems.code_digest import code_digest\n"
        "NAMES = {'a', 'b', 'c', 'd', 'e'}\n"
        "def f(v):\n    return v in {'x', 'y', 'z', 'u', 'w'} or v in NAMES\n"
        "if __name__ == '__main__':\n    import counted\n    print(code_digest(counted.f))\n"
    )
    found = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(voxward.__file__).parents[1])}
        words = [sys.executable, "counted.py"]
        found.add(subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_a_function_that_keeps_count_stays_the_same_system():
    calls = []

    def segment(volume):
        calls.append(1)
        return volume.array[0] > 0

    system = blackbox_system(segment, ("background", "organ"))
    before = system.fingerprint()
    calls.append(1)
    assert system.fingerprint() == before


def test_other_weights_behind_a_function_are_another_system():
    pipeline = {"channels": [{"name": "MR"}], "labels": {"background": 0, "a": 1}, "window": [4, 4, 4]}
    systems = [network_system(closing(network(n)), name="net", **pipeline) for n in (1, 1, 2)]
    first, again, other = (system.fingerprint() for system in systems)
    assert first == again != other


def closing(inner):
    return lambda x: inner(x)
