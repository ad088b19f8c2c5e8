"""How a wait is shown, and how SIGTERM becomes an exception."""

from __future__ import annotations

import io
import signal
from dataclasses import replace

import pytest

from mlflow_carbon.core.plans import Job
from mlflow_carbon.core.times import second
from mlflow_carbon.scheduling.account import plan_row, plan_tags, span
from mlflow_carbon.scheduling.advice import advise
from mlflow_carbon.scheduling.endings import Terminated, sigterm_raises
from mlflow_carbon.scheduling.order import Order
from mlflow_carbon.scheduling.progress import Display
from mlflow_carbon.scheduling.wait import Progress
from mlflow_carbon.settings import Settings
from tests.submissions import HOUR, NOW, SLOT, Clock, Grids

WAITING = Progress(waited_s=600, left_s=1800, now_gco2e_per_kwh=212.4, target_gco2e_per_kwh=148)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class GoneTerminal(Terminal):
    """One whose window was closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_gets_a_bar_that_is_drawn_over():
    """Time left, present and target intensity, a quarter of the bar full; a line wipes it first."""
    screen = Terminal()
    display = Display(screen)
    display.progress(WAITING)
    assert screen.getvalue() == "\r[######..................] 30 min 00 s left, now 212, target 148 gCO2e/kWh"
    display.progress(replace(WAITING, waited_s=2400, left_s=0))
    assert screen.getvalue().rpartition("\r")[2].startswith("[########################] 0 s left")
    display.line("over")
    assert screen.getvalue().endswith("\rmlflow-carbon: over\n")


def test_elsewhere_a_line_comes_every_half_hour():
    """A log of an hour's wait has three lines, also where the clock goes back."""
    screen = io.StringIO()
    display = Display(screen)
    for waited in range(0, 3601, 10):
        display.progress(replace(WAITING, waited_s=float(waited)))
    assert len(screen.getvalue().splitlines()) == 3
    display.progress(replace(WAITING, waited_s=5.0))
    assert len(screen.getvalue().splitlines()) == 4


def test_a_closed_terminal_does_not_end_the_wait():
    """What cannot be shown is not shown."""
    display = Display(GoneTerminal())
    display.progress(WAITING)
    display.line("anybody there?")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (93_900, "26 h 05 min"),
    ],
)
def test_durations_are_written_for_people(seconds, text):
    """Hours and minutes, minutes and seconds, seconds."""
    assert span(seconds) == text


def test_a_plan_in_tags_by_hand():
    """1 h at 1 kW from 300 now to 100 at 15:00: two thirds, from 15:00 to 16:00, without a range."""
    clock = Clock()
    order = Order(
        settings=Settings(zone="GB", zone_source="argument"),
        job=Job(length_s=HOUR, max_wait_s=5 * HOUR, power_w=1000),
        submitted_s=NOW,
    )
    advice = advise(order, Grids(clock, GB=(300.0, 300.0, 300.0, 100.0, 300.0, 300.0, 300.0)), NOW)
    row = plan_row(advice, at_s=NOW, length_s=HOUR)
    assert second(SLOT) == "2026-03-02T12:00:00Z"
    tags = plan_tags([row])
    assert (tags["carbon.plan.start"], tags["carbon.plan.end"]) == (
        "2026-03-02T15:00:00Z",
        "2026-03-02T16:00:00Z",
    )
    assert tags["carbon.plan.saving_ratio"] == "0.667 (0.667 to 0.667)"
    assert len(tags) == 8


@pytest.fixture
def handler():
    """Sets the handler of SIGTERM; what stood before, of other tests perhaps, stands again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda action: signal.signal(signal.SIGTERM, action)
    signal.signal(signal.SIGTERM, before)


def test_sigterm_raises_once_and_leaves_the_default_behind(handler):
    """The first becomes an exception; whatever comes after, the default action stands again."""
    handler(signal.SIG_DFL)
    with sigterm_raises():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_somebody_else_is_left_alone(handler):
    """Who handles SIGTERM himself goes on to."""

    def mine(*_: object) -> None:
        """Stay."""

    handler(mine)
    with sigterm_raises():
        assert signal.getsignal(signal.SIGTERM) is mine
    assert signal.getsignal(signal.SIGTERM) is mine
