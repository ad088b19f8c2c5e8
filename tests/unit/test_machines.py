"""Machines of a training, from the variables of its launcher."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from mlflow_carbon.session.machines import Node, finding, index, machines, node


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
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 2),
        ({"GROUP_WORLD_SIZE": "9" * 5000}, 1),  # neither an error nor a list of that many names
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


@pytest.mark.parametrize(
    ("env", "which"),
    [
        ({}, None),
        ({"GROUP_WORLD_SIZE": "4", "GROUP_RANK": "3"}, 3),
        ({"CROSS_SIZE": "2", "CROSS_RANK": "1", "WORLD_SIZE": "16", "RANK": "12"}, 1),  # DeepSpeed
        ({"SLURM_STEP_NUM_NODES": "2", "SLURM_NNODES": "8", "SLURM_NODEID": "1"}, 1),
        ({"SLURM_NNODES": "8", "SLURM_NODEID": "7"}, 7),
        # torchrun inside a Slurm step: number and index of the same launcher
        ({"GROUP_WORLD_SIZE": "2", "GROUP_RANK": "0", "SLURM_NNODES": "8", "SLURM_NODEID": "5"}, 0),
        ({"GROUP_WORLD_SIZE": "4", "GROUP_RANK": "4"}, None),  # of four there is no fifth
        ({"GROUP_WORLD_SIZE": "4", "GROUP_RANK": "-1"}, None),
        # Open MPI may deal ranks out in turn, so they tell nothing about machines
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_RANK": "3"}, None),
    ],
)
def test_the_index_is_that_of_the_launcher_that_told_the_number(env, which):
    """Of several launchers inside each other the innermost counts."""
    assert index(env) == which


def test_a_machine_among_several_has_a_name():
    """Its index, else the name that it brings along; the first one stands for the run."""
    torchrun = {"GROUP_WORLD_SIZE": "4", "GROUP_RANK": "1", "RANK": "8"}
    assert node(torchrun, fallback="host-x", host="h") == Node(name="1", number=4, is_first=False, host="h")
    assert node(torchrun | {"GROUP_RANK": "0"}, fallback="host-x") == Node(name="0", number=4, is_first=True)
    mpi = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    for rank, is_first in (("0", True), ("2", False)):
        found = node(mpi | {"OMPI_COMM_WORLD_RANK": rank}, fallback="host-x")
        assert found == Node(name="host-x", number=2, is_first=is_first)
    assert node({"GROUP_WORLD_SIZE": "1", "GROUP_RANK": "0"}, fallback="host-x") is None


def test_a_node_is_kept_in_the_journal():
    """`recover` knows whose figures they are, long after the launcher has gone."""
    own = Node(name="1", number=4, is_first=False, host="h")
    assert Node.from_record(asdict(own)) == own
    assert Node.from_record(None) is None
