"""One submission on a virtual clock: plan, wait, train, tell; and every way in which it can be cut short."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.errors import StoreError, SubmissionError, ZoneError
from mlflow_carbon.scheduling.config import parse
from mlflow_carbon.scheduling.endings import Terminated
from mlflow_carbon.scheduling.state import RUNNING, seat
from mlflow_carbon.scheduling.submit import submit
from tests.submissions import HOUR, NOW, SLOT, Run, Stage, stage

CONFIG = {"zone": "GB", "duration_h": 1, "max_wait_h": 5, "power_w": 1000}
CLEAN_AT_3 = (300.0, 300.0, 300.0, 100.0, 200.0, 300.0, 300.0, 300.0)
START_S = SLOT + 3 * HOUR


def go(on: Stage, folder, config: dict[str, Any] | None = None, *, host: str = "here") -> str:
    """Submit as one process does."""
    with seat(folder, "key") as mine:
        return submit(parse(config or CONFIG), on.world(mine, host), tracking_uri="sqlite:////x.db")


def saved(folder) -> list[dict[str, Any]]:
    """The states on disk."""
    return [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]


def plan_of(run: Run) -> dict[str, Any]:
    """`carbon/plan.json`."""
    return dict(json.loads(run.files["plan.json"]))


def at(on: Stage, t_s: float, error: type[BaseException]) -> None:
    """Something ends the process at a wall time, when MLflow has the plan."""

    def happen() -> None:
        assert on.project.runs["run1"].told.wait(5)
        raise error

    on.clock.events.append((t_s, happen))


def test_it_waits_trains_and_says_what_came(tmp_path):
    """From 300 to 100 g/kWh for 2 kWh: 400 g saved of 600; the oracle is the same hour."""
    on = stage(GB=CLEAN_AT_3)
    on.project.own_kwh = 2.0
    assert go(on, tmp_path) == "run1"
    run = on.project.runs["run1"]
    assert run.statuses == ["SCHEDULED", "RUNNING", "FINISHED"]
    began_s = START_S + run.metrics["carbon/wait_s"] - (START_S - NOW)
    assert START_S <= began_s <= START_S + 30
    assert run.metrics["carbon/intensity_initial_gco2e_per_kwh"] == pytest.approx(300)
    assert run.metrics["carbon/intensity_training_gco2e_per_kwh"] == pytest.approx(100, rel=0.02)
    assert run.metrics["carbon/saving_ratio"] == pytest.approx(2 / 3, rel=0.02)
    assert run.metrics["carbon/saving_oracle_ratio"] == pytest.approx(2 / 3)
    outcome = plan_of(run)["outcome"]
    assert outcome["now_gco2e"] == pytest.approx(600)
    assert outcome["energy_from"] == "the run's own figure"
    assert (outcome["kind"], outcome["is_final"]) == ("forecast", False)
    assert run.tags["carbon.plan.outcome"] == "not final: weakest intensity is forecast"
    assert "saved 66" in on.screen.getvalue()
    assert saved(tmp_path) == []


def test_the_facility_counts_in_what_came(tmp_path):
    """2 kWh at a PUE of 1.5 and 300 g are 900 g, as the run's own emissions say."""
    on = stage(GB=CLEAN_AT_3)
    on.project.own_kwh, on.project.own_pue = 2.0, 1.5
    go(on, tmp_path)
    outcome = plan_of(on.project.runs["run1"])["outcome"]
    assert outcome["now_gco2e"] == pytest.approx(900)
    assert outcome["energy_kwh"] == 2.0


def test_a_marginal_outcome_says_so(tmp_path):
    """Its intensities are no averages, and no emissions of the run."""
    on = stage(GB=CLEAN_AT_3)
    on.grids.signal = "marginal"
    go(on, tmp_path)
    assert on.project.runs["run1"].tags["carbon.plan.outcome"].endswith("forecast (marginal)")


