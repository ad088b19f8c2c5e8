"""The provider class by itself: switches, tags, and that nothing leaves it."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest

from mlflow_carbon.provenance.provider import CarbonRunContext


class Autologging(ModuleType):
    """Stands in for the module that installs the hooks."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("mlflow_carbon.autologging")
        self.calls = 0
        self.error = error

    def autolog(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def switches(monkeypatch):
    """No switch is on unless the test says so."""
    for name in ("DISABLE", "AUTOLOG"):
        monkeypatch.delenv(f"MLFLOW_CARBON_{name}", raising=False)
    return monkeypatch


def test_tags_are_strings_and_ours(switches):
    """A value that is no string would break the user's start_run."""
    provider = CarbonRunContext()
    assert provider.in_context()
    tags = provider.tags()
    assert tags
    assert all(isinstance(k, str) and k.startswith("carbon.") and isinstance(v, str) for k, v in tags.items())


def test_the_kill_switch_keeps_it_out(switches):
    """With MLFLOW_CARBON_DISABLE nothing is given and nothing is installed."""
    fake = Autologging()
    switches.setitem(sys.modules, fake.__name__, fake)
    switches.setenv("MLFLOW_CARBON_DISABLE", "1")
    switches.setenv("MLFLOW_CARBON_AUTOLOG", "1")
    assert CarbonRunContext().in_context() is False
    assert fake.calls == 0


def test_autolog_is_called_once_when_it_is_wanted(switches):
    """At the first run, and not again at the next."""
    fake = Autologging()
    switches.setitem(sys.modules, fake.__name__, fake)
    provider = CarbonRunContext()
    assert provider.in_context()
    assert fake.calls == 0
    switches.setenv("MLFLOW_CARBON_AUTOLOG", "1")
    assert provider.in_context()
    assert provider.in_context()
    assert fake.calls == 1


def test_a_failing_autolog_is_one_warning(switches, caplog):
    """The run starts with its tags; the reason is logged once."""
    fake = Autologging(RuntimeError("MLflow moved"))
    switches.setitem(sys.modules, fake.__name__, fake)
    switches.setenv("MLFLOW_CARBON_AUTOLOG", "1")
    provider = CarbonRunContext()
    with caplog.at_level(logging.WARNING, logger="mlflow_carbon"):
        assert provider.in_context()
        assert provider.in_context()
    (record,) = caplog.records
    assert "RuntimeError: MLflow moved" in record.getMessage()


def test_tags_that_cannot_be_read_are_none_with_a_warning(switches, tmp_path, caplog):
    """Something under us fails in a way nobody thought of: the run still starts."""
    switches.setattr(sys, "path", [object()])
    with caplog.at_level(logging.WARNING, logger="mlflow_carbon"):
        from mlflow_carbon.provenance.tags import _machine_of_this_process

        _machine_of_this_process.cache_clear()
        assert CarbonRunContext().tags() == {}
        _machine_of_this_process.cache_clear()
    assert "no provenance tags for this run" in caplog.text
