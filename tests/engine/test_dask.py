"""The workers of a cluster do what one process does, whichever of them come, go or fail."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings

import pytest

from tests.engine.names import Grouped, Heard, begun, names
from voxward.core.choices import Cluster
from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted
from voxward.engine.choose import engine_for
from voxward.engine.engine import Engine, InProcess

dask = pytest.importorskip("voxward.engine.dask", reason="needs the extra cluster")
connect = pytest.importorskip("voxward.engine.connect")


@pytest.fixture(scope="module")
def two():
    """A cluster of two processes on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with connect.client_of(Cluster("local:2")) as client:
            yield client


def engine(client, folder, **options):
    client.wait_for_workers(2, timeout=60)  # one that another test has killed is started again
    place = dask.Place(folder, "probe", "token")
    (folder / "probe").write_text("token")
    return dask.DaskEngine(client, place, Cluster("", **options))


UNITS = ["a1", "a2", "a3", "b1", "b2", "b3"]


def test_results_are_those_of_one_process(two, tmp_path):
    (alone := tmp_path / "alone").mkdir()
    (shared := tmp_path / "shared").mkdir()
    expected, found, heard = names(alone, "b2"), names(shared, "b2"), Heard()
    InProcess(alone).run(UNITS, expected, Heard())
    used = engine(two, shared)
    assert isinstance(used, Engine)
    used.run(UNITS, found, heard)
    assert found.results == expected.results
    assert sorted(begun(shared)) == sorted(begun(alone)) == sorted(set(UNITS) - {"b2"})
    assert {p.name: p.read_text() for p in (shared / "texts").iterdir()} == {
        p.name: p.read_text() for p in (alone / "texts").iterdir()
    }
    assert [event for event in heard.events if event[0] == "begin"].count(("begin", "a1")) == 1
    assert ("told", "a1", "steps", 1, 2, {"dice": 0.5}) in heard.events


def test_files_come_back_where_the_folder_is_not_shared(two, tmp_path):
    work, used = names(tmp_path), engine(two, tmp_path)
    (tmp_path / "probe").write_text("another one")  # as a worker sees it that has another disk
    used.run(["a1", "b1"], work, Heard())
    assert {path.name: path.read_text() for path in (tmp_path / "texts").iterdir()} == {"a1.txt": "a1", "b1.txt": "b1"}


def test_failures_and_warnings_come_back_and_a_bug_ends_the_work(two, tmp_path):
    work = names(tmp_path)
    with pytest.warns(UserWarning, match="take care") as caught:
        engine(two, tmp_path).run(["a-bad", "b-warn", "c-warn", "d"], work, Heard())
    assert len(caught) == 1
    assert sorted(work.results) == ["b-warn", "c-warn", "d"]
    assert str(work.failures["a-bad"]) == "a-bad is bad"
    with pytest.raises(ZeroDivisionError) as raised:
        engine(two, tmp_path).run(["e", "bug"], work, Heard())
    assert "names.py" in "".join(raised.value.__notes__)  # where in the worker's code


def test_no_further_unit_of_what_has_failed_is_done(two, tmp_path):
    work = Grouped(names(tmp_path, pause=0.1).doer)
    engine(two, tmp_path).run(["a1-bad", "a2", "a3", "b1", "b2", "b3", "b4"], work, Heard())
    assert sorted(work.results) == ["b1", "b2", "b3", "b4"]
    assert not {"a2", "a3"} & {*begun(tmp_path)}


def test_what_cannot_be_sent_back_is_said_at_once(two, tmp_path):
    work = names(tmp_path)
    engine(two, tmp_path).run(["a-odd", "b"], work, Heard())
    assert str(work.failures["a-odd"]) == "a-odd is odd"
    assert work.results == {"b": "B"}
    with pytest.raises(RuntimeError, match="SystemExit: c-exit"):
        engine(two, tmp_path).run(["c-exit"], work, Heard())
    with pytest.raises(TypeError, match="lock"):
        engine(two, tmp_path).run(["d-unsent"], work, Heard())
    assert begun(tmp_path).count("a-odd") == begun(tmp_path).count("c-exit") == begun(tmp_path).count("d-unsent") == 1


def test_a_worker_may_end_between_the_end_of_a_unit_and_its_delivery(two, tmp_path, monkeypatch):
    work, land, killed = names(tmp_path), dask._Round._land, []

    def kill_first(self, future):
        if not killed:
            killed.append(self.flying[future.key].worker)
            os.kill(two.run(os.getpid, workers=killed)[killed[0]], signal.SIGKILL)
            while killed[0] in two.scheduler_info(n_workers=-1)["workers"]:
                time.sleep(0.02)
        land(self, future)

    def late(number, frame):
        raise AssertionError("the caller waits for ever")

    monkeypatch.setattr(dask, "_FETCH", 0.5)
    monkeypatch.setattr(dask._Round, "_land", kill_first)
    used, before = engine(two, tmp_path), signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        used.run(["a1", "b1", "b2"], work, Heard())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert killed
    assert sorted(work.results) == ["a1", "b1", "b2"]
    assert len(begun(tmp_path)) == 4