def test_the_tags_tell_the_plan_while_it_waits(tmp_path):
    """Policy, times, expected saving with its range, reason, source and zone; the state is on disk by then."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    tags = on.project.runs["run1"].tags
    assert tags["carbon.kind"] == "run"
    assert tags["carbon.plan.policy"] == "window"
    assert tags["carbon.plan.start"] == "2026-03-02T15:00:00Z"
    assert tags["carbon.plan.end"] == "2026-03-02T16:00:00Z"
    assert tags["carbon.plan.saving_ratio"].startswith("0.6")
    assert tags["carbon.plan.zone"] == "GB"
    assert tags["carbon.plan.reason"] == "the cleanest 1 h within the wait"
    (state,) = saved(tmp_path)
    assert (state["run_id"], state["submitted_s"], state["start_s"]) == ("run1", NOW, START_S)
    assert (state["phase"], state["baseline_gco2e_per_kwh"]) == ("waiting", 300)


def test_a_killed_launcher_goes_on_with_the_same_run_and_deadline(tmp_path):
    """Two hours later the plan of the first submission still holds, its wait counted from then."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    on.clock.go(2 * HOUR)
    go(on, tmp_path)
    assert list(on.project.runs) == ["run1"]
    document = plan_of(on.project.runs["run1"])
    assert document["submitted_utc"] == "2026-03-02T12:10:00Z"
    assert document["latest_start_utc"] == "2026-03-02T17:10:00Z"
    assert on.project.runs["run1"].metrics["carbon/wait_s"] >= START_S - NOW
    assert "going on with run run1" in on.screen.getvalue()
    assert len(on.project.launched) == 1


def test_a_restart_after_the_deadline_runs_at_once(tmp_path):
    """The last time to start is over: no new wait begins."""
    on = stage(GB=(*CLEAN_AT_3, 300.0, 100.0, 100.0))
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    on.clock.wall = NOW + 6 * HOUR
    go(on, tmp_path)
    assert on.project.runs["run1"].metrics["carbon/wait_s"] == pytest.approx(6 * HOUR, abs=1)


@pytest.mark.parametrize("moved_s", [30 * HOUR, 3 * 365 * 24 * HOUR, -3 * 24 * HOUR])
def test_a_state_of_another_time_is_not_gone_on_with(tmp_path, moved_s):
    """Days after its deadline, or from the future, the old run is killed and a new one made."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    on.clock.wall = NOW + moved_s
    go(on, tmp_path)
    assert on.project.runs["run1"].status == "KILLED"
    assert "too old" in on.project.runs["run1"].tags["carbon.plan.outcome"]
    assert on.project.runs["run2"].status == "FINISHED"


def test_a_run_that_was_deleted_meanwhile_is_not_missed(tmp_path):
    """It starts anew, with a new run."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    del on.project.runs["run1"]
    on.project.runs["other"] = Run()
    go(on, tmp_path)
    assert "not there any more" in on.screen.getvalue()
    assert on.project.runs["run3"].status == "FINISHED"


def test_a_damaged_state_starts_anew_and_says_so(tmp_path):
    """The file is kept aside."""
    (tmp_path / "key.json").write_text('{"schema": 1, "run_')
    on = stage(GB=CLEAN_AT_3)
    go(on, tmp_path)
    assert "the state file cannot be used" in on.screen.getvalue()
    assert (tmp_path / "key.unreadable").exists()
    assert on.project.runs["run1"].status == "FINISHED"


def test_ctrl_c_while_waiting_ends_the_run_and_leaves_nothing(tmp_path):
    """KILLED, the reason in a tag, no state, no training."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        go(on, tmp_path)
    run = on.project.runs["run1"]
    assert (run.status, run.tags["carbon.plan.outcome"]) == ("KILLED", "interrupted while waiting")
    assert "run run1 KILLED: interrupted while waiting" in on.screen.getvalue()
    assert saved(tmp_path) == []
    assert on.project.launched == []


def test_sigterm_while_waiting_keeps_the_state(tmp_path):
    """KILLED, and the same command revives the same run."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, Terminated)
    with pytest.raises(Terminated):
        go(on, tmp_path)
    assert on.project.runs["run1"].status == "KILLED"
    assert len(saved(tmp_path)) == 1
    go(on, tmp_path)
    assert on.project.runs["run1"].statuses == ["SCHEDULED", "KILLED", "SCHEDULED", "RUNNING", "FINISHED"]


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated])
def test_an_interrupt_while_training_ends_the_training_too(tmp_path, signal):
    """The child is cancelled and the run KILLED; after SIGTERM the state stays, and a new run takes over."""
    on = stage(GB=CLEAN_AT_3)
    on.project.raises = signal
    with pytest.raises(signal):
        go(on, tmp_path)
    assert on.project.children[0].cancelled
    assert on.project.runs["run1"].status == "KILLED"
    assert len(saved(tmp_path)) == (0 if signal is KeyboardInterrupt else 1)
    on.project.raises = None
    go(on, tmp_path)
    assert on.project.runs["run2"].status == "FINISHED"
    same_deadline = plan_of(on.project.runs["run2"])["latest_start_utc"] == "2026-03-02T17:10:00Z"
    assert same_deadline == (signal is Terminated)


