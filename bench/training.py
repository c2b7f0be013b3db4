"""The one training loop, and what a defense sees of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from bench import noise
from bench.errors import BadComponent, Diverged, EnvironmentProblem
from bench.gradients import Passes
from bench.graph import packed
from bench.kinds import Data, Model, Schedule
from bench.store import Unfinished

RESIDENT = 2**30  # bytes of float images up to which a training set is decoded once and stays on the device
CHECKED = 16  # steps between two looks at the loss, each of which waits for the device

Loss = Callable[[nn.Module, "Batch"], Tensor]


@dataclass(frozen=True)
class Phase:
    """A part of the work on a stored value and its cost: wall seconds, peak GPU bytes (None on a CPU), forward passes
    over a batch, runs of the autograd engine."""

    name: str
    seconds: float
    peak_bytes: int | None
    forwards: int
    backwards: int


@dataclass(frozen=True)
class Batch:
    """What a loss sees: augmented rows of the training data, on the device; `indices` are their places in the split."""

    images: Tensor
    labels: Tensor | None
    object_masks: Tensor | None
    gaze: Tensor | None
    indices: Tensor


@contextlib.contextmanager
def measured(log: list[Phase], name: str, network: nn.Module, before: Phase | None = None) -> Iterator[Passes]:
    """Append to a log what the work inside costs, added to what it cost `before` an interruption.

    Backward passes are counted where the yielded mode is entered: it costs microseconds for every torch function.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    passes = Passes()
    with passes.watch(network):
        yield passes
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    if before is not None:
        seconds += before.seconds
        peak = None if peak is None else max(peak, before.peak_bytes or 0)
        passes.forwards, passes.backwards = passes.forwards + before.forwards, passes.backwards + before.backwards
    log.append(Phase(name, seconds, peak, passes.forwards, passes.backwards))


@contextlib.contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Inside, torch's own generators start from (seed, name); outside they are as they were."""
    with torch.random.fork_rng(), noise.rows(seed, name, [0]):
        torch.manual_seed(int(noise.uniform(torch.empty(1, 1), 0, 2**31)))
        yield


