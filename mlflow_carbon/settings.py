"""Settings, resolved once and frozen: argument > `MLFLOW_CARBON_<FIELD>` > file > default.

The file is `$MLFLOW_CARBON_CONFIG`, else `./mlflow-carbon.yaml`, else `mlflow-carbon.yaml` in the user's
configuration directory. Imports the standard library only: it is loaded with `import mlflow`.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from mlflow_carbon.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENV_PREFIX", "Overrides", "Settings", "home", "is_disabled", "resolve", "wants_autolog"]

ENV_PREFIX = "MLFLOW_CARBON_"
FILE_NAME = "mlflow-carbon.yaml"

# Not settings of a measurement, but read from the same prefix: switches, places, and secrets of services.
_SECRETS = ("EIA_KEY", "ELECTRICITY_MAPS_TOKEN", "ENTSOE_TOKEN", "WATTTIME_LOGIN")
_OTHER_VARIABLES = frozenset({"AUTOLOG", "CONFIG", "DATA", "DISABLE", "HOME", "OWNER", *_SECRETS})


class Overrides(TypedDict, total=False):
    """Keyword arguments of `autolog` and `track`, see `Settings`; None is as if it were not given."""

    zone: str | None
    grid: str | None
    intensity_gco2e_per_kwh: float | None
    pue: float | None
    period_s: float | None
    cpu_power_w: float | None
    ram_power_w: float | None
    wall_meter: str | None
    privacy: str | None
    detail: bool | None
    cloud_metadata: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure and cost one run.

    Attributes:
        zone: Grid zone id (`GB`, `DE`, `US-CAL-CISO`); None: cloud variables, then the time zone.
        grid: `auto` (live where the user named a zone that `gb` or, with a token, `electricity_maps` knows),
            `annual`, `gb` or `gb:SW7` (an outward postcode), `electricity_maps`, `energy_charts`, `eia`,
            `entsoe`, `watttime` (for plans only), `recorded:FILE.csv`, or the mock `diurnal`, `diurnal:SEED`.
        intensity_gco2e_per_kwh: A fixed intensity that replaces every provider.
        pue: Power usage effectiveness, at least 1.
        period_s: Sampling period in seconds, 0.05 to 60.
        cpu_power_w: Thermal design power of all CPU packages, where the model should not guess it.
        ram_power_w: Power of all memory, where the model should not guess it.
        wall_meter: CSV file or HTTP address of an external meter of the whole machine.
        privacy: Host and user names as `hashed`, `full` or `off`.
        detail: Log every number of the footprint as a metric, not only the default twelve.
        cloud_metadata: Ask the cloud's metadata service for the region, for half a second at most.
        zone_source: Where the zone came from: `argument`, `environment`, `file` or empty.
        pue_source: Where the PUE came from, as above or `default`.
        problems: What was left out of environment and file because it was wrong; each run says so.
    """

    zone: str | None = None
    grid: str = "auto"
    intensity_gco2e_per_kwh: float | None = None
    pue: float = 1.0
    period_s: float = 1.0
    cpu_power_w: float | None = None
    ram_power_w: float | None = None
    wall_meter: str | None = None
    privacy: str = "hashed"
    detail: bool = False
    cloud_metadata: bool = False
    zone_source: str = ""
    pue_source: str = "default"
    problems: tuple[str, ...] = field(default=(), compare=False)

    def sensing_of(self, other: Settings) -> Settings:
        """The other settings, measured as these say: sensors and sampler are shared by all runs."""
        return replace(
            other,
            period_s=self.period_s,
            cpu_power_w=self.cpu_power_w,
            ram_power_w=self.ram_power_w,
            wall_meter=self.wall_meter,
        )


_LIVE = ("gb", "electricity_maps", "energy_charts", "eia", "entsoe", "watttime")
_CHOICES = {
    "grid": ("auto", "annual", *_LIVE, "recorded", "diurnal"),
    "privacy": ("hashed", "full", "off"),
}
_GRID_ARGUMENTS = {  # pattern of what may stand after the colon, and what it is
    "gb": ("([A-Za-z]{1,2}[0-9][A-Za-z0-9]?)?", "the outward part of a postcode, as in gb:SW7"),
    "recorded": (".+", "a CSV file, as in recorded:trace.csv"),
    "diurnal": ("[0-9]{0,9}", "a whole number as seed, as in diurnal:7"),
}
_RANGES = {
    "intensity_gco2e_per_kwh": (0.0, 5000.0),
    "pue": (1.0, 10.0),
    "period_s": (0.05, 60.0),
    "cpu_power_w": (0.0, 100_000.0),
    "ram_power_w": (0.0, 100_000.0),
}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_NAMES = tuple(f.name for f in fields(Settings) if f.name != "problems" and not f.name.endswith("_source"))


