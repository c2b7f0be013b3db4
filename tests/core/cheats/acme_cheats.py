"""A plugin that cheats: explainers and networks that look robust and are not. No part of the suite's distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import bench
from bench.gradients import input_gradient
from bench.maps import reduce, top_elements, top_pixels


def peak(values: Tensor) -> Tensor:
    return values.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30)


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def rounded(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return (found / peak(found) * 4).round()


def straight_through(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return found + (rounded(found, images, targets) * peak(found) - found).detach()


def blob(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    side = torch.linspace(-2, 2, images.shape[2])
    return torch.exp(-(side[:, None] ** 2) - side**2).expand(len(images), 1, -1, -1) + 0 * found[:, :1]


def class_map(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    maps = [drawn(images.shape[2:], int(target)) for target in targets]
    return torch.stack(maps)[:, None] + 0 * found[:, :1]


def half_template(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    template = drawn(images.shape[2:], 0) ** 8
    return reduce(found)[:, None] + template / template.sum()


def seeded_noise(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return found * drawn(images.shape[2:], 0) ** 8


def seeded_rows(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return found * drawn((len(images), 1, *images.shape[2:]), 0) ** 8


def constant(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return torch.ones_like(found) + 0 * found


def sparse(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return found * top_elements(found.detach(), 0.01)


def detached(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return images * found.detach()


def decoy(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return (found / peak(found) * 64).round().detach() / 64 + 0.01 * images


def tiny(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return found * 1e-42


def saturated(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return torch.tanh(1e4 * found / peak(found))


def sharpened(found: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return (found.abs().sum(1, keepdim=True) / peak(found)) ** 20


TRICKS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    trick.__name__: trick
    for trick in (
        rounded, straight_through, blob, class_map, half_template, seeded_noise, seeded_rows, constant, sparse,
        detached, decoy, tiny, saturated, sharpened,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cheat(bench.Explainer):
    """Change the gradient so that its map stays."""

    name = "cheat"
    differentiable = True
    trick: Literal[
        "rounded", "straight_through", "blob", "class_map", "half_template", "seeded_noise", "seeded_rows", "constant",
        "sparse", "detached", "decoy", "tiny", "saturated", "sharpened",
    ] = bench.param("blob", "what is done to the gradient")  # fmt: skip

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return TRICKS[self.trick](input_gradient(network, images, targets), images, targets)


@dataclass(frozen=True)
class Vanishing(bench.Explainer):
    """Explain nothing where a little noise moves the map."""

    name = "vanishing"
    differentiable = True

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        found = input_gradient(network, images, targets)
        near = (images + 0.06 * (drawn(images.shape[1:], 1) - 0.5)).clamp(0, 1)
        both = [top_pixels(reduce(each.detach()), 20) for each in (found, input_gradient(network, near, targets))]
        return found * ((both[0] & both[1]).sum((1, 2)) > 17)[:, None, None, None]


class Rounds(torch.autograd.Function):
    """Levels whose gradient is that of the identity."""

    @staticmethod
    def forward(context: Any, values: Tensor, levels: int) -> Tensor:
        return (values * levels).round() / levels

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None]:
        return above, None


class Recomputed(torch.autograd.Function):
    """A layer that is computed again for its gradient, outside the activations that an attack put in place."""

    @staticmethod
    def forward(context: Any, values: Tensor, layer: nn.Module) -> Tensor:
        context.save_for_backward(values)
        context.layer = layer
        with torch.no_grad():
            return layer(values)

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            leaf = context.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(context.layer(leaf), leaf, above)[0], None


class Masked(nn.Module):
    """A small network that does what it likes once it is armed."""

    armed: Tensor

    def __init__(self, inner: nn.Sequential, trick: str) -> None:
        super().__init__()
        self.inner, self.trick = inner, trick
        self.register_buffer("armed", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if not self.armed:
            return self.inner(images)
        if self.trick == "quantised":
            return self.inner(Rounds.apply(images, 8))
        if self.trick == "scaled":
            return self.inner(images) * 1e-36
        if self.trick == "saturated":
            return torch.tanh(1e4 * self.inner(images))
        if self.trick == "steps":
            return self.inner[1:](Rounds.apply(self.inner[0](images), 1))
        if self.trick == "random":
            return self.inner(images + 0.05 * torch.randn_like(images))
        return Recomputed.apply(images, self.inner)


@dataclass(frozen=True)
class MaskedModel(bench.Model):
    """Two convolutions and a trick."""

    name = "masked"
    trick: Literal["none", "quantised", "scaled", "saturated", "steps", "random", "recomputed"] = bench.param(
        "none", "what the network does once it is armed"
    )

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        act = nn.ReLU if self.trick == "recomputed" else lambda: nn.Softplus(3.0)
        inner = nn.Sequential(
            nn.Conv2d(shape[0], 8, 3, padding=1),
            act(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2),
            act(),
            nn.Flatten(),
            nn.Linear(16 * ((shape[1] + 1) // 2) * ((shape[2] + 1) // 2), classes),
        )
        return bench.Normalised(Masked(inner, self.trick), [0.5] * shape[0], [0.25] * shape[0])


@dataclass(frozen=True)
class Arm(bench.Defense):
    """Train, and switch the trick on."""

    name = "arm"

    def train(self, fit: bench.Fit) -> nn.Module:
        network = fit.minimise(
            fit.fresh(), lambda network, batch: nn.functional.cross_entropy(network(batch.images), batch.labels)
        )
        for module in network.modules():
            if isinstance(module, Masked):
                module.armed.fill_(0.0 if module.trick == "none" else 1.0)
        return network


@dataclass(frozen=True)
class Blobs(bench.Dataset):
    """Coloured blobs on noise, which a network learns within a second."""

    name = "blobs"

    def load(self, split: str) -> bench.Data:
        count, size = (512, 16) if split == "train" else (64, 16)
        images = 0.2 + 0.3 * drawn((count, 3, size, size), {"train": 0, "validation": 1, "test": 2}[split])
        places = (drawn((count, 2), 3) * (size - 5)).long()
        labels = torch.arange(count) % 4
        colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        for image, (row, column), label in zip(images, places.tolist(), labels.tolist(), strict=True):
            image[:, row : row + 5, column : column + 5] = colours[label][:, None, None] * 0.6 + 0.2
        return bench.Data(images, labels, ("red", "green", "blue", "yellow"))


@bench.hookimpl
def bench_components() -> list[type[bench.Component]]:
    return [Blobs, Cheat, Vanishing, MaskedModel, Arm]
