"""`MLproject` and the environments it names: what MLflow makes of them, and that all lists are equal."""

import ast
import hashlib
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from mlflow.projects import _project_spec

from projects.mnist import config
from projects.mnist.config import Config, from_command_line

ROOT = Path(__file__).resolve().parents[2]
BASELINE_SHA256 = "fcad31cb6f3f8a19eb9bf06d9f301a7fbdefe988cb56eb4d72ff4e567d36ebcc"


@pytest.fixture(scope="module")
def project():
    """The project as MLflow reads it."""
    return _project_spec.load_project(ROOT)


def words(project, entry_point, parameters):
    """The command line that MLflow would run, as a shell splits it."""
    command = project.get_entry_point(entry_point).compute_command(parameters, storage_dir=None)
    return shlex.split(command)


def test_the_main_job_passes_parameters_on(project):
    """`-P accum=4` reaches the trainer although only `config` is declared."""
    found = words(project, "main", {"accum": "4"})
    assert found[:3] == ["python", "-m", "projects.mnist.train"]
    assert from_command_line(found[3:]) == Config(accum=4)


def test_undeclared_parameters_leave_the_file_in_charge(project, tmp_path):
    """MLflow passes no default of its own that would beat the file."""
    file = tmp_path / "a b.yaml"
    file.write_text("accum: 8\namp: off\n")
    found = words(project, "main", {"config": str(file), "epochs": "1"})
    assert from_command_line(found[3:]) == Config(accum=8, amp="off", epochs=1)


@pytest.mark.parametrize("value", ["off", "a; rm -rf /", "$(id)", "two words", "it's"])
def test_values_reach_the_trainer_unchanged(project, value):
    """MLflow quotes for the shell; nothing else may."""
    found = words(project, "main", {"zone": value})
    assert found[-2:] == ["--zone", value]


def test_every_key_can_be_given(project):
    """Every key of the configuration is accepted as an undeclared parameter."""
    values = {name: str(value) for name, value in yaml.safe_load(config.DEFAULT_FILE.read_text()).items()}
    assert from_command_line(words(project, "main", values)[3:]) == Config()


def test_the_baseline_has_an_entry_point(project):
    """`mlflow run . -e baseline -P seed=1`."""
    assert words(project, "baseline", {"seed": "1"}) == [
        "python",
        "-m",
        "projects.mnist.baseline",
        "--seed",
        "1",
    ]


def test_no_declared_default_is_empty(project):
    """MLflow would log an empty default as two quotes."""
    for name in ("main", "baseline"):
        for parameter in project.get_entry_point(name).parameters.values():
            assert parameter.default


def test_the_three_environments_are_one():
    """The lists of pyproject (core and `train`), python_env.yaml and conda.yaml are equal."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = pyproject["dependencies"] + pyproject["optional-dependencies"]["train"]
    python_env = yaml.safe_load((ROOT / "projects/mnist/python_env.yaml").read_text())
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert python_env == {"dependencies": wanted}
    assert conda["dependencies"][-1] == {"pip": wanted}
    assert f"python{pyproject['requires-python']}" == conda["dependencies"][0]


def test_the_environment_cannot_go_stale(project):
    """The project is not listed and no `uv.lock` shadows the list, so that the checkout is what runs."""
    listed = yaml.safe_load((ROOT / "projects/mnist/python_env.yaml").read_text())["dependencies"]
    assert not [entry for entry in listed if entry.startswith((".", "-", "mlflow-carbon"))]
    assert not (ROOT / "uv.lock").exists()
    assert Path(project.env_config_path) == ROOT / "projects/mnist/python_env.yaml"


def test_the_baseline_is_frozen():
    """Its digest is this one. A change makes every earlier saving meaningless: record why in docs/decisions first."""
    file = ROOT / "projects/mnist/baseline.py"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == BASELINE_SHA256


ENTRY_POINTS = {"baseline.py", "demo.py"}  # besides `main`: one file each, on top of the trainer's


def test_the_trainer_stays_within_six_files():
    """Six short Python files beside `__init__` and the other entry points; none reaches behind the public API."""
    files = [path for path in (ROOT / "projects/mnist").glob("*.py") if path.name != "__init__.py"]
    assert len({path.name for path in files} - ENTRY_POINTS) <= 6
    for path in files:
        imports = [
            n.module or "" for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)
        ]
        assert not [name for name in imports if name.startswith("mlflow_carbon.")]
