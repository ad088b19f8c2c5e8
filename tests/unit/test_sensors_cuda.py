"""Which GPUs `CUDA_VISIBLE_DEVICES` shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.sensors.cuda import visible

UUIDS = ("GPU-8932f937-d72c", "GPU-8932aaaa-1111", "GPU-00000000-2222")


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (None, (0, 1, 2)),
        ("0", (0,)),
        ("2,0", (2, 0)),
        (" 1 , 2 ", (1, 2)),
        ("GPU-00000000-2222", (2,)),
        ("GPU-8932f", (0,)),
        ("GPU-8932", ()),  # two GPUs begin so
        ("GPU-ffff", ()),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", (0,)),
        ("0,7,1", (0,)),
        ("1,1", (1,)),
        ("NoDevFiles", ()),
        ("MIG-GPU-8932f937-d72c/1/0", ()),
        ("MIG-41b35014-942f,0", (0,)),
    ],
)
def test_values_of_the_variable(value, indices):
    """Numbers, beginnings of UUIDs, none and nonsense show the GPUs that CUDA would."""
    assert visible(value, UUIDS).indices == indices


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "is empty"),
        ("-1", "'-1', which is none of the 3 GPUs"),
        ("9", "'9', which is none of the 3 GPUs"),
        ("MIG-41b35014", "a MIG slice that the driver does not list"),
    ],
)
def test_what_names_no_gpu_is_explained(value, words):
    """An entry that shows no GPU leaves a reason."""
    (problem,) = visible(value, UUIDS).problems
    assert words in problem


SLICES = ((), (("MIG-41b35014-942f", "MIG-GPU-8932aaaa-1111/1/0"), ("MIG-41b36666-0000",)), ())


@pytest.mark.parametrize(
    ("value", "slices"),
    [
        ("MIG-41b35014-942f", ((1, 0),)),
        ("MIG-41b36", ((1, 1),)),
        ("MIG-41b3", ()),  # two slices begin so
        ("MIG-GPU-8932aaaa-1111/1/0", ((1, 0),)),
        ("MIG-GPU-8932aaaa-1111/1", ()),  # the older form has no short names
        ("MIG-41b36666-0000,MIG-41b35014-942f,MIG-41b36666-0000", ((1, 1), (1, 0))),
    ],
)
def test_slices_are_found_by_either_form_of_their_name(value, slices):
    """A MIG slice is shown by its UUID, or by its GPU and instances."""
    shown = visible(value, UUIDS, SLICES)
    assert (shown.slices, shown.indices) == (slices, ())


def test_no_uuid_is_told():
    """What reaches the server says that a GPU is missing, not which: a UUID tells whose machine it was."""
    problems = visible("MIG-41b35014-94ff,GPU-ffff0000", UUIDS).problems
    assert len(problems) == 2
    assert not any("41b35014" in problem or "ffff0000" in problem for problem in problems)


def test_numbers_are_told_from_uuids():
    """Only a GPU named by its number depends on the order in which CUDA counts."""
    assert visible("1", UUIDS).by_number
    assert not visible("GPU-8932f", UUIDS).by_number
    assert not visible(None, UUIDS).by_number


@given(value=st.text(alphabet="0123456789-,GPUMIabcdef /", max_size=40))
def test_any_text_shows_each_gpu_at_most_once(value):
    """No text raises, repeats a GPU or names one that is not there."""
    indices = visible(value, UUIDS).indices
    assert len(set(indices)) == len(indices)
    assert set(indices) <= {0, 1, 2}
