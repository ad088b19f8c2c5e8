"""The trainer's configuration: order of sources, types, ranges and what a wrong value says."""

from dataclasses import asdict

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon import CarbonError, ZoneError
from projects.mnist.config import (
    DEFAULT_FILE,
    Config,
    ConfigError,
    DataError,
    TrackingError,
    from_command_line,
    program,
)


def test_the_shipped_file_lists_every_key_with_its_default():
    """`config.yaml` and the dataclass say the same."""
    assert list(yaml.safe_load(DEFAULT_FILE.read_text())) == list(asdict(Config()))
    assert from_command_line([]) == Config()


def test_the_command_line_beats_the_file_and_the_file_beats_the_default(tmp_path):
    """Order of sources: -P > YAML > default."""
    file = tmp_path / "my.yaml"
    file.write_text("accum: 8\nepochs: 5\n")
    config = from_command_line(["--config", str(file), "--accum", "4"])
    assert (config.accum, config.epochs, config.batch_size) == (4, 5, 256)


def test_every_key_reads_from_text():
    """MLflow passes text; each key becomes its own type."""
    given_ = {
        "accum": "4",
        "amp": "bf16",
        "epochs": "2",
        "batch_size": "128",
        "lr": "3e-3",
        "seed": "7",
        "data_dir": "/d",
        "zone": "GB",
        "carbon_threshold_gco2e_per_kwh": "150.5",
        "carbon_policy": "window",
        "max_wait_s": "60",
        "expected_duration_s": "30",
        "idle_ratio": "0.1",
        "carbon_budget_gco2e": "1.5",
        "threads": "2",
        "device": "cpu",
        "checkpoint_dir": "c",
        "compile": "true",
    }
    config = from_command_line([word for name, value in given_.items() for word in (f"--{name}", value)])
    assert config == Config(
        accum=4,
        amp="bf16",
        epochs=2,
        batch_size=128,
        lr=0.003,
        seed=7,
        data_dir="/d",
        zone="GB",
        carbon_threshold_gco2e_per_kwh=150.5,
        carbon_policy="window",
        expected_duration_s=30,
        idle_ratio=0.1,
        carbon_budget_gco2e=1.5,
        max_wait_s=60.0,
        threads=2,
        device="cpu",
        checkpoint_dir="c",
        compile=True,
    )


@pytest.mark.parametrize("word", ["none", "null", "~", ""])
def test_none_means_not_given(word, tmp_path):
    """Both YAML's null and the word `none` leave an optional key out."""
    file = tmp_path / "my.yaml"
    file.write_text(f"zone: {word}\ndata_dir: {word}\ncarbon_threshold_gco2e_per_kwh: {word}\n")
    config = from_command_line(["--config", str(file)])
    assert (config.zone, config.data_dir, config.carbon_threshold_gco2e_per_kwh) == (None, None, None)
    assert "zone" not in config.as_params()


