"""For tests of sensors: waveforms whose energy is known, simulated meters, and a judge.

Public, for authors of sensors in other packages: see `docs/how-to/test-a-sensor.md`. Nothing else in the
package imports it.
"""

from __future__ import annotations

from mlflow_carbon.testing.clock import MovableClock, RealTimeClock, VirtualClock
from mlflow_carbon.testing.contract import breaches, check_sensor
from mlflow_carbon.testing.meter import Fault, FaultKind, Meter, Shown
from mlflow_carbon.testing.nvml import NvmlStub, SimulatedGpu, compile_stub
from mlflow_carbon.testing.oracle import Outcome, Plan, Reckoning, drive
from mlflow_carbon.testing.powercap import PowercapTree, Zone
from mlflow_carbon.testing.sensor import FakeSensor, fake_channel
from mlflow_carbon.testing.waveform import (
    Piece,
    Sine,
    Truth,
    Waveform,
    constant,
    ramp,
    sine,
    square,
    step,
    training,
)

__all__ = [
    "FakeSensor",
    "Fault",
    "FaultKind",
    "Meter",
    "MovableClock",
    "NvmlStub",
    "Outcome",
    "Piece",
    "Plan",
    "PowercapTree",
    "RealTimeClock",
    "Reckoning",
    "Shown",
    "SimulatedGpu",
    "Sine",
    "Truth",
    "VirtualClock",
    "Waveform",
    "Zone",
    "breaches",
    "check_sensor",
    "compile_stub",
    "constant",
    "drive",
    "fake_channel",
    "ramp",
    "sine",
    "square",
    "step",
    "training",
]
