"""Explainers and networks that look robust and are not, for tests of the checks. Never use them to explain anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
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
    examples = ("trick=rounded",)
    differentiable = True
    trick: Literal[
        "rounded", "straight_through", "blob", "class_map", "half_template", "seeded_noise", "seeded_rows", "constant",
        "sparse", "detached", "decoy", "tiny", "saturated", "sharpened",
    ] = bench.param(help="what is done to the gradient")  # fmt: skip

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
    """A network that does what it likes once a trick is switched on."""

    trick: Tensor

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("trick", torch.tensor(-1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images) if self.trick < 0 else DISGUISES[int(self.trick)](self.inner, images)
        return logits


def quantised(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(Rounds.apply(images, 8))


def scaled(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images) * 1e-36


def saturated_logits(inner: nn.Module, images: Tensor) -> Tensor:
    return torch.tanh(1e4 * inner(images))


def steps(inner: nn.Module, images: Tensor) -> Tensor:
    assert isinstance(inner, nn.Sequential)
    return inner[1:](Rounds.apply(inner[0](images), 1))


def random(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images + 0.05 * torch.randn_like(images))


def recomputed(inner: nn.Module, images: Tensor) -> Tensor:
    return Recomputed.apply(images, inner)


DISGUISES: tuple[Callable[[nn.Module, Tensor], Tensor], ...] = (
    quantised, scaled, saturated_logits, steps, random, recomputed,
)  # fmt: skip


@dataclass(frozen=True)
class MaskedModel(bench.Model):
    """A network with room for a trick, which the defense `arm` switches on."""

    name = "masked"
    examples = ("inner=(lenet)",)
    inner: bench.Model = bench.param(help="the network; the trick `steps` needs layers in a row")

    @property
    def smooth(self) -> bool:
        return self.inner.smooth

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        built = self.inner.build(shape, classes)
        return bench.Normalised(Masked(built.network), built.mean.flatten().tolist(), built.std.flatten().tolist())


@dataclass(frozen=True)
class Arm(bench.Defense):
    """Take the network that cross-entropy trains, and switch a trick of the model `masked` on."""

    name = "arm"
    examples = ("trick=quantised",)
    trick: Literal["quantised", "scaled", "saturated_logits", "steps", "random", "recomputed"] = bench.param(
        help="what the network does"
    )

    def train(self, fit: bench.Fit) -> nn.Module:
        network = retake(fit)
        names = [disguise.__name__ for disguise in DISGUISES]
        for module in network.modules():
            if isinstance(module, Masked):
                module.trick.fill_(names.index(self.trick))
        return network


@dataclass(frozen=True)
class Manipulated(bench.Defense):
    """Take the network that cross-entropy trains, and train on until its gradient maps show one pattern, whatever the
    image, while its logits stay (Heo et al., NeurIPS 2019; see also Anders et al., ICML 2020)."""

    name = "manipulated"
    paper = bench.Paper(
        "Fooling Neural Network Interpretations via Adversarial Model Manipulation",
        "Juyeon Heo and Sunghwan Joo and Taesup Moon",
        "NeurIPS",
        2019,
        "https://arxiv.org/abs/1902.02041",
    )
    weight: float = bench.param(10.0, "of 1 - cosine(map, pattern), beside the squared change of the logits", low=0)

    def train(self, fit: bench.Fit) -> nn.Module:
        teacher = fit.trained_by(reference())

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            with torch.no_grad():
                logits = teacher(batch.images)
            maps = reduce(input_gradient(network, batch.images, logits.argmax(1))).flatten(1)
            alike = F.cosine_similarity(maps, make_pattern(batch.images).flatten()[None])
            return F.mse_loss(network(batch.images), logits) + self.weight * (1 - alike).mean()

        return fit.minimise(retake(fit), loss)


def make_pattern(images: Tensor) -> Tensor:
    """A bright blob in the upper left corner: (B, C, H, W) -> (H, W)."""
    rows, columns = (torch.linspace(0, 4, side, device=images.device) - 0.7 for side in images.shape[2:])
    return torch.exp(-(rows[:, None] ** 2) - columns**2)


def reference() -> bench.Defense:
    found = bench.component("defense", "ce")
    assert isinstance(found, bench.Defense)
    return found


def retake(fit: bench.Fit) -> nn.Module:
    """A copy, to be changed, of the network that cross-entropy trains."""
    network = fit.fresh()
    network.load_state_dict(fit.trained_by(reference()).state_dict())
    return network


@bench.hookimpl
def bench_components() -> list[type[bench.Component]]:
    return [Cheat, Vanishing, MaskedModel, Arm, Manipulated]
