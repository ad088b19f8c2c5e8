"""The documentation says what the code does."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow_carbon
from benchmarks.record import PAGES, page
from mlflow_carbon import cli
from mlflow_carbon.core.recording import Snapshot, StepMark
from mlflow_carbon.core.savings import Stay, saving
from mlflow_carbon.core.series import EnergySeries
from mlflow_carbon.scheduling.account import Came, plan_tags
from mlflow_carbon.session.publish import snapshot_points, step_points
from projects.mnist import config
from tests import fakes

ROOT = Path(__file__).parents[1]
KEYS = (ROOT / "docs/reference/keys.md").read_text(encoding="utf-8")


def test_the_generated_pages_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_series_are_listed() -> None:
    """The reference has each key over time and over steps that is published, and no other."""
    energy = EnergySeries(
        channels=(fakes.channel(),), duration_ns=10**9, cells=(), covered_ns={"fake:cpu": 1}, cases={}
    )
    live = replace(fakes.costing(), intensity=fakes.intensity(slots=[fakes.static()]))
    snapshot = Snapshot(t_ns=10**9, t_wall_ns=10**9, elapsed_s=1, series=energy)
    mark = StepMark(step=1, t_ns=0, t_wall_ns=10**9, before=energy, after=energy, ratio=0.5)
    published = {p.key for p in (*snapshot_points(snapshot, live), *step_points([mark], live))}
    assert set(re.findall(r"`(carbon/(?:time|step)/\w+)`", KEYS)) == published


def test_what_a_planned_run_logs_is_listed() -> None:
    """The reference has each metric and tag of a planned run, and no other."""
    section = KEYS.partition("## Planned runs")[2].partition("\n## ")[0]
    spent = saving(
        fakes.intensity(slots=[replace(fakes.static(), start_s=0, end_s=3600, kind="actual")]),
        Stay(submitted_s=0, started_s=0, ended_s=3600, latest_start_s=0),
        energy_kwh=1,
    )
    came = Came(saving=spent, wait_s=0.0, energy_kwh=None, energy_from="")
    assert set(re.findall(r"`(carbon/(?!plan\.json)\w+)`", section)) == set(came.metrics())
    row = dict.fromkeys(("policy", "start_utc", "end_utc", "reason", "source", "zone"), "")
    ratios = dict.fromkeys(("saving_ratio", "saving_low_ratio", "saving_high_ratio"), 0.0)
    tags = {"carbon.plan.outcome", *plan_tags([row | ratios])} - {"carbon.kind"}
    assert set(re.findall(r"^\| `(carbon\.plan\.\w+)`", section, re.MULTILINE)) == tags


def test_every_public_name_is_in_the_reference() -> None:
    """The page of the Python API has each public name, and no other."""
    api = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### `(\w+)`", api, re.MULTILINE)) == sorted(
        set(mlflow_carbon.__all__) - {"__version__"}
    )


def test_every_option_and_exit_code_is_listed() -> None:
    """The page of the commands has each command and option, and each exit code of the trainer."""
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    commands = argparse.ArgumentParser().add_subparsers()
    for command in cli.COMMANDS:
        command.add(commands)
    assert [name for name in commands.choices if f"`mlflow-carbon {name}`" not in text] == []
    options = {o for p in commands.choices.values() for o in p._option_string_actions if o.startswith("--")}
    assert [o for o in options - {"--help"} if f"`{o}" not in text] == []
    trainer = text.partition("## The trainer")[2]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", trainer, re.MULTILINE)}
    errors = (config.TrainerError, config.TrackingError, config.DataError, config.ConfigError)
    assert listed == {0, 130} | {error.exit_code for error in errors}


def test_every_decision_is_listed() -> None:
    """The index of the documentation has each decision but the template."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    records = sorted(p.name for p in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [name for name in records[1:] if f"(decisions/{name})" not in index] == []


def test_the_tests_that_prove_requirements_exist() -> None:
    """Each test named in the table of requirements is there."""
    page = (ROOT / "docs/reference/requirements.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert named
    missing = [
        f"{file}::{name}"
        for file, name in named
        if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_the_pages_of_the_benchmarks_show_their_json() -> None:
    """No figure of a benchmark is written by hand: each page is what its JSON makes."""
    raw = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PAGES.glob("*.json")}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert raw
    assert {name: page(name, document) for name, document in raw.items()} == pages


def test_every_pitfall_is_answered() -> None:
    """The page has the 36 pitfalls in order, each with its state; what is said to be done names a test that is there."""
    page = (ROOT / "docs/explanation/pitfalls.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 37))
    for number, _, state, _, tests in ([cell.strip() for cell in row] for row in rows):
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert state in {"done", "in part", "not done", "not applicable"}, number
        assert named or state not in {"done", "in part"}, number
        assert [f"{f}::{n}" for f, n in named if f"def {n}(" not in (ROOT / f).read_text("utf-8")] == []
