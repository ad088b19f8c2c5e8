"""`mlflow-carbon doctor` on this machine, with a state folder of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlflow_carbon import assembly
from mlflow_carbon.cli import main
from mlflow_carbon.cli.doctor import Diagnosis, render
from mlflow_carbon.core.series import Basis, Component, Quality
from mlflow_carbon.grid import cloud
from mlflow_carbon.grid.regions import Region
from mlflow_carbon.journal import Journal
from mlflow_carbon.sensors import COUNTERS, METERS, UNTRIED, Absence, Lazily
from tests import fakes


@pytest.fixture
def journals(tmp_path, monkeypatch):
    """A state folder without journals; no settings from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_CARBON_DISABLE", raising=False)
    return tmp_path / "home" / "journal"


def test_it_says_what_is_read_and_which_grid_figure_counts(journals, capsys):
    """Exit code 0; each channel with its basis; the annual figure of Germany, life cycle."""
    assert main(["doctor", "--zone", "DE"]) == 0
    shown = capsys.readouterr().out
    assert "modelled  L0" in shown or "measured  L" in shown
    assert "zone DE (from argument): 381 gCO2e/kWh (305 to 457)" in shown
    assert "static, average, scope life cycle" in shown
    assert "no journal waits to be recovered" in shown


def _diagnosis(channels=(), absences=(), untried=(), observed=()):
    return Diagnosis(
        simulated=(),
        channels=channels,
        absences=absences,
        untried=untried,
        observed=observed,
        costing=fakes.costing(),
        state_folder="/state",
        orphans=(),
        hooks=True,
        disabled=False,
        problems=(),
    )


def test_a_modelled_part_says_why_and_what_would_measure_it():
    """The reason and the exact command stand with the part they are of; a measured part needs none."""
    rapl = Absence(
        sensor="rapl:package-0", reason="PermissionError: denied", remedy="sudo chmod a+r energy_uj"
    )
    model = fakes.channel(id="model:cpu", basis=Basis.MODELLED, quality=Quality.L0)
    shown = render(_diagnosis(channels=(model,), absences=(rapl,)))
    assert "modelled because PermissionError: denied; what would help: sudo chmod a+r energy_uj" in shown
    assert "what would help" not in render(_diagnosis(channels=(fakes.channel(),), absences=(rapl,)))


def test_the_whole_machine_stands_beside_its_parts():
    """A node meter has its own heading; without one it says how to connect one."""
    node = fakes.channel(id="wall:meter", component=Component.NODE)
    shown = render(_diagnosis(channels=(node,)))
    assert shown.index("nothing: no sensor") < shown.index("The whole machine") < shown.index("wall:meter")
    assert "set wall_meter to a CSV file" in render(_diagnosis())


def test_what_was_never_run_on_hardware_is_said():
    """Sensors that were driven through fakes only are named, and the observed values by source."""
    shown = render(_diagnosis(untried=("amd", "wall"), observed=("disk/read_bytes", "disk/written_bytes")))
    assert "Never run on hardware\n  amd, wall: " in shown
    assert "  disk: read_bytes, written_bytes\n" in shown
    assert "Never run on hardware" not in render(_diagnosis())


def test_every_sensor_of_the_table_but_the_models_is_untried():
    """The list of what was never run on hardware names sensors that exist, and no model."""
    named = {probe.module for probe in (*COUNTERS, *METERS) if isinstance(probe, Lazily)}
    assert {"wall_meter" if name == "wall" else name for name in UNTRIED} <= named
    assert "model" not in UNTRIED


def test_it_counts_the_journals_that_wait(journals, capsys):
    """A journal whose writer is gone waits; one that is still written does not."""
    writers = [Journal(journals, name, host=assembly.host()) for name in ("a", "b", "c")]
    writers[0].close()
    main(["doctor"])
    assert "  1 journal waits for `mlflow-carbon recover`:\n" in capsys.readouterr().out
    writers[1].close()
    main(["doctor"])
    assert "  2 journals wait for `mlflow-carbon recover`:\n" in capsys.readouterr().out
    main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)["orphans"] == [str(w.path) for w in writers[:2]]
    writers[2].close()


def test_where_nothing_would_be_measured_the_answer_is_no(journals, monkeypatch, capsys):
    """Exit code 1 and the reason."""
    monkeypatch.setenv("MLFLOW_CARBON_DISABLE", "1")
    assert main(["doctor"]) == 1
    assert "MLFLOW_CARBON_DISABLE is set: nothing is measured" in capsys.readouterr().out


def test_an_unknown_zone_is_wrong_usage(journals, capsys):
    """Exit code 64, one line."""
    assert main(["doctor", "--zone", "Germny"]) == 64
    assert "did you mean DE" in capsys.readouterr().err


def test_a_service_that_was_never_seen_live_says_so():
    """With what to look at; an annual figure needs no such word."""
    live = replace(
        fakes.intensity(slots=[replace(fakes.static(), kind="actual")]), provider="energy-charts.info"
    )
    found = replace(_diagnosis(), costing=replace(fakes.costing(), intensity=live))
    assert "never seen live by those who made this" in render(found)
    assert "never seen live" not in render(_diagnosis())


def test_a_region_of_a_cloud_says_what_of_it_counts():
    """Proven: the PUE is used; a default of a command line: it is not; the share of carbon-free energy never is."""
    at = Region(provider="gcp", name="europe-west1", origin="CLOUDSDK_COMPUTE_REGION")
    maybe = cloud.site(at)
    found = replace(_diagnosis(), costing=replace(fakes.costing(), site=maybe))
    shown = render(found)
    assert "cloud gcp europe-west1 (from CLOUDSDK_COMPUTE_REGION, which may be a default" in shown
    assert "PUE 1.08 of 2025, region, not used: Google, Environmental Report 2026" in shown
    assert "second hand" in shown
    assert "carbon-free energy 79% of 2025: Google, region-carbon-info 2025" in shown
    assert "it multiplies no emissions" in shown
    sure = cloud.site(replace(at, origin="metadata", is_proven=True))
    used = replace(fakes.costing(), site=sure, pue_ratio=1.08, pue_source=sure.pue_label)
    shown = render(replace(found, costing=used))
    assert "PUE 1.08 (gcp 2025, europe-west1)" in shown
    assert "cloud gcp europe-west1 (from metadata)" in shown
    assert "PUE 1.08 of 2025, region, used: " in shown


def test_clouds_that_were_asked_and_did_not_answer_are_told():
    """Whoever asked for it learns that it came to nothing."""
    assert "no metadata service answered" in render(replace(_diagnosis(), asked_cloud=True))
    assert "metadata" not in render(_diagnosis())
