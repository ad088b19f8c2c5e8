"""`mlflow-carbon plan`: when to run a job, where, and what that is expected to save."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon import assembly, grid
from mlflow_carbon import settings as setup
from mlflow_carbon.cli import advice_text, simulation
from mlflow_carbon.core.times import moment
from mlflow_carbon.errors import SettingsError

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.advice import Advice
    from mlflow_carbon.scheduling.order import Order, Place

__all__ = ["add", "order_of"]

_MAX_H = 168.0
_MAX_GCO2E_PER_KWH = 5000.0  # as in the configuration of the backend
_FORMATS = ("text", "json", "k8s-job", "cronjob", "slurm", "github")
_POLICIES = ("window", "interruptible", "region", "threshold", "percentile", "now")
_EPILOG = (
    "Example: mlflow-carbon plan GB --hours 4 --slack 24 --power 300. With --simulate nobody is asked: "
    "policies are scored on the last year of a trace, against starting at once and perfect foresight; "
    "window and interruptible forecast from the trace's own past, or with --forecast from that archive; a "
    "forecaster's name means the window by it. Trace: slot_start_utc,gco2_per_kwh; archive: "
    "issued_utc,slot_start_utc,forecast_gco2_per_kwh; times like 2021-03-28T01:00Z."
)


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "plan", help="when to run: the cleanest time that the grid expects", epilog=_EPILOG
    )
    parser.add_argument(
        "zone", nargs="?", metavar="ZONE", help="grid zone, for example GB; none: as for runs"
    )
    parser.add_argument(
        "--hours", type=_numbers, help="length of the job; with --simulate several (1,4,12,24)"
    )
    parser.add_argument("--slack", type=float, default=24.0, help="longest delay of the start in hours (24)")
    parser.add_argument("--policy", help=f"{', '.join(_POLICIES)} (window); with --simulate names or all")
    parser.add_argument(
        "--idle", type=float, help="idle power of a machine held while waiting, over the job's power (0)"
    )
    parser.add_argument(
        "--min-gain", type=float, help="start at once below this expected saving (0.03; simulated 0)"
    )
    parser.add_argument("--threshold", type=float, help="gCO2e/kWh of the policy threshold (simulated 300)")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    _add_live(parser.add_argument_group("a plan from now on"))
    _add_manifest(parser.add_argument_group("a manifest: k8s-job, cronjob, slurm, github"))
    recorded = parser.add_argument_group("scores on a recorded grid")
    recorded.add_argument("--simulate", metavar="TRACE.csv", type=Path, help="score policies on this trace")
    recorded.add_argument("--forecast", metavar="FILE", type=Path, help="archive of a provider's forecasts")
    parser.set_defaults(command=_run, format="text")


def _add_live(live: argparse._ArgumentGroup) -> None:
    live.add_argument(
        "--deadline", type=_time, metavar="TIME", help="when it must be over, like 2026-03-03T08:00Z"
    )
    live.add_argument(
        "--power", type=float, metavar="W", help="mean power of the job; without it no grams are given"
    )
    live.add_argument(
        "--idle-power", type=float, metavar="W", help="instead of --idle, where --power is given"
    )
    live.add_argument(
        "--resume-min", type=float, default=0.0, help="minutes at full power that resuming costs (0)"
    )
    live.add_argument(
        "--regions",
        default="",
        help="other zones for the policy region: DE,SE or DE:0.5 with the kWh of moving there",
    )
    live.add_argument("--grid", metavar="SOURCE", help="source of the figures, see the setting `grid`")
    live.add_argument("--format", choices=_FORMATS, help="text, json, or a manifest for a cluster (text)")


def _add_manifest(manifest: argparse._ArgumentGroup) -> None:
    manifest.add_argument(
        "--command", dest="words", metavar="'WORDS'", help="what to run, quoted as one argument"
    )
    manifest.add_argument("--name", help="name of the job (training)", default="training")
    manifest.add_argument("--image", default="", help="container image, for Kubernetes")
    manifest.add_argument("--namespace", default="default", help="Kubernetes namespace (default)")
    manifest.add_argument(
        "--service-account", default="", help="of the training; by default one without rights"
    )
    manifest.add_argument("--user-id", type=int, default=1000, help="user of the container (1000); 0 is root")
    manifest.add_argument("--kubectl-image", default=None, help="image with kubectl that releases it")
    manifest.add_argument(
        "--runner", default="ubuntu-latest", help="label of the GitHub runner (ubuntu-latest)"
    )
    manifest.add_argument("--gpus", type=int, default=0, help="GPUs that it needs (0)")
    manifest.add_argument("--cpus", type=int, default=0, help="CPU cores that it needs; 0 asks for nothing")
    manifest.add_argument("--memory-gib", type=float, default=0.0, help="memory that it needs, in GiB")


def _run(options: argparse.Namespace) -> int:
    if options.json and options.format == "text":
        options.format = "json"
    _refuse_idle_options(options)
    if options.simulate is not None:
        return simulation.run(options)
    from mlflow_carbon.scheduling.advice import advise, system_look
    from mlflow_carbon.scheduling.wait import SystemClock

    now_s = SystemClock().wall_s()
    order = order_of(options, now_s)
    access = grid.Access(cache=grid.fetch.Cache(folder=setup.home() / "grid"), insists=True)
    advice = advise(order, system_look(access), now_s)
    has_power = options.power is not None
    if options.format == "json":
        print(json.dumps(advice_text.as_dict(advice, order, now_s, has_power=has_power), indent=2))
    elif options.format == "text":
        print(advice_text.text(advice, order, now_s, has_power=has_power))
    elif order.is_too_late:
        print(f"mlflow-carbon: {advice.plan.reason}: no manifest is made", file=sys.stderr)
    else:
        print(_manifest(advice, order, now_s, options), end="")
    return 1 if order.is_too_late else 0


def _refuse_idle_options(options: argparse.Namespace) -> None:
    """What would be left unused is a misunderstanding: say so.

    Raises:
        SettingsError: With the first of them.
    """
    is_manifest = options.format not in {"text", "json"}
    if options.simulate is not None:
        live = ("zone", "deadline", "power", "idle_power", "regions", "grid", "words")
        unused = [f"{name} with --simulate" for name in live if getattr(options, name)]
    else:
        idle = {
            "--forecast without --simulate": options.forecast is not None,
            "--threshold without --policy threshold": options.threshold is not None
            and options.policy != "threshold",
            f"--command with --format {options.format}": options.words is not None and not is_manifest,
        }
        unused = [words for words, is_given in idle.items() if is_given]
    if options.json and is_manifest:
        unused.append(f"--json with --format {options.format}")
    if unused:
        raise SettingsError(f"{unused[0]}: it would do nothing; leave out one of the two")


def _manifest(advice: Advice, order: Order, now_s: float, options: argparse.Namespace) -> str:
    """The plan as something that a cluster understands."""
    from mlflow_carbon.scheduling.manifests import FORMATS, Launch, Resources, Ticket

    try:
        words = tuple(shlex.split(options.words or ""))
    except ValueError as error:
        raise SettingsError(f"--command: expected words as for a shell, got {error}") from None
    if not words:
        raise SettingsError("--command: expected what to run, for example --command 'python train.py'")
    launch = Launch(
        name=options.name,
        command=words,
        duration_s=order.job.length_s,
        image=options.image,
        namespace=options.namespace,
        service_account=options.service_account,
        user_id=options.user_id,
        **({"kubectl_image": options.kubectl_image} if options.kubectl_image else {}),
        runner=options.runner,
        resources=Resources(gpus=options.gpus, cpus=options.cpus, memory_gib=options.memory_gib),
        finish_by_s=order.finish_by_s,
    )
    zone, plan = advice.intensity.zone, advice.plan
    if advice.forecast.kind == "static" or any("MOCK" in note for note in advice.notes):
        plan = replace(plan, warning="; ".join(filter(None, (plan.warning, *advice.notes))))
    return FORMATS[options.format](Ticket(plan=plan, launch=launch, zone=zone, now_s=now_s))


def order_of(options: argparse.Namespace, now_s: float) -> Order:
    """The order that the arguments ask for.

    Raises:
        SettingsError: If a number means nothing, or something is missing.
        ZoneError: If nobody knows a zone.
    """
    from mlflow_carbon.core.plans import Job, Terms
    from mlflow_carbon.scheduling.order import Order

    settings, _ = setup.resolve({"zone": options.zone, "grid": options.grid})
    if settings.zone is not None:
        assembly.check_zone(settings.zone)
    policy = options.policy or ("region" if options.regions else "window")
    if policy not in _POLICIES:
        raise SettingsError(f"--policy: expected one of {', '.join(_POLICIES)}, got {policy!r}")
    if policy == "threshold" and options.threshold is None:
        raise SettingsError("--policy threshold: expected --threshold as well, got none")
    if not options.hours or len(options.hours) != 1:
        raise SettingsError(
            "--hours: expected how long the job runs, for example --hours 4; an estimate will do"
        )
    power_w = _within("--power", 1000.0 if options.power is None else options.power, 0.001, 1e8)
    return Order(
        settings=settings,
        job=Job(
            length_s=3600 * _within("--hours", options.hours[0], 1 / 60, _MAX_H),
            max_wait_s=3600 * _within("--slack", options.slack, 0, _MAX_H),
            power_w=power_w,
            idle_w=_idle_w(options, power_w),
            resume_s=60 * _within("--resume-min", options.resume_min, 0, 1440),
        ),
        submitted_s=now_s,
        finish_by_s=options.deadline,
        policy=policy,
        terms=Terms(
            min_gain_ratio=_within(
                "--min-gain", 0.03 if options.min_gain is None else options.min_gain, 0, 0.99
            ),
            threshold_gco2e_per_kwh=None
            if options.threshold is None
            else _within("--threshold", options.threshold, 0, _MAX_GCO2E_PER_KWH),
        ),
        places=_places(options.regions, policy),
    )


def _idle_w(options: argparse.Namespace, power_w: float) -> float:
    if options.idle_power is not None:
        if options.power is None or options.idle is not None:
            raise SettingsError("--idle-power: expected it with --power and without --idle")
        return _within("--idle-power", options.idle_power, 0, power_w)
    return power_w * _within("--idle", options.idle or 0.0, 0, 1)


def _places(text: str, policy: str) -> tuple[Place, ...]:
    from mlflow_carbon.scheduling.order import Place

    if bool(text) != (policy == "region"):
        raise SettingsError(
            "--regions: expected zones for the policy region, and only for it, for example --regions DE,SE"
        )
    found = []
    for part in filter(None, text.split(",")):
        zone, _, kwh = part.strip().partition(":")
        found.append(
            Place(zone=grid.zones.check(zone), transfer_kwh=_within("--regions", _number(kwh or "0"), 0, 1e6))
        )
    return tuple(found)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"--regions: expected kWh after the colon, as in DE:0.5, got {text!r}") from None


def _within(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise SettingsError(f"{name}: expected {low:g} to {high:g}, got {value:g}")
    return value


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected hours like 4 or 1,4,12, got {text!r}") from None


def _time(text: str) -> float:
    """UTC seconds of a time with an offset."""
    found = moment(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"expected a time with its offset, like 2026-03-03T08:00Z or 2026-03-03T08:00+01:00, got {text!r}"
        )
    return found
