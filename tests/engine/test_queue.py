"""A worker keeps its group; one that has none takes a free group, or helps where most is left."""

from __future__ import annotations

from voxward.engine.queue import UnitQueue


def test_a_worker_stays_with_its_group_and_then_helps():
    queue = UnitQueue(["a1", "a2", "a3", "a4", "b1", "b2"], lambda unit: unit[0])
    assert [queue.take("one"), queue.take("two"), queue.take("one"), queue.take("two")] == ["a1", "b1", "a2", "b2"]
    assert (queue.take("two"), queue.take("one"), queue.take("one"), len(queue)) == ("a3", "a4", None, 0)


def test_a_group_of_a_worker_that_is_gone_is_free():
    queue = UnitQueue(["a1", "a2", "b1", "b2", "b3"], lambda unit: unit[0])
    assert queue.take("one") == "a1"
    queue.put_back("a1")
    assert queue.take("two") == "b1"
    queue.forget("one")
    assert queue.take("three") == "a1"


def test_most_is_left_where_one_helps():
    queue = UnitQueue(["a1", "a2", "b1", "b2", "b3"], lambda unit: unit[0])
    assert [queue.take(worker) for worker in ("one", "two", "three")] == ["a1", "b1", "b2"]
