"""Tiny networks, data and evidence to run contracts on, the same every time."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import noise
from bench.bcos import AddInverse, BcosConv2d, ClassScores, UncenteredNorm2d
from bench.components import Data, Defense, Explainer, Model, Schedule, Victim
from bench.engine import Fit, Phase, Store
from bench.gradients import input_gradient
from bench.networks import Normalised

_device = ContextVar("device", default="cpu")


@contextlib.contextmanager
def on_device(device: torch.device | str) -> Iterator[None]:
    """Inside, contracts run on a device: their networks, images and evidence are there, as in a run on that device."""
    token = _device.set(str(device))
    try:
        yield
    finally:
        _device.reset(token)


def current_device() -> torch.device:
    """The device that contracts run on: the CPU, outside any `on_device`."""
    return torch.device(_device.get())


def tiny_network(
    smooth: bool, dtype: torch.dtype = torch.float64, shape: tuple[int, int, int] = (3, 12, 12), seed: int = 24
) -> nn.Module:
    """A convolutional network for images of a shape (C, H, W) and 3 classes, frozen and in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TinyModel(activation="softplus" if smooth else "relu").build(shape, 3)
    return network.to(current_device(), dtype).eval().requires_grad_(False)


class TinyBlock(nn.Module):
    """Attention of two heads and a layer of units, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.before_attention, self.before_units = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.units = nn.Sequential(nn.Linear(width, 2 * width), activation, nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.queries_keys_values(self.before_attention(tokens)).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.joined(mixed)
        summed: Tensor = tokens + self.units(self.before_units(tokens))
        return summed


class TinyTransformer(nn.Module):
    """Two blocks on a class token and patches of 3 x 3 pixels, as in a vision transformer."""

    def __init__(self, shape: tuple[int, int, int], classes: int, smooth: bool) -> None:
        super().__init__()
        channels, height, width = shape
        self.patches = nn.Conv2d(channels, 8, 3, 3)
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 1 + height // 3 * (width // 3), 8) / 4)
        activation = nn.Softplus(3.0) if smooth else nn.ReLU()
        self.blocks = nn.Sequential(*(TinyBlock(8, activation) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], 1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


def tiny_transformer(
    smooth: bool, dtype: torch.dtype = torch.float64, shape: tuple[int, int, int] = (3, 12, 12), seed: int = 24
) -> nn.Module:
    """A transformer for images of a shape (C, H, W) and 3 classes, frozen and in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TinyTransformer(shape, 3, smooth)
    return network.to(current_device(), dtype).eval().requires_grad_(False)


