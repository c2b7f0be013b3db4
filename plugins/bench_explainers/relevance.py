"""A way back through a network that replaces the gradient, and keeps the real gradient for attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bench
from bench.activations import Activations
from bench.gradients import differentiating, target_logits

# What an output passes back to its inputs: (relevance, *inputs) -> a relevance for each input.
Rule = Callable[..., tuple[Tensor | None, ...]]


class Flow(Activations):
    """A mode whose forward pass has two ways back: by rules, once, and later by the network's own derivatives."""

    def __init__(self) -> None:
        super().__init__()
        self.way = Way()

    def route(self, rule: Rule, output: Tensor, *inputs: Tensor) -> Tensor:
        """Return the output. Its relevance follows the rule to the inputs; its gradient follows the chain rule."""
        return _Routed.apply(self.way, rule, output, *inputs)

    def relevance(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Propagate a relevance of one from each target's logit to its image: (B, C, H, W), (B,) -> (B, C, H, W).

        Has a graph iff grad mode is on. Raises BadComponent for a network that is scripted or compiled.
        """
        bench.check_eager(network)
        keep = torch.is_grad_enabled()
        with differentiating(images) as inputs:
            with self:
                shown = self.begin(inputs)
                logits = self.end(bench.check_logits(network(shown), shown))
            (relevance,) = self.propagate(target_logits(logits, images, targets), [inputs], keep)
        return relevance

    def propagate(self, scores: Tensor, inputs: Sequence[Tensor], keep: bool) -> tuple[Tensor, ...]:
        """The relevance of tensors that the mode has seen, from one for each score; with a graph iff `keep`."""
        self.way.by_rules = True
        try:
            return torch.autograd.grad(scores.sum(), inputs, create_graph=keep, retain_graph=keep)
        finally:
            self.way.by_rules = False

    def begin(self, images: Tensor) -> Tensor:
        """Return the images for the network to see."""
        return images

    def end(self, logits: Tensor) -> Tensor:
        """Return the logits to propagate from."""
        return logits


@dataclass
class Way:
    """The way back to take. Apart from the mode, or graphs would keep the mode alive, and it them."""

    by_rules: bool = False


class _Routed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, way: Way, rule: Rule, output: Tensor, *inputs: Tensor) -> Tensor:
        context.way, context.rule = way, rule
        context.save_for_backward(*inputs)  # it notices where one is overwritten
        return output.clone()

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        inputs = context.saved_tensors
        if not context.way.by_rules:
            return None, None, above, *(None for _ in inputs)
        return None, None, None, *context.rule(above, *inputs)