def test_a_failing_project_is_a_failure(tmp_path):
    """FAILED, the error for the exit code, the outcome logged all the same, no state."""
    on = stage(GB=CLEAN_AT_3)
    on.project.succeeds = False
    with pytest.raises(SubmissionError, match="run run1 failed"):
        go(on, tmp_path)
    run = on.project.runs["run1"]
    assert run.status == "FAILED"
    assert "carbon/saving_ratio" in run.metrics
    assert saved(tmp_path) == []


def test_a_backend_that_cannot_start_leaves_no_run_running(tmp_path):
    """FAILED, with what it said."""
    on = stage(GB=CLEAN_AT_3)
    on.project.refuses = FileNotFoundError("no conda here")
    with pytest.raises(SubmissionError, match="could not run it: FileNotFoundError: no conda here"):
        go(on, tmp_path)
    run = on.project.runs["run1"]
    assert run.status == "FAILED"
    assert "no conda here" in run.tags["carbon.plan.outcome"]
    assert saved(tmp_path) == []


def test_what_a_backend_says_is_told_without_passwords(tmp_path):
    """Addresses of git may hold one: neither tag, screen nor error repeats it."""
    on = stage(GB=CLEAN_AT_3)
    on.project.refuses = OSError("cannot fetch https://me:hush@example.org/p.git")
    with pytest.raises(SubmissionError) as raised:
        go(on, tmp_path)
    said = str(raised.value) + on.project.runs["run1"].tags["carbon.plan.outcome"] + on.screen.getvalue()
    assert "cannot fetch https://example.org/p.git" in said
    assert "hush" not in said


def test_a_training_that_is_lost_sight_of_is_not_said_to_have_never_begun(tmp_path):
    """Whoever asks a cluster how it stands may lose the line; what runs there goes on."""
    on = stage(GB=CLEAN_AT_3)
    on.project.raises = ConnectionError
    with pytest.raises(SubmissionError, match="lost sight of it, and it may still train: ConnectionError"):
        go(on, tmp_path)
    assert "may still train" in on.project.runs["run1"].tags["carbon.plan.outcome"]


def test_what_cannot_be_planned_is_a_failed_run(tmp_path):
    """Nothing is waited for and nothing stays SCHEDULED."""
    on = stage(GB=CLEAN_AT_3)
    on.grids.broken = ZoneError("zone: nobody knows it")
    with pytest.raises(ZoneError):
        go(on, tmp_path)
    assert on.project.runs["run1"].status == "FAILED"
    assert saved(tmp_path) == []


def test_planning_that_breaks_runs_the_project_at_once(tmp_path):
    """A fault of ours is no reason not to train; the reason is told."""
    on = stage(GB=CLEAN_AT_3)
    on.grids.broken = True
    assert go(on, tmp_path) == "run1"
    assert on.project.runs["run1"].status == "FINISHED"
    assert "planning failed: RuntimeError: no such table" in on.screen.getvalue()


def test_a_server_that_is_away_holds_up_nothing(tmp_path):
    """The wait goes on and the project runs; the state stays, since the run could not be ended."""
    on = stage(GB=CLEAN_AT_3)
    on.clock.events.append((NOW + 60, lambda: setattr(on.project.runs["run1"], "is_away", True)))
    assert go(on, tmp_path) == "run1"
    assert len(on.project.launched) == 1
    assert on.screen.getvalue().count("the server is away; the plan goes on without it") == 1
    assert [s["phase"] for s in saved(tmp_path)] == [RUNNING]


