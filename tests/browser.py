"""MLflow's pages in headless Chromium: opened, waited for until they are drawn, and read.

For the test of what users see and for the pictures of the documentation. Knows the pages of MLflow 3.17;
other versions may name their parts differently. Needs `selenium`, and a browser and its driver on PATH.
"""

from __future__ import annotations

import shutil
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

__all__ = [
    "PROGRAMS",
    "Series",
    "Size",
    "charts",
    "chromium",
    "enlarge",
    "fold_sidebar",
    "open_charts",
    "open_overview",
    "plot_against",
    "programs",
    "resize",
    "wait_for_charts",
]

PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
NOTE = '[data-testid="note-editor-preview-content"]'

_PATIENCE_S = 120
_FLAGS = (
    "--headless",
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # small in containers
    # A mouse, as on a desk: without one the charts show their toolbars all the time.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)
# MLflow opens its assistant beside the first page that a new profile visits.
_NO_ASSISTANT = (
    "try { localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true') } catch {}"
)
_CARD = '[data-testid="experiment-view-compare-runs-card"]'
_MENU = '[data-testid="experiment-view-compare-runs-card-menu"]'
_DIALOG = "[role=dialog]"
_READ_CHARTS = f"""
return Object.fromEntries([...document.querySelectorAll('{_CARD}')].map(card => {{
  const plot = card.querySelector('.js-plotly-plot')
  const drawn = plot && plot.querySelector('.barlayer .point path, .scatterlayer .js-line')
  return [card.innerText.split('\\n')[0], (drawn ? plot.data : []).map(
    trace => [trace.type, trace.name || '', Array.from(trace.x || []), Array.from(trace.y || [])])]
}}))"""
_TWO_FRAMES = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Size of the visible page in CSS pixels."""

    width: int = 1280
    height: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one drawn chart shows of one run.

    Attributes:
        kind: `bar` or `scatter`, in Plotly's words.
        x: Values of the points along the horizontal axis; the metric's last value for a bar.
        y: Values along the vertical axis; the run's id for a bar.
    """

    kind: str
    x: tuple[float, ...]
    y: tuple[float | str, ...]


def programs() -> list[str]:
    """Paths of the browser and its driver.

    Raises:
        FileNotFoundError: If one is not on PATH; the message names it.
    """
    found = []
    for names in PROGRAMS:
        paths = [path for name in names if (path := shutil.which(name))]
        if not paths:
            raise FileNotFoundError(
                f"expected {' or '.join(names)} on PATH, got none; on Debian: apt install chromium-driver"
            )
        found.append(paths[0])
    return found


@contextmanager
def chromium(profile: Path, size: Size) -> Iterator[WebDriver]:
    """A browser with a new profile, gone afterwards.

    Raises:
        FileNotFoundError: If the browser or its driver is not on PATH.
    """
    browser, driver = programs()
    options = Options()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    page = webdriver.Chrome(options=options, service=Service(driver))
    try:
        page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _NO_ASSISTANT})
        resize(page, size)
        yield page
    finally:
        page.quit()


def resize(page: WebDriver, size: Size) -> None:
    """Make the visible page exactly this large."""
    metrics = {"width": size.width, "height": size.height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def fold_sidebar(page: WebDriver) -> None:
    """Leave more room to the page that is open; the next ones keep it."""
    _when_there(page, '[aria-label="Toggle sidebar"]').click()


def open_charts(page: WebDriver, base: str, experiment_id: str, *, search: str = "") -> None:
    """The chart page of an experiment, with only the charts whose name fits a regular expression."""
    page.get(_address(base, f"experiments/{experiment_id}/runs", compareRunsMode="CHART"))
    if search:
        _when_there(page, "input[placeholder='Search metric charts']").send_keys(search)


def wait_for_charts(page: WebDriver, names: Collection[str], *, runs: int) -> dict[str, list[Series]]:
    """What the charts show once all of these are drawn with this many runs.

    Raises:
        selenium.common.exceptions.TimeoutException: If they are not drawn; the message says what is.
    """
    wait = WebDriverWait(page, _PATIENCE_S)
    wait.until(lambda _: all(_run_count(charts(page).get(name, [])) == runs for name in names))
    page.execute_async_script(_TWO_FRAMES)
    return charts(page)


def charts(page: WebDriver) -> dict[str, list[Series]]:
    """Every chart of the page by its name, with what it shows; nothing where it is not drawn yet."""
    found: dict[str, list[Series]] = {}
    for name, traces in page.execute_script(_READ_CHARTS).items():
        # Each line is there twice, once as what lights up under the mouse.
        series = {(kind, run, tuple(x), tuple(y)): None for kind, run, x, y in traces if x}
        found[name] = [Series(kind=kind, x=x, y=y) for kind, _, x, y in series]
    return found


def plot_against(page: WebDriver, name: str, x_metric: str) -> None:
    """Give a line chart another metric as its horizontal axis, as a user does: Configure, Metric."""
    _card(page, name).find_element(By.CSS_SELECTOR, _MENU).click()
    _when_there(page, "[role=menuitem]").click()
    choice = _when_there(page, f"{_DIALOG} input[type=radio][value=metric]").find_element(By.XPATH, "..")
    choice.click()
    choice = choice.find_element(By.XPATH, "..")
    choice.find_element(By.CSS_SELECTOR, "input[role=combobox]").send_keys(x_metric, Keys.ENTER)
    page.find_element(By.XPATH, "//button[normalize-space()='Save changes']").click()
    WebDriverWait(page, _PATIENCE_S).until_not(lambda _: page.find_elements(By.CSS_SELECTOR, _DIALOG))
    wait_for_charts(page, [name], runs=_run_count(charts(page)[name]))


def enlarge(page: WebDriver, name: str, size: Size) -> None:
    """Show one chart on the whole page, and make the page this large."""
    _card(page, name).find_element(By.CSS_SELECTOR, '[data-component-id^="fullscreen_button"]').click()
    resize(page, size)
    _when_there(page, f"{_DIALOG} .js-plotly-plot .js-line")
    page.execute_async_script(_TWO_FRAMES)


def open_overview(page: WebDriver, base: str, experiment_id: str, run_id: str) -> WebElement:
    """The overview of a run with its note unfolded. Returns the note."""
    page.get(_address(base, f"experiments/{experiment_id}/runs/{run_id}"))
    note = _when_there(page, NOTE)
    for toggle in page.find_elements(By.CSS_SELECTOR, '[data-testid="show-comment-toggle"]'):
        toggle.click()
    page.execute_async_script(_TWO_FRAMES)
    return note


def _address(base: str, path: str, **query: str) -> str:
    options = urllib.parse.urlencode(query | {"workflowType": "machine_learning"})
    return f"{base}/#/{path}?{options}"


def _run_count(series: Collection[Series]) -> int:
    """Runs in a chart: one bar chart holds all runs in one trace, a line chart one in each."""
    return sum(len(one.x) if one.kind == "bar" else 1 for one in series)


def _when_there(page: WebDriver, selector: str) -> WebElement:
    found = WebDriverWait(page, _PATIENCE_S).until(lambda _: page.find_elements(By.CSS_SELECTOR, selector))
    return found[0]


def _card(page: WebDriver, name: str) -> WebElement:
    cards = page.find_elements(By.CSS_SELECTOR, _CARD)
    return next(card for card in cards if card.text.partition("\n")[0] == name)
