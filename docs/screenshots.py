"""Makes the pictures under `docs/images/` from two real trainings and a real MLflow server.

Usage: python docs/screenshots.py [FOLDER]      (or: make pictures)

Trains with one and with four micro-batches a batch, one after the other, in a temporary store. Reads MNIST as
the trainer does (`MLFLOW_CARBON_DATA`, cache, download, else digits). The zone is given, so that the pictures
do not depend on the time zone of the machine. Takes some minutes. Needs the extras `train`, `ui` and `dev`,
and Chromium with its driver on PATH. Everything that is started is ended.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it also runs where the package is not installed

from projects.mnist import data  # noqa: E402 - needs the line above
from tests import browser  # noqa: E402 - as above
from tests.servers import free_port, server  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from selenium.webdriver.chrome.webdriver import WebDriver

ACCUM = ("1", "4")
ZONE = "DE"
EPOCHS = {"mnist": "3", "digits-fallback": "90"}  # series need more than the three points of 15 s
SEARCH = "carbon/energy_kwh|carbon/emissions_gco2e|carbon/time|accuracy"
DRAWN = ("carbon/energy_kwh", "carbon/emissions_gco2e", "carbon/time/power_w", "test/accuracy")


def main(arguments: Sequence[str]) -> int:
    """Train, serve, take the pictures; the exit code."""
    images = Path(arguments[0] if arguments else ROOT / "docs/images").resolve()
    images.mkdir(parents=True, exist_ok=True)
    browser.programs()  # better to learn now that there is no browser than after the trainings
    epochs = EPOCHS[data.load(None).name]
    with tempfile.TemporaryDirectory(prefix="screenshots-") as name:
        folder = Path(name)
        env = environment(os.environ, folder)
        for accum in ACCUM:
            train(accum, epochs, env=env, folder=folder)
        experiment_id, run_ids = name_runs(env["MLFLOW_TRACKING_URI"])
        port = free_port()
        with (
            server(env["MLFLOW_TRACKING_URI"], folder, port),
            browser.chromium(folder / "profile", browser.Size()) as page,
        ):
            take(page, f"http://127.0.0.1:{port}", experiment_id, run_ids, images)
    return 0


def environment(outer: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of the trainings: own store, own state, nothing else of MLflow."""
    kept = {k: v for k, v in outer.items() if k == "MLFLOW_CARBON_DATA" or not k.startswith("MLFLOW_")}
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_CARBON_HOME": str(folder / "home"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONPATH": str(ROOT),
    }


def train(accum: str, epochs: str, *, env: Mapping[str, str], folder: Path) -> None:
    """One training through its public door."""
    options = ("--accum", accum, "--epochs", epochs, "--zone", ZONE)
    print(f"training with {' '.join(options)}", flush=True)
    subprocess.run([sys.executable, "-m", "projects.mnist.train", *options], env=env, cwd=folder, check=True)


def name_runs(tracking_uri: str) -> tuple[str, list[str]]:
    """Call the runs by what tells them apart. Returns the experiment and the runs in order of training."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time ASC"])
    for run in runs:
        client.set_tag(run.info.run_id, "mlflow.runName", f"accum={run.data.params['accum']}")
    return runs[0].info.experiment_id, [run.info.run_id for run in runs]


def take(page: WebDriver, base: str, experiment_id: str, run_ids: list[str], images: Path) -> None:
    """All pictures."""
    browser.resize(page, browser.Size(width=1440, height=1540))
    browser.open_charts(page, base, experiment_id, search=SEARCH)
    browser.fold_sidebar(page)
    browser.wait_for_charts(page, DRAWN, runs=len(run_ids))
    save(page, images / "mlflow-charts.png")

    browser.plot_against(page, "test/accuracy", "carbon/step/energy_kwh")
    browser.enlarge(page, "test/accuracy", browser.Size(width=1000, height=620))
    save(page, images / "mlflow-accuracy-energy.png")

    browser.resize(page, browser.Size(height=860))
    note = browser.open_overview(page, base, experiment_id, run_ids[0]).rect
    save(page, images / "mlflow-run-note.png", width=note["x"] + note["width"] + 16)


def save(page: WebDriver, path: Path, *, width: float | None = None) -> None:
    """Write what is visible, from the left edge on, as PNG."""
    size = page.execute_script("return [innerWidth, innerHeight]")
    clip = {"x": 0, "y": 0, "width": width or size[0], "height": size[1], "scale": 1}
    taken = page.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
    path.write_bytes(base64.b64decode(taken["data"]))
    print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (FileNotFoundError, TimeoutError) as error:
        sys.exit(f"screenshots: {error}")