def test_a_server_that_is_away_at_a_restart_says_so(tmp_path):
    """How the run stands cannot be guessed."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    on.project.runs["run1"].is_away = True
    with pytest.raises(StoreError):
        go(on, tmp_path)
    assert len(saved(tmp_path)) == 1


def died_while_training(folder, config: dict[str, Any] | None = None, **changes: Any) -> Stage:
    """A launcher was killed half an hour after the training had begun."""
    on = stage(GB=CLEAN_AT_3)
    on.project.raises = SystemExit
    with pytest.raises(SystemExit):
        go(on, folder, config)
    (state,) = saved(folder)
    assert state["phase"] == RUNNING
    on.project.runs["run1"] = replace(on.project.runs["run1"], **changes)
    on.project.raises = None
    return on


def test_a_training_that_outlived_its_launcher_is_not_repeated(tmp_path):
    """It finished by itself: its outcome is logged, and the command ends well without a second training."""
    on = died_while_training(tmp_path, status="FINISHED", ended_s=START_S + HOUR + 30.0)
    assert go(on, tmp_path) == "run1"
    assert len(on.project.launched) == 1
    assert "is not run again" in on.screen.getvalue()
    assert on.project.runs["run1"].metrics["carbon/saving_ratio"] == pytest.approx(2 / 3, rel=0.02)
    assert saved(tmp_path) == []


def test_an_outcome_that_cannot_be_told_changes_nothing(tmp_path, caplog):
    """The grid cannot be asked after a training that outlived its launcher: it has finished, and stays so."""
    on = died_while_training(tmp_path, status="FINISHED", ended_s=START_S + HOUR + 30.0)
    on.grids.broken = True
    assert go(on, tmp_path) == "run1"
    assert "could not be logged: RuntimeError" in caplog.text
    assert saved(tmp_path) == []


def test_a_training_that_still_runs_is_left_alone(tmp_path):
    """The command is refused with the processes named, and makes no run."""
    on = died_while_training(tmp_path, status="RUNNING")
    on.project.living = [41, 42]
    with pytest.raises(SubmissionError, match=r"still training here \(processes 41, 42\)"):
        go(on, tmp_path)
    assert (len(on.project.runs), len(saved(tmp_path))) == (1, 1)


def test_a_training_that_died_too_is_started_again_as_a_new_run(tmp_path):
    """Its run is killed with the reason; the new one has the same deadline, and not the credit of its wait."""
    on = died_while_training(tmp_path, status="RUNNING")
    go(on, tmp_path)
    assert on.project.runs["run1"].status == "KILLED"
    assert "started again as another run" in on.project.runs["run1"].tags["carbon.plan.outcome"]
    plan = plan_of(on.project.runs["run2"])
    assert plan["latest_start_utc"] == "2026-03-02T17:10:00Z"
    assert plan["submitted_utc"] > "2026-03-02T12:10:00Z"


def test_a_training_that_failed_alone_is_a_new_submission(tmp_path):
    """Whoever starts it again has changed something: the patience begins anew."""
    on = died_while_training(tmp_path, status="FAILED")
    go(on, tmp_path)
    assert on.project.runs["run1"].status == "FAILED"
    assert plan_of(on.project.runs["run2"])["submitted_utc"] != "2026-03-02T12:10:00Z"


@pytest.mark.parametrize("status", ["RUNNING", "SCHEDULED"])
def test_a_training_on_another_machine_may_still_run(tmp_path, status):
    """Of processes elsewhere nothing can be seen: it is refused rather than run twice."""
    on = died_while_training(tmp_path, status=status)
    with pytest.raises(SubmissionError, match="another machine"):
        go(on, tmp_path, host="elsewhere")


def test_a_training_on_a_cluster_may_still_run(tmp_path):
    """Its launcher died here, but what it had launched has no process here: it is refused too."""
    config = {**CONFIG, "backend": "kubernetes"}
    on = died_while_training(tmp_path, config, status="RUNNING")
    with pytest.raises(SubmissionError, match="'kubernetes' and may still train there"):
        go(on, tmp_path, config)
    assert (len(on.project.launched), len(saved(tmp_path))) == (1, 1)
    on.project.runs["run1"].status = "KILLED"
    go(on, tmp_path, config)
    assert len(on.project.launched) == 2


def test_a_second_submission_of_the_same_is_one_of_its_own(tmp_path):
    """While the first waits, a second one gets its own run, and a word about it."""
    on = stage(GB=CLEAN_AT_3)
    with seat(tmp_path, "key"):
        go(on, tmp_path)
    assert "the same submission waits already" in on.screen.getvalue()


def test_a_clean_region_runs_it_with_its_backend_and_zone(tmp_path):
    """300 at home, 50 in DE: its backend and configuration, its zone for the child, its grid in the outcome."""
    on = stage(GB=(300.0,) * 8, DE=(50.0,) * 8)
    config = {
        "zone": "GB",
        "max_wait_h": 0,
        "regions": {
            "DE": {"transfer_kwh": 0.01, "backend": "databricks", "backend_config": {"where": "there"}}
        },
    }
    go(on, tmp_path, config)
    ((_, target, settings),) = on.project.launched
    assert (target.backend, target.config) == ("databricks", {"where": "there"})
    assert settings == {"zone": "DE", "grid": "auto"}
    run = on.project.runs["run1"]
    assert run.tags["carbon.plan.zone"] == "DE"
    assert run.metrics["carbon/intensity_training_gco2e_per_kwh"] == pytest.approx(50)
    outcome = plan_of(run)["outcome"]
    assert outcome["energy_kwh"] is None
    assert "it ran elsewhere" in outcome["energy_from"]
    assert outcome["moved_to"] == "DE"
    assert "against starting at once in DE (the move itself is not compared)" in on.screen.getvalue()
    assert not [key for key in outcome if key.endswith("_gco2e")]


def test_a_backend_that_makes_its_own_run_gets_the_figures_there(tmp_path):
    """The planned run becomes the plan of it, so that sums count one."""
    on = stage(GB=CLEAN_AT_3)
    on.project.child_run_id = "theirs"
    on.project.runs["theirs"] = Run(status="FINISHED")
    assert go(on, tmp_path) == "theirs"
    ours, theirs = on.project.runs["run2"], on.project.runs["theirs"]
    assert (ours.tags["carbon.kind"], ours.tags["carbon.plan.outcome"]) == ("plan", "ran as theirs")
    assert ours.status == "FINISHED"
    assert "carbon/saving_ratio" in theirs.metrics
    assert "carbon/saving_ratio" not in ours.metrics


def test_a_child_that_does_not_measure_is_measured_from_outside(tmp_path):
    """The machine's figures around it are stored, and say whose they are."""
    on = stage(GB=CLEAN_AT_3)
    on.project.footprint = RunFootprint(energy_kwh=0.5, basis="modelled")
    go(on, tmp_path)
    assert on.project.published == ["run1"]
    outcome = plan_of(on.project.runs["run1"])["outcome"]
    assert (outcome["energy_kwh"], outcome["energy_from"]) == (0.5, "this machine around the run (modelled)")


