"""Workers that are asked to end hand over what they have done, and what becomes of a caller whose scheduler is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from tests.engine.names import Heard, begun, names
from voxward.core.choices import Cluster
from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted
from voxward.engine.choose import engine_for

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]
UNITS = [f"{group}{n}" for group in "abc" for n in range(4)]


@contextmanager
def process(*words, **options):
    """A Python process of its own process group, which is killed at the end."""
    started = subprocess.Popen([sys.executable, *words], start_new_session=True, text=True, **options)
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        for pipe in (started.stdout, started.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def scheduler(file):
    """A scheduler that has written its file."""
    file.unlink(missing_ok=True)
    words = ("-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file), "--port", "0", "--no-dashboard")
    with process(*words, stderr=subprocess.DEVNULL) as started:
        until(file.is_file)
        yield started


def worker(file, *words):
    """A process of `voxward worker`."""
    return process("-m", "voxward.cli", "worker", str(file), *words, stderr=subprocess.PIPE)


def until(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.02)


def after(count, folder, strike):
    """A thread that does something once so many units were begun."""

    def run():
        until(lambda: len(begun(folder)) >= count)
        strike()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_worker_that_is_asked_to_end_hands_over_its_unit_and_takes_no_other(tmp_path, number):
    work, file = names(tmp_path, pause=0.4), tmp_path / "s.json"
    with scheduler(file), worker(file, "--name", "one") as one, worker(file, "--name", "two"):
        thread = after(3, tmp_path, lambda: one.send_signal(number))
        with engine_for(tmp_path, file) as engine:
            engine.run(UNITS, work, Heard())
        thread.join()
        text = one.communicate(timeout=60)[1]
        assert one.returncode == 0, text
        assert "finishes what it does" in text
    assert work.results == {unit: unit.upper() for unit in UNITS}
    assert sorted(begun(tmp_path)) == UNITS  # none was lost, and none done twice


def test_a_second_signal_ends_a_worker_at_once(tmp_path):
    work, file = names(tmp_path, pause=30), tmp_path / "s.json"

    def strike():
        one.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        one.send_signal(signal.SIGTERM)
        one.wait(timeout=10)
        os.kill(os.getpid(), signal.SIGTERM)

    with scheduler(file), worker(file) as one:
        thread = after(1, tmp_path, strike)
        with (
            pytest.warns(UserWarning, match="unit on the workers is finished first"),
            pytest.raises(Interrupted),
            engine_for(tmp_path, file) as engine,
        ):
            engine.run(["a"], work, Heard())
        thread.join()
    assert one.returncode == 130


def test_what_runs_when_all_workers_leave_goes_on_with_later_ones(tmp_path):
    """As where a batch system takes all machines away, and gives others."""
    work, file = names(tmp_path, pause=0.3), tmp_path / "s.json"
    with ExitStack() as stack:
        stack.enter_context(scheduler(file))
        one = stack.enter_context(worker(file))

        def strike():
            one.send_signal(signal.SIGTERM)
            one.wait(timeout=60)
            stack.enter_context(worker(file))

        thread = after(3, tmp_path, strike)
        with engine_for(tmp_path, file) as engine:
            engine.run(UNITS[:6], work, Heard())
        thread.join()
    assert sorted(begun(tmp_path)) == UNITS[:6]


def test_a_scheduler_that_is_killed_ends_the_work_and_a_new_one_goes_on(tmp_path):
    work, file = names(tmp_path, pause=0.3), tmp_path / "s.json"
    with scheduler(file) as first, worker(file) as one, worker(file) as two:
        thread = after(5, tmp_path, lambda: os.kill(first.pid, signal.SIGKILL))
        with (
            pytest.raises(UserError, match=r"the scheduler is gone.*give the same command again to go on"),
            engine_for(tmp_path, file) as engine,
        ):
            engine.run(UNITS, work, Heard())
        thread.join()
        for each in (one, two):
            assert "is gone" in each.communicate(timeout=60)[1]
            assert each.returncode == 2
    lost = set(begun(tmp_path)) - set(work.results)
    assert len(lost) <= 2
    with scheduler(file), worker(file), worker(file), engine_for(tmp_path, Cluster(str(file))) as engine:
        engine.run(UNITS, work, Heard())
    assert work.results == {unit: unit.upper() for unit in UNITS}
    assert len(begun(tmp_path)) == len(UNITS) + len(lost)


CALLER = """
import sys, warnings
from pathlib import Path
from tests.engine.names import Heard, names
from voxward.core.interrupt import Interrupted
from voxward.engine.choose import engine_for

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work = names(folder, pause=1.0)
    with engine_for(folder, "local:2") as engine:
        try:
            engine.run(sys.argv[2:], work, Heard())
        except Interrupted:
            print(*sorted(work.results), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_the_whole_process_group_loses_nothing_of_local_workers(tmp_path, number):
    """As a Ctrl-C in a terminal."""
    (tmp_path / "caller.py").write_text(CALLER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    words = (str(tmp_path / "caller.py"), str(tmp_path), *UNITS)
    with process(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as caller:
        until(lambda: len(begun(tmp_path)) >= 3)
        os.killpg(caller.pid, number)
        out, error = caller.communicate(timeout=60)
    assert caller.returncode == 0, error
    assert out.split() == sorted(begun(tmp_path)), error
    assert 3 <= len(out.split()) <= 5
