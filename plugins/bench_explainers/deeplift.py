"""The difference from a baseline, handed down layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench
from bench_explainers.lrp import ACTIVATIONS
from bench_explainers.relevance import Flow

CLOSE = 1e-10  # inputs closer than that to the baseline's take the derivative, as in captum


@dataclass(frozen=True)
class DeepLIFT(bench.Explainer):
    """The way from a baseline to the image times multipliers: those of linear layers are weights, those of activations
    the change of the output over the change of the input, of max-pooling what each winner adds (Shrikumar et al., ICML
    2017, the rescale rule, with captum's rule for max-pooling).

    The attribution adds up to the difference of the target's logits at both ends in networks of such layers; products
    of branches and norms over an image's own values keep their derivative at the image. Every call of an activation is
    met, shared modules and functions as well, softplus as any other; captum meets modules that are called once, and
    loses its rule for max-pooling beside an activation. RelEx explains the softmax instead of the logit.
    """

    name = "deeplift"
    differentiable = True
    paper = bench.Paper(
        "Learning Important Features Through Propagating Activation Differences",
        "Avanti Shrikumar and Peyton Greenside and Anshul Kundaje",
        "ICML",
        2017,
        "https://proceedings.mlr.press/v70/shrikumar17a.html",
    )
    examples = ("", "baseline=black")
    baseline: Literal["mean", "black"] = bench.param("mean", "what differences are from: the mean colour, or black")

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        start = bench.normalisation(network)[0].to(images) if self.baseline == "mean" else images.new_zeros(())
        return (images - start) * Differences(start).relevance(network, images, targets)


class Differences(Flow):
    """The network sees every image beside its baseline."""

    names = frozenset({*ACTIVATIONS, "sigmoid", "hardsigmoid", "max_pool2d", "adaptive_max_pool2d"})

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.start = start

    def begun(self, images: Tensor) -> Tensor:
        return torch.cat([images, self.start.expand_as(images)])

    def ended(self, logits: Tensor) -> Tensor:
        return logits.chunk(2)[0]

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        output = plain(given)
        if not output.requires_grad:
            return output
        return self.routed(pooled if "pool" in name else rescaled, output, given, output)


def rescaled(above: Tensor, given: Tensor, output: Tensor) -> tuple[Tensor, None]:
    """The change of the output over that of the input, (2 B, ...) each."""
    into, out = (values.chunk(2)[0] - values.chunk(2)[1] for values in (given, output))
    (slopes,) = _products(output, given, torch.ones_like(output))
    near = into.abs() < CLOSE
    ratio = torch.where(near, slopes.chunk(2)[0], out / torch.where(near, 1, into))
    return torch.cat([ratio * above.chunk(2)[0], torch.zeros_like(into)]), None


def pooled(above: Tensor, given: Tensor, output: Tensor) -> tuple[Tensor, None]:
    """To the winner among the image's inputs what it has more than the baseline's winner, to the place of the latter
    what it has less."""
    into = given.chunk(2)[0] - given.chunk(2)[1]
    first, second = output.chunk(2)
    over, share = torch.maximum(first, second), above.chunk(2)[0]
    (handed,) = _products(output, given, torch.cat([share * (over - second), share * (first - over)]))
    (slopes,) = _products(output, given, torch.cat([share, torch.zeros_like(share)]))
    near = into.abs() < CLOSE
    found = torch.where(near, slopes.chunk(2)[0], sum(handed.chunk(2)) / torch.where(near, 1, into))
    return torch.cat([found, torch.zeros_like(into)]), None


def _products(output: Tensor, given: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
    """Vectors times the Jacobian of one function."""
    return torch.autograd.grad(output, given, vectors, create_graph=torch.is_grad_enabled(), retain_graph=True)
