"""The worker: jobs in their order, one at a time, whatever one of them does."""

from __future__ import annotations

import logging
import threading
from functools import partial

from mlflow_carbon.worker import Worker

WAIT_S = 20


def _hold(worker):
    """Keep the worker busy, from now until the event that is returned is set."""
    busy, go = threading.Event(), threading.Event()

    def hang():
        busy.set()
        go.wait(WAIT_S)

    worker.submit(hang)
    assert busy.wait(WAIT_S)
    return go


def _raise():
    raise RuntimeError("this job is broken")


def test_jobs_run_in_the_order_they_are_due():
    """Due time decides, and among equals the order of submission; a job that is due later waits."""
    worker = Worker()
    done: list[str] = []
    go = _hold(worker)
    worker.submit(lambda: done.append("late"), delay_s=0.05)
    for name in "abc":
        worker.submit(partial(done.append, name))
    last = threading.Event()
    worker.submit(last.set, delay_s=0.1)
    go.set()
    assert last.wait(WAIT_S)
    assert done == ["a", "b", "c", "late"]


def test_a_job_that_is_due_later_is_not_run_early():
    """An hour from now is not now, and waiting for what is due does not wait for it."""
    worker, done = Worker(), []
    worker.submit(lambda: done.append("in an hour"), delay_s=3600)
    worker.submit(lambda: done.append("now"))
    assert worker.drain(WAIT_S)
    assert done == ["now"]


def test_an_earlier_job_overtakes_one_that_is_waited_for():
    """The thread that sleeps until the later one is woken for the earlier."""
    worker, done = Worker(), threading.Event()
    worker.submit(lambda: None, delay_s=3600)
    worker.submit(done.set)
    assert done.wait(WAIT_S)


def test_jobs_run_one_after_another_in_one_background_thread():
    """They need no locks among themselves, and never run in the caller's thread."""
    worker, threads, inside = Worker(), set(), []

    def job():
        inside.append(1)
        assert len(inside) == 1
        threads.add(threading.current_thread().name)
        inside.pop()

    for _ in range(20):
        worker.submit(job)
    assert worker.drain(WAIT_S)
    assert threads == {"mlflow-carbon-worker"}


def test_a_job_that_raises_is_logged_and_the_next_one_runs(caplog):
    """A bug in one run's storing does not stop that of the others."""
    worker, done = Worker(), []
    with caplog.at_level(logging.WARNING):
        worker.submit(_raise)
        worker.submit(lambda: done.append("next"))
        assert worker.drain(WAIT_S)
    assert done == ["next"]
    assert [r.message for r in caplog.records] == ["a background job failed"]
    assert worker.cpu_ns > 0


def test_a_job_may_submit_another():
    """That is how a flush comes back every few seconds."""
    worker, done = Worker(), threading.Event()
    worker.submit(lambda: worker.submit(done.set))
    assert done.wait(WAIT_S)


def test_drain_gives_up_while_a_job_hangs():
    """False after the timeout, True once the job is through."""
    worker = Worker()
    go = _hold(worker)
    assert not worker.drain(0.05)
    go.set()
    assert worker.drain(WAIT_S)


def test_a_worker_without_jobs_has_no_thread():
    """Nothing is started for a process that never measures."""
    worker = Worker()
    before = threading.active_count()
    assert worker.drain(1)
    assert threading.active_count() == before


def test_a_retired_worker_ends_its_thread_and_starts_again_for_a_job():
    """What was not due yet is forgotten."""
    worker, done = Worker(), threading.Event()
    worker.retire()  # nothing to end yet
    worker.submit(_raise, delay_s=3600)
    thread = worker._thread
    assert thread is not None
    worker.retire()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    worker.submit(done.set)
    assert done.wait(WAIT_S)
    assert worker.drain(WAIT_S)
    assert worker._queue == []


def test_a_job_in_time_keeps_a_worker_from_retiring():
    """It runs in the thread that was about to end."""
    worker, done = Worker(), threading.Event()
    go = _hold(worker)
    thread = worker._thread
    worker.retire()
    worker.submit(done.set)
    go.set()
    assert done.wait(WAIT_S)
    assert worker._thread is thread
