"""Batch scripts for SLURM: a cluster of workers and the command that uses it, or one training on all GPUs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from voxward import __version__
from voxward.core.job import Job

_BEGIN = """
cd "$SLURM_SUBMIT_DIR" || exit 2
"""

_STOPPING = """
# SLURM sends USR1 to this script `warn` seconds before the time limit: what runs is finished, and the job goes on in a
# new one. TERM comes, to the processes that srun has started as well, where the job is cancelled or its machines are
# taken away; then SLURM decides what follows.
again=
caller=
told=()
signalled=
stop() {
    signalled=1
    kill -USR1 "$@" 2>/dev/null
}
trap 'again=1; stop "${told[@]}"' USR1
trap 'stop $caller' TERM

# Wait for a process and return its exit code; a signal only interrupts the waiting.
finished() {
    local code
    while :; do
        signalled=
        wait "$1"
        code=$?
        if [ -z "$signalled" ]; then return "$code"; fi
    done
}

finish() {
    # 130: interrupted in good order; 138: by USR1, where nothing was begun yet.
    if [ -n "$again" ] && { [ "$1" = 130 ] || [ "$1" = 138 ]; }; then
        if [ "${SLURM_RESTART_COUNT:-0}" -ge "$most" ]; then
            echo "this job was begun $((most + 1)) times and is not finished: sbatch it again to go on" >&2
        elif scontrol requeue "$SLURM_JOB_ID"; then
            sleep 600  # until SLURM ends this script
        fi
    fi
    exit "$1"
}
"""

_UNITS = """
# Every start has its own file, so that no worker finds the scheduler of an earlier one. All machines must see it.
scheduler=$PWD/.voxward-scheduler-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}.json
trap 'rm -f "$scheduler"' EXIT
export DASK_LOGGING__DISTRIBUTED=${DASK_LOGGING__DISTRIBUTED:-warning}
dask scheduler --scheduler-file "$scheduler" --port 0 --no-dashboard &
server=$!
for _ in $(seq 120); do
    if [ -s "$scheduler" ] || ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 1
done
if [ ! -s "$scheduler" ]; then
    echo "the Dask scheduler did not start: is voxward[cluster] installed where this job runs?" >&2
    exit 2
fi

"${command[@]}" --cluster "$scheduler" "${needs[@]}" &
caller=$!

# A worker that was killed, for want of memory for example, is started again; the loss of a machine ends nothing.
srun "${tasks[@]}" --no-kill --kill-on-bad-exit=0 --wait=0 --unbuffered bash -c '
    ended=
    trap "ended=1" USR1 TERM INT
    while [ -z "$ended" ]; do
        voxward worker "$@"
        code=$?
        if [ "$code" -le 128 ]; then exit "$code"; fi
        sleep 5
    done
    exit 0
' worker "$scheduler" "${offers[@]}" &
workers=$!
told=("$caller" "$workers")
if [ -n "$again" ]; then stop "${told[@]}"; fi
(
    while kill -0 "$workers" 2>/dev/null; do sleep 2; done
    if kill -USR1 "$caller" 2>/dev/null; then echo "no worker is left: the command ends" >&2; fi
) &
watcher=$!

finished "$caller"
code=$?
kill "$watcher" 2>/dev/null
if [ -n "$again" ]; then finish "$code"; fi  # all that the workers had is here, and time is short
kill -USR1 "$workers" 2>/dev/null
finished "$workers"
kill "$server" 2>/dev/null
finish "$code"
"""

_TOGETHER = """
# One process for each GPU; they find each other by what SLURM tells them. A run that was begun is resumed.
if [ -e "$begun" ]; then command+=(--resume); fi
srun "${tasks[@]}" --kill-on-bad-exit=1 --unbuffered "${command[@]}" &
training=$!
told=("$training")
if [ -n "$again" ]; then stop "${told[@]}"; fi
finished "$training"
finish $?
"""


def units_script(job: Job, words: Sequence[str], setup: str, restarts: int) -> str:
    """Return the script of a job whose workers do the units of a command.

    Args:
        job: What is asked for.
        words: The command, from `attack` on.
        setup: What the shell does first on each machine.
        restarts: How often the job may put itself back into the queue.
    """
    gpu = ("--resources", "GPU=1") if job.gpus_per_node else ()
    values = {"command": ("voxward", *words), "needs": gpu, "offers": gpu, "tasks": _tasks(job)}
    return _script(job, setup, values, {"most": str(restarts)}, _UNITS)


def together_script(job: Job, words: Sequence[str], begun: str, setup: str, restarts: int) -> str:
    """Return the script of a job whose processes train one network together.

    Args:
        job: What is asked for.
        words: The command, from `train` on.
        begun: The file by which a run that was begun is known.
        setup: What the shell does first on each machine.
        restarts: How often the job may put itself back into the queue.
    """
    shape = ("--devices", str(job.processes), "--nodes", str(job.nodes))
    values = {"command": ("voxward", *words, *shape), "tasks": _tasks(job)}
    return _script(job, setup, values, {"most": str(restarts), "begun": begun}, _TOGETHER)


def _script(job: Job, setup: str, lists: Mapping[str, Sequence[str]], values: Mapping[str, str], body: str) -> str:
    arrays = [f"{name}=({shlex.join(words)})" for name, words in lists.items()]
    plain = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    parts = [_header(job), _BEGIN.strip(), setup.strip(), "\n".join([*arrays, *plain]), _STOPPING.strip(), body.strip()]
    return "\n\n".join(filter(None, parts)) + "\n"


def _header(job: Job) -> str:
    asked = {
        "job-name": "voxward", "output": "voxward-%j.log", "open-mode": "append", "nodes": job.nodes,
        "ntasks-per-node": job.processes, "gpus-per-node": job.gpus_per_node or None,
        "cpus-per-task": job.cpus_per_task, "mem": job.mem, "time": job.time, "partition": job.partition,
        "account": job.account, "signal": f"B:USR1@{job.warn}",
    }  # fmt: skip
    lines = [f"#SBATCH --{name}={value}" for name, value in asked.items() if value is not None]
    return "\n".join(
        ["#!/bin/bash", f"# Written by voxward slurm, version {__version__}.", *lines, "#SBATCH --requeue",
         "#SBATCH --no-kill"]
    )  # fmt: skip


def _tasks(job: Job) -> tuple[str, ...]:
    """What srun is told; newer versions do not take the number of cores over from the job."""
    cores = () if job.cpus_per_task is None else (f"--cpus-per-task={job.cpus_per_task}",)
    return (f"--nodes={job.nodes}", f"--ntasks-per-node={job.processes}", *cores)
