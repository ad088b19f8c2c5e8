"""Machines of a training, from the variables of its launcher."""

from __future__ import annotations

import pytest

from mlflow_carbon.session.machines import finding, machines


@pytest.mark.parametrize(
    ("env", "number"),
    [
        ({}, 1),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1"}, 1),  # torchrun, one machine
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "4"}, 4),
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "4"}, 4),
        ({"WORLD_SIZE": "9", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 3),  # 4 + 4 + 1
        ({"SLURM_NNODES": "8"}, 8),
        ({"SLURM_NNODES": "8", "SLURM_STEP_NUM_NODES": "2"}, 2),  # a step on two of the job's eight
        ({"WORLD_SIZE": "4"}, 1),  # who does not say how many are here says nothing
        ({"WORLD_SIZE": "many", "LOCAL_WORLD_SIZE": "0", "SLURM_NNODES": "-3"}, 1),
    ],
)
def test_machines_are_counted_as_the_launcher_tells(env, number):
    """Torchrun, Slurm, Open MPI, and what makes no sense."""
    assert machines(env) == number


def test_only_a_run_on_several_machines_has_a_finding():
    """Its energy is that of one machine, and it says so."""
    assert finding({}) is None
    assert finding({"SLURM_NNODES": "3"}) == (
        "the training runs on 3 machines: this is the energy of one of them"
    )
