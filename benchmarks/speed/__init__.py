"""Ours against a named peer, alternately in one process on the same tensors: `python -m benchmarks.speed`."""
