"""Manifests: the command survives, the release is made once, and nothing comes back a year later."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.errors import SettingsError
from mlflow_carbon.scheduling.manifests import FORMATS, Resources
from mlflow_carbon.scheduling.manifests.text import document
from tests.manifests import (
    HOUR_S,
    PAUSES,
    START_S,
    Cluster,
    documents,
    documents_1_2,
    expand,
    launch,
    of_kind,
    plan,
    pod_of,
    ticket,
)

K8S = ("k8s-job", "cronjob")
NASTY = (
    "train",
    "--lr=1e-3",
    "1e-3",
    "0x1F",
    "0o7",
    "1_000",
    "1:30",
    "2026-11-24",
    "y",
    "no",
    "null",
    "~",
    ".inf",
    "",
    " ",
    "# no comment",
    "a: b",
    "- c",
    "it's",
    'say "x"',
    "$HOME",
    "$(HOSTNAME)",
    "$$(X)",
    "${{ secrets.TOKEN }}",
    "`id`",
    "line\nline\n",
    "\ttab",
    "%d \\n",
    "\x85\u2028",
    "Ünï\U0001f331",
    "---\nkind: Pod",
    "*.py",
    "!tag",
    "&a",
    "\x07",
)
WORDS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
    | st.sampled_from(NASTY),
    min_size=1,
    max_size=5,
).map(lambda words: ("run", *words))


def command_in(name: str, text: str) -> tuple[str, ...]:
    """The words that reach the program by a manifest."""
    if name == "slurm":
        return tuple(shlex.split(text.partition("\nexec ")[2]))
    (found,) = [
        d
        for d in documents(text)
        if name == "github"
        or (d["metadata"]["name"] == "mnist" and "Job" in d["kind"] and d["kind"] != "Role")
    ]
    if name == "github":
        script = found["jobs"]["train"]["steps"][-1]["run"]
        assert "${{" not in script
        return tuple(shlex.split(script))
    return tuple(expand(word) for word in pod_of(found)["containers"][0]["command"])


@given(words=WORDS)
def test_any_words_survive_both_versions_of_yaml(words):
    """Whatever they contain."""
    text = document({"command": list(words)})
    assert documents(text) == documents_1_2(text) == [{"command": list(words)}]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25)
@given(words=WORDS)
def test_any_command_arrives_as_it_was(name, words):
    """Whatever it contains, through YAML, Kubernetes' and GitHub's variables and a shell."""
    assert command_in(name, FORMATS[name](ticket(command=words))) == words


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_known_to_go_wrong_arrives_too(name):
    """Learning rates, times, Norway, quotes, variables, line ends, controls and characters beyond the first plane."""
    assert command_in(name, FORMATS[name](ticket(command=NASTY))) == NASTY


def test_each_text_that_looks_like_a_number_is_quoted():
    """The reader of kubectl takes a bare 1e-3 for a number and refuses the manifest."""
    text = FORMATS["k8s-job"](ticket(command=("train", "1e-3", "0o7", "y", "1:30")))
    for word in ("1e-3", "0o7", "y", "1:30"):
        assert f"- '{word}'\n" in text


def test_the_job_waits_suspended_and_is_released_to_the_minute_in_utc():
    """By a CronJob for 02:00 on 24 November, which may be an hour late and is not fired twice at once."""
    text = FORMATS["k8s-job"](ticket())
    (job,), (cron,) = of_kind(text, "Job"), of_kind(text, "CronJob")
    assert job["spec"]["suspend"] is True
    assert cron["spec"]["schedule"] == "0 2 24 11 *"
    assert cron["spec"]["timeZone"] == "Etc/UTC"
    assert cron["spec"]["startingDeadlineSeconds"] == 3600
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.mark.parametrize(
    ("seconds", "schedule"), [(0, "0 2 24 11 *"), (1, "1 2 24 11 *"), (60, "1 2 24 11 *")]
)
def test_a_start_between_minutes_is_rounded_up(seconds, schedule):
    """Cron has no seconds, and the slot before is not the clean one."""
    start_s = START_S + seconds
    (cron,) = of_kind(FORMATS["cronjob"](ticket(plan((start_s, start_s + 60)))), "CronJob")
    assert cron["spec"]["schedule"] == schedule


def test_the_release_may_patch_these_two_objects_and_nothing_else():
    """Two verbs, two names; the account that has the right is the one that the releaser runs under."""
    text = FORMATS["k8s-job"](ticket(namespace="research"))
    (role,), (binding,), (cron,) = (of_kind(text, k) for k in ("Role", "RoleBinding", "CronJob"))
    rights = [(r["apiGroups"], r["resources"], r["resourceNames"], r["verbs"]) for r in role["rules"]]
    assert rights == [
        (["batch"], ["jobs"], ["mnist"], ["get", "patch"]),
        (["batch"], ["cronjobs"], ["mnist-release"], ["get", "patch"]),
    ]
    account = pod_of(cron)["serviceAccountName"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "research"}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {d["metadata"]["namespace"] for d in documents(text)} == {"research"}


@pytest.mark.parametrize("name", K8S)
def test_no_container_has_privileges(name):
    """None is root, gains rights or keeps capabilities, and the training gets no token unasked."""
    for manifest in (d for d in documents(FORMATS[name](ticket())) if "Job" in d["kind"]):
        pod = pod_of(manifest) if "template" in str(manifest["spec"]) else {"containers": []}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"]["runAsNonRoot"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            if container["name"] == "train":
                assert pod["automountServiceAccountToken"] is False
                assert "volumeMounts" not in container


def test_the_release_is_made_and_then_the_cronjob_closed(tmp_path):
    """In this order, and again without harm."""
    cluster = Cluster(tmp_path).start()
    (cron,) = of_kind(FORMATS["k8s-job"](ticket()), "CronJob")
    assert cluster.run_pod(pod_of(cron))
    assert cluster.suspended("job", "mnist") == "false"
    assert cluster.suspended("cronjob", "mnist-release") == "true"
    first = (tmp_path / "calls").read_text(encoding="utf-8")
    assert [line.split()[1:3] for line in first.splitlines()] == [
        ["job", "mnist"],
        ["cronjob", "mnist-release"],
    ]
    assert cluster.run_pod(pod_of(cron))
    assert cluster.suspended("job", "mnist") == "false"


def test_a_release_that_fails_leaves_the_cronjob_open_and_is_tried_again(tmp_path):
    """The pod fails before its second container, and its policy is to begin again."""
    cluster = Cluster(tmp_path).start()
    (cron,) = of_kind(FORMATS["k8s-job"](ticket()), "CronJob")
    cluster.refuse("job")
    assert not cluster.run_pod(pod_of(cron))
    assert cluster.suspended("cronjob", "mnist-release") == ""
    assert pod_of(cron)["restartPolicy"] == "OnFailure"
    assert cron["spec"]["jobTemplate"]["spec"]["backoffLimit"] > 0
    cluster.allow("job")
    assert cluster.run_pod(pod_of(cron))
    assert cluster.suspended("job", "mnist") == "false"
    assert cluster.suspended("cronjob", "mnist-release") == "true"


def test_a_cronjob_that_cannot_be_closed_is_said_to_have_failed(tmp_path):
    """The job is released all the same."""
    cluster = Cluster(tmp_path).start()
    (cron,) = of_kind(FORMATS["k8s-job"](ticket()), "CronJob")
    cluster.refuse("cronjob")
    assert not cluster.run_pod(pod_of(cron))
    assert cluster.suspended("job", "mnist") == "false"


def test_the_training_of_a_cronjob_begins_only_when_it_cannot_come_again(tmp_path):
    """The CronJob is suspended first; while that fails nothing is trained, and only the training is not repeated."""
    cluster = Cluster(tmp_path).start()
    trained = tmp_path / "trained"
    (cron,) = of_kind(FORMATS["cronjob"](ticket(command=("touch", str(trained)))), "CronJob")
    cluster.refuse("cronjob")
    assert not cluster.run_pod(pod_of(cron))
    assert not trained.exists()
    cluster.allow("cronjob")
    assert cluster.run_pod(pod_of(cron))
    assert cluster.suspended("cronjob", "mnist") == "true"
    assert trained.exists()
    spec = cron["spec"]["jobTemplate"]["spec"]
    assert spec["backoffLimit"] > 0
    assert {"containerName": "train", "operator": "NotIn", "values": [0]} in [
        rule.get("onExitCodes") for rule in spec["podFailurePolicy"]["rules"]
    ]


def test_an_account_of_the_user_is_used_and_not_made():
    """It gets the right to close the CronJob."""
    text = FORMATS["cronjob"](ticket(service_account="trainer"))
    assert of_kind(text, "ServiceAccount") == []
    assert of_kind(text, "RoleBinding")[0]["subjects"][0]["name"] == "trainer"
    assert pod_of(of_kind(text, "CronJob")[0])["serviceAccountName"] == "trainer"


def runs(text: str, tmp_path) -> list[tuple[int, bool]]:
    """When the job is set going or paused, by playing each CronJob at its time."""
    cluster = Cluster(tmp_path).start()
    changes = []
    for cron in of_kind(text, "CronJob"):
        minute, hour = (int(field) for field in cron["spec"]["schedule"].split()[:2])
        assert cluster.run_pod(pod_of(cron))
        assert cluster.suspended("cronjob", cron["metadata"]["name"]) == "true"
        changes.append((hour * 60 + minute, cluster.suspended("job", "mnist") == "false"))
    return changes


def test_a_plan_with_a_pause_is_released_paused_and_released(tmp_path):
    """02:00 to 04:00 and 06:00 to its end; the reader is told that the pod is deleted in between."""
    text = FORMATS["k8s-job"](ticket(plan(*PAUSES)))
    assert runs(text, tmp_path) == [(120, True), (240, False), (360, True)]
    assert "checkpoint" in text
    (role,) = of_kind(text, "Role")
    named = {cron["metadata"]["name"] for cron in of_kind(text, "CronJob")}
    assert (
        set(role["rules"][1]["resourceNames"])
        == named
        == {"mnist-release-1", "mnist-pause-1", "mnist-release-2"}
    )


def test_a_plan_whose_first_piece_runs_already_is_paused_and_released(tmp_path):
    """The job is not suspended, and nothing is scheduled for the past."""
    text = FORMATS["k8s-job"](ticket(plan(*PAUSES), now_s=START_S + 600))
    assert of_kind(text, "Job")[0]["spec"]["suspend"] is False
    assert runs(text, tmp_path) == [(240, False), (360, True)]


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(5, 360), min_size=3, max_size=15).filter(lambda x: len(x) % 2 == 1))
def test_no_release_or_pause_can_overtake_the_next(lengths):
    """However late it may start, it does so before the next one is due; and each name fits."""
    times = [START_S + 60 * sum(lengths[:i]) for i in range(len(lengths) + 1)]
    made = plan(*zip(times[::2], times[1::2], strict=True))
    found = of_kind(FORMATS["k8s-job"](ticket(made, name="n" * 40)), "CronJob")
    assert len(found) == len(lengths)
    for cron, at, later in zip(found, times[:-1], times[1:], strict=True):
        assert at + cron["spec"]["startingDeadlineSeconds"] < later or cron is found[-1]
        assert len(cron["metadata"]["name"]) <= 52


def test_resources_are_asked_for_by_their_names():
    """1.5 GiB are 1536 MiB; GPUs are a limit, as device plug-ins want it."""
    wanted = Resources(gpus=2, cpus=8, memory_gib=1.5)
    (job,) = of_kind(FORMATS["k8s-job"](ticket(resources=wanted)), "Job")
    assert pod_of(job)["containers"][0]["resources"] == {
        "requests": {"cpu": "8", "memory": "1536Mi"},
        "limits": {"memory": "1536Mi", "nvidia.com/gpu": "2"},
    }
    lines = FORMATS["slurm"](ticket(resources=wanted)).splitlines()
    assert {"#SBATCH --gpus=2", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=1536M"} <= set(lines)


def test_a_stuck_training_is_stopped_after_half_as_long_again():
    """Six hours for four estimated; a minute gets eleven."""
    assert launch().limit_s == 6 * HOUR_S
    assert launch(duration_s=60).limit_s == 11 * 60
    assert of_kind(FORMATS["k8s-job"](ticket()), "Job")[0]["spec"]["activeDeadlineSeconds"] == 6 * HOUR_S
    assert "#SBATCH --time=0-06:00:00\n" in FORMATS["slurm"](ticket())
    assert "#SBATCH --time=1-12:00:00\n" in FORMATS["slurm"](ticket(duration_s=24 * HOUR_S))


def test_it_starts_no_later_than_its_deadline_allows():
    """Twenty minutes are left of a wait of one hour."""
    (cron,) = of_kind(FORMATS["k8s-job"](ticket(finish_by_s=START_S + 4 * HOUR_S + 1200)), "CronJob")
    assert cron["spec"]["startingDeadlineSeconds"] == 1200


# Slurm 22.05 to 25.05: options of sbatch(1).
SBATCH = {"--job-name", "--begin", "--time", "--deadline", "--gpus", "--cpus-per-task", "--mem"}


def test_slurm_is_told_in_documented_options_before_the_first_command():
    """An absolute time, submitted with TZ=UTC."""
    text = FORMATS["slurm"](
        ticket(resources=Resources(gpus=1, cpus=2, memory_gib=1), finish_by_s=START_S + 86_400)
    )
    assert text.startswith("#!/bin/bash\n")
    options = re.findall(r"^#SBATCH ([^=\n]+)=(\S+)$", text, re.MULTILINE)
    assert {option for option, _ in options} == SBATCH
    assert ("--begin", "2026-11-24T02:00:00") in options
    assert ("--deadline", "2026-11-25T02:00:00") in options
    assert "TZ=UTC sbatch" in text
    assert "#SBATCH" not in text.partition("\nset -eu\n")[2]


def test_a_deadline_that_slurm_would_drop_the_job_for_is_only_said():
    """Its limit is six hours: within eight they fit, within five they do not, though the four estimated do."""
    assert "#SBATCH --deadline=2026-11-24T10:00:00\n" in FORMATS["slurm"](
        ticket(finish_by_s=START_S + 8 * HOUR_S)
    )
    tight = FORMATS["slurm"](ticket(finish_by_s=START_S + 5 * HOUR_S))
    assert "#SBATCH --deadline" not in tight
    assert "# It should end by 2026-11-24T07:00Z." in tight


def at_time(tmp_path, seconds: int) -> dict[str, str]:
    """An environment whose clock stands."""
    date = tmp_path / "date"
    date.write_text(f"#!/bin/sh\necho {seconds}\n", encoding="utf-8")
    date.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def slurm(tmp_path, at_s: int) -> subprocess.CompletedProcess[bytes]:
    """Run the batch script at a time."""
    text = FORMATS["slurm"](ticket(command=("printf", r"%s\0", *NASTY)))
    return subprocess.run(
        ["bash"], input=text.encode(), env=at_time(tmp_path, at_s), capture_output=True, check=False
    )


def test_the_batch_script_runs_the_command_word_by_word(tmp_path):
    """At the planned time, and silently."""
    done = slurm(tmp_path, START_S)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().split("\0")[:-1] == list(NASTY)


def test_a_batch_script_submitted_in_another_time_zone_does_not_compute(tmp_path):
    """02:00 in Berlin is an hour too early; it says how to submit it."""
    done = slurm(tmp_path, START_S - HOUR_S)
    assert (done.returncode, done.stdout) == (75, b"")
    assert b"TZ=UTC sbatch; it came 3600 s too early" in done.stderr


def test_a_batch_script_that_waited_in_the_queue_runs_and_says_so(tmp_path):
    """The queue is not its fault."""
    done = slurm(tmp_path, START_S + 2 * HOUR_S)
    assert done.returncode == 0
    assert b"7200 s after the planned time" in done.stderr


def test_an_image_that_slurm_does_not_use_is_said():
    """Nobody should believe that it runs in it."""
    assert "registry.example/train:1.0 is not used" in FORMATS["slurm"](ticket())


@pytest.mark.parametrize(
    ("at_s", "event", "is_run"),
    [
        (START_S, "schedule", "true"),
        (START_S + 1800, "schedule", "true"),
        (START_S - 60, "schedule", "false"),
        (START_S + 2 * HOUR_S, "schedule", "false"),
        (START_S + 365 * 86_400, "schedule", "false"),
        (START_S + 365 * 86_400, "workflow_dispatch", "true"),
    ],
)
def test_the_workflow_runs_in_its_hour_of_its_year_or_by_hand(tmp_path, at_s, event, is_run):
    """Its first job compares the whole date, and the training waits for what it says."""
    (workflow,) = documents(FORMATS["github"](ticket()))
    due, train = workflow["jobs"]["due"], workflow["jobs"]["train"]
    output = tmp_path / "output"
    env = at_time(tmp_path, at_s) | {"EVENT": event, "GITHUB_OUTPUT": str(output)}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", due["steps"][0]["run"]]
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert output.read_text(encoding="utf-8") == f"run={is_run}\n"
    assert (train["needs"], train["if"]) == ("due", "needs.due.outputs.run == 'true'")


def test_the_workflow_has_few_rights_and_a_limit():
    """It may read the repository, keeps no credentials, and each action has a version."""
    (workflow,) = documents(FORMATS["github"](ticket(duration_s=HOUR_S, image="")))
    train = workflow["jobs"]["train"]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["on"] == {"schedule": [{"cron": "0 2 24 11 *"}], "workflow_dispatch": {}}
    assert (train["timeout-minutes"], train["runs-on"]) == (90, "ubuntu-latest")
    assert "container" not in train
    (action,) = [step for step in train["steps"] if "uses" in step]
    assert re.fullmatch(r"[\w/-]+@v\d+", action["uses"])
    assert action["with"] == {"persist-credentials": False}


def test_a_workflow_for_now_starts_when_it_is_pushed():
    """And when started by hand, but never by a schedule."""
    (workflow,) = documents(FORMATS["github"](ticket(plan(is_now=True), now_s=START_S)))
    assert workflow["on"] == {"push": {"paths": [".github/workflows/mnist.yml"]}, "workflow_dispatch": {}}
    assert "needs" not in workflow["jobs"]["train"]


def test_what_a_runner_of_github_cannot_do_is_refused():
    """Six hours at most, and no GPU; a runner of one's own can."""
    with pytest.raises(SettingsError, match=r"less than 6 h on a runner of GitHub, got 7 h; name a runner"):
        FORMATS["github"](ticket(duration_s=7 * HOUR_S))
    with pytest.raises(SettingsError, match="expected a runner with 1 GPUs, got ubuntu-latest"):
        FORMATS["github"](ticket(resources=Resources(gpus=1)))
    assert FORMATS["github"](ticket(duration_s=7 * HOUR_S, runner="our-gpus"))


