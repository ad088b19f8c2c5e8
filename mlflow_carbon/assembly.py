"""The composition root: binds sensors, grid, provenance and store to the process's meter.

What only the background threads need is imported there, so that starting a run stays cheap.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from mlflow_carbon import journal, zone_ids
from mlflow_carbon import settings as setup
from mlflow_carbon.core.cells import BUCKET_S
from mlflow_carbon.cpu_time import Baseline, machine_now
from mlflow_carbon.errors import StoreError, ZoneError
from mlflow_carbon.sampler import SystemClock
from mlflow_carbon.session import machines, meter
from mlflow_carbon.session.surroundings import Surroundings
from mlflow_carbon.store import MlflowStore, portable_uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow_carbon.grid.regions import Region
    from mlflow_carbon.sensors import Clock, Discovery
    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.live import RunSpec, Session
    from mlflow_carbon.session.publish import Costing
    from mlflow_carbon.session.recovery import Recovered
    from mlflow_carbon.settings import Settings

__all__ = [
    "check_zone",
    "costing",
    "costing_now",
    "environment",
    "host",
    "journal_folder",
    "meter_for",
    "node",
    "recover_journal",
    "region",
    "start",
]

_logger = logging.getLogger("mlflow_carbon")
_LOCKS: dict[int, threading.Lock] = {}
_BUDGET_S = 5.0  # for a live service: the end of a run must not wait for longer
_NAME_CHARS = 8
_PROVENANCE_TAGS = 10  # of the twenty that a run gets by default; the other ten are figures and grid


def journal_folder() -> Path:
    """Where journals of runs live."""
    return setup.home() / "journal"


def meter_for(settings: Settings) -> meter.Meter:
    """The meter of this process, which all runs share; a new one where an idle one has other sensors.

    While runs are measured with other sensor settings, those stay, with a warning.
    """
    with _lock():
        return _meter(settings)


def start(settings: Settings, spec: RunSpec, sink: Sink | None) -> Session | None:
    """Measure a run with the meter of this process; None if it is measured already, here or elsewhere."""
    with _lock():  # or a thread starts its run on a meter that another one replaces
        return _meter(settings).start(spec, settings, sink)


def host() -> str:
    """Name of this machine in the names of journals."""
    return platform.node() or "host"


def node(settings: Settings, run_id: str) -> machines.Node | None:
    """This machine among those that a launcher has spread the training over; None for the only one."""
    if machines.machines(os.environ) <= 1:
        return None
    from mlflow_carbon.provenance import privacy

    salt = privacy.salt(setup.home())
    hashed = privacy.conceal(host(), mode="hashed", key=salt or run_id.encode()) or ""
    return machines.node(
        os.environ,
        fallback=f"host-{hashed.rpartition(':')[2][:_NAME_CHARS]}",
        host=privacy.conceal(host(), mode=settings.privacy, key=salt) or "",
    )


def _lock() -> threading.Lock:
    """One for each process: a child forked while another thread held it would wait for ever."""
    return _LOCKS.setdefault(os.getpid(), threading.Lock())


def _meter(settings: Settings) -> meter.Meter:
    existing = meter.current()
    if existing is not None:
        if existing.settings.sensing_of(settings) == settings:
            return existing
        if not existing.is_idle():
            _logger.warning(
                "a run is measured already: its period_s, cpu_power_w, ram_power_w and wall_meter apply here"
            )
            return existing
        existing.retire()
    clock, counters_read = SystemClock(), threading.Event()
    surroundings = Surroundings(
        discover=_discover(settings, clock, counters_read),
        counters_read=counters_read,
        costing=costing,
        environment=environment,
        recover=_recover_run,
        folder=journal_folder(),
        host=host(),
        clock=clock,
    )
    unstored = existing.unstored() if existing is not None else ()
    return meter.install(meter.Meter(settings, surroundings, unstored=unstored))


def _discover(settings: Settings, clock: Clock, counters_read: threading.Event) -> Callable[[], Discovery]:
    baseline = _baseline()

    def discover() -> Discovery:
        try:
            from mlflow_carbon import sensors

            start = sensors.Start(clock=clock, baseline=baseline, counters_read=counters_read.set)
            return sensors.discover(settings, start=start)
        finally:  # whoever waits for them need not, whatever went wrong
            counters_read.set()

    return discover


def _baseline() -> Baseline | None:
    try:
        return Baseline(t_mono_ns=SystemClock().monotonic_ns(), times=machine_now())
    except OSError:
        return None


def costing(settings: Settings, start_s: int, end_s: int) -> Costing:
    """Intensity and PUE for a UTC span in seconds; what cannot be had falls back with a label."""
    from mlflow_carbon import grid
    from mlflow_carbon.grid import cloud, fetch, zones
    from mlflow_carbon.session.publish import Costing

    here = region(settings)
    try:
        zone = zones.resolve(settings, env=os.environ, region=here)
    except ZoneError as error:
        _logger.warning("%s", error)
        zone = zones.resolve(setup.Settings(), env=os.environ, region=here)
    site = cloud.site(here) if here is not None else None
    pue_ratio, pue_source = cloud.pue(site, given=settings.pue, source=settings.pue_source)
    series = grid.average_intensity(
        settings,
        zone,
        # Whole buckets: each is costed by the intensity of its middle, which may lie before the run began.
        window=grid.Window(start_s=start_s // BUCKET_S * BUCKET_S, end_s=-(-end_s // BUCKET_S) * BUCKET_S),
        access=grid.Access(
            cache=fetch.Cache(folder=setup.home() / "grid"), fetch=partial(fetch.get, budget_s=_BUDGET_S)
        ),
        now_s=SystemClock().wall_ns() / 1e9,
    )
    return Costing(
        intensity=series,
        pue_ratio=pue_ratio,
        pue_source=pue_source,
        zone_source=zone.source,
        site=site,
    )


def region(settings: Settings) -> Region | None:
    """The cloud region of this process: by metadata service where we may ask, else by variables."""
    from mlflow_carbon.grid import cloud_metadata, regions

    asked = None
    if settings.cloud_metadata:
        asked = _region_asked(tuple(cloud_metadata.addresses(os.environ).items()))
    return asked or regions.from_environment(os.environ)


@cache
def _region_asked(at: tuple[tuple[str, str], ...]) -> Region | None:
    """Asked once in a process: a machine does not move, and silence would cost half a second each time."""
    from mlflow_carbon.grid import cloud_metadata

    return cloud_metadata.ask(dict(at))


def costing_now(settings: Settings) -> Costing:
    """Intensity and PUE for the present half hour."""
    now_s = SystemClock().wall_ns() // 10**9
    return costing(settings, now_s, now_s + 1800)


def check_zone(zone_id: str) -> None:
    """Refuse a zone that nobody knows; only what is no plain id pays for the tables.

    Raises:
        ZoneError: With near names.
    """
    if zone_ids.is_known(zone_id):
        return
    from mlflow_carbon.grid import zones

    zones.check(zone_id)


def environment(settings: Settings) -> tuple[dict[str, str], dict[str, Any]]:
    """Tags and document about this machine, slow parts included."""
    from mlflow_carbon import provenance
    from mlflow_carbon.sensors.cpu_table import table_record

    place = provenance.here(privacy=settings.privacy)
    document = provenance.document(place, nvml=provenance.load_nvml())
    document["power_model_tables"] = table_record()
    tags = {**provenance.quick_tags(), **provenance.slow_tags(document)}
    return provenance.capped(tags, _PROVENANCE_TAGS), document


def recover_journal(path: Path, *, end_run: bool) -> Recovered:
    """Store what a dead process has left in one journal."""
    from mlflow_carbon.session import recovery

    return recovery.recover(
        path,
        sink=_store,
        costing=lambda start_s, end_s: costing(setup.resolve()[0], start_s, end_s),
        end_run=end_run,
    )


def _store(run_id: str, recorded_uri: str) -> MlflowStore:
    """The store of a journal, which holds no passwords: the current URI lends its own to the same server."""
    store = MlflowStore(run_id)
    if recorded_uri and portable_uri(store.tracking_uri) != recorded_uri:
        return MlflowStore(run_id, tracking_uri=recorded_uri)
    return store


def _recover_run(run_id: str) -> None:
    """Before a run is resumed: store what an earlier, killed process has left of it."""
    if not journal.orphans(journal_folder(), run_id, host=host()):
        return  # machines that share a home start at once: the lock is for those who have something to do
    with journal.recovering(journal_folder()) as is_mine:
        if not is_mine:
            raise StoreError(f"run {run_id} is being recovered by another process")
        for path in journal.orphans(journal_folder(), run_id, host=host()):
            outcome = recover_journal(path, end_run=False)
            _logger.info("resumed run %s: earlier journal %s: %s", run_id, outcome.outcome, outcome.detail)
