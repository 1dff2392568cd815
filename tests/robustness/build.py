"""A bench of systems that were built in memory."""

from __future__ import annotations

from voxward.robustness.bench import Bench, Source, Worker


def a_bench(systems, cases, protocol, **options):
    """A worker whose systems are open already."""
    bench = Bench(
        sources={name: Source(name) for name in systems},
        labels={name: system.labels for name, system in systems.items()},
        cases={case.id: case for case in cases},
        protocol=protocol,
        version="0",
        **options,
    )
    return Worker(bench, dict(systems))


def records_of(worker):
    """All records, made one unit after the other without a folder; thresholds stay unknown."""
    bench = worker.bench
    return [record for unit in (*bench.first_units(), *bench.units()) for record in worker.work(unit)]
