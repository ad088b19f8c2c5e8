"""What `discover` chooses from what the probes and plugins offer, and what it survives."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.sensors import Found, Start, discover, findings
from mlflow_carbon.settings import Settings
from tests.sensor_fakes import VirtualClock, add_cpuinfo, add_zone

CPU_METER = Channel(
    id="plug:cpu",
    sensor="plug",
    device="a meter",
    component=Component.CPU,
    kind=Kind.COUNTER,
    basis=Basis.MEASURED,
    quality=Quality.L3,
    low_ratio=0.9,
    high_ratio=1.1,
)


@dataclass
class FakeSensor:
    """A sensor of another package."""

    channels: tuple[Channel, ...]
    close_error: Exception | None = None
    closed: int = 0

    def read(self, clock) -> tuple[Sample, ...]:
        return ()

    def close(self) -> None:
        self.closed += 1
        if self.close_error:
            raise self.close_error


@dataclass
class FakePlugin:
    """An entry point: loading it gives a probe, or raises."""

    found: object = field(default_factory=Found)
    load_error: Exception | None = None
    name: str = "plug"

    def load(self):
        if self.load_error:
            raise self.load_error
        return self._probe

    def _probe(self, site):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def _plug(*sensors):
    return FakePlugin(Found(sensors=sensors))


def _discover(root, *plugins, **settings):
    return discover(Settings(**settings), root=root, env={"CUDA_VISIBLE_DEVICES": ""}, plugins=plugins)


def _ids(discovery):
    return [channel.id for channel in discovery.channels]


def test_machine_without_meters_is_modelled(tmp_path):
    """CPU and memory are modelled, and both missing meters are explained."""
    discovery = _discover(tmp_path)
    assert _ids(discovery) == ["model:cpu", "model:ram"]
    assert {absence.sensor for absence in discovery.absences} == {"nvml", "rapl"}


def test_measured_package_replaces_the_modelled_cpu_only(tmp_path):
    """RAPL packages stand for the CPU; memory without a counter stays modelled."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    discovery = _discover(tmp_path)
    assert _ids(discovery) == ["rapl:package-0", "model:ram"]
    assert [c.id for sensor in discovery.sensors for c in sensor.channels] == ["rapl:package-0", "model:ram"]


def test_measured_memory_replaces_the_modelled_memory(tmp_path):
    """With package and memory counters nothing is modelled."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_zone(tmp_path, "intel-rapl:0:0", "dram")
    assert _ids(_discover(tmp_path)) == ["rapl:package-0", "rapl:package-0-dram"]


def test_settings_reach_the_model(tmp_path):
    """Given powers are used by the model."""
    sources = [c.source for c in _discover(tmp_path, cpu_power_w=65.0, ram_power_w=7.0).channels]
    assert sources[0].startswith("cpu_power_w given: TDP 65 W")
    assert sources[1].startswith("ram_power_w given")


def test_plugin_that_measures_replaces_model_and_own_meter(tmp_path):
    """A plugin's CPU meter counts alone: one CPU is never added up from two sensors."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    assert _ids(_discover(tmp_path, _plug(FakeSensor((CPU_METER,))))) == ["plug:cpu", "model:ram"]