def test_a_worker_of_another_version_is_given_no_units(two, tmp_path, monkeypatch):
    monkeypatch.setattr(dask.voxward, "__version__", "0.0.1")
    with (
        pytest.warns(UserWarning, match="a worker is given no units"),
        pytest.raises(UserError, match=r"voxward is .* here, and 0\.0\.1 where the work was started"),
    ):
        engine(two, tmp_path).run(["a"], names(tmp_path), Heard())


def test_a_worker_that_is_killed_costs_the_unit_in_flight_only(two, tmp_path):
    work, units = names(tmp_path, pause=0.15), [f"{group}{n}" for group in "ab" for n in range(6)]

    def kill():
        while len(begun(tmp_path)) < 4:
            time.sleep(0.02)
        os.kill(next(iter(two.run(os.getpid).values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    engine(two, tmp_path).run(units, work, Heard())
    killer.join()
    assert work.results == {unit: unit.upper() for unit in units}
    assert len(units) <= len(begun(tmp_path)) <= len(units) + 1


@pytest.mark.slow
def test_a_local_worker_that_does_not_come_back_is_replaced(two, tmp_path):
    used, (name, nanny) = engine(two, tmp_path), next(iter(two.cluster.workers.items()))
    two.cluster.sync(nanny.close)
    del two.cluster.workers[name]  # as Dask does after a while
    work = names(tmp_path, pause=0.2)
    used.run(["a1", "b1"], work, Heard())
    assert sorted(work.results) == ["a1", "b1"]
    two.wait_for_workers(2, timeout=60)


def test_a_unit_that_kills_its_workers_fails_alone(two, tmp_path):
    work = names(tmp_path)
    engine(two, tmp_path, attempts=2).run(["a-deadly", "b1", "b2"], work, Heard())
    assert sorted(work.results) == ["b1", "b2"]
    assert "2 workers ended while doing it" in str(work.failures["a-deadly"])
    assert begun(tmp_path).count("a-deadly") == 2


@pytest.mark.slow
def test_workers_that_cannot_do_the_work_say_why(two, tmp_path):
    with (
        pytest.warns(UserWarning, match="a worker is given no units: process .* no such file here"),
        pytest.raises(UserError, match=r"no worker of .* can do this work: .*no such file here"),
    ):
        engine(two, tmp_path).run(["a-unfit", "b-unfit"], names(tmp_path), Heard())


def test_a_signal_drains(two, tmp_path):
    work = names(tmp_path, pause=0.3)

    def strike():
        while len(begun(tmp_path)) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=strike)
    thread.start()
    with (
        pytest.warns(UserWarning, match="2 units on the workers are finished first"),
        pytest.raises(Interrupted, match="same command again"),
    ):
        engine(two, tmp_path).run(UNITS, work, Heard())
    thread.join()
    assert sorted(work.results) == sorted(begun(tmp_path))
    assert len(work.results) == 2


def test_a_worker_is_waited_for_that_offers_what_is_asked(two, tmp_path, monkeypatch):
    monkeypatch.setattr(dask, "_PAUSE", 0.0)
    told, plain = [], warnings.warn

    def warn(text, *rest, **options):
        told.append(text)
        if text.startswith("waiting"):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(dask.warnings, "warn", warn)
    with pytest.raises(Interrupted):
        engine(two, tmp_path, resources={"GPU": 1}).run(["a"], names(tmp_path), Heard())
    monkeypatch.setattr(dask.warnings, "warn", plain)
    assert told[0] == "waiting for a worker that offers GPU=1: 2 are there, none is fit"


def test_work_that_cannot_be_sent_is_refused(two, tmp_path):
    work = names(tmp_path)
    work.doer.lock = threading.Lock()
    with pytest.raises(UserError, match="cannot be sent to other processes"):
        engine(two, tmp_path).run(["a"], work, Heard())


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local:0", "local:N needs a number of processes"),
        ("local:x", "local:N needs"),
        ("nowhere.json", "there is no cluster nowhere.json"),
        ("tpc://127.0.0.1:1", r"begins with tcp://, .*, got tpc://127.0.0.1:1"),
        ("tcp://127.0.0.1:1", "no scheduler answers at tcp://127.0.0.1:1"),
    ],
)
def test_a_cluster_that_is_none_is_refused(tmp_path, monkeypatch, address, message):
    monkeypatch.setattr(connect, "_CONNECT", 0.5)
    with pytest.raises(UserError, match=message), engine_for(tmp_path, address):
        raise AssertionError


def test_a_file_that_no_scheduler_wrote_is_refused(tmp_path):
    (tmp_path / "s.json").write_text("{}")
    with (
        pytest.raises(UserError, match="no file that a Dask"),
        engine_for(tmp_path, tmp_path / "s.json"),
    ):
        raise AssertionError


def test_what_dask_notes_about_itself_loses_no_worker(two, tmp_path):
    """Dask replaces its list of workers by an empty one now and then, in a thread of its own."""
    stop, work = threading.Event(), names(tmp_path, pause=0.2)

    def forget():
        while not stop.wait(0.001):
            two.sync(two._update_scheduler_info)

    used, thread = engine(two, tmp_path), threading.Thread(target=forget)
    thread.start()
    try:
        used.run(UNITS, work, Heard())
    finally:
        stop.set()
        thread.join()
    assert sorted(begun(tmp_path)) == UNITS
