"""One update: gradients of micro-batches are those of the whole batch, exactly, also where it is ragged."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from projects.mnist import step
from projects.mnist.config import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """More threads only wait for each other on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_samples(count, *, seed=0):
    """Random pixels and labels."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return step.samples(pixels, rng.integers(0, 10, count), CPU)


def fresh_state(*, amp="off", updates=20, lr=1e-3, dtype=torch.float64):
    """The same weights each time."""
    torch.manual_seed(0)
    return step.new_state(step.LeNet().to(dtype), lr=lr, updates=updates, device=CPU, amp=amp)


def gradients(state):
    """All gradients in one vector."""
    return torch.cat([weight.grad.flatten() for weight in state.model.parameters()])


def relative(one, other):
    """Largest difference over the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def naive_gradients(samples, micro):
    """What the common mistake gives: the mean of the micro-batches' means."""
    state = fresh_state()
    parts = list(torch.arange(len(samples)).split(micro))
    for part in parts:
        loss = functional.cross_entropy(state.model(samples.pixels[part]), samples.labels[part])
        (loss / len(parts)).backward()
    return gradients(state)


@pytest.mark.parametrize(
    ("size", "batch_size", "accum", "ragged"),
    [(256, 256, 4, False), (250, 256, 4, True), (188, 256, 4, True), (65, 128, 2, True)],
)
def test_accumulated_gradients_are_those_of_the_whole_group(size, batch_size, accum, ragged):
    """Below 1e-12 in float64; the naive rule passes only where all micro-batches are equally large."""
    samples, group = some_samples(size), torch.arange(size)
    whole, parts = fresh_state(), fresh_state()
    step.update(whole, samples, group=group, micro=size)
    step.update(parts, samples, group=group, micro=math.ceil(batch_size / accum))
    assert relative(gradients(parts), gradients(whole)) < 1e-12
    naive = relative(naive_gradients(samples, math.ceil(batch_size / accum)), gradients(whole))
    assert naive > 1e-3 if ragged else naive < 1e-12


def test_losses_of_one_and_four_micro_batches_agree():
    """After 20 updates of Adam in float64, with a ragged last group in each epoch, to 1e-10."""
    samples = some_samples(160)
    losses = {}
    for accum in (1, 4):
        state = fresh_state(updates=20)
        groups = itertools.chain.from_iterable(
            step.groups(len(samples), 34, seed=0, epoch=epoch) for epoch in range(1, 5)
        )
        losses[accum] = [
            float(step.update(state, samples, group=group, micro=math.ceil(34 / accum))) / len(group)
            for group in groups
        ]
    assert len(losses[1]) == 20
    assert np.abs(np.subtract(losses[1], losses[4])).max() < 1e-10


def test_an_update_returns_the_summed_loss_of_its_group():
    """Worked example: untrained weights of zero give log(10) a sample."""
    state = fresh_state()
    torch.nn.init.zeros_(state.model.output.weight)
    torch.nn.init.zeros_(state.model.output.bias)
    assert float(step.update(state, some_samples(5), group=torch.arange(5), micro=2)) == pytest.approx(
        5 * math.log(10)
    )


def test_the_network_has_the_published_size():
    """127,462 weights, ten logits."""
    model = step.LeNet()
    assert sum(weight.numel() for weight in model.parameters()) == 127_462
    assert model(torch.zeros(3, 28, 28, dtype=torch.uint8)).shape == (3, 10)


@given(count=st.integers(1, 300), batch=st.integers(1, 320), seed=st.integers(0, 9), epoch=st.integers(1, 9))
def test_groups_hold_every_sample_once(count, batch, seed, epoch):
    """Each epoch is a permutation, cut into full groups and one remainder."""
    groups = list(step.groups(count, batch, seed=seed, epoch=epoch))
    assert sorted(torch.cat(groups).tolist()) == list(range(count))
    assert len(groups) == math.ceil(count / batch)
    assert all(len(group) == batch for group in groups[:-1])


def test_the_order_follows_from_seed_and_epoch_alone():
    """The same again after other random numbers were drawn; another one for another epoch or seed."""

    def order(seed, epoch):
        torch.rand(3)
        return torch.cat(list(step.groups(100, 7, seed=seed, epoch=epoch))).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 1)


