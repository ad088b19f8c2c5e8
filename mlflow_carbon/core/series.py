"""The frozen values that flow from sensors to footprints.

`Channel` describes one stream of readings, `Sample` is one reading, `Tick` is one pass over all
channels, `Interval` is the energy between two readings, `EnergySeries` is the energy of one span
by channel and UTC bucket. Nothing here integrates or costs anything: see `energy` and `carbon`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from mlflow_carbon.core.cells import BUCKET_S, Cell, Cells

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "BUCKET_S",
    "Basis",
    "Case",
    "Cell",
    "Cells",
    "Channel",
    "Component",
    "EnergySeries",
    "Interval",
    "Kind",
    "Quality",
    "Sample",
    "Tick",
]


class Component(StrEnum):
    """What a channel feeds. `NODE` is a whole-machine meter and is never added to the parts."""

    CPU = "cpu"
    GPU = "gpu"
    DRAM = "dram"
    NODE = "node"


class Basis(StrEnum):
    """Whether a number was read from a meter or computed from a model."""

    MEASURED = "measured"
    MODELLED = "modelled"
    MIXED = "mixed"


class Quality(IntEnum):
    """Quality level of an energy figure, after the levels of the EE HPC Working Group."""

    L0 = 0
    """model"""
    L1 = 1
    """power sampled below 10 Hz"""
    L2 = 2
    """power sampled at 10 Hz or more"""
    L3 = 3
    """energy counter"""
    L4 = 4
    """external meter"""


class Kind(StrEnum):
    """What a reading means, and so how it is integrated."""

    COUNTER = "counter"
    """energy since some origin; differences count"""
    GAUGE = "gauge"
    """instantaneous power; trapezoids between readings"""
    MEAN = "mean"
    """mean power since the previous reading of this channel; the models report this"""


class Case(StrEnum):
    """How an interval came about. Only `NORMAL` and `WRAPPED` carry energy."""

    NORMAL = "normal"
    WRAPPED = "wrapped"
    RESET = "reset"
    IMPLAUSIBLE = "implausible"
    GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One stream of readings from one device.

    Attributes:
        id: Unique in a run, for example `rapl:package-0` or `model:cpu`.
        sensor: The reader, for example `nvml`, `rapl`, `model`.
        device: Human-readable device name.
        component: What it feeds.
        kind: How its readings are integrated.
        basis: Measured or modelled.
        quality: Quality level of energy from this channel.
        low_ratio: Lower end of the 95 % range, as a factor on the energy (at most 1).
        high_ratio: Upper end of the 95 % range, as a factor on the energy (at least 1).
        range_uj: Where an energy counter wraps, in microjoules; None if it never does or is unknown.
        power_max_w: Highest believable power; an interval above it is not believed. None: no ceiling.
        source: Where the number comes from, for people: file, table row, driver call.
    """

    id: str
    sensor: str
    device: str
    component: Component
    kind: Kind
    basis: Basis
    quality: Quality
    low_ratio: float
    high_ratio: float
    range_uj: int | None = None
    power_max_w: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low_ratio <= 1 <= self.high_ratio < math.inf:
            raise ValueError(
                f"channel {self.id}: expected 0 <= low_ratio <= 1 <= high_ratio, "
                f"got {self.low_ratio} and {self.high_ratio}"
            )
        if self.range_uj is not None and self.range_uj <= 0:
            raise ValueError(f"channel {self.id}: expected range_uj > 0, got {self.range_uj}")
        if self.power_max_w is not None and not 0 < self.power_max_w < math.inf:
            raise ValueError(f"channel {self.id}: expected power_max_w > 0, got {self.power_max_w}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of one channel. A failed read has `error` and no value: it is never a zero.

    Values are whole numbers of at least 0; a NaN or a negative value is refused here, so that a sensor
    that delivers one becomes a failed read and not a broken sum.

    Attributes:
        channel: Id of the channel.
        t_mono_ns: Monotonic time of the reading in nanoseconds.
        read_ns: How long the read took in nanoseconds.
        energy_uj: Counter value in microjoules (`Kind.COUNTER`).
        power_mw: Power in milliwatts (`Kind.GAUGE`, `Kind.MEAN`).
        util_ppm: Utilisation of the device in parts per million, where it is known.
        error: Why there is no value.
    """

    channel: str
    t_mono_ns: int
    read_ns: int = 0
    energy_uj: int | None = None
    power_mw: int | None = None
    util_ppm: int | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        for value in (self.energy_uj, self.power_mw, self.util_ppm):
            if value is not None and not (isinstance(value, int) and value >= 0):
                raise ValueError(
                    f"reading of {self.channel}: expected whole numbers of at least 0, got {value!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One pass of the sampler over all channels.

    Attributes:
        seq: Counts up by one per pass, from 0.
        t_mono_ns: Monotonic time at the start of the pass.
        t_wall_ns: UTC time at the same moment, nanoseconds since the epoch.
        samples: Of each channel that has something new, oldest first.
        facts: What stands beside power, by name (`nvml:0/temperature_c`); not in every tick.
    """

    seq: int
    t_mono_ns: int
    t_wall_ns: int
    samples: tuple[Sample, ...]
    facts: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Energy of one channel between two readings; `energy_uj` is None where there is none to be had.

    `spread_uj` is the standard uncertainty of the energy from reading at moments only; what the device itself
    errs by is in the ratios of its channel.
    """

    channel: str
    start_ns: int
    end_ns: int
    energy_uj: int | None
    case: Case
    spread_uj: float = 0.0

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise ValueError(
                f"interval of {self.channel}: expected end >= start, got {self.start_ns}..{self.end_ns}"
            )
        if self.energy_uj is not None and self.energy_uj < 0:
            raise ValueError(f"interval of {self.channel}: expected energy >= 0, got {self.energy_uj} uJ")

    @property
    def duration_ns(self) -> int:
        """Length in nanoseconds."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySeries:
    """Energy of one span.

    Attributes:
        channels: What was read.
        duration_ns: Length of the span.
        cells: Energy by channel and UTC bucket, sorted; a ledger gives `Cells`.
        covered_ns: Time with believable data, by channel id.
        cases: How many intervals of each case, by channel id.
        sampling_uj: Half-width of the 95 % range from reading at moments only, by channel id.
    """

    channels: tuple[Channel, ...]
    duration_ns: int
    cells: Collection[Cell]
    covered_ns: dict[str, int]
    cases: dict[str, dict[Case, int]]
    sampling_uj: Mapping[str, float] = field(default_factory=dict)

    def energy_uj(self, component: Component | None = None) -> int:
        """Energy in microjoules of one component, or of all parts (`NODE` is never a part)."""
        wanted = {
            c.id
            for c in self.channels
            if (c.component is component if component else c.component is not Component.NODE)
        }
        return sum(uj for channel, uj in self.book().totals_uj.items() if channel in wanted)

    def book(self) -> Cells:
        """The cells with their totals."""
        return self.cells if isinstance(self.cells, Cells) else Cells.of(self.cells)

    def parts(self) -> tuple[Channel, ...]:
        """The channels that add up to the total."""
        return tuple(c for c in self.channels if c.component is not Component.NODE)
