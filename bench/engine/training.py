"""The training loop, and what a defense sees of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from bench import noise
from bench.checkpoints import place
from bench.components import Data, Defense, Model, Schedule
from bench.engine.augmentation import AUGMENTATIONS
from bench.engine.bars import counted
from bench.engine.capture import CapturedSteps, capture_graph, is_capture_wanted
from bench.engine.phases import Phase, measure
from bench.engine.store import Unfinished, pack_tensors
from bench.errors import BadComponent, Diverged, EnvironmentProblem
from bench.gradients import Passes
from bench.layers import CheapSecondDerivatives

RESIDENT = 2**30  # bytes of float images up to which a training set is decoded once and stays on the device
AHEAD = 2  # batches of larger sets that are decoded while a step runs
CHECKED = 16  # steps between two looks at the loss, each of which waits for the device

Columns = list[Any]  # images, labels, object masks and gaze
Loss = Callable[[nn.Module, "Batch"], Tensor]
TrainedBy = Callable[[Defense, int], tuple[nn.Module, list[Phase]]]


@dataclass(frozen=True)
class Batch:
    """Augmented rows of the training data, on the device; `indices` are their positions in the split."""

    images: Tensor
    labels: Tensor
    object_masks: Tensor | None
    gaze: Tensor | None
    indices: Tensor


@contextlib.contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Inside, torch's generators start from (seed, name); their outer state is restored afterwards."""
    with torch.random.fork_rng(), noise.rows(seed, name, [0]):
        torch.manual_seed(int(noise.uniform(torch.empty(1, 1), 0, 2**31)))
        yield