def test_plugin_that_models_gives_way_to_a_meter(tmp_path):
    """A modelled channel of a plugin is closed and dropped where the component is measured."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    sensor = FakeSensor((replace(CPU_METER, basis=Basis.MODELLED),))
    assert _ids(_discover(tmp_path, _plug(sensor))) == ["rapl:package-0", "model:ram"]
    assert sensor.closed == 1


def test_gpus_of_several_sensors_add_up(tmp_path):
    """GPUs are many: those of two sensors all count."""
    gpus = [FakeSensor((replace(CPU_METER, id=f"gpu:{i}", component=Component.GPU),)) for i in range(2)]
    assert _ids(_discover(tmp_path, _plug(gpus[0]), _plug(gpus[1]))) == [
        "model:cpu",
        "gpu:0",
        "gpu:1",
        "model:ram",
    ]


def test_a_sensor_keeps_its_model_of_one_gpu_beside_its_meter_of_another(tmp_path):
    """GPUs measured and modelled by one sensor all count; a model of another sensor gives way."""
    gpu = replace(CPU_METER, component=Component.GPU)
    both = FakeSensor((replace(gpu, id="a:0"), replace(gpu, id="a:1", basis=Basis.MODELLED)))
    other = FakeSensor((replace(gpu, id="b:0", basis=Basis.MODELLED),))
    assert _ids(_discover(tmp_path, _plug(both), _plug(other))) == ["model:cpu", "a:0", "a:1", "model:ram"]


def test_what_a_channel_covers_counts_nowhere_else(tmp_path):
    """A meter of a module of GPU, CPU and memory leaves no CPU and no memory to add."""
    module = FakeSensor((replace(CPU_METER, id="gpu:0", component=Component.GPU),))
    covers = frozenset({Component.CPU, Component.DRAM})
    assert _ids(_discover(tmp_path, FakePlugin(Found(sensors=(module,), covers=covers)))) == ["gpu:0"]


def test_node_meter_counts_beside_the_parts(tmp_path):
    """A meter of the whole machine replaces no part."""
    node = FakeSensor((replace(CPU_METER, id="plug:node", component=Component.NODE),))
    assert _ids(_discover(tmp_path, _plug(node))) == ["model:cpu", "model:ram", "plug:node"]


def test_channel_id_is_given_once(tmp_path):
    """The second sensor with the same channel is dropped."""
    first, second = FakeSensor((CPU_METER,)), FakeSensor((CPU_METER,))
    discovery = _discover(tmp_path, _plug(first), _plug(second))
    assert discovery.sensors[0] is first
    assert (first.closed, second.closed) == (0, 1)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (FakePlugin(load_error=ImportError("No module named 'vendor'")), "No module named 'vendor'"),
        (FakePlugin(ZeroDivisionError("division by zero")), "ZeroDivisionError"),
        (FakePlugin(None), "expected a probe that returns Found, got NoneType"),
        (FakePlugin(Found(sensors=(object(),))), "has no attribute 'channels'"),  # type: ignore[arg-type]
    ],
)
def test_broken_plugin_is_skipped_by_name(tmp_path, plugin, words):
    """A plugin that does not load, raises or returns nonsense becomes an absence; the rest goes on."""
    discovery = _discover(tmp_path, plugin)
    assert discovery.absences[0].sensor == "plug"
    assert words in discovery.absences[0].reason
    assert _ids(discovery) == ["model:cpu", "model:ram"]


def test_failure_to_close_a_dropped_sensor_is_survived(tmp_path):
    """A dropped sensor that cannot even be closed stops nothing."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    bad = FakeSensor((replace(CPU_METER, basis=Basis.MODELLED),), close_error=RuntimeError("stuck"))
    assert _ids(_discover(tmp_path, _plug(bad))) == ["rapl:package-0", "model:ram"]


def test_broken_list_of_plugins_is_an_absence(tmp_path):
    """A damaged installation whose entry points cannot be listed still gets the built-in sensors."""
    damaged = (plugin for plugin in [_plug()] if int("no number"))
    discovery = discover(Settings(), root=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""}, plugins=damaged)
    assert discovery.absences[0].sensor == "plugins"
    assert _ids(discovery) == ["model:cpu", "model:ram"]


def test_this_machine_covers_cpu_and_memory_once():
    """On the machine of the test each part is counted, by a meter or by the model, never by both."""
    discovery = discover(Settings())
    try:
        for component in (Component.CPU, Component.DRAM):
            assert len({c.basis for c in discovery.channels if c.component is component}) == 1
    finally:
        for sensor in discovery.sensors:
            sensor.close()


def test_unreadable_root_is_survived(tmp_path):
    """A root that is a file, and a description that is no text, leave the model of an unknown CPU."""
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    assert _ids(_discover(tmp_path / "file")) == ["model:cpu", "model:ram"]
    add_cpuinfo(tmp_path, "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"))
    assert _ids(_discover(tmp_path)) == ["model:cpu", "model:ram"]