def test_evaluation_counts_by_hand():
    """A network that always says 3, on labels 0 to 9 in turn, is right one time in ten, over several batches."""
    state = fresh_state()
    torch.nn.init.zeros_(state.model.output.weight)
    with torch.no_grad():
        state.model.output.bias.copy_(torch.nn.functional.one_hot(torch.tensor(3), 10) * 5.0)
    pixels = torch.zeros(620, 28, 28, dtype=torch.uint8)
    loss, accuracy = step.evaluate(state, step.Samples(pixels, torch.arange(620) % 10))
    assert accuracy == pytest.approx(0.1)
    assert loss == pytest.approx(math.log(math.exp(5) + 9) - 0.5)


def test_evaluation_changes_nothing():
    """Weights stay and no gradient is kept."""
    state = fresh_state()
    before = copy.deepcopy(state.model.state_dict())
    step.evaluate(state, some_samples(10))
    assert all(torch.equal(before[name], weight) for name, weight in state.model.state_dict().items())
    assert all(weight.grad is None for weight in state.model.parameters())


def test_bf16_learns_like_fp32():
    """Gradients in bfloat16 point the same way, and the weights stay in fp32."""
    samples, group = some_samples(64), torch.arange(64)
    full, half = (fresh_state(amp=amp, dtype=torch.float32) for amp in ("off", "bf16"))
    for state in (full, half):
        step.update(state, samples, group=group, micro=16)
    assert functional.cosine_similarity(gradients(full), gradients(half), dim=0) > 0.99
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}


def test_a_scaled_update_is_the_unscaled_one():
    """The scaler multiplies the loss and divides the gradients before the optimiser sees them."""
    samples, group = some_samples(32), torch.arange(32)
    plain, scaled = fresh_state(dtype=torch.float32), fresh_state(amp="fp16", dtype=torch.float32)
    for state in (plain, scaled):
        step.update(state, samples, group=group, micro=8)
    assert scaled.scaler.get_scale() == 65536.0
    assert functional.cosine_similarity(gradients(plain), gradients(scaled), dim=0) > 0.99
    assert scaled.scheduler.last_epoch == plain.scheduler.last_epoch == 1


def test_an_overflow_skips_optimiser_and_schedule():
    """The scale is halved and nothing else moves."""
    state = fresh_state(amp="fp16", dtype=torch.float32)
    with torch.no_grad():
        state.model.output.bias[0] = torch.inf
    before = state.model.hidden1.weight.clone()
    step.update(state, some_samples(8), group=torch.arange(8), micro=4)
    assert torch.equal(state.model.hidden1.weight, before)
    assert state.scheduler.last_epoch == 0
    assert state.scaler.get_scale() == 32768.0


def test_the_schedule_warms_up_for_a_quarter_and_ends_near_zero():
    """One cycle over updates: highest at a quarter of them."""
    state = fresh_state(updates=100, lr=6e-3, dtype=torch.float32)
    rates = []
    samples, group = some_samples(2), torch.arange(2)
    for _ in range(100):
        rates.append(state.optimiser.param_groups[0]["lr"])
        step.update(state, samples, group=group, micro=2)
    assert 20 <= int(np.argmax(rates)) <= 28
    assert max(rates) == pytest.approx(6e-3)
    assert rates[-1] < 1e-6


def test_one_update_is_a_training_too():
    """A single update of a single sample: the shortest schedule there is."""
    state = fresh_state(updates=1, dtype=torch.float32)
    step.update(state, some_samples(1), group=torch.arange(1), micro=1)
    assert math.isfinite(step.evaluate(state, some_samples(1))[0])


def test_the_probe_is_a_ratio_of_medians():
    """With bf16 steps that take 3 s and fp32 steps that take 2 s, outliers and warm-up aside, it is 1.5."""
    times = []
    for turn in range(8):
        odd = 100.0 if turn in {0, 1, 4} else 0.0
        times += [0.0, 2.0 + odd, 0.0, 3.0 + odd]
    assert step.probe(some_samples(4), micro=2, clock=iter(times).__next__) == 1.5


def test_the_probe_leaves_random_numbers_to_the_training():
    """The seed is set after it, so its own draws do not count; data stay as they were."""
    samples = some_samples(4)
    before = samples.pixels.clone()
    step.probe(samples, micro=4)
    assert torch.equal(samples.pixels, before)


def test_cuda_that_is_not_there_is_refused_or_replaced(capsys):
    """`cuda` is an error that says what to do, `auto` a note, `cpu` silence."""
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(
        ConfigError, match="expected a CUDA device that works, got no CUDA device; use device=auto"
    ):
        step.pick_device("cuda")
    assert step.pick_device("auto") == CPU
    assert "training on the CPU: no CUDA device" in capsys.readouterr().err
    assert step.pick_device("cpu") == CPU
    assert capsys.readouterr().err == ""
