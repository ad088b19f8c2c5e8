"""The run note, word for word, and what names of phases cannot do to it."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.phases import PhaseRow
from mlflow_carbon.core.report import (
    NOTE_END,
    NOTE_START,
    describe_energy,
    describe_grams,
    merge_note,
    note,
)

FOOTPRINT = RunFootprint(
    energy_kwh=0.0123,
    energy_low_kwh=0.008,
    energy_high_kwh=0.0171,
    energy_cpu_kwh=0.012,
    energy_dram_kwh=0.0003,
    emissions_gco2e=2.46,
    emissions_low_gco2e=1.5,
    emissions_high_gco2e=3.7,
    intensity_gco2e_per_kwh=200.4,
    duration_s=61.24,
    coverage_ratio=0.9984,
    pue_ratio=1.0,
    sci_gco2e_per_unit=0.0000246,
    functional_unit="image",
    basis="modelled",
    quality="L0",
    zone="GB",
    zone_source="argument",
    provider="carbonintensity.org.uk",
    intensity_kind="actual",
    pue_source="default",
    verdict="warn",
)


def _row(phase, energy_j=32_400.0, error_j=324.0):
    return PhaseRow(
        phase=phase,
        time_s=45.0,
        energy_j=energy_j,
        energy_error_j=error_j,
        energy_ratio=0.732,
        entries=3,
        confidence="fitted",
    )


def test_the_note_word_for_word():
    """12.3 Wh are 0.0123 kWh; 32 400 J of a phase are 9 Wh; 24.6e-6 g are 0.0246 mg; absent parts have no row."""
    found = note(FOOTPRINT, [_row("forward"), _row("other", 3600, 900)], ["fake:cpu: 2 of 60 reads failed"])
    assert found == dedent("""\
        Energy and carbon: 12.3 Wh (8 to 17.1), 2.46 gCO2e (1.5 to 3.7); modelled, quality L0 <!-- mlflow-carbon -->

        | What&emsp; | Figure |
        | --- | --- |
        | Energy&emsp; | 12.3 Wh (8 to 17.1), modelled, quality L0 |
        | of it CPU&emsp; | 12 Wh |
        | of it memory&emsp; | 300 mWh |
        | CO2e&emsp; | 2.46 gCO2e (1.5 to 3.7) |
        | Grid&emsp; | 200 gCO2e/kWh, zone GB (from argument), actual, carbonintensity.org.uk |
        | Facility&emsp; | PUE 1 (default) |
        | Time&emsp; | 61.2 s, 99.8 % covered |
        | Machine&emsp; | energy of the whole machine |
        | Verdict&emsp; | warn: see the findings below |
        | SCI&emsp; | 0.0246 mgCO2e per image |

        | Phase&emsp; | Time&emsp; | Energy&emsp; | Share&emsp; | Error&emsp; | Confidence |
        | --- | --- | --- | --- | --- | --- |
        | forward&emsp; | 45.0 s&emsp; | 9 Wh&emsp; | 73.2 %&emsp; | ± 1.0 %&emsp; | fitted |
        | other&emsp; | 45.0 s&emsp; | 1 Wh&emsp; | 73.2 %&emsp; | ± 25 %&emsp; | fitted |

        > fake:cpu: 2 of 60 reads failed
        <!-- /mlflow-carbon -->""")


def test_a_note_of_nothing_says_so():
    """A run without readings has a note all the same."""
    lines = note(RunFootprint()).splitlines()
    assert lines[0] == f"Energy and carbon: nothing was read {NOTE_START}"
    assert any(line.startswith("| Energy&emsp; | nothing was read") for line in lines)
    assert any(line.startswith("| Grid&emsp; | no energy to cost") for line in lines)
    assert "| Verdict&emsp; | none |" in lines
    assert not any("Phase" in line or line.startswith(">") for line in lines)


@pytest.mark.parametrize(
    ("kwh", "text"),
    [
        (0, "0 mWh"),
        (1e-14, "0 mWh"),
        (1.2345e-11, "0.000012 mWh"),
        (1.5e-9, "0.0015 mWh"),
        (2.5e-6, "2.5 mWh"),
        (9.99e-4, "999 mWh"),
        (1e-3, "1 Wh"),
        (0.0123, "12.3 Wh"),
        (0.9996, "1000 Wh"),
        (1, "1 kWh"),
        (1234.5, "1234 kWh"),
        (5e6, "5000000 kWh"),
    ],
)
def test_energy_reads_in_the_unit_that_fits(kwh, text):
    """Three digits, and never in scientific notation."""
    assert describe_energy(kwh, kwh, kwh).partition(" (")[0] == text


@pytest.mark.parametrize(
    ("grams", "text"),
    [(0.0004, "0.4 mgCO2e"), (0.25, "250 mgCO2e"), (1, "1 gCO2e"), (999, "999 gCO2e"), (1000, "1 kgCO2e"), (4.5e6, "4500 kgCO2e")],
)  # fmt: skip
def test_emissions_read_in_the_unit_that_fits(grams, text):
    """Milligrams, grams and kilograms; the range is in the unit of the value."""
    assert describe_grams(grams / 2, grams, grams).partition(" (")[0] == text


def test_a_range_is_in_the_unit_of_its_value():
    """0.5 to 2 Wh around 1 Wh."""
    assert describe_energy(0.0005, 0.001, 0.002) == "1 Wh (0.5 to 2)"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("two\nlines\r\nmore", "two lines  more"),
        ("![x](http://example.org/pixel.png)", "!\\[x](http://example.org/pixel.png)"),
        ("`code`", "\\`code\\`"),
        (NOTE_END, "&lt;!-- /mlflow-carbon -->"),
    ],
)
def test_names_bring_no_markup(name, shown):
    """Pipes, tags, links, images and our own marks in names stay text."""
    found = note(FOOTPRINT, [_row(name)], [name])
    assert f"| {shown}&emsp; | 45.0 s&emsp; |" in found
    assert f"> {shown}" in found.splitlines()


@given(st.text())
def test_any_name_stays_in_its_cell(name):
    """A phase row has six cells and the note one start and one end, whatever a phase is called."""
    found = note(FOOTPRINT, [_row(name)])
    (row,) = [line for line in found.split("\n") if "45.0 s" in line and "Wh" in line]
    bare = row.replace("\\\\", "").replace("\\|", "")
    assert bare.count("|") == 7
    assert found.count(NOTE_START) == found.count(NOTE_END) == 1


def test_a_note_is_put_after_the_users_text():
    """Their words come first, with a blank line between."""
    block = note(FOOTPRINT)
    assert merge_note("my words", block) == f"my words\n\n{block}"
    assert merge_note(" \n", block) == merge_note("", block) == block


@given(st.text(), st.text())
def test_the_users_own_text_survives_a_new_note(before, after):
    """Our block is replaced in place; what stands around it stays, to the letter."""
    old, new = note(FOOTPRINT), note(RunFootprint())
    assert merge_note(f"{before}{old}{after}", new) == f"{before}{new}{after}"


def test_the_headline_goes_with_the_block():
    """Words that a user has put before our headline stay, and so does a headline that they have written anew."""
    old, new = note(FOOTPRINT), note(RunFootprint())
    mine = "Energy and carbon: see below. "
    assert merge_note(mine + old, new) == mine + new
    cut = old.replace("Energy and carbon", "My run")
    head = cut.partition(NOTE_START)[0]
    assert merge_note(cut, new) == head + new


@given(st.lists(st.sampled_from([NOTE_START, NOTE_END, "mine 1", "mine 2", "mine 3", "\n"]), max_size=8))
def test_lost_marks_cost_no_text(pieces):
    """Where a user has cut a mark away, storing twice more keeps their text and adds one block at most."""
    existing = "|".join(f"<{n}>{p}" for n, p in enumerate(pieces) if p not in (NOTE_START, NOTE_END))
    cut = merge_note(NOTE_START + existing, "BLOCK")
    assert cut == f"{NOTE_START}{existing}\n\nBLOCK"
    block, newer = note(RunFootprint()), note(FOOTPRINT)
    once = merge_note(NOTE_START + existing, block)
    assert merge_note(once, newer) == f"{NOTE_START}{existing}\n\n{newer}"
    once = merge_note(existing + NOTE_END, block)
    assert merge_note(once, newer) == f"{existing}{NOTE_END}\n\n{newer}"
