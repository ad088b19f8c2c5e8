"""The rules of the house, read off the syntax trees of what is tracked; see CONTRIBUTING.md.

Layers are import-linter's business and style is ruff's; here is only what they cannot see.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mlflow_carbon

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Where a failure of any kind may be swallowed, and why. Nowhere else.
BROAD_EXCEPTS = {
    "mlflow_carbon/autologging.py:_guarded": "what our hooks raise must not reach the user's run",
    "mlflow_carbon/provenance/provider.py:_quietly": "what a provider raises must not reach `start_run`",
    "mlflow_carbon/project.py:_began": "a run that cannot be measured from outside still runs",
    "mlflow_carbon/project.py:_ended": "a run that has ended well has not failed for want of figures",
    "mlflow_carbon/sampler.py:Sampler._hand_out": "one failing listener must not stop the others",
    "mlflow_carbon/sampler.py:_Facts.due": "what stands beside power is no reason to stop measuring it",
    "mlflow_carbon/sampler.py:_close": "closing a sensor that is not used any more",
    "mlflow_carbon/sampler.py:read": "a sensor of any vendor may raise anything",
    "mlflow_carbon/scheduling/submit.py:_only_told": "the training is over: it ends as it ended",
    "mlflow_carbon/scheduling/wait.py:_advised": "what fails in planning must not keep a training from running",
    "mlflow_carbon/sensors/__init__.py:_first_readings": "a sensor of any vendor may raise anything",
    "mlflow_carbon/sensors/__init__.py:_guarded": "drivers and sensors of other packages may raise anything",
    "mlflow_carbon/sensors/__init__.py:_told": "a sensor of any vendor may raise anything",
    "mlflow_carbon/sensors/__init__.py:discover": "closing a sensor that is not used",
    "mlflow_carbon/sensors/amd.py:probe": "a vendor's binding that fails in various ways",
    "mlflow_carbon/sensors/background.py:Background._poll": "nobody else would see it in that thread",
    "mlflow_carbon/testing/contract.py:_close_twice": "that it raises is the finding",
    "mlflow_carbon/testing/contract.py:breaches": "that it raises is the finding",
    "mlflow_carbon/marks.py:snapshot": "a question in mid-training must not stop it",
    "mlflow_carbon/tracking.py:track.__enter__": "a block that cannot be measured still runs",
    "mlflow_carbon/tracking.py:track.__exit__": "the block's own error must pass, not ours",
    "mlflow_carbon/worker.py:Worker._run": "one failing job must not stop the others",
}
# Classes beyond the limits, and why. Each is a debt.
LARGE = {
    "mlflow_carbon/session/live.py:Session": "what three threads share of one span, behind one lock",
    "mlflow_carbon/session/publisher.py:Publisher": "the state of one span's storing, in one thread",
}
MOCKS_PER_1000_LINES = 2
LIMITS = {"module": 300, "function": 50, "class": 150, "attributes": 12}
TEST_LIMITS = {"module": 600, "function": 80, "class": 150, "attributes": 12}

_BROAD = {"Exception", "BaseException"}
_FOREIGN = re.compile(
    r"/(?:work|root)/|/opt/(?:pypi|wheels)|pypi\.org|pythonhosted\.org|npmjs\.\w|pytorch\.org/whl"
)
_MOCK = re.compile(r"mock\.patch|@patch|MagicMock|monkeypatch\.setattr")
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def tracked(*suffixes: str) -> list[Path]:
    """Files that git tracks (or would track), by suffix; all without one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [p for p in paths if p.is_file() and (not suffixes or p.suffix in suffixes)]


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Name and syntax tree of every Python file."""
    for path in tracked(".py"):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def scopes(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Scope]]:
    """Every function and class with its dotted name."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, Scope):
            name = f"{prefix}.{node.name}".lstrip(".")
            yield name, node
        yield from scopes(node, name)


def attributes(node: ast.ClassDef) -> set[str]:
    """Names that a class sets on `self`."""
    return {
        n.attr
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute)
        and isinstance(n.ctx, ast.Store)
        and isinstance(n.value, ast.Name)
        and n.value.id == "self"
    }


