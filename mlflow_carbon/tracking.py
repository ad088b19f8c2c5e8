"""`track`, which measures a block, a call or a run by hand; and what `autolog` shares with it.

Only wrong arguments raise, at the call; measuring never does.
"""

from __future__ import annotations

import functools
import inspect
import logging
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from mlflow_carbon import settings as setup
from mlflow_carbon.assembly import check_zone, node, start
from mlflow_carbon.errors import ZoneError
from mlflow_carbon.session import meter
from mlflow_carbon.session.live import RunSpec, Session
from mlflow_carbon.store import MlflowStore, portable_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Unpack

    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.settings import Overrides, Settings

__all__ = ["begin", "begin_block", "end_block", "resolved", "track"]

_logger = logging.getLogger("mlflow_carbon")
_FOOTPRINT_S = 5.0

P = ParamSpec("P")
R = TypeVar("R")


def resolved(overrides: Overrides) -> Settings:
    """Settings from arguments, environment and file.

    What is wrong in the last two is left out, warned about once, and becomes a finding of each run.

    Raises:
        SettingsError: If an argument is wrong, or names a zone that nobody knows.
    """
    settings, problems = setup.resolve(overrides)
    if settings.zone is not None:
        try:
            check_zone(settings.zone)
        except ZoneError as error:
            if settings.zone_source == "argument":
                raise
            problems.append(f"{settings.zone_source}: {error}")
            settings = replace(settings, zone=None, zone_source="")
    for problem in problems:
        _warn_once(problem)
    return replace(settings, problems=tuple(f"setting left out: {problem}" for problem in problems))


@functools.cache
def _warn_once(problem: str) -> None:
    _logger.warning("mlflow-carbon: setting left out: %s", problem)


def begin(
    settings: Settings,
    run_id: str,
    *,
    tracking_uri: str | None = None,
    parent_run_id: str | None = None,
    resumed: bool = False,
) -> Session | None:
    """Measure an MLflow run from now on; None if it is measured already or by a parent process."""
    store = MlflowStore(run_id, tracking_uri=tracking_uri)
    around = meter.innermost()
    if parent_run_id is None and around is not None and not around.spec.stored:
        parent_run_id = around.spec.run_id  # a block that holds a run does not share the machine with it
    one_of = node(settings, run_id)
    spec = RunSpec(
        run_id=run_id,
        tracking_uri=portable_uri(store.tracking_uri),
        parent_run_id=parent_run_id,
        resumed=resumed or one_of is not None,  # this machine may have been in it, whatever the run shows
        node=one_of,
    )
    return start(settings, spec, store)


class track:  # noqa: N801 - a verb, used like a function
    """Measure a block of code, or every call of a function.

    As a context manager it yields itself; after the block `footprint` holds the figures. With a
    `run_id` they also go to that MLflow run, unless `autolog` measures it already: then the block
    only returns its own figures. Without MLflow nothing is stored, only returned.

    Args:
        run_id: MLflow run to measure; None: no run.
        tracking_uri: Where the run lives; None: MLflow's current tracking URI.
        **overrides: Settings, see `Settings`.

    Raises:
        SettingsError: If an argument is wrong.
    """

    def __init__(
        self, run_id: str | None = None, *, tracking_uri: str | None = None, **overrides: Unpack[Overrides]
    ) -> None:
        self._run_id = run_id
        self._tracking_uri = tracking_uri
        self._settings = resolved(overrides)
        self._session: Session | None = None
        self.footprint: RunFootprint | None = None
        """Figures of the block once it has ended; None if nothing could be measured."""

    def __enter__(self) -> Self:
        if not setup.is_disabled():
            try:
                self._session = self._begin()
            except Exception:
                _logger.warning("this block is not measured", exc_info=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            self.footprint = end_block(session, "FAILED" if kind else "FINISHED")
        except Exception:
            _logger.warning("the figures of this block are lost", exc_info=True)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Measure every call of a function; of a coroutine function, until what it returns is awaited.

        Raises:
            TypeError: If it is a generator function, whose work is done after the call.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__name__", "")
            raise TypeError(
                f"expected a function or coroutine function, got generator function {name!r}: "
                "use `with mlflow_carbon.track():` around the loop over it"
            )

        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._once():
                return function(*args, **kwargs)

        if not inspect.iscoroutinefunction(function):
            return measured

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._once():
                return await function(*args, **kwargs)

        return cast("Callable[P, R]", awaited)

    @contextmanager
    def _once(self) -> Iterator[None]:
        """A fresh block for one call, since calls may overlap; its figures become ours."""
        once = track(self._run_id, tracking_uri=self._tracking_uri)
        once._settings = self._settings
        try:
            with once:
                yield
        finally:
            self.footprint = once.footprint

    def _begin(self) -> Session | None:
        """The session of the named run, else one of our own that is stored nowhere."""
        if self._run_id is not None:
            session = begin(self._settings, self._run_id, tracking_uri=self._tracking_uri, resumed=True)
            if session is not None:
                return session
        around = meter.innermost()
        return begin_block(
            self._settings, self._run_id or (around.spec.run_id if around is not None else None)
        )


def begin_block(settings: Settings, parent_run_id: str | None) -> Session | None:
    """Measure from now on, storing nothing; a block about a run does not share the machine with it."""
    name = f"block-{uuid.uuid4().hex[:12]}"
    return start(settings, RunSpec(run_id=name, parent_run_id=parent_run_id, stored=False), None)


def end_block(session: Session, status: str, *, costed_s: float = 0.0) -> RunFootprint | None:
    """Stop a session of our own and wait for its figures (not for the server).

    Args:
        session: From `begin_block`.
        status: How it ended.
        costed_s: How long to wait for the live intensity of a block that was over before it came, in seconds.
    """
    owner = meter.current()
    if owner is None:
        return None
    publisher = owner.publisher(session)
    owner.stop(session.spec.run_id, status)
    if publisher is None or not session.measured.wait(_FOOTPRINT_S) or session.recording is None:
        return None
    if costed_s > 0:
        session.finished.wait(costed_s)
    from mlflow_carbon.session import final

    return final.footprint(publisher.ending())[0]
