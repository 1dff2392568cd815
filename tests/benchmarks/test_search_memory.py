"""Counting live storages without computing anything."""

import torch
from benchmarks.search_memory import LiveBytes

MEGABYTE = 2**20


def megabyte() -> torch.Tensor:
    return torch.empty(MEGABYTE // 4)


def test_a_storage_counts_once_and_until_its_last_view_is_gone():
    live = LiveBytes()
    with live, torch.device("meta"):
        first = megabyte()
        view = first.reshape(2, -1)
        assert live.now == MEGABYTE
        second = first + 1
        del first
        assert live.now == 2 * MEGABYTE
        del view, second
        third = megabyte()
        assert (live.now, live.peak) == (MEGABYTE, 2 * MEGABYTE)
        del third
    assert live.now == 0


def test_what_a_backward_pass_needs_is_kept():
    """exp keeps its result, an addition nothing."""
    peaks = []
    for layer in (torch.exp, lambda x: x + 1):
        live = LiveBytes()
        with live, torch.device("meta"):
            x = megabyte().requires_grad_()
            for _ in range(4):
                x = layer(x)
            peaks.append(live.peak)
    assert peaks == [5 * MEGABYTE, 3 * MEGABYTE]
