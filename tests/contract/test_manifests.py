"""What every format of a manifest promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest

from mlflow_carbon._version import __version__
from mlflow_carbon.errors import SettingsError
from mlflow_carbon.scheduling.manifests import FORMATS, Resources
from tests.manifests import HOUR_S, PAUSES, START_S, documented, documents, documents_1_2, plan, ticket

KUBERNETES = ("1.31", kubernetes_validate.latest_version())
"""From the release in which the last field used here became stable, to the newest that the schemas know."""
TICKETS = {
    "later": ticket(),
    "now": ticket(plan(is_now=True), now_s=START_S + 60),
    "soon": ticket(now_s=START_S - 30),
    "all": ticket(
        resources=Resources(gpus=2, cpus=8, memory_gib=1.5),
        runner="our-gpus",
        service_account="trainer",
        namespace="research",
        user_id=0,
        finish_by_s=START_S + 5 * HOUR_S,
    ),
    "pauses": ticket(plan(*PAUSES)),
    "running": ticket(plan(*PAUSES), now_s=START_S + 60),
}


@pytest.fixture(params=FORMATS)
def name(request):
    """Each format of the table."""
    return request.param


@pytest.fixture(params=["later", "now", "soon", "all"])
def case(request):
    """Each ticket that every format can express."""
    return TICKETS[request.param]


def valid(name, text, tmp_path):
    """Hold the text against the rules of those who read it."""
    if name == "slurm":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    elif name == "github":
        path = tmp_path / "workflow.yml"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    else:
        assert documents(text) == documents_1_2(text)
        for found in documents(text):
            for version in KUBERNETES:
                kubernetes_validate.validate(found, version, strict=True)


def test_it_is_valid(name, case, tmp_path):
    """By the official schema of its reader; a script by the shell."""
    valid(name, FORMATS[name](case), tmp_path)


@pytest.mark.parametrize("paused", ["pauses", "running"])
def test_pauses_are_expressed_or_refused(name, paused, tmp_path):
    """Never silently left out."""
    if name == "k8s-job":
        valid(name, FORMATS[name](TICKETS[paused]), tmp_path)
    else:
        with pytest.raises(SettingsError, match=r"got one in 2; use k8s-job, which can pause"):
            FORMATS[name](TICKETS[paused])


def test_the_schemas_find_what_is_wrong(tmp_path):
    """The checks above can fail."""
    broken = FORMATS["k8s-job"](ticket()).replace("startingDeadlineSeconds", "startingDeadline")
    with pytest.raises(kubernetes_validate.ValidationError):
        valid("k8s-job", broken, tmp_path)
    with pytest.raises(AssertionError):
        valid("github", FORMATS["github"](ticket()).replace("runs-on", "runs"), tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        valid("slurm", FORMATS["slurm"](ticket(command=("echo", "it's"))).replace("it'", "it"), tmp_path)


def test_the_head_says_what_was_planned_and_on_whose_word(name):
    """Start, zone, saving with its range, that it is modelled, from which forecast, when and by which version."""
    head = comments(FORMATS[name](ticket()))
    for part in (
        "mnist: starts at 2026-11-24T02:00Z, for about 4 h.",
        "Zone: GB.",
        "23.0%, between 10.0% and 35.0% (95 %), modelled from a forecast by own history",
        "made 2026-11-23T16:00Z; not measured.",
        "policy window, the cleanest 4 h within the wait.",
        f"by mlflow-carbon {__version__}, plan --format {name}",
    ):
        assert part in head


def comments(text):
    """The comment at the head, in one line."""
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    head = re.match(r"(#(?!SBATCH)[^\n]*\n)+", "\n".join(lines))
    assert head
    return " ".join(line.removeprefix("# ") for line in head[0].splitlines())


def test_a_plan_for_now_waits_for_nothing(name):
    """No time, no schedule and nothing suspended; and no saving is claimed."""
    text = FORMATS[name](TICKETS["now"])
    assert "no saving is expected" in comments(text)
    for word in ("schedule", "suspend: true", "--begin", "CronJob", "Expected saving"):
        assert word not in text


def test_what_is_said_of_a_plan_stays_in_the_comment(name):
    """No line end or strange character of a source, a zone or a reason gets out of it."""
    made = plan(source="a\nkind: Pod\r#SBATCH --uid=0", reason="x\u2028y\x00", warning="w\n---\nkind: Pod")
    text = FORMATS[name](ticket(made))
    assert "Warning: w --- kind: Pod." in text
    assert not re.search(r"^(kind: Pod|#SBATCH --uid|y)", text, re.MULTILINE)
    assert len(text.splitlines()) == text.count("\n")


def test_the_same_order_gives_the_same_text(name, case):
    """So that it can be kept under version control."""
    assert FORMATS[name](case) == FORMATS[name](case)


def test_the_documentation_shows_what_is_made(name):
    """Word for word, but for the version that made it."""
    page = (Path(__file__).parents[2] / "docs/how-to/run-on-a-cluster.md").read_text(encoding="utf-8")
    assert f"\n{_unversioned(FORMATS[name](documented()))}```\n" in _unversioned(page)


def _unversioned(text):
    return re.sub(r"(by mlflow-carbon) \d\S+,", r"\1,", text)