class Fit:
    """What a defense trains with.

    `data` is the training data; `model` is what `fresh` builds; `seed` is the training's; `state` holds tensors that
    are kept with the checkpoints; `log` says what each finished phase cost.
    """

    def __init__(
        self,
        data: Data,
        model: Model,
        schedule: Schedule,
        seed: int,
        device: torch.device,
        unfinished: Unfinished,
        log: list[Phase],
        trained_by: TrainedBy,
    ) -> None:
        self.data = data
        self.state: dict[str, Tensor] = {}
        self.log = log
        self.model, self._schedule, self.seed = model, schedule, seed
        self._device, self._unfinished = device, unfinished
        self._trained_by = trained_by
        self._phases: set[str] = set()
        self._teachers: list[nn.Module] = []

    def fresh(self) -> nn.Module:
        """Build the model with its initial weights, the same at every call: random ones, or trained ones that the model
        or the schedule names."""
        with seeded(self.seed, "weights"):
            network = self.model.build(self.data.shape, len(self.data.classes))
            self.model.load_weights(network, self.data.shape)
        if self._schedule.init:
            place(network, self._schedule.init, any_classes=True)
        return network.to(self._device)

    @functools.cached_property
    def rows(self) -> Tensor:
        """The positions of the training images that the schedule uses, in order."""
        limit, count = self._schedule.limit, len(self.data)
        if not count:
            raise EnvironmentProblem("the data set has no training images; use another, or trained weights")
        if self.data.labels is None:
            raise EnvironmentProblem("the training images have no labels; use others, or trained weights")
        if limit > count:
            raise EnvironmentProblem(
                f"the schedule's limit is {limit}, but there are {count} training images; lower it"
            )
        return self._schedule.used(self.data)

    @property
    def batch(self) -> int:
        """Number of images in the schedule's largest batch; see `_order`."""
        return min(self._schedule.batch + 1, len(self.rows))

    def decoded(self, rows: Tensor) -> Batch:
        """Rows of the training data without augmentation, on the device."""
        return Batches(self.data, rows, self._device, "none").at(rows)

    def trained_by(self, defense: Defense, seed: int | None = None) -> nn.Module:
        """The network that another defense trains on the same data, with the same model and schedule, and with the
        same seed or a given one.

        In eval mode, frozen. Its cost, and that of its passes in later phases, counts as cost of this training.
        """
        network, phases = self._trained_by(defense, self.seed if seed is None else seed)
        self._teachers.append(network)
        self.log.extend(dataclasses.replace(phase, name=f"{defense.name}/{phase.name}") for phase in phases)
        return network

    @contextlib.contextmanager
    def measured(self, name: str, network: nn.Module) -> Iterator[None]:
        """Log the work inside as a phase of its own, for work outside `minimise` such as a teacher's passes."""
        with measure(self.log, name, network) as passes, passes:
            yield

    @staticmethod
    @contextlib.contextmanager
    def evaluating(network: nn.Module) -> Iterator[None]:
        """Inside, a network is in eval mode, so that batch norm neither moves nor mixes the images of a batch."""
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def minimise(
        self,
        network: nn.Module,
        loss: Loss,
        name: str = "train",
        augment: bool = True,
        replays: int = 1,
        after: Callable[[Batch, Tensor], None] | None = None,
    ) -> nn.Module:
        """Train a network, in place, by `loss(network, batch) -> scalar`; returned in train mode.

        `augment=False` uses the stored images. `replays` takes every batch that many times in a row, and divides
        epochs, warm-up and decay points by that number, rounded up. `after(batch, gradient)` receives the gradient of
        each loss by the batch's images, from the same backward pass.

        Saves a checkpoint after every epoch under the phase's name, which must be unique in the training. All
        randomness of an epoch follows from (seed, name, epoch), so that a resumed training ends with the same weights.
        Raises Diverged where the loss or a weight is not finite.
        """
        if name in self._phases:
            raise BadComponent(
                f"two phases of one training are called {name!r}; name each one: fit.minimise(..., name=...)"
            )
        self._phases.add(name)
        schedule = self._schedule
        if not schedule.epochs:
            return network.train()
        rows, epochs = self.rows, math.ceil(schedule.epochs / replays)
        batches = Batches(self.data, rows, self._device, schedule.augmentation if augment else "none")
        capturing = is_capture_wanted(self._device) and batches.is_resident and replays == 1
        network.to(memory_format=_memory_format(self._device, schedule.precision)).train()
        optimiser = OPTIMISERS[schedule.optimiser](network, schedule)
        for group in optimiser.param_groups:
            if "capturable" in group:
                group["capturable"] = capturing
        before = self._resume(name, network, optimiser)
        done = before.epoch if before else 0
        steps = max(1, math.ceil((len(rows) - 1) / schedule.batch))  # see _order
        phases: list[Phase] = [before.phase] if before else []

        def descend(batch: Batch, passes: Passes) -> Tensor:
            optimiser.zero_grad()
            with passes:
                images = batch.images.detach().requires_grad_() if after else batch.images
                with _half(self._device, schedule.precision):
                    value = loss(network, dataclasses.replace(batch, images=images))
                value.backward()
            if after and images.grad is not None:
                after(batch, images.grad)
            if schedule.clipping:
                nn.utils.clip_grad_norm_(network.parameters(), schedule.clipping)
            optimiser.step()
            return value.detach()

        def descend_at(indices: Tensor, keys: Tensor, passes: Passes) -> Tensor:
            with noise.keyed(keys):
                return descend(batches.at(indices), passes)

        captured = CapturedSteps(descend_at, self._device, capture_graph) if capturing else None
        with counted(epochs * steps * replays, name, "step", done * steps * replays) as add:
            for epoch in range(done, epochs):
                rate = schedule.rate_at(epoch, replays)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                part = f"{name}/{epoch}"
                last = phases[-1] if phases else None
                with (
                    seeded(self.seed, part),
                    products_in(schedule.precision),
                    measure(phases, name, network, last) as passes,
                    contextlib.ExitStack() as around,
                ):
                    for teacher in self._teachers:
                        around.enter_context(passes.watch(teacher))
                    losses, step = [], -1
                    reading = around.enter_context(contextlib.closing(batches.read_ahead(self._order(rows, part))))
                    for chosen, columns, replay in ((*read, replay) for read in reading for replay in range(replays)):
                        step += 1
                        keys = noise.make_keys(self.seed, f"{part}/{replay}" if replay else part, chosen)
                        if captured:
                            losses.append(captured(chosen, keys, rate, passes))
                        else:
                            with noise.keyed(keys):
                                if not replay:
                                    batch = batches.at(chosen, columns)
                                losses.append(descend(batch, passes))
                        if len(losses) == CHECKED:
                            self._check(losses, name, epoch, step + 1 - CHECKED)
                            losses = []
                        add(1)
                    self._check(losses, name, epoch, step + 1 - len(losses))
                    self._check_weights(network, name, epoch)
                self._save(name, network, optimiser, epoch + 1, phases[-1])
        self.log.append(phases[-1])
        return network.to(memory_format=torch.contiguous_format)

    def _order(self, rows: Tensor, part: str) -> Iterator[Tensor]:
        """The batches of an epoch. A last batch of one row joins the one before, since batch norm rejects it."""
        with noise.rows(self.seed, f"{part}/order", rows):
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
        bad = (~torch.stack(losses).isfinite()).nonzero() if losses else torch.empty(0)
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
                "weights.safetensors": pack_tensors(network.state_dict()),
                "optimiser.safetensors": pack_tensors(
                    {f"{i}.{k}": torch.as_tensor(v) for i, s in state.items() for k, v in s.items() if v is not None}
                ),
                "state.safetensors": pack_tensors(self.state),
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
        weights = list(network.parameters())
        for key, tensor in safetensors.torch.load(files["optimiser.safetensors"]).items():
            index, _, part = key.partition(".")
            like = weights[int(index)]
            # In the layout of the weight, as the optimiser demands.
            state.setdefault(int(index), {})[part] = torch.empty_like(like).copy_(tensor) if tensor.ndim else tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        kept = safetensors.torch.load(files["state.safetensors"])
        self.state = {key: tensor.to(self._device) for key, tensor in kept.items()}
        progress = json.loads(files["progress.json"])
        return _Progress(progress["epoch"], Phase(**progress["phase"]))


