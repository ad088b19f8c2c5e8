"""Host facts from fake `proc` and `sys` trees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.provenance import facts, host
from tests.trees import MACHINE, XEON, grow


def test_a_machine_is_read(tmp_path):
    """16 threads / 8 per package = 2 packages; 2 x 4 = 8 cores; 32 768 000 kB x 1024."""
    assert host.read(grow(tmp_path, MACHINE)) == host.Host(
        kernel="6.1.0-18-amd64",
        system="Debian GNU/Linux 12 (bookworm)",
        product="Amazon EC2 m5.4xlarge",
        cpu=host.Cpu(
            model="Intel(R) Xeon(R) CPU @ 2.20GHz",
            sockets=2,
            cores=8,
            threads=16,
            governor="performance",
            is_turbo=True,
            is_smt=True,
            is_virtual=True,
        ),
        memory_bytes=33_554_432_000,
        swap_bytes=1_048_576,
    )


def test_an_empty_machine_is_all_unknown(tmp_path):
    """No file, no fact, no error."""
    found = host.read(tmp_path)
    assert found.kernel is None
    assert found.memory_bytes is None
    assert found.cpu == host.Cpu(
        model=None,
        sockets=None,
        cores=None,
        threads=None,
        governor=None,
        is_turbo=None,
        is_smt=None,
        is_virtual=None,
    )


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("cpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("processor\t: 0\nuarch\t: sifive,u74\n", "sifive,u74"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\n", "Arm implementer 0x41 part 0xd40"),
        ("rubbish", None),
    ],
)
def test_other_architectures_name_their_model_elsewhere(tmp_path, cpuinfo, model):
    """POWER, RISC-V, Arm, and a file that says nothing."""
    assert host.read(grow(tmp_path, {"proc/cpuinfo": cpuinfo})).cpu.model == model


def test_fewer_threads_than_the_package_claims(tmp_path):
    """A virtual machine that shows 2 of 8 threads has one package and at most 2 cores."""
    tree = {"proc/cpuinfo": XEON, "sys/devices/system/cpu/online": "0-1"}
    cpu = host.read(grow(tmp_path, tree)).cpu
    assert (cpu.sockets, cpu.cores, cpu.threads) == (1, 2, 2)


@pytest.mark.parametrize(
    ("file", "content", "turbo"),
    [("cpufreq/boost", "0", False), ("intel_pstate/no_turbo", "1", False), ("cpufreq/boost", "?", None)],
)
def test_turbo_is_read_from_either_driver(tmp_path, file, content, turbo):
    """Intel's driver says no_turbo, the others say boost."""
    tree = {f"sys/devices/system/cpu/{file}": content}
    assert host.read(grow(tmp_path, tree)).cpu.is_turbo is turbo


@settings(max_examples=40)
@given(content=st.binary(max_size=200), name=st.sampled_from(sorted(MACHINE)))
def test_any_bytes_in_any_file_are_no_error(tmp_path_factory, content, name):
    """A file full of rubbish gives a value or None."""
    root = grow(tmp_path_factory.mktemp("root"), MACHINE)
    (root / name).write_bytes(content)
    assert isinstance(host.read(root), host.Host)


def test_only_the_beginning_of_a_long_file_is_read(tmp_path):
    """The limit holds, and a folder in place of a file is empty."""
    grow(tmp_path, {"long": "x" * 10_000})
    assert facts.text(tmp_path / "long", limit=100) == "x" * 100
    assert facts.text(tmp_path) == ""


def test_here_looks_at_this_process():
    """The surroundings of the tests: their environment, their path, their folder."""
    import os
    import sys

    place = facts.here(privacy="off")
    assert place.env is os.environ
    assert place.modules is sys.modules
    assert place.path == tuple(sys.path)
    assert place.start.is_dir()
