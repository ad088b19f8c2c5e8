"""`autolog`: measure every MLflow run of the process from start to end, with no other change.

MLflow has no hooks for runs, so two of its methods are wrapped: `fluent.ActiveRun.__init__` (a
run starts, is resumed or adopted) and `TrackingServiceClient.set_terminated` (it ends). Both are
private; where they have moved, one warning says so and `track` remains.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any

from mlflow_carbon import settings as setup
from mlflow_carbon.assembly import meter_for
from mlflow_carbon.session import meter
from mlflow_carbon.tracking import begin, resolved

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from mlflow_carbon.settings import Overrides, Settings

__all__ = ["autolog", "is_supported"]

_logger = logging.getLogger("mlflow_carbon")
_MARK = "_mlflow_carbon_original"
_PARENT_TAG = "mlflow.parentRunId"
_OUR_METRIC = "carbon/energy_kwh"


def autolog(*, disable: bool = False, silent: bool = False, **overrides: Unpack[Overrides]) -> None:
    """Measure every MLflow run of this process from now on.

    Fluent, nested, resumed and framework-autologged runs are measured from start to end. Calling it
    again replaces the settings; a run that is active now is measured from now on.

    Args:
        disable: Stop measuring new runs and restore MLflow's own methods.
        silent: Say nothing below the level of an error.
        **overrides: Settings: `zone`, `grid`, `pue`, `period_s`, `cpu_power_w` and so on, see `Settings`.

    Raises:
        SettingsError: If an override is wrong. Nothing raises later, during runs.
    """
    if silent:
        _logger.setLevel(logging.ERROR)
    elif _logger.level == logging.ERROR:  # ours, of an earlier call; another level is the user's own
        _logger.setLevel(logging.NOTSET)
    if disable:
        owner = meter.current()
        _restore(keep_end=owner is not None and owner.newest() is not None)
        return
    settings = resolved(overrides)
    if setup.is_disabled():
        _logger.warning("MLFLOW_CARBON_DISABLE is set: no run will be measured")
        return
    if _wrap(settings):
        _guarded(_attach, settings)


def is_supported() -> bool:
    """Whether the installed MLflow has what `autolog` hooks into."""
    return _targets() is not None


def _targets() -> tuple[type, type] | None:
    """The two classes whose methods are wrapped; None where MLflow has moved them."""
    try:
        from mlflow.tracking._tracking_service.client import TrackingServiceClient
        from mlflow.tracking.fluent import ActiveRun
    except ImportError:
        return None
    if not callable(getattr(TrackingServiceClient, "set_terminated", None)):
        return None
    return ActiveRun, TrackingServiceClient


def _wrap(settings: Settings) -> bool:
    targets = _targets()
    if targets is None:
        _logger.warning(
            "this MLflow has no ActiveRun or TrackingServiceClient.set_terminated where expected "
            "(tested with mlflow 3.1.3 to 3.17.2): runs are not measured by themselves; "
            "use mlflow_carbon.track(run_id=...) around them"
        )
        return False
    _restore()
    active_run, client = targets
    _replace(active_run, "__init__", functools.partial(_started, settings), before=False)
    _replace(client, "set_terminated", _terminated, before=True)
    return True


def _replace(owner: type, name: str, hook: Callable[..., None], *, before: bool) -> None:
    """Call a hook before or after a method; what the hook raises is logged, never passed on."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before:
            _guarded(hook, self, *args, **kwargs)
        result = original(self, *args, **kwargs)
        if not before:
            _guarded(hook, self, *args, **kwargs)
        return result

    setattr(wrapper, _MARK, original)
    setattr(owner, name, wrapper)


def _restore(*, keep_end: bool = False) -> None:
    """Give MLflow its methods back, but for the one that ends runs, where some are still measured."""
    if "mlflow.tracking.fluent" not in sys.modules:
        return
    names = ("__init__",) if keep_end else ("__init__", "set_terminated")
    for owner, name in zip(_targets() or (), names, strict=False):
        original = getattr(getattr(owner, name), _MARK, None)
        if original is not None:
            setattr(owner, name, original)


def _guarded(hook: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    try:
        hook(*args, **kwargs)
    except Exception:
        _logger.warning("measuring failed; the run itself goes on", exc_info=True)


def _started(settings: Settings, run: Any, *_args: Any, **_kwargs: Any) -> None:
    if setup.is_disabled():
        return
    begin(
        settings,
        run.info.run_id,
        parent_run_id=run.data.tags.get(_PARENT_TAG),
        resumed=_OUR_METRIC in run.data.metrics,
    )


def _terminated(_client: Any, run_id: str, status: str | None = None, *_args: Any, **_kwargs: Any) -> None:
    owner = meter.current()
    if owner is not None:
        owner.stop(run_id, status or "FINISHED")


def _attach(settings: Settings) -> None:
    """Look for sensors ahead of the first run, and measure one that is already active from now on."""
    import mlflow

    meter_for(settings).sampler.warm_up()

    run = mlflow.active_run()
    if run is not None:
        _started(settings, run)