def tiny_bcos_network(
    smooth: bool, dtype: torch.dtype = torch.float64, shape: tuple[int, int, int] = (3, 12, 12), seed: int = 24
) -> nn.Module:
    """A network of B-cos layers for images of a shape (C, H, W) and 3 classes, frozen and in eval mode. It is smooth
    whatever `smooth` says, since it has no other nonlinearity."""
    channels = shape[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [BcosConv2d(2 * channels, 6, 3), UncenteredNorm2d(6), BcosConv2d(6, 8, 3, 2), BcosConv2d(8, 3, 1)]
    inner = nn.Sequential(AddInverse(), *layers, ClassScores(3))
    network = Normalised(inner, [0.0] * channels, [1.0] * channels)
    return network.to(current_device(), dtype).eval().requires_grad_(False)


def network_for(explainer: Explainer, smooth: bool, *options: Any) -> nn.Module:
    """A tiny network that an explainer can explain; `options` as of `tiny_network`."""
    make = {"": tiny_network, "class_token": tiny_transformer, "bcos_layers": tiny_bcos_network}[explainer.needs]
    return make(smooth, *options)


class Overwriting(nn.Module):
    """A network that overwrites its images, and gives the logits of another one all the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(2 * images.mul_(0.5))
        return logits


def strange_networks(network: nn.Module) -> dict[str, nn.Module]:
    """Networks with the same logits, by what strangers do to theirs."""
    return {
        "inside nn.Sequential": nn.Sequential(network).eval(),
        "that writes into its images": Overwriting(network).eval(),
    }


def tiny_images(rows: int = 5, shape: tuple[int, int, int] = (3, 12, 12)) -> tuple[Tensor, Tensor]:
    """Images (rows, *shape) in float64, and targets (rows,)."""
    images, targets = _draw_images(rows, shape)
    return images.to(current_device()), targets.to(current_device())


def _draw_images(rows: int, shape: tuple[int, int, int] = (3, 12, 12)) -> tuple[Tensor, Tensor]:
    with noise.rows(0, "tiny", range(rows)):
        return noise.uniform(torch.empty(rows, *shape, dtype=torch.float64), 0.1, 0.9), torch.arange(rows) % 3


@dataclass(frozen=True)
class TinyModel(Model):
    """Two convolutions and a linear layer."""

    name = "tiny"
    activation: Literal["softplus", "relu"] = "softplus"

    def build(self, shape: tuple[int, int, int], classes: int) -> Normalised:
        def act() -> nn.Module:
            return nn.Softplus(3.0) if self.activation == "softplus" else nn.ReLU()

        channels, height, width = shape
        return Normalised(
            nn.Sequential(
                nn.Conv2d(channels, 6, 3, padding=1),
                act(),
                nn.Conv2d(6, 8, 3, padding=1),
                act(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(8 * (height // 2) * (width // 2), classes),
            ),
            [0.5] * channels,
            [0.25] * channels,
        )


@dataclass(frozen=True)
class TinySchedule(Schedule):
    """Two epochs of four steps."""

    name = "tiny"
    epochs = 2
    batch = 6
    optimiser = "adam"
    rate = 0.01
    weight_decay = 0.0
    decay = ()
    augmentation = "none"
    clipping = 0.5
    limit = 0


def tiny_data(rows: int = 24) -> Data:
    """Images in 3 classes, with object masks and gaze; on the CPU, where data sets are loaded."""
    images, labels = _draw_images(rows)
    masks = (images.mean(1) > 0.5).float()
    return Data(images.float(), labels, ("a", "b", "c"), object_masks=masks, gaze=masks)


def tiny_fit(folder: str, schedule: Schedule | None = None, seed: int = 0) -> Fit:
    """A Fit on tiny data with checkpoints in a folder, and those of teachers in folders inside it."""

    def trained_by(defense: Defense, seed: int) -> tuple[nn.Module, list[Phase]]:
        fit = tiny_fit(str(Path(folder) / f"teacher{seed}"), schedule, seed)
        return defense.train(fit).eval().requires_grad_(False), fit.log

    with Store(Path(folder), lambda text: None).unfinished("tiny") as unfinished:
        return Fit(
            tiny_data(), TinyModel(), schedule or TinySchedule(), seed, current_device(), unfinished, [], trained_by
        )


@dataclass(frozen=True)
class PlainGradient(Explainer):
    """The gradient, on which attacks are checked."""

    name = "plain_gradient"
    differentiable = True

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return input_gradient(network, images, targets)


def tiny_victim(network: nn.Module) -> Victim:
    """A network explained by its gradient, with references, and the same other network for every defense."""
    parameter = next(network.parameters())
    smooth = any(isinstance(module, nn.Softplus) for module in network.modules())
    references = tiny_images(8)[0][5:].to(parameter.dtype)
    return Victim(network, PlainGradient(), references, lambda defense: tiny_network(smooth, parameter.dtype, seed=6))


def tiny_evidence(rows: int = 6) -> dict[str, Any]:
    """Every evidence that has a row per image, and the phases; attacked images and maps equal the clean ones."""
    return copy.deepcopy(_compute_evidence(rows, current_device()))  # a metric may change what it is given


@functools.cache
def _compute_evidence(rows: int, device: torch.device) -> dict[str, Any]:
    images, targets = tiny_images(rows)
    network = tiny_network(smooth=True)
    attributions = input_gradient(network, images, targets)
    maps = PlainGradient().maps(network, images, targets)
    with torch.no_grad():
        logits, masks = network(images), PlainGradient().masks(network, images, targets)
    sides = {"attributions": attributions.detach(), "maps": maps.detach(), "masks": masks, "logits": logits}
    return {
        **{f"{side}_{name}": value for name, value in sides.items() for side in ("clean", "attacked")},
        "images": images,
        "attacked_images": images,
        "labels": targets,
        "targets": targets,
        "object_masks": (maps > maps.mean()).float(),
        "gaze": maps.detach(),
        "kept": torch.ones_like(targets, dtype=torch.bool),
        "attack_success": torch.ones_like(targets, dtype=torch.bool),
        **{name: [Phase(name, 1.0, None, 1, 1)] for name in ("training", "explaining", "attacking")},
    }