def is_broad(node: ast.AST) -> bool:
    """Whether a node swallows any exception: a wide `except`, or `suppress(Exception)`."""
    if isinstance(node, ast.ExceptHandler):
        if isinstance(node.body[-1], ast.Raise):  # cleans up or translates, swallows nothing
            return False
        caught = ast.walk(node.type) if node.type else iter([ast.Name("Exception")])
    elif (
        isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "suppress"
    ):
        caught = iter(node.args)
    else:
        return False
    return any(isinstance(n, ast.Name) and n.id in _BROAD for n in caught)


def test_sizes_stay_small() -> None:
    """Modules, functions and classes fit a reader's head, but for those named above."""
    found = {}
    for name, tree in trees():
        limit = TEST_LIMITS if name.startswith("tests/") else LIMITS
        lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
        if lines > limit["module"]:
            found[name] = f"{lines} lines"
        for scope, node in scopes(tree):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            if (length := (node.end_lineno or 0) - node.lineno + 1) > limit[kind]:
                found[f"{name}:{scope}"] = f"{length} lines"
            if isinstance(node, ast.ClassDef) and len(names := attributes(node)) > limit["attributes"]:
                found[f"{name}:{scope}"] = f"{len(names)} attributes {sorted(names)}"
    assert found.keys() == LARGE.keys(), found


def test_nothing_is_global() -> None:
    """No function rebinds a module's name."""
    found = [
        f"{name}:{n.lineno}" for name, tree in trees() for n in ast.walk(tree) if isinstance(n, ast.Global)
    ]
    assert found == []


def test_broad_excepts_are_named() -> None:
    """Any failure is swallowed only where measuring meets training, and each such place says why."""
    found = set()
    for name, tree in trees():
        inner = {id(n): scope for scope, node in scopes(tree) for n in ast.walk(node)}
        found |= {f"{name}:{inner.get(id(n), '')}" for n in ast.walk(tree) if is_broad(n)}
    assert {f for f in found if not f.startswith("tests/")} == set(BROAD_EXCEPTS)


def test_fakes_rather_than_mocks() -> None:
    """Seams are values and protocols, so tests hardly ever patch."""
    texts = [
        p.read_text(encoding="utf-8") for p in tracked(".py") if "tests" in p.parts and p != Path(__file__)
    ]
    mocks = sum(len(_MOCK.findall(text)) for text in texts)
    lines = sum(text.count("\n") for text in texts)
    assert mocks <= MOCKS_PER_1000_LINES * max(lines, 1000) / 1000, f"{mocks} mocks in {lines} lines"


def test_every_test_says_what_it_shows() -> None:
    """Each test has a docstring of one sentence or more."""
    found = [
        f"{name}:{scope}"
        for name, tree in trees()
        for scope, node in scopes(tree)
        if name.startswith("tests/")
        and scope.split(".")[-1].startswith("test_")
        and not (ast.get_docstring(node) or "").endswith(".")
    ]
    assert found == []


def test_links_resolve() -> None:
    """Relative links in Markdown lead to files that are there."""
    found = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in tracked(".md")
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert found == []


def test_no_machine_is_named() -> None:
    """No tracked file names a path of the machine it was written on, or a package registry's host."""
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {m}" for m in _FOREIGN.findall(text)]
        if f"{ROOT}/" in text:
            found.append(f"{path.relative_to(ROOT)}: the path of this checkout")
    assert found == []


def test_public_names_are_documented() -> None:
    """Everything in `mlflow_carbon.__all__` is there and has a docstring."""
    found = [n for n in mlflow_carbon.__all__ if n != "__version__" and not getattr(mlflow_carbon, n).__doc__]
    assert found == []


def test_lock_holds_the_direct_dependencies() -> None:
    """`requirements.lock` pins each dependency of the package and of its `train` and `ui` extras, within its bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(r) for r in (*project["dependencies"], *extras["train"], *extras["ui"])]
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    found = [str(r) for r in wanted if not r.specifier.contains(locked.get(canonicalize_name(r.name), "0"))]
    assert found == []