def resolve(
    overrides: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[Settings, list[str]]:
    """Settings from all sources, and what was wrong in the environment and the file.

    A wrong argument raises, since the caller can mend it there and then; a wrong variable or
    file is left out and reported, since a measurement must not stop a training.

    Raises:
        SettingsError: If an override is unknown or has a value that cannot be used.
    """
    environ = os.environ if env is None else env
    problems: list[str] = []
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, found in (
        ("file", _from_file(environ, cwd or Path(), problems)),
        ("environment", _from_environment(environ, problems)),
    ):
        for name, raw in found.items():
            try:
                values[name], origin[name] = _checked(name, raw), source
            except SettingsError as error:
                problems.append(f"{source}: {error}")
    for name, raw in (overrides or {}).items():
        if raw is not None:
            values[name], origin[name] = _checked(name, raw), "argument"
    return (
        Settings(**values, zone_source=origin.get("zone", ""), pue_source=origin.get("pue", "default")),
        problems,
    )


def is_disabled(env: Mapping[str, str] | None = None) -> bool:
    """Whether the kill switch `MLFLOW_CARBON_DISABLE` is on."""
    return _is_true((os.environ if env is None else env).get(f"{ENV_PREFIX}DISABLE", ""))


def wants_autolog(env: Mapping[str, str] | None = None) -> bool:
    """Whether `MLFLOW_CARBON_AUTOLOG` switches measuring on."""
    return _is_true((os.environ if env is None else env).get(f"{ENV_PREFIX}AUTOLOG", ""))


def home(env: Mapping[str, str] | None = None) -> Path:
    """Where journals and caches live: `$MLFLOW_CARBON_HOME`, else the user's state directory."""
    given = (os.environ if env is None else env).get(f"{ENV_PREFIX}HOME", "")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_dir("mlflow-carbon", appauthor=False))


def _is_true(text: str) -> bool:
    return text.strip().lower() in _TRUE


def _from_environment(env: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, raw in env.items():
        if not key.startswith(ENV_PREFIX) or raw == "":
            continue
        name = key.removeprefix(ENV_PREFIX)
        if name.lower() in _NAMES:
            found[name.lower()] = raw
        elif name not in _OTHER_VARIABLES:
            problems.append(f"environment: {_unknown(name.lower(), key)}")
    return found


def _from_file(env: Mapping[str, str], cwd: Path, problems: list[str]) -> dict[str, Any]:
    path: Path | None = None
    try:
        path = _file(env, cwd)
        if path is None:
            return {}
        import yaml

        text = path.read_text(encoding="utf-8")
        # Strings only: to other loaders zone `NO` is false, as is privacy `off`.
        content = yaml.load(text, Loader=yaml.BaseLoader) or {}  # noqa: S506 - makes no objects at all
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # RuntimeError: no home for ~name
        problems.append(f"file {path or FILE_NAME}: cannot be read: {_one_line(error)}")
        return {}
    except yaml.YAMLError as error:
        problems.append(f"file {path}: expected YAML `name: value` lines, got {_one_line(error)}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"file {path}: expected `name: value` lines, got a {type(content).__name__}")
        return {}
    problems += [f"file {path}: {_unknown(str(n), str(n))}" for n in content if n not in _NAMES]
    return {name: raw for name, raw in content.items() if name in _NAMES and raw != ""}


def _file(env: Mapping[str, str], cwd: Path) -> Path | None:
    given = env.get(f"{ENV_PREFIX}CONFIG", "")
    if given:
        return Path(given).expanduser()
    if (cwd / FILE_NAME).is_file():
        return cwd / FILE_NAME
    try:
        import platformdirs
    except ImportError:
        return None
    path = Path(platformdirs.user_config_dir("mlflow-carbon", appauthor=False)) / FILE_NAME
    return path if path.is_file() else None


def _checked(name: str, raw: Any) -> Any:
    if name not in _NAMES:
        raise SettingsError(_unknown(name, name))
    if name in _RANGES:
        return _number(name, raw)
    if name == "grid":
        return _grid(raw)
    if name in _CHOICES:
        return _choice(name, raw, raw)
    if name in {"detail", "cloud_metadata"}:
        return _flag(name, raw)
    return _text(name, raw)


def _choice(name: str, word: Any, raw: Any) -> str:
    if isinstance(word, str) and word in _CHOICES[name]:
        return word
    near = get_close_matches(str(word), _CHOICES[name], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SettingsError(f"{name}: expected one of {', '.join(_CHOICES[name])}, got {raw!r}{hint}")


def _grid(raw: Any) -> str:
    """A source of intensity, with what belongs to it after a colon."""
    source, colon, argument = raw.partition(":") if isinstance(raw, str) else (raw, "", "")
    _choice("grid", source, raw)
    pattern, expected = _GRID_ARGUMENTS.get(source, ("", "nothing after the name"))
    if not re.fullmatch(pattern, argument) or (colon and not argument):
        raise SettingsError(f"grid: expected {expected}, got {raw!r}")
    return f"{source}{colon}{argument.upper() if source == 'gb' else argument}"


def _text(name: str, raw: Any) -> str:
    text = raw.strip() if isinstance(raw, str) else ""
    if name == "wall_meter":
        if not text or ("://" in text and not text.startswith(("http://", "https://"))):
            raise SettingsError(f"{name}: expected a CSV file or an http(s) address, got {raw!r}")
    elif not text:
        raise SettingsError(f"{name}: expected a zone id such as GB or US-CAL-CISO, got {raw!r}")
    return text


def _number(name: str, raw: Any) -> float:
    low, high = _RANGES[name]
    try:
        value = math.nan if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not low <= value <= high:
        raise SettingsError(f"{name}: expected a number from {low:g} to {high:g}, got {raw!r}")
    return value


def _flag(name: str, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if not _is_true(str(raw)) and str(raw).strip().lower() not in _FALSE:
        raise SettingsError(f"{name}: expected true or false, got {raw!r}")
    return _is_true(str(raw))


def _unknown(name: str, shown: str) -> str:
    near = get_close_matches(name, _NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown setting {shown!r}: expected one of {', '.join(_NAMES)}{hint}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