def test_a_child_that_measures_keeps_its_figures(tmp_path):
    """Nothing is published over them."""
    on = stage(GB=CLEAN_AT_3)
    on.project.footprint, on.project.own_kwh = RunFootprint(energy_kwh=0.5), 0.25
    go(on, tmp_path)
    assert on.project.published == []
    assert plan_of(on.project.runs["run1"])["outcome"]["energy_kwh"] == 0.25


def test_without_energy_the_ratios_stand_alone(tmp_path):
    """No grams are told that nobody measured."""
    on = stage(GB=CLEAN_AT_3)
    go(on, tmp_path)
    outcome = plan_of(on.project.runs["run1"])["outcome"]
    assert outcome["energy_kwh"] is None
    assert outcome["saving_ratio"] == pytest.approx(2 / 3, rel=0.02)
    assert "unknown (nothing could be measured), so ratios only" in on.screen.getvalue()


def test_a_wait_that_did_harm_is_told_as_it_is(tmp_path):
    """Planned for 100, came 600: minus 100 %, the oracle beside it, all of it actual by then."""
    on = stage(GB=CLEAN_AT_3)
    came = (300.0, 300.0, 300.0, 600.0, 600.0, 200.0, 600.0, 600.0)

    def turn() -> None:
        on.grids.zones["GB"] = came
        on.clock.wall = NOW + 12 * HOUR

    on.clock.events.append((START_S + HOUR, turn))
    go(on, tmp_path)
    run = on.project.runs["run1"]
    assert run.metrics["carbon/saving_ratio"] == pytest.approx(-1, abs=0.02)
    assert run.metrics["carbon/saving_oracle_ratio"] == pytest.approx(1 / 3, abs=0.02)
    assert "saved -100" in on.screen.getvalue()