@pytest.mark.parametrize("name", K8S)
def test_kubernetes_needs_an_image(name):
    """It says so."""
    with pytest.raises(SettingsError, match=f"{name}: expected a container image, got none"):
        FORMATS[name](ticket(image=""))


def test_a_plan_that_is_over_is_refused():
    """One for later whose start has passed, one for now whose end has."""
    with pytest.raises(SettingsError, match="expected a start in the future, got one 600 s ago; plan again"):
        ticket(now_s=START_S + 600)
    with pytest.raises(SettingsError, match="got one 21600 s ago"):
        ticket(plan(is_now=True), now_s=START_S + 6 * HOUR_S)
    with pytest.raises(SettingsError, match="got one 7140 s ago"):
        ticket(plan(*PAUSES), now_s=START_S + 2 * HOUR_S - 60)
    assert ticket(plan(is_now=True), now_s=START_S + HOUR_S).is_at_once


def test_a_plan_beyond_what_cron_can_say_is_refused():
    """A start in a year would be one today."""
    with pytest.raises(SettingsError, match="cron knows no year"):
        ticket(now_s=START_S - 365 * 86_400)


def test_a_deadline_that_the_plan_misses_is_refused():
    """Four hours do not end within three."""
    with pytest.raises(SettingsError, match=r"got 3600 s early; plan with the deadline"):
        ticket(finish_by_s=START_S + 3 * HOUR_S)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "My Job"}, "name: expected at most 40 of a-z, 0-9 and -, no - at the ends, got 'My Job'"),
        ({"name": "-a"}, "name: "),
        ({"name": "n" * 41}, "name: "),
        ({"name": "a\n"}, "name: "),
        ({"name": "größe"}, "name: "),
        ({"namespace": "a_b"}, "namespace: "),
        ({"service_account": "A"}, "service_account: "),
        ({"image": "train:1\n- x"}, "image: expected like registry.example/train:1.0, got"),
        ({"kubectl_image": ""}, "kubectl_image: "),
        ({"runner": "${{ x }}"}, "runner: "),
        ({"command": ()}, "command: expected a program"),
        ({"command": ("",)}, "command: expected a program"),
        ({"command": ("a\0b",)}, "command: expected no NUL"),
        ({"command": ("\ud800",)}, "command: expected text"),
        ({"duration_s": 0}, "duration_s: "),
        ({"duration_s": float("nan")}, "duration_s: "),
        ({"start_within_s": 5}, "start_within_s: "),
        ({"user_id": -1}, "user_id: "),
    ],
)
def test_what_cannot_be_launched_is_refused(changes, message):
    """Expected, got, and what to do."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        launch(**changes)


@pytest.mark.parametrize("wanted", [{"gpus": -1}, {"memory_gib": float("inf")}, {"cpus": -2}])
def test_resources_that_mean_nothing_are_refused(wanted):
    """None is 0."""
    with pytest.raises(SettingsError, match="expected 0 or more"):
        Resources(**wanted)


def test_the_zone_that_the_policy_chose_is_named():
    """Rather than the one that was asked about."""
    made = replace(plan(), zone="SE")
    assert "# Zone: SE. " in FORMATS["slurm"](ticket(made))
    assert (
        of_kind(FORMATS["k8s-job"](ticket(made)), "Job")[0]["metadata"]["annotations"]["mlflow-carbon/zone"]
        == "SE"
    )
