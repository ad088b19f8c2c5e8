"""The trainer around its update: the choice of arithmetic, checkpoints, and what is refused before a run is made."""

import math
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.mnist import step, train
from projects.mnist.config import Config, ConfigError, TrainerError

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """More threads only wait for each other on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_samples(count=12):
    """Random pixels and labels."""
    rng = np.random.default_rng(0)
    return step.samples(
        rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count), CPU
    )


def checkpoint(path):
    """Loads with the safe loader, as anything from a disk should."""
    return torch.load(path, weights_only=True)


def test_a_checkpoint_holds_what_an_update_changes(tmp_path):
    """Weights, optimiser, schedule, scaler, position and configuration come back equal."""
    config, samples = Config(batch_size=4, epochs=2, amp="off"), some_samples()
    state = train.start(config, count=len(samples), device=CPU, amp="off")
    train.one_epoch(state, samples, config, epoch=1)
    path = tmp_path / "run" / "last.pt"
    train.save(path, state, config, epoch=1, values={"train/loss": 2.0})
    found = checkpoint(path)
    fresh = train.start(config, count=len(samples), device=CPU, amp="off")
    fresh.model.load_state_dict(found["model"])
    fresh.optimiser.load_state_dict(found["optimiser"])
    fresh.scheduler.load_state_dict(found["scheduler"])
    fresh.scaler.load_state_dict(found["scaler"])
    losses = [train.one_epoch(each, samples, config, epoch=2).loss for each in (state, fresh)]
    assert losses[0] == losses[1]
    assert all(
        torch.equal(one, other)
        for one, other in zip(state.model.parameters(), fresh.model.parameters(), strict=True)
    )
    assert (found["format"], found["epoch"], found["metrics"]) == (1, 1, {"train/loss": 2.0})
    assert found["config_sha256"] == config.sha256()


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    """What cannot be written replaces nothing and leaves nothing behind."""
    config, path = Config(), tmp_path / "last.pt"
    state = train.start(config, count=4, device=CPU, amp="off")
    train.save(path, state, config, epoch=1, values={})
    with pytest.raises((AttributeError, TypeError, RuntimeError), match="pickle"):
        train.save(path, state, config, epoch=2, values={"bad": lambda: 0})  # type: ignore[dict-item]
    assert checkpoint(path)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_seed_starts_from_the_same_weights():
    """Whatever was drawn before; another seed starts elsewhere."""

    def weights(seed):
        torch.rand(5)
        state = train.start(Config(seed=seed), count=4, device=CPU, amp="off")
        return torch.cat([weight.flatten() for weight in state.model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_schedule_counts_updates_not_micro_batches():
    """10 samples in batches of 4 are 3 updates an epoch, whatever `accum` is."""
    config, samples = Config(batch_size=4, accum=4, epochs=2), some_samples(10)
    state = train.start(config, count=10, device=CPU, amp="off")
    for epoch in (1, 2):
        train.one_epoch(state, samples, config, epoch=epoch)
    assert state.scheduler.last_epoch == 6


def test_an_epoch_returns_the_mean_loss():
    """An untrained network with a zero output layer and no learning to speak of has a loss of log(10)."""
    config, samples = Config(batch_size=5, lr=1e-8), some_samples()
    state = train.start(config, count=len(samples), device=CPU, amp="off")
    torch.nn.init.zeros_(state.model.output.weight)  # type: ignore[union-attr,arg-type]
    torch.nn.init.zeros_(state.model.output.bias)  # type: ignore[union-attr,arg-type]
    assert train.one_epoch(state, samples, config, epoch=1).loss == pytest.approx(math.log(10), abs=1e-4)


def test_a_loss_that_is_no_number_ends_the_training():
    """More epochs would only burn energy; the message says what to do."""
    config, samples = Config(batch_size=4), some_samples()
    state = train.start(config, count=len(samples), device=CPU, amp="off")
    with torch.no_grad():
        state.model.output.bias[0] = torch.nan  # type: ignore[union-attr,operator]
    with pytest.raises(TrainerError, match=r"train/loss: expected a number in epoch 1, got nan; lower lr"):
        train.one_epoch(state, samples, config, epoch=1)


def test_off_means_fp32_without_a_probe():
    """No step is spent on a question that was not asked."""
    assert train.choose_amp(Config(amp="off"), some_samples(), CPU) == ("off", None)


def test_auto_follows_its_measurement():
    """bf16 where its steps cost less than those in fp32, else fp32; the ratio is reported."""
    amp, ratio = train.choose_amp(Config(amp="auto", batch_size=8), some_samples(), CPU)
    assert ratio is not None
    assert amp == ("bf16" if ratio < 1 else "off")


def test_bf16_is_done_where_it_is_asked_for():
    """Also where it costs more; the ratio is reported all the same."""
    amp, ratio = train.choose_amp(Config(amp="bf16", batch_size=8), some_samples(), CPU)
    assert amp == "bf16"
    assert ratio is not None


def test_fp16_needs_cuda():
    """Refused on a CPU before data are looked for or a run is made."""
    with pytest.raises(ConfigError, match=r"amp: expected auto, bf16 or off on a CPU, got 'fp16'"):
        train.train(Config(amp="fp16", device="cpu", data_dir="/nowhere"))


def test_a_checkpoint_folder_that_cannot_be_written_is_refused(tmp_path):
    """Found out before the first epoch."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"checkpoint_dir: expected a folder that can be written"):
        train.train(Config(checkpoint_dir=str(tmp_path / "file"), device="cpu", data_dir="/nowhere"))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_kept_memory_is_not_faulted_in_again():
    """Without it, each of 40 arrays of 16 MB costs 4,096 page faults; with it, the first one does."""
    code = (
        "import resource, numpy; from projects.mnist.train import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(40): numpy.ones(2 << 20)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "first = faults(); keep_freed_memory(); faults(); print(first, faults())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    without, with_it = map(int, done.stdout.split())
    assert with_it < 2000
    assert without > with_it