@dataclass(frozen=True)
class _Progress:
    epoch: int
    phase: Phase


# Fused: one pass over the weights instead of one for each operation.
OPTIMISERS: dict[str, Callable[[nn.Module, Schedule], torch.optim.Optimizer]] = {
    "adam": lambda net, s: torch.optim.Adam(
        net.parameters(), s.rate, (s.momentum, 0.999), weight_decay=s.weight_decay, fused=True
    ),
    "adamw": lambda net, s: torch.optim.AdamW(
        net.parameters(), s.rate, (s.momentum, 0.999), weight_decay=s.weight_decay, fused=True
    ),
    "sgd": lambda net, s: torch.optim.SGD(
        net.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay, fused=True
    ),
    "nesterov": lambda net, s: torch.optim.SGD(
        net.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay, nesterov=True, fused=True
    ),
}


def _memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """The layout in which convolutions train fastest.

    A CPU prefers channels last (benchmarks/training.py), and so do a GPU's tensor cores, which float32 does not use.
    """
    last = device.type == "cpu" or precision != "float32"
    return torch.channels_last if last else torch.contiguous_format


@contextlib.contextmanager
def _half(device: torch.device, precision: str) -> Iterator[None]:
    """Inside, products are of bfloat16 if `precision` says so."""
    if precision != "bfloat16":
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), CheapSecondDerivatives():
        yield


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Inside, a GPU multiplies in tf32 if `precision` says so, else in single precision, in convolutions too; and it
    adds up the products of a convolution in the same order every time."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    was_deterministic = torch.backends.cudnn.deterministic
    for backend in backends:
        backend.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = was_deterministic
        for backend, is_allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = is_allowed


class Batches:
    """Rows of the training data on the device. A small set, below `resident` bytes, is decoded once."""

    def __init__(
        self, data: Data, rows: Tensor, device: torch.device, augmentation: str, resident: int = RESIDENT
    ) -> None:
        self.device, self.augmentation = device, augmentation
        self.columns: tuple[Any, ...] = (data.images, data.labels, data.object_masks, data.gaze)
        self.place = torch.arange(len(data))
        self.is_resident = data.images[rows[:1]].nbytes * len(rows) <= resident
        if self.is_resident:
            self.columns = tuple(None if column is None else column[rows].to(device) for column in self.columns)
            self.place[rows] = torch.arange(len(rows))
            self.place = self.place.to(device)

    def at(self, rows: Tensor, columns: Columns | None = None) -> Batch:
        """The augmented batch of some rows; `columns` are those that `read_ahead` gave."""
        found: Columns = [c if c is None else c.to(self.device) for c in columns or self._read(rows)]
        images, labels, masks, gaze = found
        if self.augmentation != "none":
            moved = AUGMENTATIONS[self.augmentation]([images, *(m[:, None] for m in (masks, gaze) if m is not None)])
            images = moved.pop(0)
            masks = moved.pop(0)[:, 0] if masks is not None else None
            gaze = moved.pop(0)[:, 0] if gaze is not None else None
        return Batch(images, labels, masks, gaze, rows)

    def read_ahead(self, parts: Iterable[Tensor]) -> Generator[tuple[Tensor, Columns | None]]:
        """The rows of each batch, with its columns: of a set that is not resident, a few batches are read ahead."""
        if self.is_resident:
            yield from ((rows, None) for rows in parts)
            return
        waiting = deque[tuple[Tensor, Future[Columns]]]()
        with ThreadPoolExecutor(1) as reader:
            try:
                for rows in parts:
                    waiting.append((rows, reader.submit(self._read, rows)))
                    if len(waiting) > AHEAD:
                        yield waiting[0][0], waiting.popleft()[1].result()
                while waiting:
                    yield waiting[0][0], waiting.popleft()[1].result()
            finally:  # of an epoch that an error ends
                for _, columns in waiting:
                    columns.cancel()

    def _read(self, rows: Tensor) -> Columns:
        # Nobody waits for the device, where the columns are there.
        place = self.place[rows.to(self.place.device, non_blocking=True)]
        return [column if column is None else column[place] for column in self.columns]
