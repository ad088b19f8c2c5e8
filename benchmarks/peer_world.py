"""Other meters' environments, and the simulated machine that they and ours are shown.

An environment is made once from pinned requirements and kept in the user's cache folder. The machine is a library
that poses as NVIDIA's driver and a folder that poses as `/sys/class/powercap`; both follow waveforms in real time,
and every meter finds them by the name and the path that it has built in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import venv
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from mlflow_carbon.testing import Meter, NvmlStub, PowercapTree, Shown, SimulatedGpu, Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow_carbon.testing import Truth

HERE = Path(__file__).parent
OURS = "mlflow-carbon"
PEERS = {
    "CodeCarbon": "codecarbon",
    "Zeus": "zeus",
    "carbontracker": "carbontracker",
    "eco2AI": "eco2ai",
    "perun": "perun",
}
_TESTING = HERE.parent / "mlflow_carbon/testing"
_TREE_PERIOD_S = 0.005
_PATIENCE_S = 90.0
_FAULT_AFTER_S = 3.0
_NAMED = re.compile(r"[\w.]*(Error|Exception)\b")


def version_of(peer: str) -> str:
    """The pinned version of a peer."""
    lines = _requirements(peer).read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{PEERS[peer]}=="))


def environment(peer: str) -> Path:
    """The interpreter of a peer's environment, made from its pinned requirements if it is not there yet.

    Raises:
        RuntimeError: If it cannot be installed; the message is the installer's last line.
    """
    requirements = _requirements(peer)
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:10]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = (
        Path(platformdirs.user_cache_dir("mlflow-carbon")) / f"benchmarks/{PEERS[peer]}-py{version}-{digest}"
    )
    python = folder / "bin/python"
    if (folder / "complete").exists():
        return python
    print(f"making an environment for {peer}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    (folder / "complete").touch()
    return python


def _requirements(peer: str) -> Path:
    return HERE / f"peers/{PEERS[peer]}.txt"


@dataclass(frozen=True, slots=True)
class Libraries:
    """The compiled stand-ins, in a folder that also holds an `nvidia-smi` which does nothing."""

    folder: Path

    @classmethod
    def compiled(cls, folder: Path) -> Libraries:
        """Compile them.

        Raises:
            FileNotFoundError: If there is no C compiler `cc`.
            subprocess.CalledProcessError: If it refuses.
        """
        shared = ["cc", "-shared", "-fPIC", "-O1"]
        nvml = ["-I", str(_TESTING), "-Wl,-soname,libnvidia-ml.so.1", str(HERE / "native/nvml_peers.c")]
        for name, rest in (
            ("libnvidia-ml.so.1", [*nvml, "-lm"]),
            ("powercap.so", [str(HERE / "native/powercap_redirect.c"), "-ldl"]),
        ):
            subprocess.run([*shared, "-o", str(folder / name), *rest], check=True, capture_output=True)
        smi = folder / "nvidia-smi"  # CodeCarbon looks for one before it asks the driver
        smi.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
        smi.chmod(0o755)
        return cls(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the simulated machine does.

    Attributes:
        gpus: Its GPUs.
        zones: Its powercap zones; none: there is no powercap.
        failing: Its GPUs while reads fail, for `failing_s` from some seconds after measuring began.
        zones_fail: Whether reads of the zones fail in that time.
        failing_s: How long.
    """

    gpus: Sequence[SimulatedGpu] = ()
    zones: Sequence[Zone] = ()
    failing: Sequence[SimulatedGpu] = ()
    zones_fail: bool = False
    failing_s: float = 3.0


@dataclass(slots=True, kw_only=True)
class World:
    """A scene that runs: the files behind the stand-ins, and what a process must be told to see them."""

    stub: NvmlStub
    tree: PowercapTree | None
    scene: Scene
    variables: Mapping[str, str]
    fails: Path
    _over: threading.Event = field(default_factory=threading.Event)

    def keep(self, measuring: Path) -> None:
        """Move the counters until it is over, and let reads fail for a while once a meter measures."""
        began_s: float | None = None
        failing = False
        while not self._over.wait(_TREE_PERIOD_S):
            if self.tree is not None:
                self.tree.show(self.now_s())
            if began_s is None and measuring.exists():
                began_s = time.monotonic()
            into_s = time.monotonic() - began_s - _FAULT_AFTER_S if began_s is not None else -1.0
            now_failing = 0 <= into_s < self.scene.failing_s
            if now_failing != failing:
                failing = now_failing
                self._fail(is_on=failing)

    def now_s(self) -> float:
        """The time of the waveforms."""
        return (self.stub.clock.monotonic_ns() - self.stub.clock.origin_ns) / 1e9

    def end(self) -> None:
        """No more changes."""
        self._over.set()

    def _fail(self, *, is_on: bool) -> None:
        if self.scene.failing:
            self.stub.change(self.scene.failing if is_on else self.scene.gpus)
        if self.scene.zones_fail:
            with self.fails.open("r+b") as file:
                file.write(b"1" if is_on else b"0")


