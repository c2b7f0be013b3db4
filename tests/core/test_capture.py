"""Captured training steps, all but the capture itself, which needs a GPU (the last test)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from bench import noise
from bench.engine import capture, training
from bench.engine.capture import WARM, CapturedSteps, capture_graph
from bench.gradients import Passes
from bench.testing import TinySchedule, tiny_fit


def repeat_in_python(step):
    """Captures like a GPU as far as Python sees: the step runs once without effect, and a replay runs it again."""
    loss = torch.zeros(())

    def replay():
        loss.copy_(step())

    return replay, loss


def noisy_loss(network, batch):
    images = batch.images + 0.05 * noise.uniform(batch.images)
    with noise.repeat(range(2, 4)):
        images = images + 0.01 * noise.normal(images.repeat_interleave(2, 0)).unflatten(0, (-1, 2)).sum(1)
    return F.cross_entropy(network(images), batch.labels)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_captured_steps_train_as_ordinary_ones(tmp_path, monkeypatch, optimiser):
    schedule = TinySchedule(epochs=4, batch=5, decay=(2,), optimiser=optimiser, augmentation="crop_flip")
    fit = tiny_fit(tmp_path / "ordinary", schedule)
    expected = fit.minimise(fit.fresh(), noisy_loss)
    made = []

    def capture_step(step):
        made.append(step)
        return repeat_in_python(step)

    monkeypatch.setattr(training, "is_capture_wanted", lambda device: True)
    monkeypatch.setattr(training, "capture_graph", capture_step)
    fit = tiny_fit(tmp_path / "captured", schedule)
    trained = fit.minimise(fit.fresh(), noisy_loss)
    # 24 images: four batches of five and one of four an epoch; two rates, each with its own captures.
    assert len(made) == 2
    assert_close(list(trained.parameters()), list(expected.parameters()), rtol=1e-6, atol=1e-8)


def test_free_training_is_not_captured(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "is_capture_wanted", lambda device: True)
    monkeypatch.setattr(training, "capture_graph", lambda step: pytest.fail("captured"))
    fit = tiny_fit(tmp_path, TinySchedule(epochs=8, batch=5))
    fit.minimise(fit.fresh(), noisy_loss, replays=2)


def steps(capture_step, log):
    def step(indices, keys, passes):
        passes.forwards, passes.backwards = passes.forwards + 2, passes.backwards + 1
        log.append(indices.tolist())
        return indices.sum() + 0.5 * keys.sum()

    return CapturedSteps(step, torch.device("cpu"), capture_step)


def test_passes_are_counted_at_each_replay_and_inputs_are_fresh():
    log, passes = [], Passes()

    def capture_step(step):
        step()
        # As on a GPU, the replay reads the tensors of the capture and runs no Python of the step.
        cells = [cell.cell_contents for cell in step.__closure__]
        indices, keys = next(cell for cell in cells if isinstance(cell, tuple))
        loss = torch.zeros(())
        return lambda: loss.copy_(indices.sum() + 0.5 * keys.sum()), loss

    run = steps(capture_step, log)
    for number in range(WARM + 4):
        losses = run(torch.tensor([number, 1]), torch.tensor([2, 4]), 0.1, passes)
        assert float(losses) == number + 1 + 3
    assert len(log) == WARM + 1
    assert (passes.forwards, passes.backwards) == (2 * (WARM + 4), WARM + 4)


def test_other_sizes_and_rates_have_captures_of_their_own():
    captures = []
    run = steps(lambda step: captures.append(step) or repeat_in_python(step), [])
    for _ in range(WARM + 2):
        for size, rate in ((2, 0.1), (3, 0.1), (2, 0.01)):
            assert float(run(torch.ones(size, dtype=torch.int64), torch.zeros(size), rate, Passes())) == size
    assert len(captures) == 3


def test_a_capture_that_fails_leaves_ordinary_steps():
    log, passes = [], Passes()

    def fail(step):
        step()
        raise RuntimeError("operation not permitted when stream is capturing")

    run = steps(fail, log)
    with pytest.warns(UserWarning, match="cannot be a CUDA graph and are slower: operation not permitted when stream"):
        for number in range(WARM + 3):
            assert float(run(torch.tensor([number]), torch.tensor([0]), 0.1, passes)) == number
    assert run.has_failed
    assert len(log) == WARM + 3 + 1
    assert (passes.forwards, passes.backwards) == (2 * (WARM + 3), WARM + 3)


def test_capture_is_asked_for_by_the_environment(monkeypatch):
    monkeypatch.delenv("BENCH_CUDA_GRAPHS", raising=False)
    assert not capture.is_capture_wanted(torch.device("cuda"))
    monkeypatch.setenv("BENCH_CUDA_GRAPHS", "1")
    assert capture.is_capture_wanted(torch.device("cuda"))
    assert not capture.is_capture_wanted(torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures need a GPU")
def test_a_captured_graph_takes_the_ordinary_step():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 3)).cuda()
    twin = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 3)).cuda()
    twin.load_state_dict(network.state_dict())
    images = torch.rand(8, 3, 8, 8, device="cuda")

    def train(net, captures):
        optimiser = torch.optim.Adam(net.parameters(), 0.01, fused=True, capturable=True)

        def step(indices, keys, passes):
            optimiser.zero_grad()
            with noise.keyed(keys):
                given = images[indices.cuda()]
                loss = net(given + noise.uniform(given)).square().mean()
            loss.backward()
            optimiser.step()
            return loss.detach()

        run = CapturedSteps(step, torch.device("cuda"), captures)
        return [
            float(run(torch.arange(4) + n % 4, noise.make_keys(n, "", torch.arange(4)), 0.01, Passes()))
            for n in range(9)
        ]

    def fail(step):
        raise RuntimeError

    captured = train(network, capture_graph)
    with pytest.warns(UserWarning, match="cannot be a CUDA graph"):
        ordinary = train(twin, fail)
    assert_close(captured, ordinary, rtol=1e-4, atol=1e-6)
