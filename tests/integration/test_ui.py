"""What a user sees of measured runs in MLflow's own pages, in a real browser before a real server."""

from __future__ import annotations

import itertools

import pytest

from tests.scripts import runs, script
from tests.servers import free_port, server

pytestmark = pytest.mark.slow

# Seven seconds: a point of the series at the fifth and one at the end.
MEASURE = """
mlflow_carbon.autolog(zone="DE")
for name in ("first", "second"):
    with mlflow.start_run(run_name=name):
        work(7)
"""


@pytest.fixture
def page(tmp_path):
    """A browser with a page of its own."""
    pytest.importorskip("selenium", reason="needs selenium (extra `dev`)")
    from tests import browser

    try:
        browser.programs()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    with browser.chromium(tmp_path / "profile", browser.Size(width=1440, height=1400)) as opened:
        yield opened


def test_charts_line_runs_up_and_the_overview_has_the_note(page, run_env, tracking_uri, tmp_path):
    """The chart page shows energy bars and power over seconds of both runs; the note is a table in the overview."""
    pytest.importorskip("flask", reason="needs the full mlflow (extra `ui`)")
    from tests import browser

    script(MEASURE, run_env)
    measured = {run.info.run_id: run.data.metrics for run in runs(run_env)}
    (experiment_id,) = {run.info.experiment_id for run in runs(run_env)}
    port = free_port()
    with server(tracking_uri, tmp_path, port):
        base = f"http://127.0.0.1:{port}"
        browser.open_charts(page, base, experiment_id, search="carbon/energy_kwh|carbon/time/power_w")
        shown = browser.wait_for_charts(page, ["carbon/energy_kwh", "carbon/time/power_w"], runs=2)
        (bars,) = shown["carbon/energy_kwh"]
        assert bars.kind == "bar"
        energy_kwh = {run_id: metrics["carbon/energy_kwh"] for run_id, metrics in measured.items()}
        assert dict(zip(bars.y, bars.x, strict=True)) == pytest.approx(energy_kwh)
        for line in shown["carbon/time/power_w"]:
            assert line.kind == "scatter"
            assert len(line.x) >= 2
            assert line.x[0] == 5
            assert all(before < after for before, after in itertools.pairwise(line.x))
            assert all(isinstance(watts, int | float) and watts > 0 for watts in line.y)

        note = browser.open_overview(page, base, experiment_id, next(iter(measured)))
        rows = [row.text for row in note.find_elements("css selector", "table tr")]
        assert any(row.startswith("Grid") and "DE" in row for row in rows), rows
        assert any("Wh" in row for row in rows), rows
        assert note.text.startswith("Energy and carbon: ")
        assert "|" not in note.text
        assert "<!--" not in note.text
