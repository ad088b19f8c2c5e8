"""What may name a person, and what may be a secret."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.provenance import privacy
from mlflow_carbon.provenance.facts import Place
from tests.trees import MACHINE, grow

KEY = b"k" * 32


def test_the_three_modes():
    """Itself, a keyed hash of 16 digits, nothing."""
    expected = hmac.new(KEY, b"alice", "sha256").hexdigest()[:16]
    assert privacy.conceal("alice", mode="full", key=KEY) == "alice"
    assert privacy.conceal("alice", mode="hashed", key=KEY) == f"hmac-sha256:{expected}"
    assert privacy.conceal("alice", mode="off", key=KEY) is None


def test_without_a_salt_a_name_is_left_out_not_shown():
    """A folder that cannot be written must not make names public."""
    assert privacy.conceal("alice", mode="hashed", key=None) is None
    assert privacy.conceal(None, mode="full", key=KEY) is None


@given(st.text(min_size=1), st.text(min_size=1))
def test_equal_names_stay_equal_and_others_differ(a, b):
    """So that runs of one host can be found together."""
    hidden = [privacy.conceal(x, mode="hashed", key=KEY) for x in (a, b)]
    assert (hidden[0] == hidden[1]) is (a == b)
    assert privacy.conceal(a, mode="hashed", key=b"x" * 32) != hidden[0]


def test_the_salt_is_made_once_and_for_the_owner_only(tmp_path):
    """The same for every process that shares the folder."""
    home = tmp_path / "state" / "mlflow-carbon"
    first = privacy.salt(home)
    assert first is not None
    assert len(first) == 32
    assert privacy.salt(home) == first
    assert (home / "salt").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in home.iterdir()] == ["salt"]


def test_a_left_over_part_is_no_obstacle(tmp_path):
    """A process with the same number died while it made the salt."""
    import os

    (tmp_path / f".salt.{os.getpid()}").write_bytes(b"half")
    assert len(privacy.salt(tmp_path) or b"") == 32


def test_a_damaged_or_unwritable_salt_is_none(tmp_path):
    """A truncated file is not used, and a file in the way of the folder is no error."""
    (tmp_path / "salt").write_bytes(b"short")
    assert privacy.salt(tmp_path) is None
    assert privacy.salt(tmp_path / "salt" / "under-a-file") is None


def shown(tmp_path, env: dict[str, str], mode: str = "hashed") -> dict[str, str]:
    """The variables of a fake machine called gpu-box-7 with the user alice."""
    root = grow(tmp_path, MACHINE)
    return privacy.variables(Place(root=root, env={"USER": "alice"} | env, privacy=mode))


def test_only_variables_on_the_list_are_recorded(tmp_path):
    """Knobs of the training, and nothing else of the environment."""
    env = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "OMP_NUM_THREADS": "4",
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128,garbage_collection_threshold:0.6",
        "WORLD_SIZE": "8",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_USER": "alice",
        "HOME": "/home/alice",
        "PATH": "/bin",
        "MLFLOW_TRACKING_PASSWORD": "x",
        "XMLRANK": "1",
    }
    assert shown(tmp_path, env) == {
        k: env[k]
        for k in sorted(env)
        if k
        in {
            "CUDA_VISIBLE_DEVICES",
            "OMP_NUM_THREADS",
            "PYTORCH_CUDA_ALLOC_CONF",
            "WORLD_SIZE",
            "SLURM_JOB_ID",
        }
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NCCL_AUTH_TOKEN", "abc"),
        ("TORCH_API_KEY", "1"),
        ("TORCH_STORE", "tcp://bob:pw@store:29500"),
        ("NCCL_COMM_ID", "c2VjcmV0LXZhbHVlLTEyMzQ1Njc4OTA"),
        ("CUDA_VISIBLE_DEVICES", "GPU-8c2b1e7a-94d3-4f6b-a0c5-2d7e9f1b3a68"),
        ("TORCH_HOME", "/home/bob/.cache"),
        ("NCCL_HOSTID", "GPU-BOX-7"),
        ("TORCH_LOGS", "for-alice"),
    ],
)
def test_what_looks_like_a_secret_or_a_name_is_withheld(tmp_path, name, value):
    """By its name, user info, randomness, home folder, host or user."""
    assert shown(tmp_path, {name: value}) == {name: "withheld"}


def test_full_privacy_shows_names_but_no_secrets(tmp_path):
    """The user asked for names, not for passwords."""
    env = {"TORCH_HOME": "/home/alice/x", "NCCL_AUTH_TOKEN": "abc"}
    assert shown(tmp_path, env, "full") == {"NCCL_AUTH_TOKEN": "withheld", "TORCH_HOME": "/home/alice/x"}
