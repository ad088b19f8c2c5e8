"""Tags and the document, from a fake machine."""

from __future__ import annotations

import json
from hashlib import sha256
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon import provenance
from mlflow_carbon.provenance import Place, capped, document, quick_tags, slow_tags
from mlflow_carbon.provenance.tags import MAX_CHARS, TAGS
from tests.trees import COMMIT, MACHINE, grow
from tests.unit.test_provenance_gpu import Nvml


@pytest.fixture
def place(tmp_path):
    """A machine with a checkout, two packages and a loaded torch."""
    root = grow(tmp_path / "root", MACHINE)
    code = grow(
        tmp_path / "code",
        {
            ".git/HEAD": "ref: refs/heads/main",
            ".git/refs/heads/main": COMMIT,
            ".git/config": '[remote "origin"]\n url = https://alice:pw@example.org/x',
        },
    )
    site = grow(tmp_path / "site", {"a-1.dist-info/METADATA": "", "b-2.dist-info/METADATA": ""})
    return Place(
        root=root,
        env={
            "USER": "alice",
            "OMP_NUM_THREADS": "2",
            "MLFLOW_CARBON_HOME": str(tmp_path / "home"),
            "PATH": "",
        },
        start=code,
        modules={"torch": SimpleNamespace(__version__="2.13.0+cpu")},
        path=(str(site),),
    )


def test_quick_tags_of_a_machine(place):
    """Everything that is known without a subprocess or a driver."""
    tags = quick_tags(place)
    assert tags.pop("carbon.host.python").startswith(("CPython", "PyPy"))
    assert tags == {
        "carbon.git.commit": COMMIT,
        "carbon.git.branch": "main",
        "carbon.host.kernel": "6.1.0-18-amd64",
        "carbon.host.cpu": "Intel(R) Xeon(R) CPU @ 2.20GHz, 16 threads, 31.2 GiB RAM",
        "carbon.host.torch": "2.13.0+cpu",
        "carbon.host.packages": sha256(b"a==1\nb==2\n").hexdigest(),
    }


def test_what_is_absent_has_no_tag(tmp_path):
    """An empty machine outside of git still has its Python."""
    assert set(quick_tags(Place(root=tmp_path, start=tmp_path))) == {"carbon.host.python"}


def test_quick_tags_of_this_process_are_the_same_twice():
    """The second call answers from memory, with the same result."""
    first = quick_tags()
    assert quick_tags() == first
    assert all(isinstance(v, str) and 0 < len(v) <= MAX_CHARS for v in first.values())
    assert set(first) <= set(TAGS)


def test_slow_tags_come_from_the_document(place):
    """Dirty (git cannot be found here, so unknown), GPUs by name, driver."""
    assert slow_tags(document(place, nvml=Nvml())) == {
        "carbon.git.dirty": "unknown",
        "carbon.host.gpu": "2 x NVIDIA A100, driver 580.65.06",
        "carbon.host.torch": "2.13.0+cpu",
    }


def test_slow_tags_without_git_gpu_and_torch_are_none(tmp_path):
    """Absent things have no tag."""
    assert slow_tags(document(Place(root=tmp_path, start=tmp_path, privacy="off"))) == {}


def test_the_document_holds_everything_and_no_name(place):
    """JSON of a few kilobytes; host, user, password and board identity do not appear."""
    text = json.dumps(document(place, nvml=Nvml()))
    found = json.loads(text)
    assert len(text) < 12_000
    assert found["git"] == {
        "commit": COMMIT,
        "branch": "main",
        "remote": "https://example.org/x",
        "dirty": "unknown",
    }
    assert found["host"]["cpu"]["cores"] == 8
    assert found["software"]["packages"] == ["a==1", "b==2"]
    assert found["variables"] == {"OMP_NUM_THREADS": "2"}
    assert found["identity"]["host"].startswith("hmac-sha256:")
    assert found["gpu"]["devices"][0]["uuid"].startswith("hmac-sha256:")
    assert not any(word in text for word in ("alice", "gpu-box-7", "pw@", "GPU-0", str(place.start), "null"))


def test_privacy_off_leaves_no_identity(place):
    """Not even a hash."""
    off = Place(root=place.root, env=place.env, start=place.start, privacy="off")
    found = document(off, nvml=Nvml())
    assert "identity" not in found
    assert "uuid" not in found["gpu"]["devices"][0]


def test_privacy_full_names_host_and_user(place):
    """Only if it was asked for."""
    full = Place(root=place.root, env=place.env, start=place.start, privacy="full")
    assert document(full)["identity"] == {"host": "gpu-box-7", "user": "alice"}


def test_long_values_are_cut(tmp_path):
    """A model name of 2000 characters makes a tag of 500."""
    root = grow(tmp_path, {"proc/cpuinfo": "model name : " + "x" * 2000})
    assert quick_tags(Place(root=root, start=root))["carbon.host.cpu"] == "x" * 500


def test_the_cap_keeps_the_most_important():
    """In the order of the table; unknown names go first."""
    tags = {"carbon.host.packages": "p", "carbon.git.commit": "c", "carbon.kind": "run", "zzz": "?"}
    assert capped(tags, 2) == {"carbon.kind": "run", "carbon.git.commit": "c"}
    assert set(capped(tags, 3)) == {"carbon.kind", "carbon.git.commit", "carbon.host.packages"}


@given(st.dictionaries(st.sampled_from(TAGS) | st.text(max_size=5), st.text(max_size=5)), st.integers(-2, 40))
def test_the_cap_is_a_cap(tags, limit):
    """Never more than the limit, never another value, everything where there is room."""
    kept = capped(tags, limit)
    assert len(kept) == min(len(tags), max(0, limit))
    assert kept.items() <= tags.items()


def test_the_table_has_no_tag_twice():
    """A rank is one number."""
    assert len(set(TAGS)) == len(TAGS)


def test_names_of_the_package_are_what_it_promises():
    """Every exported name loads, and an unknown one is an AttributeError."""
    assert all(getattr(provenance, name) is not None for name in provenance.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = provenance.nothing