def test_words_that_yaml_takes_for_false_mean_what_they_say(tmp_path):
    """YAML 1.1 reads a bare `off` and Norway's `NO` as False; it is what the user wrote that counts."""
    file = tmp_path / "my.yaml"
    file.write_text("amp: off\nzone: NO\ncompile: false\n")
    config = from_command_line(["--config", str(file)])
    assert (config.amp, config.zone, config.compile) == ("off", "NO", False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--accum", "abc"], "accum: expected a whole number from 1 to 60000, got 'abc'"),
        (["--accum", "0"], "accum: expected a whole number from 1 to 60000, got '0'"),
        (["--accum", "-1"], "got '-1'"),
        (["--accum", "4.0"], "got '4.0'"),
        (["--accum", "300"], "accum: expected at most batch_size (256) micro-batches, got 300; lower accum"),
        (["--accum", "8", "--batch_size", "4"], "expected at most batch_size (4)"),
        (["--amp", "fp15"], "amp: expected one of auto, fp16, bf16, off, got 'fp15'; did you mean fp16?"),
        (["--epochs", "1e3"], "epochs: expected a whole number"),
        (["--lr", "nan"], "lr: expected a number from 1e-08 to 1, got 'nan'"),
        (["--lr", "inf"], "got 'inf'"),
        (["--seed", "-1"], "seed: expected a whole number from 0 to 4294967295"),
        (["--max_wait_s", "-5"], "max_wait_s: expected a number from 0"),
        (["--compile", "maybe"], "compile: expected true or false, got 'maybe'"),
        (["--zone", " "], "zone: expected text, got ' '"),
        (["--batchsize", "4"], "unknown parameter 'batchsize'"),
        (["--batchsize", "4"], "did you mean batch_size?"),
        (["accum", "4"], "got 'accum' where a name should be"),
        (["--accum"], "accum: expected a value after --accum, got none"),
        (["--config", "no/such.yaml"], "config no/such.yaml: expected a readable YAML file"),
    ],
)
def test_a_wrong_word_says_what_was_expected(words, says):
    """Expected, got and what to do, in one line."""
    with pytest.raises(ConfigError) as caught:
        from_command_line(words)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accum: [4\n", "expected `name: value` lines, got while parsing"),
        ("- accum\n", "expected `name: value` lines, got a list"),
        ("acum: 4\n", "unknown parameter 'acum'"),
        ("acum: 4\n", "did you mean accum?"),
        ("accum: yes\n", "accum: expected a whole number from 1 to 60000, got 'yes'"),
        ("accum: 4.5\n", "got '4.5'"),
        ("lr: true\n", "lr: expected a number"),
        ("zone: [NO]\n", "zone: expected text, got ['NO']"),
        ("4: 4\n", "unknown parameter '4'"),
        ("\xff", "config"),
    ],
)
def test_a_wrong_file_says_what_was_expected(text, says, tmp_path):
    """The message names the file too."""
    file = tmp_path / "my.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"my\.yaml") as caught:
        from_command_line(["--config", str(file)])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_means_all_defaults(tmp_path):
    """A file needs only the keys that it changes."""
    file = tmp_path / "my.yaml"
    file.write_text("# nothing\n")
    assert from_command_line([f"--config={file}"]) == Config()


@given(batch=st.integers(1, 60_000), data=st.data())
def test_micro_batches_cover_the_batch(batch, data):
    """`accum` micro-batches hold the effective batch, and one fewer would not if they were smaller."""
    accum = data.draw(st.integers(1, batch))
    micro = Config(batch_size=batch, accum=accum).micro_batch
    assert micro * accum >= batch > (micro - 1) * accum


def test_the_digest_tells_configurations_apart():
    """Equal configurations have equal digests, others do not."""
    assert Config(seed=1).sha256() == Config(seed=1).sha256() != Config(seed=2).sha256()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 64),
        (ZoneError("x"), 64),
        (DataError("x"), 2),
        (TrackingError("x"), 1),
        (CarbonError("x"), 1),
        (OSError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_trouble_has_its_exit_code(error, code, capsys):
    """One line on standard error and a code, never a traceback."""

    def train(config):
        raise error

    assert program(train, []) == code
    assert capsys.readouterr().err.startswith("mnist: ")


def test_help_lists_every_key(capsys):
    """`--help` prints the shipped file and trains nothing."""

    def train(config):
        raise AssertionError

    assert program(train, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in DEFAULT_FILE.read_text().splitlines()[2:] if line not in shown] == []


def test_help_lists_only_what_is_accepted(capsys):
    """The baseline takes five keys, and its help has no others."""
    assert program(lambda config: 1, ["--help"], accepts=("seed", "zone")) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in shown if "  # " in line] == ["seed", "zone"]


def test_the_exit_code_of_a_training_is_passed_on():
    """What the training returns is the exit code."""
    assert program(lambda config: config.accum, ["--accum", "3"]) == 3
