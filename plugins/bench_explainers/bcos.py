"""Show what each pixel contributes to a logit of a B-cos network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bench
from bench.bcos import add_inverse, scale
from bench.gradients import differentiating, target_logits
from bench_explainers.relevance import Flow


@dataclass(frozen=True)
class Bcos(bench.Explainer):
    """Multiply a B-cos network's input by the weights that the network has there (Böhle, Fritz and Schiele, CVPR 2022).
    With the weights W(x), s(x) = W(x) * (x, 1 - x), each channel's two parts added up. The contributions sum to the
    target's logit but for the constant -log(K - 1) that the network adds to all logits.

    W(x) is the gradient of the logit by the six channels while all cosines are held fixed, so it takes one forward and
    one backward pass, as in the authors' code, which sums the six channels into one. Attacks differentiate W(x) too,
    through the cosines. Other networks than B-cos networks are refused, and layers with a bias, which belongs to no
    pixel.
    """

    name = "bcos"
    differentiable = True
    needs = "bcos_layers"
    paper = bench.papers.BOHLE2022

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        bench.check_eager(network)
        keep, flow = torch.is_grad_enabled(), FixedWeights()
        with differentiating(images) as inputs:
            with flow:
                logits = bench.check_logits(network(inputs), images)
            if not flow.encoded:
                raise bench.BadComponent(
                    "bcos: the network has no B-cos layers, whose weights for an image can be read off; use --model "
                    "bcos, or another explainer"
                )
            if flow.biased:
                raise bench.BadComponent(
                    "bcos: a layer of the network adds a bias, which belongs to no pixel; use a network without, or "
                    "another explainer"
                )
            weights = flow.propagate(target_logits(logits, images, targets), flow.encoded, keep)
        # Several only where networks are averaged.
        both = torch.stack([encoded * each for encoded, each in zip(flow.encoded, weights, strict=True)]).sum(0)
        contributions = both.unflatten(1, (2, -1)).sum(1).to(images)
        return contributions if keep else contributions.detach()


class FixedWeights(Flow):
    """Holds the factors of B-cos layers fixed on the way back, and keeps what these layers see of the images."""

    names = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[Tensor] = []
        self.biased = False  # whether a layer adds a bias

    def call(self, func: Any, args: Any, named: Any) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("conv2d", "linear") and named.get("bias", args[2] if len(args) > 2 else None) is not None:
            self.biased = True
        result = func(*args, **named)
        if func is add_inverse:
            self.encoded.append(result)
        return self.route(scale_back, result, *args) if func is scale else result


def scale_back(above: Tensor, values: Tensor, factor: Tensor) -> tuple[Tensor | None, ...]:
    """Pass to the values of a product what its fixed factor lets through."""
    return above * factor, None