class Fit:
    """What a defense trains with. `data` is the training data; `state` holds tensors that a phase keeps with its
    checkpoints; `log` says what each finished phase cost."""

    def __init__(
        self,
        data: Data,
        model: Model,
        schedule: Schedule,
        seed: int,
        device: torch.device,
        unfinished: Unfinished,
        log: list[Phase],
    ) -> None:
        self.data = data
        self.state: dict[str, Tensor] = {}
        self.log = log
        self._model, self._schedule, self._seed = model, schedule, seed
        self._device, self._unfinished = device, unfinished
        self._phases: set[str] = set()

    def fresh(self) -> nn.Module:
        """The model with its initial weights, the same at every call."""
        with seeded(self._seed, "weights"):
            return self._model.build(self.data.shape, len(self.data.classes)).to(self._device)

    def minimise(self, network: nn.Module, loss: Loss, name: str = "train") -> nn.Module:
        """Train a network, in place, by `loss(network, batch) -> scalar`; returned in train mode.

        A checkpoint is kept after every epoch under the phase's name, which no other phase of the training may have;
        everything drawn in an epoch follows from (seed, name, epoch), so that a resumed training ends with the same
        weights. Raises Diverged where the loss or a weight is not finite.
        """
        if name in self._phases:
            raise BadComponent(
                f"two phases of one training are called {name!r}; give each its own: fit.minimise(..., name=...)"
            )
        self._phases.add(name)
        schedule, data = self._schedule, self.data
        if not len(data):
            raise EnvironmentProblem("the data set has no training images; train on another, or take trained weights")
        if schedule.limit > len(data):
            raise EnvironmentProblem(f"the schedule's limit is {schedule.limit}, there are {len(data)} training images")
        rows = data.choice(schedule.limit) if schedule.limit else torch.arange(len(data))
        batches = _Batches(data, rows, self._device, schedule.augmentation)
        optimiser = OPTIMISERS[schedule.optimiser](network, schedule)
        network.train()
        before = self._resume(name, network, optimiser)
        done = before.epoch if before else 0
        steps = max(1, math.ceil((len(rows) - 1) / schedule.batch))  # see _order
        phases: list[Phase] = [before.phase] if before else []
        with tqdm(
            total=schedule.epochs * steps,
            initial=done * steps,
            desc=name,
            unit="step",
            leave=False,
            disable=None,
            delay=1,
        ) as bar:
            for epoch in range(done, schedule.epochs):
                for group in optimiser.param_groups:
                    group["lr"] = schedule.rate * 0.1 ** sum(epoch >= point for point in schedule.decay)
                part = f"{name}/{epoch}"
                last = phases[-1] if phases else None
                with seeded(self._seed, part), measured(phases, name, network, last) as passes:
                    losses = []
                    for step, chosen in enumerate(self._order(rows, part)):
                        optimiser.zero_grad()
                        with noise.rows(self._seed, part, chosen):
                            batch = batches.at(chosen)
                            with passes:
                                value = loss(network, batch)
                                value.backward()
                        if schedule.clipping:
                            nn.utils.clip_grad_norm_(network.parameters(), schedule.clipping)
                        optimiser.step()
                        losses.append(value.detach())
                        if len(losses) == CHECKED:
                            self._check(losses, name, epoch, step + 1 - CHECKED)
                            losses = []
                        bar.update()
                    self._check(losses, name, epoch, step + 1 - len(losses))
                    self._check_weights(network, name, epoch)
                self._save(name, network, optimiser, epoch + 1, phases[-1])
        self.log.append(phases[-1])
        return network

    def _order(self, rows: Tensor, part: str) -> Iterator[Tensor]:
        """The batches of an epoch. A last batch of one row joins the one before, since batch norm cannot take it."""
        with noise.rows(self._seed, f"{part}/order", rows):
            shuffled = rows[noise.uniform(torch.empty(len(rows), 1))[:, 0].argsort(stable=True)]
        parts = list(shuffled.split(self._schedule.batch))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        yield from parts

    def _check_weights(self, network: nn.Module, name: str, epoch: int) -> None:
        if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
            self._unfinished.discard()
            raise Diverged(
                f"a weight is not finite after epoch {epoch + 1} ({name}); lower the schedule's rate or the weight of "
                "the regulariser"
            )

    def _check(self, losses: list[Tensor], name: str, epoch: int, first: int) -> None:
        bad = (~torch.stack(losses).isfinite()).nonzero() if losses else ()
        if len(bad):
            step = int(bad[0])
            self._unfinished.discard()
            raise Diverged(
                f"the loss is {float(losses[step])} at step {first + step + 1} of epoch {epoch + 1} ({name}); "
                "lower the schedule's rate or the weight of the regulariser"
            )

    def _save(self, name: str, network: nn.Module, optimiser: torch.optim.Optimizer, epoch: int, phase: Phase) -> None:
        state = optimiser.state_dict()["state"]
        self._unfinished.save(
            name,
            {
                "weights.safetensors": packed(network.state_dict()),
                "optimiser.safetensors": packed(
                    {f"{i}.{k}": torch.as_tensor(v) for i, s in state.items() for k, v in s.items() if v is not None}
                ),
                "state.safetensors": packed(self.state),
                "progress.json": json.dumps({"epoch": epoch, "phase": dataclasses.asdict(phase)}).encode(),
            },
        )

    def _resume(self, name: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> _Progress | None:
        files = self._unfinished.load(
            name, ("weights.safetensors", "optimiser.safetensors", "state.safetensors", "progress.json")
        )
        if files is None:
            return None
        network.load_state_dict(safetensors.torch.load(files["weights.safetensors"]))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in safetensors.torch.load(files["optimiser.safetensors"]).items():
            index, _, part = key.partition(".")
            state.setdefault(int(index), {})[part] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        kept = safetensors.torch.load(files["state.safetensors"])
        self.state = {key: tensor.to(self._device) for key, tensor in kept.items()}
        progress = json.loads(files["progress.json"])
        return _Progress(progress["epoch"], Phase(**progress["phase"]))


@dataclass(frozen=True)
class _Progress:
    epoch: int
    phase: Phase


OPTIMISERS: dict[str, Callable[[nn.Module, Schedule], torch.optim.Optimizer]] = {
    "adam": lambda net, s: torch.optim.Adam(net.parameters(), s.rate, weight_decay=s.weight_decay),
    "adamw": lambda net, s: torch.optim.AdamW(net.parameters(), s.rate, weight_decay=s.weight_decay),
    "sgd": lambda net, s: torch.optim.SGD(net.parameters(), s.rate, momentum=0.9, weight_decay=s.weight_decay),
}


class _Batches:
    """Rows of the training data on the device; a small set is decoded once."""

    def __init__(self, data: Data, rows: Tensor, device: torch.device, augmentation: str) -> None:
        self.device, self.augmentation = device, augmentation
        self.columns = (data.images, data.labels, data.object_masks, data.gaze)
        self.place = torch.arange(len(data))
        if data.images[rows[:1]].nbytes * len(rows) <= RESIDENT:
            self.columns = tuple(None if column is None else column[rows].to(device) for column in self.columns)
            self.place[rows] = torch.arange(len(rows))

    def at(self, rows: Tensor) -> Batch:
        place = self.place[rows]
        images, labels, masks, gaze = (None if c is None else c[place].to(self.device) for c in self.columns)
        if self.augmentation == "crop_flip":
            moved = crop_flip([images, *(m[:, None] for m in (masks, gaze) if m is not None)])
            images = moved.pop(0)
            masks = moved.pop(0)[:, 0] if masks is not None else None
            gaze = moved.pop(0)[:, 0] if gaze is not None else None
        return Batch(images, labels, masks, gaze, rows)


def crop_flip(stacks: list[Tensor], pad: int = 4) -> list[Tensor]:
    """The same random crop, after zero padding, and left-right flip of each row in all stacks, (B, ?, H, W) each."""
    like = stacks[0]
    drawn = noise.uniform(torch.empty(len(like), 3, device=like.device), 0, 1)
    height, width = like.shape[2:]
    top, left = (drawn[:, :2] * (2 * pad + 1)).long().unbind(1)
    row = top[:, None] + torch.arange(height, device=like.device)
    column = left[:, None] + torch.arange(width, device=like.device)
    column = torch.where(drawn[:, 2:] < 0.5, column, column.flip(1))
    index = torch.arange(len(like), device=like.device)[:, None, None]
    return [
        F.pad(stack, (pad,) * 4)
        .permute(0, 2, 3, 1)[index, row[:, :, None], column[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
        for stack in stacks
    ]
