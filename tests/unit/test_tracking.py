"""The verbs inside a run: they work on its session, and no argument of theirs reaches the training as an error."""

from __future__ import annotations

import asyncio

import pytest

import mlflow_carbon
from mlflow_carbon.session import meter
from mlflow_carbon.session.live import RunSpec
from mlflow_carbon.settings import Settings
from tests.fakes import ConstantPower, MemorySink, surroundings

SETTINGS = Settings(period_s=0.05, grid="annual")


@pytest.fixture
def outer(tmp_path, monkeypatch):
    """A run that is being measured by this process, and where it is stored."""
    monkeypatch.delenv(meter.OWNER_VARIABLE, raising=False)
    own = meter.install(meter.Meter(SETTINGS, surroundings(tmp_path, (ConstantPower(),))))
    sink = MemorySink()
    session = own.start(RunSpec(run_id="outer"), SETTINGS, sink)
    assert session is not None
    yield session, sink
    own.stop_all("FINISHED", 10)
    meter._METERS.clear()


def _stop():
    own = meter.current()
    assert own is not None
    own.stop("outer", "FINISHED")
    assert own.flush(20)


def test_a_block_inside_a_run_is_no_stranger_to_it(outer):
    """It has figures of its own, and the run around it has the machine to itself."""
    _, sink = outer
    own = meter.current()
    assert own is not None
    with mlflow_carbon.track() as block:
        assert own.worker.drain(20)
        asked_ns = outer[0].now_ns()
        own.sampler.poke()
        assert own.sampler.wait_for_tick(asked_ns, 20)
    assert block.footprint is not None
    assert (block.footprint.energy_kwh or 0) > 0
    _stop()
    assert "carbon.shared" not in sink.tags


def test_a_coroutine_is_measured_until_it_is_done(outer):
    """Not only while it is made: what it does between start and end of its waiting counts."""
    decorated = mlflow_carbon.track()

    @decorated
    async def train(seconds):
        await asyncio.sleep(seconds)
        return "done"

    assert asyncio.run(train(0.3)) == "done"
    assert decorated.footprint is not None
    assert (decorated.footprint.duration_s or 0) >= 0.3


def test_a_function_that_fails_is_measured_and_fails(outer):
    """Its error is the caller's; the figures up to it stay."""
    decorated = mlflow_carbon.track()

    @decorated
    def train():
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        train()
    assert decorated.footprint is not None


def test_a_generator_function_is_refused_with_what_to_do(outer):
    """Its work is done after the call, so a figure of the call would be wrong."""

    def batches():
        yield 1

    with pytest.raises(TypeError, match=r"with mlflow_carbon.track\(\):"):
        mlflow_carbon.track()(batches)


@pytest.mark.parametrize("amount", ["3", 3, 3.5, "many", None, [1], float("nan"), -2])
def test_no_amount_raises_into_the_training(outer, amount):
    """What can be counted is; the rest becomes a trouble."""
    mlflow_carbon.count("image", amount)
    assert (outer[0].units == {}) is (outer[0].troubles != [])


def test_steps_are_logged_without_a_reading_each(outer):
    """A hundred steps in no time make a point each and no more readings than the beat."""
    session, sink = outer
    own = meter.current()
    assert own is not None
    asked_ns = session.now_ns()
    assert own.sampler.wait_for_tick(asked_ns, 20)
    before = own.sampler._seq
    for step in range(100):
        mlflow_carbon.log_step(step)
    assert own.sampler._seq - before < 50
    _stop()
    assert len([p for p in sink.points if p.key == "carbon/step/energy_kwh"]) == 100
