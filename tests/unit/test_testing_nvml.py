"""What the NVML stub refuses before any library is there."""

from __future__ import annotations

import pytest

from mlflow_carbon.testing import Fault, FaultKind, NvmlStub, SimulatedGpu, compile_stub, training
from mlflow_carbon.testing.__main__ import main


def test_without_a_compiler_it_says_what_is_missing(tmp_path, monkeypatch):
    """No compiler is an error that names it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="a C compiler named cc"):
        compile_stub(tmp_path)


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch, capsys):
    """The command ends with 1 and the compiler's own words, not with a traceback."""
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'math.h: no such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["nvml", str(tmp_path / "gpu")]) == 1
    assert "cc has failed: math.h: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gpus", "what"),
    [
        ([SimulatedGpu()] * 17, "at most 16 GPUs, got 17"),
        ([SimulatedGpu(waveform=training(steps=200))], "at most 256 pieces"),
        ([SimulatedGpu(faults=(Fault(kind=FaultKind.HANG),) * 17)], "at most 16 faults"),
        ([SimulatedGpu(mig_slices=(1,) * 8)], "at most 7 MIG devices"),
    ],
)
def test_more_than_the_file_holds_is_refused(tmp_path, gpus, what):
    """The file has a fixed size, and what does not fit is named."""
    with pytest.raises(ValueError, match=what):
        NvmlStub(tmp_path / "no-library", gpus)


def test_its_clock_moves_when_told(tmp_path):
    """The shared clock advances for both sides and keeps its origin."""
    stub = NvmlStub(tmp_path / "no-library", [SimulatedGpu()])
    stub.clock.advance(1.5)
    assert stub.clock.monotonic_ns() - stub.clock.origin_ns == 1_500_000_000
    assert stub.clock.wall_ns() > stub.clock.monotonic_ns()
    assert stub.environment()["LD_LIBRARY_PATH"].startswith(str(tmp_path))
    assert stub.call_count == 0