def test_nothing_is_claimed_where_the_grid_says_nothing(tmp_path):
    """An annual figure: it starts at once, with the reason, and no saving is logged, not even zero."""
    on = stage()
    on.grids.note = "a token is needed"
    go(on, tmp_path)
    run = on.project.runs["run1"]
    assert run.metrics.keys() == {"carbon/wait_s", "carbon/intensity_training_gco2e_per_kwh"}
    assert run.metrics["carbon/wait_s"] == 0
    for said in (run.tags["carbon.plan.reason"], on.screen.getvalue()):
        assert "does not say when to start; a token is needed" in said


def test_a_deadline_in_the_past_starts_at_once_and_says_so(tmp_path):
    """No error: the work is wanted, if late."""
    on = stage(GB=CLEAN_AT_3)
    go(on, tmp_path, {"zone": "GB", "deadline": "2020-01-01T00:00Z"})
    assert "the deadline cannot be met even at once" in on.screen.getvalue()
    assert on.project.runs["run1"].metrics["carbon/wait_s"] == 0
    assert "cannot end in time" in on.project.runs["run1"].tags["carbon.plan.reason"]


def test_a_changed_configuration_keeps_the_times_of_the_submission(tmp_path):
    """More patience in the file does not move the deadline of what waits already."""
    on = stage(GB=CLEAN_AT_3)
    at(on, NOW + 60, SystemExit)
    with pytest.raises(SystemExit):
        go(on, tmp_path)
    go(on, tmp_path, CONFIG | {"max_wait_h": 100})
    assert plan_of(on.project.runs["run1"])["latest_start_utc"] == "2026-03-02T17:10:00Z"


@pytest.mark.parametrize("jump_s", [4 * HOUR, 300 * HOUR, -HOUR, -1000 * HOUR])
def test_a_clock_that_jumps_ends_in_a_training(tmp_path, jump_s):
    """Suspended or set back, it trains once, after no more patience than it had, and logs an outcome."""
    on = stage(GB=CLEAN_AT_3)

    def jump() -> None:
        on.clock.wall += jump_s

    on.clock.events.append((NOW + 60, jump))
    go(on, tmp_path)
    run = on.project.runs["run1"]
    assert run.status == "FINISHED"
    assert on.clock.mono - 100 <= 6 * HOUR + 60
    assert run.metrics["carbon/wait_s"] >= 0
    assert "outcome" in plan_of(run)


def test_a_re_plan_that_changes_the_start_is_told_and_kept(tmp_path):
    """The forecast turns: the tags have the new start, the document both plans."""
    on = stage(GB=CLEAN_AT_3)
    later = (300.0, 300.0, 300.0, 400.0, 80.0, 300.0, 300.0, 300.0)
    on.clock.events.append((NOW + 60, lambda: on.grids.zones.__setitem__("GB", later)))
    go(on, tmp_path)
    starts = [row["start_utc"] for row in plan_of(on.project.runs["run1"])["plans"]]
    assert starts[:2] == ["2026-03-02T15:00:00Z", "2026-03-02T16:00:00Z"]
    assert on.screen.getvalue().count("planned start") == 2
    assert on.project.runs["run1"].tags["carbon.plan.start"].startswith("2026-03-02T16:00")
