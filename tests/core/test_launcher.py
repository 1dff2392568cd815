"""Processes that a launcher has started share a training, and nothing else."""

import pytest

from voxward.cli import main
from voxward.core.errors import UserError
from voxward.core.launcher import launcher, refuse_launcher, refuse_several

TORCHRUN = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "4"}
BATCH = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4"}


@pytest.fixture
def started(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return lambda variables: [monkeypatch.setenv(*each) for each in variables.items()]


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN])
def test_the_processes_of_a_launcher_train_together(started, environment):
    started(environment)
    refuse_launcher(2, 2)
    with pytest.raises(UserError, match=r"started 4 processes .*whole run on its own: pass --devices 2 --nodes 2"):
        refuse_launcher(1)
    with pytest.raises(UserError, match=r"but --devices 4 --nodes 1 are 4: pass --devices 2 --nodes 2"):
        refuse_launcher(4)
    with pytest.raises(UserError, match=r"but --devices 2 --nodes 1 are 2"):
        refuse_launcher(2)


def test_a_launcher_that_does_not_say_how_many_are_here(started):
    started({"WORLD_SIZE": "2"})
    refuse_launcher(2)
    with pytest.raises(UserError, match=r"started 2 processes \(WORLD_SIZE=2\).*pass --devices 2"):
        refuse_launcher(1)
    started({"WORLD_SIZE": "1"})
    refuse_launcher(1)


def test_the_shell_of_a_batch_script_has_started_nothing(started):
    started(BATCH)
    assert launcher() is None
    refuse_launcher(2)
    refuse_several("attack")


def test_several_nodes_need_a_launcher(started):
    started({})
    with pytest.raises(UserError, match=r"torchrun --nnodes 2 --nproc-per-node 4, or srun --nodes 2 --ntasks-per-node"):
        refuse_launcher(4, 2)
    with pytest.raises(UserError, match="at least 1, got 0 and 1"):
        refuse_launcher(0)


def test_mpirun_trains_nothing(started):
    started(MPI)
    with pytest.raises(UserError, match=r"mpirun started 4 processes .* start them by torchrun or srun"):
        refuse_launcher(4)


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN, MPI])
def test_other_commands_are_not_done_several_times(started, environment, capsys, tmp_path):
    started(environment)
    assert main(["check", str(tmp_path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "each would do all the work of 'check'" in said
    assert f"env -u {next(iter(environment))} voxward check" in said