@contextmanager
def world(libraries: Libraries, scene: Scene, folder: Path) -> Iterator[World]:
    """A scene that runs, in a folder of its own."""
    stub = NvmlStub(libraries.folder / "libnvidia-ml.so.1", scene.gpus, is_virtual=False)
    tree = PowercapTree(folder, scene.zones, is_nested=True) if scene.zones else None
    base = folder / "sys/class/powercap"
    variables = {**stub.environment(), "PATH": f"{libraries.folder}{os.pathsep}{os.environ['PATH']}"}
    fails = base / "fails"
    if tree is not None:
        _link(base, scene.zones, tree)
        fails.write_bytes(b"0")
        variables |= {"LD_PRELOAD": str(libraries.folder / "powercap.so"), "POWERCAP_ROOT": str(base)}
    found = World(stub=stub, tree=tree, scene=scene, variables=variables, fails=fails)
    keeper = threading.Thread(target=found.keep, args=[folder / "measuring"], daemon=True)
    keeper.start()
    try:
        yield found
    finally:
        found.end()
        keeper.join()


def _link(base: Path, zones: Sequence[Zone], tree: PowercapTree) -> None:
    """The links that the kernel has: every zone by its name, and `subsystem` to them all."""
    for zone in zones:
        (base / zone.path).symlink_to(tree.folder(zone.path))
    for control in {zone.path.partition(":")[0] for zone in zones}:
        (base / control / "subsystem").symlink_to(base)


class Driver:
    """Starts a meter in its environment, in a folder of its own.

    Args:
        pythons: Interpreter of each tool.
        libraries: The stand-ins.
        folder: Where everything is put.
    """

    def __init__(self, pythons: Mapping[str, Path], libraries: Libraries, folder: Path) -> None:
        self.pythons = dict(pythons)
        self.libraries = libraries
        self._folder = folder
        self._lock = threading.Lock()
        self._number = 0

    def place(self) -> Path:
        """A new folder."""
        with self._lock:
            self._number += 1
            place = self._folder / f"run-{self._number}"
        place.mkdir()
        return place

    def command(self, tool: str, options: Mapping[str, Any]) -> list[str]:
        """What is run for a tool."""
        python = self.pythons.get(tool, Path(sys.executable))
        return [
            str(python),
            str(HERE / "peer_driver.py"),
            json.dumps({"tool": tool, "settle_s": 0.5, **options}),
        ]

    def variables(self, tool: str, place: Path, more: Mapping[str, str]) -> dict[str, str]:
        """The environment of a tool's process."""
        foreign = ("MLFLOW_", "PYTHON", "CODECARBON_", "CUDA_", "SLURM_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        mine = {"PYTHONPATH": str(HERE.parent)} if tool not in PEERS else {}
        home = {"HOME": str(place), "MLFLOW_CARBON_HOME": str(place / "home"), "XDG_CACHE_HOME": str(place)}
        return kept | home | mine | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"} | dict(more)

    def run(self, tool: str, scene: Scene, options: Mapping[str, Any]) -> dict[str, Any]:
        """One run of a tool: what it printed, with the energy that was truly spent; or the `error`."""
        place = self.place()
        load = os.getloadavg()[0]
        with world(self.libraries, scene, place) as here:
            try:
                done = subprocess.run(
                    self.command(tool, options),
                    cwd=place,
                    env=self.variables(tool, place, here.variables),
                    capture_output=True,
                    text=True,
                    timeout=_PATIENCE_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"load_average": round(load, 2), "error": f"not finished in {_PATIENCE_S:g} s"}
        if done.returncode or not done.stdout.strip():
            return {"load_average": round(load, 2), "error": f"exit code {done.returncode}: {_reason(done)}"}
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return {"load_average": round(load, 2), **found, **_truths(here, found)}


def _seen(gpu: SimulatedGpu) -> Truth:
    """What can be known of a GPU: its energy, or what its power sensor shows where it has no counter.

    A sensor that looks at a quarter of the time is itself wrong about fast waves; that is no reader's error.
    """
    if "nvmlDeviceGetTotalEnergyConsumption" not in gpu.unsupported:
        return gpu.waveform
    return Shown(meter=Meter(truth=gpu.waveform, refresh_s=gpu.power_refresh_s, window_s=gpu.power_window_s))


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that names an error, else the last one."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    named = [line for line in lines if _NAMED.match(line)]
    return ([*lines[-1:], *named[-1:]] or ["nothing said"])[-1][:200]


def _truths(here: World, found: Mapping[str, Any]) -> dict[str, Any]:
    """Energy of each part, in joules: of the inner window, of the outer one, and from the first reading to the stop."""
    t0, t1, t2, t3 = ((ns - here.stub.clock.origin_ns) / 1e9 for ns in found["window_ns"])
    first = t0 + found["first_s"] if found.get("first_s") else t1

    def all_of(energy: Callable[[float, float], float]) -> list[float]:
        return [energy(t1, t2), energy(t0, t3), energy(first, t2)]

    zones = {z.name.partition("-")[0]: z.meter.truth for z in here.scene.zones}
    truths = {"gpu": all_of(lambda a, b: sum(_seen(g).energy_j(a, b) for g in here.scene.gpus))}
    for name, truth in zones.items():
        truths[name] = all_of(truth.energy_j)
    return {"true_j": truths}
