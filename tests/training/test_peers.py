"""What two processes of a training tell each other; here they are two threads. tests/faults really kills them."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from lightning_fabric import Fabric

from voxward.core.errors import ProcessLost, UserError
from voxward.core.interrupt import Interrupted
from voxward.training.peers import Peers, refuse_unshared


class _Process(Fabric):
    """One of several processes, which gets what the first one broadcasts."""

    def __init__(self, rank, world, sent):
        super().__init__(accelerator="cpu", devices=1)
        self.rank, self.world, self.sent = rank, world, sent

    global_rank = property(lambda self: self.rank)
    world_size = property(lambda self: self.world)

    def broadcast(self, obj, src=0):
        if self.rank == 0:
            self.sent.put(obj)
            return obj
        return self.sent.get(timeout=20)


def _both(work):
    """Call a function in both processes, and return what each raised."""
    sent = queue.Queue()

    def run(rank):
        try:
            with Peers(_Process(rank, 2, sent)) as peers:
                work(rank, peers)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, (0, 1)))


def test_the_second_process_waits_for_the_first():
    order, may_pass = [], threading.Event()

    def work(rank, peers):
        if rank == 0:
            may_pass.wait(0.3)
            order.append("first")
        peers.after_first("prepared")
        order.append(rank)
        if rank == 1:
            assert order[0] == "first"
            may_pass.set()

    assert _both(work) == [None, None]
    assert sorted(map(str, order)) == ["0", "1", "first"]


@pytest.mark.parametrize("failing", [0, 1])
def test_what_one_process_says_the_other_does_not_repeat(failing):
    def work(rank, peers):
        if rank == failing:
            raise UserError("the dataset is empty")
        while peers.lost is None:
            pass
        raise RuntimeError("connection closed by peer")  # what a collective operation makes of it

    errors = _both(work)
    assert isinstance(errors[failing], UserError)
    assert isinstance(errors[1 - failing], ProcessLost)
    assert str(errors[1 - failing]) == ""


def test_an_error_of_its_own_is_no_loss_of_another():
    def work(rank, peers):
        raise Interrupted("stopped at step 3") if rank else FloatingPointError("the loss is nan")

    first, second = _both(work)
    assert isinstance(first, FloatingPointError)
    assert isinstance(second, Interrupted | ProcessLost)


def test_a_lone_process_has_no_peers():
    with Peers(_Process(0, 1, None)) as peers:
        peers.after_first("prepared")
    assert peers.lost is None


def test_a_folder_that_another_node_does_not_see_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    refuse_unshared(tmp_path / "recipe.yaml", "the run folder")
    with pytest.raises(UserError, match=r"does not see .*absent.*must be on a file system that all nodes share"):
        refuse_unshared(tmp_path / "absent", "the run folder", wait=0.0)
