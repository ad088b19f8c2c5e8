"""One frozen `Config` (`--name value` > YAML file > default), and how the trainer says what is wrong.

`config.yaml` beside this file lists every key with its default and its meaning; `--help` prints it.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlflow_carbon import CarbonError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = [
    "DEFAULT_FILE",
    "NAMES",
    "Config",
    "ConfigError",
    "DataError",
    "TrackingError",
    "TrainerError",
    "from_command_line",
    "program",
    "say",
]

DEFAULT_FILE = Path(__file__).with_name("config.yaml")
MAX_BATCH = 60_000
POLICIES = ("now", "threshold", "percentile", "window")
_NOT_GIVEN = (None, "none", "null", "~", "")  # YAML's words for it, and ours


class TrainerError(Exception):
    """Root of what the trainer refuses; `exit_code` follows the one table of the project."""

    exit_code = 1


class ConfigError(TrainerError):
    """A key or value that cannot be used."""

    exit_code = 64


class DataError(TrainerError):
    """Files that are missing, damaged or not what they claim to be."""

    exit_code = 2


class TrackingError(TrainerError):
    """The tracking server cannot be reached or refused."""


def say(message: str) -> None:
    """One line on standard error."""
    print(f"mnist: {message}", file=sys.stderr)


def _whole(low: int, high: int, name: str, raw: Any) -> int:
    try:
        value = int(raw) if isinstance(raw, int | str) and not isinstance(raw, bool) else None
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise ConfigError(f"{name}: expected a whole number from {low} to {high}, got {raw!r}")
    return value


def _number(low: float, high: float, name: str, raw: Any) -> float:
    try:
        value = math.nan if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError):
        value = math.nan
    if not low <= value <= high:
        raise ConfigError(f"{name}: expected a number from {low:g} to {high:g}, got {raw!r}")
    return value


def _choice(choices: tuple[str, ...], name: str, raw: Any) -> str:
    if raw not in choices:
        near = get_close_matches(str(raw), choices, n=1)
        raise ConfigError(
            f"{name}: expected one of {', '.join(choices)}, got {raw!r}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    return str(raw)


def _flag(name: str, raw: Any) -> bool:
    value = {"true": True, "false": False}.get(str(raw).lower())
    if value is None:
        raise ConfigError(f"{name}: expected true or false, got {raw!r}")
    return value


def _text(name: str, raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ConfigError(f"{name}: expected text, got {raw!r}")
    return raw.strip()


def _optional(read: Callable[[str, Any], Any], name: str, raw: Any) -> Any:
    return None if raw in _NOT_GIVEN else read(name, raw)


def _key(default: Any, read: Callable[[str, Any], Any]) -> Any:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that one training depends on. `config.yaml` says what each key means.

    Raises:
        ConfigError: If `accum` is larger than `batch_size`.
    """

    accum: int = _key(1, partial(_whole, 1, MAX_BATCH))
    amp: str = _key("auto", partial(_choice, ("auto", "fp16", "bf16", "off")))
    epochs: int = _key(3, partial(_whole, 1, 1000))
    batch_size: int = _key(256, partial(_whole, 1, MAX_BATCH))
    lr: float = _key(6e-3, partial(_number, 1e-8, 1.0))
    seed: int = _key(0, partial(_whole, 0, 2**32 - 1))
    data_dir: str | None = _key(None, partial(_optional, _text))
    zone: str | None = _key(None, partial(_optional, _text))
    carbon_threshold_gco2e_per_kwh: float | None = _key(
        None, partial(_optional, partial(_number, 0.0, 5000.0))
    )
    carbon_policy: str | None = _key(None, partial(_optional, partial(_choice, POLICIES)))
    max_wait_s: float = _key(3600.0, partial(_number, 0.0, 7 * 86400.0))
    expected_duration_s: float = _key(60.0, partial(_number, 1.0, 30 * 86400.0))
    idle_ratio: float = _key(0.0, partial(_number, 0.0, 1.0))
    carbon_budget_gco2e: float | None = _key(None, partial(_optional, partial(_number, 1e-9, 1e9)))
    threads: int = _key(1, partial(_whole, 1, 1024))
    device: str = _key("auto", partial(_choice, ("auto", "cpu", "cuda")))
    checkpoint_dir: str = _key("checkpoints", _text)
    compile: bool = _key(default=False, read=_flag)

    def __post_init__(self) -> None:
        if self.accum > self.batch_size:
            raise ConfigError(
                f"accum: expected at most batch_size ({self.batch_size}) micro-batches, got {self.accum}; "
                "lower accum or raise batch_size"
            )

    @property
    def micro_batch(self) -> int:
        """Samples per forward pass: the effective batch over `accum`, rounded up."""
        return math.ceil(self.batch_size / self.accum)

    def as_params(self) -> dict[str, str]:
        """The keys that have a value, as the parameters of a run."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}

    def sha256(self) -> str:
        """Digest of all keys and values, so that a checkpoint knows its configuration."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