_IMPORT = """
import sys
import mlflow_carbon.sensors
heavy = {"pynvml", "torch", "pandas", "numpy", "psutil", "codecarbon", "rapidfuzz", "mlflow", "importlib.metadata"}
print(sorted(heavy & set(sys.modules)))
"""
_DISCOVER = """
import sys
from mlflow_carbon.sensors import discover
from mlflow_carbon.settings import Settings
discover(Settings())
print(sorted({"torch", "pandas", "numpy", "codecarbon", "mlflow", "cpuinfo"} & set(sys.modules)))
"""


@pytest.mark.parametrize("program", [_IMPORT, _DISCOVER], ids=["import", "discover"])
def test_nothing_heavy_is_loaded(program):
    """Importing the room loads no vendor library, and discovering loads neither CodeCarbon nor pandas."""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.stdout.strip() == "[]", result.stderr


def _begun(root, *plugins, counters_read=lambda: None):
    start = Start(clock=VirtualClock(step_ns=1000), baseline=None, counters_read=counters_read)
    return discover(Settings(), root=root, env={"CUDA_VISIBLE_DEVICES": ""}, plugins=plugins, start=start)


def test_counters_are_read_before_the_rest_is_looked_for(tmp_path):
    """Who waits for the first reading of the counters is told before a plugin is loaded."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    order: list[str] = []

    class Slow(FakePlugin):
        def load(self):
            order.append("plugin")
            return super().load()

    discovery = _begun(tmp_path, Slow(), counters_read=lambda: order.append("counters"))
    assert order == ["counters", "plugin"]
    assert [sample.channel for sample in discovery.first] == ["rapl:package-0"]
    assert discovery.first[0].energy_uj is not None


def test_nothing_is_read_where_nothing_begins(tmp_path):
    """`doctor` looks for sensors without reading them."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    assert _discover(tmp_path).first == ()


def test_a_mean_has_no_first_reading_of_its_own(tmp_path):
    """What is averaged since the start needs none: a reading now would only cut the mean in two."""
    assert _begun(tmp_path).first == ()


def test_a_sensor_that_fails_its_first_reading_is_kept(tmp_path):
    """Its failure is told by the readings that follow."""

    class Broken(FakeSensor):
        def read(self, clock):
            raise RuntimeError("not yet")

    discovery = _begun(tmp_path, _plug(Broken((CPU_METER,))))
    assert _ids(discovery) == ["plug:cpu", "model:ram"]
    assert discovery.first == ()


def test_a_dropped_sensor_leaves_no_first_reading(tmp_path):
    """A plugin's counter may have the id of our own: their readings in one row would be energy of neither."""
    add_zone(tmp_path, "intel-rapl:0", "package-0", energy_uj=10_000_000)

    class Counter(FakeSensor):
        def read(self, clock):
            return (Sample(channel="rapl:package-0", t_mono_ns=clock.monotonic_ns(), energy_uj=7),)

    sensor = Counter((replace(CPU_METER, id="rapl:package-0"),))
    discovery = _begun(tmp_path, _plug(sensor))
    assert discovery.sensors[0] is sensor
    assert [sample.energy_uj for sample in discovery.first] == [7]


def test_a_sensor_that_cannot_tell_what_is_wrong_is_a_finding():
    """The end of a run is recorded, whatever a sensor of another package raises when it is asked."""

    class Broken(FakeSensor):
        def findings(self):
            raise RuntimeError("lost")

    (found,) = findings([Broken((CPU_METER,))])
    assert "Broken" in found
    assert "RuntimeError: lost" in found


def test_what_is_measured_needs_no_model(tmp_path):
    """Where CPU and memory have counters, the tables of the models are not even loaded: they cost 20 ms."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_zone(tmp_path, "intel-rapl:0:0", "dram")
    code = f"""
import sys
from pathlib import Path
from mlflow_carbon.sensors import discover
from mlflow_carbon.settings import Settings
found = discover(Settings(), root=Path({str(tmp_path)!r}), env={{}}, plugins=())
print(len(found.channels), sorted({{"mlflow_carbon.sensors.modelled", "rapidfuzz"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
