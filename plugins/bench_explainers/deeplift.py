"""Propagate the difference from a baseline, layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench
from bench.networks import HALF
from bench_explainers.lrp import ACTIVATIONS
from bench_explainers.relevance import Flow

INCOMPLETE = 0.05  # share of the logits' difference that attributions may miss without a warning
CLOSE = 1e-10  # inputs closer to the baseline's than this take the derivative, as in captum


@dataclass(frozen=True)
class DeepLIFT(bench.Explainer):
    """Multiply image minus baseline by multipliers, layer by layer (Shrikumar et al., ICML 2017, the rescale rule, with
    captum's rule for max-pooling). The multipliers are weights for linear layers, the change of the output over the
    change of the input for activations, and what each winner adds for max-pooling.

    In networks of such layers, the attribution adds up to the difference of the target's logit between image and
    baseline. Products of branches, and norms over an image's own values, keep their derivative at the image. The rule
    reaches every call of every activation, including shared modules, functions and softplus. captum reaches modules
    that are called once, and loses its rule for max-pooling next to an activation. RelEx explains the softmax instead
    of the logit.
    """

    name = "deeplift"
    version = 2
    differentiable = True
    paper = bench.Paper(
        "Learning Important Features Through Propagating Activation Differences",
        "Avanti Shrikumar and Peyton Greenside and Anshul Kundaje",
        "ICML",
        2017,
        "https://proceedings.mlr.press/v70/shrikumar17a.html",
    )
    examples = ("", "baseline=black")
    baseline: Literal["mean", "black"] = bench.param("mean", "the baseline: the mean colour, or black")

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        start = bench.normalisation(network)[0].to(images) if self.baseline == "mean" else images.new_zeros(())
        differences = Differences(start)
        attribution = (images - start) * differences.relevance(network, images, targets)
        if not (images.requires_grad and torch.is_grad_enabled()):  # once for an attack, not at every step
            warn_if_incomplete(attribution, differences.logits, targets)
        return attribution


def warn_if_incomplete(attribution: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Warn where attributions do not add up to the change of the targets' logits, (2 B, K), from the baselines."""
    first, second = logits.detach().double().gather(1, targets.repeat(2)[:, None])[:, 0].chunk(2)
    change, found = first - second, attribution.detach().double().sum((1, 2, 3))
    missed = float((found - change).abs().sum() / change.abs().sum().clamp(min=1e-12))
    if missed > INCOMPLETE:
        warnings.warn(
            f"deeplift misses the difference of the logits by {missed:.0%}: the network has products of branches, "
            "norms over an image's own values, or activations in a form that is not known; write these as torch.nn has "
            "them, or use integrated_gradients",
            stacklevel=2,
        )


class Differences(Flow):
    """Show the network every image together with its baseline."""

    names = frozenset(
        {*ACTIVATIONS, "sigmoid", "softsign", "tanhshrink", "logsigmoid", "max_pool2d", "adaptive_max_pool2d"}
    )

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.start = start
        self.logits = start

    def begin(self, images: Tensor) -> Tensor:
        return torch.cat([images, self.start.expand_as(images)])

    def end(self, logits: Tensor) -> Tensor:
        self.logits = logits
        return logits.chunk(2)[0]

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        output = plain(given)
        if not output.requires_grad:
            return output
        return self.route(pass_to_winners if "pool" in name else rescale, output, given, output)


def rescale(above: Tensor, given: Tensor, output: Tensor) -> tuple[Tensor, None]:
    """Multiply by the change of the output over the change of the input, (2 B, ...) each."""
    into, out = (values.chunk(2)[0] - values.chunk(2)[1] for values in (given, output))
    (slopes,) = _products(output, given, torch.ones_like(output))
    near = is_close(into, given)
    ratio = torch.where(near, slopes.chunk(2)[0], out / torch.where(near, 1, into))
    return torch.cat([ratio * above.chunk(2)[0], torch.zeros_like(into)]), None


def pass_to_winners(above: Tensor, given: Tensor, output: Tensor) -> tuple[Tensor, None]:
    """Give the image's winner what it has more than the baseline's winner, and the place of that one what it has
    less."""
    into = given.chunk(2)[0] - given.chunk(2)[1]
    first, second = output.chunk(2)
    over, share = torch.maximum(first, second), above.chunk(2)[0]
    (parts,) = _products(output, given, torch.cat([share * (over - second), share * (first - over)]))
    (slopes,) = _products(output, given, torch.cat([share, torch.zeros_like(share)]))
    near = is_close(into, given)
    multiplied = torch.where(near, slopes.chunk(2)[0], sum(parts.chunk(2)) / torch.where(near, 1, into))
    return torch.cat([multiplied, torch.zeros_like(into)]), None


def is_close(into: Tensor, given: Tensor) -> Tensor:
    """Whether an input is as good as the baseline's; in half precision, where rounding alone may part them."""
    if given.dtype not in HALF:
        return into.abs() < CLOSE
    first, second = given.abs().chunk(2)
    return into.abs() <= 8 * torch.finfo(given.dtype).eps * torch.maximum(first, second)


def _products(output: Tensor, given: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
    """Multiply vectors by the Jacobian of one function."""
    return torch.autograd.grad(output, given, vectors, create_graph=torch.is_grad_enabled(), retain_graph=True)