NAMES = tuple(spec.name for spec in fields(Config))
ALL = (*NAMES, "config")
_READ = {spec.name: spec.metadata["read"] for spec in fields(Config)}


def program(train: Callable[[Config], int], argv: Sequence[str], *, accepts: Collection[str] = ALL) -> int:
    """Run a training from its command line. Returns the exit code.

    0 done, 1 trouble with tracking or the training, 2 bad data, 64 usage, 130 interrupted.
    """
    if {"-h", "--help"} & set(argv):
        print(_help(accepts))
        return 0
    try:
        return train(from_command_line(argv, accepts=accepts))
    except (ConfigError, SettingsError) as error:
        say(f"{error} (`--help` lists every key)")
        return ConfigError.exit_code
    except TrainerError as error:
        say(str(error))
        return error.exit_code
    except (CarbonError, OSError) as error:
        say(f"{type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the checkpoint of the last whole epoch is kept")
        return 130


def _help(accepts: Collection[str]) -> str:
    """The keys that a trainer accepts, as the file explains them."""
    lines = ["config:                 # YAML file with the keys to change", *_file_lines()]
    return "\n".join(
        (
            "Give `--name value`, or `-P name=value` to `mlflow run`. Keys and their defaults:\n",
            *(line for line in lines if line.partition(":")[0] in accepts),
            "\nExit codes: 0 done, 1 tracking or training failed, 2 bad data, 64 usage, 130 interrupted",
        )
    )


def _file_lines() -> list[str]:
    return DEFAULT_FILE.read_text(encoding="utf-8").splitlines()


def from_command_line(argv: Sequence[str], *, accepts: Collection[str] = ALL) -> Config:
    """The configuration that `--name value` pairs ask for, over the file that `--config` names.

    Args:
        argv: The command line without the program's name, as MLflow passes on `-P name=value`.
        accepts: The names that may be given.

    Raises:
        ConfigError: If a name is unknown or a value cannot be used.
    """
    given = _pairs(argv, accepts)
    values: dict[str, Any] = {}
    if "config" in accepts:
        values |= _from_file(Path(given.pop("config", str(DEFAULT_FILE))).expanduser())
    values |= {name: _READ[name](name, raw) for name, raw in given.items()}
    return Config(**values)


def _pairs(argv: Sequence[str], accepts: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("--"):
            raise ConfigError(
                f"expected `--name value` or `-P name=value` pairs, got {word!r} where a name should be"
            )
        name, has_value, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if name not in accepts:
            raise ConfigError(_unknown(name, accepts))
        if not has_value:
            try:
                value = next(words)
            except StopIteration:
                raise ConfigError(f"{name}: expected a value after {word}, got none") from None
        found[name] = value
    return found


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        # Text only, as on the command line: to other loaders zone `NO` is false, as is amp `off`.
        content = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes no objects at all
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"config {path}: expected a readable YAML file, got {error}; check the path"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config {path}: expected `name: value` lines, got {_one_line(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"config {path}: expected `name: value` lines, got a {type(content).__name__}")
    for name in content:
        if name not in NAMES:
            raise ConfigError(f"config {path}: {_unknown(str(name), NAMES)}")
    try:
        return {name: _READ[name](name, raw) for name, raw in content.items()}
    except ConfigError as error:
        raise ConfigError(f"config {path}: {error}") from error


def _unknown(name: str, accepts: Collection[str]) -> str:
    near = get_close_matches(name, accepts, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown parameter {name!r}: expected one of {', '.join(sorted(accepts))}{hint}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
