"""Containers: two signals that agree, or no kind."""

from __future__ import annotations

import pytest

from mlflow_carbon.provenance import container
from tests.trees import MACHINE, grow

OVERLAY = "22 1 0:20 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/x\n"
DISK = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
DOCKER_HOSTS = "30 22 8:1 /var/lib/docker/containers/abc/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
POD_HOSTS = "30 22 8:1 /var/lib/kubelet/pods/abc/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("files", "env", "kind"),
    [
        ({".dockerenv": "", "proc/self/mountinfo": OVERLAY + DOCKER_HOSTS}, {}, "docker"),
        ({".dockerenv": "", "proc/self/mountinfo": OVERLAY}, {}, "docker"),
        ({".dockerenv": "", "proc/self/cgroup": "12:cpu:/docker/abc\n"}, {}, "docker"),
        ({"run/.containerenv": "", "proc/self/mountinfo": OVERLAY}, {"container": "podman"}, "podman"),
        (
            {
                "var/run/secrets/kubernetes.io/serviceaccount/token": "",
                "proc/self/mountinfo": OVERLAY + POD_HOSTS,
            },
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            "kubernetes",
        ),
        ({".singularity.d/env/x": ""}, {"APPTAINER_CONTAINER": "/images/x.sif"}, "apptainer"),
        ({"proc/self/cgroup": "0::/lxc.payload.x\n"}, {"container": "lxc"}, "lxc"),
    ],
)
def test_two_signals_make_a_container(tmp_path, files, env, kind):
    """Each kind with the signals it really shows."""
    found = container.read(grow(tmp_path, MACHINE | files), env=env)
    assert found.kind == kind
    assert len(found.signals) >= 2


@pytest.mark.parametrize(
    ("files", "env"),
    [
        ({}, {}),
        ({".dockerenv": "", "proc/self/mountinfo": DISK}, {}),
        ({"proc/self/mountinfo": OVERLAY}, {}),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
    ],
)
def test_one_signal_is_not_proof(tmp_path, files, env):
    """A virtual machine made from an image has /.dockerenv; live systems have an overlay root."""
    assert container.read(grow(tmp_path, MACHINE | files), env=env).kind is None


def test_a_single_signal_is_still_recorded(tmp_path):
    """The document shows what was seen and was not enough."""
    assert container.read(grow(tmp_path, {".dockerenv": ""}), env={}).signals == ("file /.dockerenv",)


def test_limits_of_the_own_control_group(tmp_path):
    """Read where the process is, not at the root."""
    files = {
        "proc/self/cgroup": "0::/job/1\n",
        "sys/fs/cgroup/job/1/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/job/1/memory.max": "1073741824\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
    }
    found = container.read(grow(tmp_path, files), env={"CARBON_IMAGE_DIGEST": "sha256:abc"})
    assert (found.cpu_max, found.memory_max, found.image) == ("200000 100000", "1073741824", "sha256:abc")


def test_a_control_group_outside_of_the_name_space_is_the_root(tmp_path):
    """`0::/../x` must not lead out of the tree."""
    files = {"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}
    assert container.read(grow(tmp_path, files), env={}).cpu_max == "max 100000"
