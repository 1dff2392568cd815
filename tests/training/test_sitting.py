"""One sitting: it keeps the time of all sittings, stops when told and saves first, and closes its log in any case."""

import os
import signal
from pathlib import Path

import pytest
import torch

from voxward.core.interrupt import Interrupted
from voxward.core.progress import silent
from voxward.training.log import TrainingLog
from voxward.training.sitting import Sitting


class Counting(Sitting):
    """Ten steps of one second each; `at` says after which one a signal comes."""

    def __init__(self, at=None):
        self.now, self.done, self.saved, self.at = 100.0, 0, [], at
        super().__init__(Path("run"), torch.device("cpu"), 1.5, silent, lambda: self.now)

    @property
    def step(self):
        return self.done

    def steps(self):
        while self.done < 10:
            began = self.clock()
            self.now += 1.0
            self.done += 1
            assert self.seconds_since(began) == 1.0
            if self.done == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            yield

    def save(self):
        self.saved.append(self.done)


def test_the_time_of_earlier_sittings_counts():
    sitting = Counting()
    sitting.before = 30.0
    sitting.work(None)
    assert (sitting.budget, sitting.seconds(), sitting.saved) == (90.0, 40.0, [])


def test_a_signal_stops_it_after_the_step_with_the_state_saved_and_the_log_closed(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(TrainingLog, "close", lambda log: closed.append(log))
    sitting, log = Counting(at=4), TrainingLog(tmp_path / "log.csv", 0)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped at step 4; --resume continues run"):
        sitting.work(log)
    assert (sitting.done, sitting.saved, closed) == (4, [4], [log])
    assert signal.getsignal(signal.SIGINT) is before


def test_another_process_may_have_got_the_signal():
    sitting = Counting()
    sitting.anyone = lambda stop: sitting.done == 2
    with pytest.raises(Interrupted):
        sitting.work(None)
    assert sitting.saved == [2]
