"""Python, torch and the package set."""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib import metadata
from types import ModuleType, SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.provenance import software


def test_packages_equal_those_of_importlib_metadata():
    """The scan of folder names finds what the slow way finds, for every `.dist-info` on the path."""
    slow: dict[str, str] = {}
    for dist in metadata.distributions():
        if str(getattr(dist, "_path", "")).endswith(".dist-info"):
            name = dist.metadata["Name"].replace("_", "-").replace(".", "-").lower()
            slow.setdefault(name, dist.version)
    assert dict(software.packages(sys.path)) == slow
    assert len(slow) > 20


def test_the_first_of_two_versions_counts(tmp_path):
    """As in an import; names are normalised, leftovers of pip are not packages."""
    for name in (
        "a/Some_Pkg-1.0.dist-info",
        "b/some.pkg-2.0.dist-info",
        "b/~ther-1.dist-info",
        "b/x.dist-info",
        "b/y-1",
    ):
        (tmp_path / name).mkdir(parents=True)
    path = [str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "gone"), ""]
    assert software.packages(path)[:1] == (("some-pkg", "1.0"),)
    assert "ther" not in dict(software.packages(path))


def test_the_hash_by_hand():
    """SHA-256 of the two lines `a==1` and `b==2`."""
    assert software.packages_sha256([("b", "2"), ("a", "1")]) == sha256(b"a==1\nb==2\n").hexdigest()


@given(st.lists(st.tuples(st.text("abc", min_size=1), st.text("12.", min_size=1)), unique=True), st.randoms())
def test_the_hash_does_not_depend_on_the_order(listed, random):
    """Equal sets, equal hash."""
    shuffled = list(listed)
    random.shuffle(shuffled)
    assert software.packages_sha256(listed) == software.packages_sha256(shuffled)


def test_torch_is_read_only_if_it_is_loaded():
    """Absent, half loaded, and two builds."""
    assert software.torch({}) is None
    assert software.torch({"torch": ModuleType("torch")}) is None
    cpu = SimpleNamespace(__version__="2.13.0+cpu", version=SimpleNamespace(cuda=None, hip=None))
    assert software.torch({"torch": cpu}) == software.Torch(version="2.13.0+cpu", cuda=None, hip=None)
    cuda = SimpleNamespace(__version__="2.13.0", version=SimpleNamespace(cuda="13.0"))
    assert software.torch({"torch": cuda}) == software.Torch(version="2.13.0", cuda="13.0", hip=None)


def test_python_is_named_with_its_implementation():
    """`CPython 3.11.7` and the like."""
    assert software.python().split()[1] == ".".join(map(str, sys.version_info[:3]))
