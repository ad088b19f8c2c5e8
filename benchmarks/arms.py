"""Environments that differ by one package, and fresh processes that run in them in turn.

Both environments are folders of links to what is installed here; only one holds mlflow-carbon, with
its entry point. So nothing is downloaded, and nothing else can differ.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_OURS = "mlflow_carbon"
_TIMEOUT_S = 1800

Samples = dict[str, list[dict[str, Any]]]
"""What the children printed, by arm, in rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to run a sample.

    Attributes:
        name: Its name in tables.
        plugin: Whether mlflow-carbon is installed.
        options: What the child is told.
        env: Variables added to the child's environment.
    """

    name: str
    plugin: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


class Bench:
    """Runs samples: each in a fresh process, with a tracking store, a home and a folder of its own.

    Args:
        folder: Where everything is put.
        script: The program that is run as `python SCRIPT --child OPTIONS` and prints one line of JSON.
    """

    def __init__(self, folder: Path, script: str) -> None:
        self._folder = folder
        self._script = Path(script).resolve()
        self._pythons = {
            plugin: _environment(folder / ("with" if plugin else "without"), plugin=plugin)
            for plugin in (True, False)
        }
        self._store = folder / "empty.db"
        self._number = 0
        self._prepare_store()

    def sample(self, arm: Arm) -> dict[str, Any]:
        """One sample of an arm: what the child printed, with the load at its start.

        Raises:
            RuntimeError: If the child failed; the message ends with what it said.
        """
        self._number += 1
        place = self._folder / f"sample-{self._number}"
        place.mkdir()
        shutil.copy(self._store, place / "mlflow.db")
        load = os.getloadavg()[0]
        done = subprocess.run(
            [self._pythons[arm.plugin], self._script, "--child", json.dumps(dict(arm.options))],
            cwd=place,
            env=_variables(place) | dict(arm.env),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"arm {arm.name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        shutil.rmtree(place)
        return {"load": round(load, 2), **json.loads(done.stdout.splitlines()[-1])}

    def rounds(self, arms: Sequence[Arm], number: int, *, warm_up: bool = True) -> Samples:
        """Samples of all arms in turn, the order reversed in every second round (A B B A).

        With `warm_up` a first sample of each arm fills caches and counts for nothing.
        """
        for arm in arms if warm_up else ():
            self.sample(arm)
        found: Samples = {arm.name: [] for arm in arms}
        for index in range(number):
            for arm in arms if index % 2 == 0 else tuple(reversed(arms)):
                found[arm.name].append(self.sample(arm))
            print(f"round {index + 1} of {number} done", file=sys.stderr, flush=True)
        return found

    def _prepare_store(self) -> None:
        """An empty database with MLflow's tables, so that no sample pays for making them."""
        code = "import mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_experiment('bench')"
        subprocess.run(
            [self._pythons[False], "-c", code, f"sqlite:///{self._store}"],
            cwd=self._folder,
            env=_variables(self._folder),
            capture_output=True,
            check=True,
        )


@contextmanager
def bench(script: str) -> Iterator[Bench]:
    """A bench in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder).resolve(), script)


def added(samples: Samples, arm: str, base: str, key: str) -> list[float]:
    """Differences of an arm to a base, each between the samples of one round."""
    return [b[key] - a[key] for a, b in zip(samples[base], samples[arm], strict=True)]


def child_options() -> dict[str, Any] | None:
    """What this process was told as a child; None in the parent."""
    if sys.argv[1:2] != ["--child"]:
        return None
    options: dict[str, Any] = json.loads(sys.argv[2])
    return options


def _environment(folder: Path, *, plugin: bool) -> Path:
    """A virtual environment with links to what is installed here, and with or without the plugin."""
    venv.create(folder, symlinks=True, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = folder / "lib" / version / "site-packages"
    for site in (Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")):
        for entry in site.iterdir():
            if not _is_left_out(entry.name) and not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)
    if plugin:
        package, facts = _installed()
        (target / package.name).symlink_to(package)
        (target / facts.name).symlink_to(facts)
    return folder / "bin/python"


def _is_left_out(name: str) -> bool:
    return _OURS in name or name.endswith(".pth") or name == "__pycache__"


def _installed() -> tuple[Path, Path]:
    """Folder of the package and of its metadata, also where it is installed editable."""
    try:
        facts = _metadata_folder(distribution("mlflow-carbon"))
    except PackageNotFoundError:
        raise SystemExit("expected mlflow-carbon to be installed here; try `pip install -e .`") from None
    spec = find_spec(_OURS)
    if spec is None or spec.origin is None or facts is None:
        raise SystemExit("expected mlflow-carbon to be installed here from files; try `pip install -e .`")
    return Path(spec.origin).parent, facts


def _metadata_folder(found: Distribution) -> Path | None:
    files = [f for f in found.files or () if f.name == "METADATA"]
    return Path(str(found.locate_file(files[0]))).parent if files else None


def _variables(place: Path) -> dict[str, str]:
    """The environment of a child: ours without what steers MLflow, the plugin or Python."""
    foreign = ("MLFLOW_", "PYTHON", "CODECARBON_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
        "MLFLOW_CARBON_HOME": str(place / "home"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "HOME": str(place),
    }
