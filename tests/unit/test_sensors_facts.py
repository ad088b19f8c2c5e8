"""What is recorded beside power."""

from __future__ import annotations

import pytest

from mlflow_carbon.sensors import host_facts, nvml, observe
from tests.sensor_fakes import FakeGpu, FakeNvml, add_hwmon, site
from tests.trees import grow


def _observed(tmp_path):
    return observe(host_facts.probe(site(tmp_path)).observers)


@pytest.mark.parametrize(
    ("reasons", "by_power", "by_heat"), [(0x1, 0, 0), (0x4, 1, 0), (0x80, 1, 0), (0x20, 0, 1), (0x44, 1, 1)]
)
def test_a_gpu_tells_heat_fan_clocks_and_what_holds_it_down(reasons, by_power, by_heat):
    """Each value by the id of the channel; idle is no throttling."""
    facts = {"temperature": 71, "fan": 40, "clock 1": 1410, "clock 2": 1593, "reasons": reasons}
    found = nvml.probe(site(), library=FakeNvml([FakeGpu("GPU-a", facts=facts)]))
    assert observe(found.observers) == {
        "nvml:0/temperature_c": 71.0,
        "nvml:0/fan_percent": 40.0,
        "nvml:0/clock_sm_mhz": 1410.0,
        "nvml:0/clock_memory_mhz": 1593.0,
        "nvml:0/limited_by_power": by_power,
        "nvml:0/limited_by_heat": by_heat,
    }


def test_what_a_gpu_does_not_tell_is_left_out():
    """A passive board has no fan; what is not supported has no name, and no zero."""
    found = nvml.probe(site(), library=FakeNvml([FakeGpu("GPU-a", facts={"temperature": 30})]))
    assert observe(found.observers) == {"nvml:0/temperature_c": 30.0}


def test_the_cpu_tells_heat_clock_and_throttling(tmp_path):
    """Package temperatures, the clocks of policies, the count of throttling; cores and firmware are not asked."""
    add_hwmon(
        tmp_path,
        0,
        "coretemp",
        {
            "temp1_label": "Package id 0",
            "temp1_input": 61_000,
            "temp2_label": "Core 0",
            "temp2_input": 70_000,
        },
    )
    add_hwmon(tmp_path, 1, "k10temp", {"temp1_label": "Tctl", "temp1_input": 45_500})
    add_hwmon(tmp_path, 2, "dell_smm", {"fan1_input": 2500})
    add_hwmon(tmp_path, 3, "nct6798", {"fan2_input": 1200})
    cpu = "sys/devices/system/cpu"
    grow(
        tmp_path,
        {
            f"{cpu}/cpufreq/policy0/scaling_cur_freq": "2450000\n",
            f"{cpu}/cpu0/thermal_throttle/package_throttle_count": "3\n",
        },
    )
    assert _observed(tmp_path) == {
        "cpu:0/temperature_c": 61.0,
        "cpu:1/temperature_c": 45.5,
        "fan:hwmon3-fan2/speed_rpm": 1200.0,
        "cpu:policy0/clock_mhz": 2450.0,
        "cpu:0/throttled_count": 3.0,
    }


DISKS = """\
 259 0 nvme0n1 10 0 2000 0 20 0 4000 0 0 0 0
 259 1 nvme0n1p1 10 0 2000 0 20 0 4000 0 0 0 0
 253 0 dm-0 10 0 2000 0 20 0 4000 0 0 0 0
"""
NETWORK = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0: 1500 2 0 0 0 0 0 0 300 3 0 0 0 0 0 0
veth12: 70 2 0 0 0 0 0 0 30 3 0 0 0 0 0 0
"""


def test_bytes_of_disks_and_cards_count_once(tmp_path):
    """2000 sectors of 512 bytes are 1 024 000 bytes; partitions, stacked disks and virtual interfaces are not added."""
    grow(
        tmp_path,
        {
            "proc/diskstats": DISKS,
            "proc/net/dev": NETWORK,
            "sys/block/nvme0n1/device/model": "x",
            "sys/class/net/eth0/device/vendor": "x",
        },
    )
    assert _observed(tmp_path) == {
        "disk/read_bytes": 1_024_000.0,
        "disk/written_bytes": 2_048_000.0,
        "network/received_bytes": 1500.0,
        "network/sent_bytes": 300.0,
    }


def test_a_container_without_a_card_counts_what_it_has(tmp_path):
    """Where no interface is a card, all but the loopback count."""
    grow(tmp_path, {"proc/net/dev": NETWORK})
    assert _observed(tmp_path) == {"network/received_bytes": 1570.0, "network/sent_bytes": 330.0}


def test_what_cannot_be_read_is_left_out(tmp_path):
    """Nonsense in one file costs that value and no other; a machine with nothing has no observer."""
    assert host_facts.probe(site(tmp_path)).observers == ()
    add_hwmon(tmp_path, 0, "nct6798", {"fan1_input": "broken", "fan2_input": 900})
    grow(tmp_path, {"proc/diskstats": "1 2\n", "proc/net/dev": "eth0: many\n"})
    assert _observed(tmp_path) == {"fan:hwmon0-fan2/speed_rpm": 900.0}
