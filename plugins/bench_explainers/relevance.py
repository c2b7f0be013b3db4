"""What flows back through a network in place of a gradient, and keeps the network's own gradient for an attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bench
from bench.gradients import Activations, differentiating, target_logits

# What one output hands back to the inputs that it has: (relevance, *inputs) -> a relevance for each of them.
Rule = Callable[..., tuple[Tensor | None, ...]]


class Flow(Activations):
    """A forward pass under this mode can be gone back in two ways: by rules, once, and by the network's own derivatives
    ever after."""

    def __init__(self) -> None:
        super().__init__()
        self.way = Way()

    def routed(self, rule: Rule, output: Tensor, *inputs: Tensor) -> Tensor:
        """The output, whose relevance goes by the rule to the inputs, and whose gradient goes to where it is from."""
        return _Routed.apply(self.way, rule, output, *inputs)

    def relevance(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """What a one at each target's logit becomes at its image: (B, C, H, W), (B,) -> (B, C, H, W).

        Has a graph iff grad mode is on. Raises BadComponent for a network that is scripted or compiled.
        """
        bench.check_eager(network)
        keep = torch.is_grad_enabled()
        with differentiating(images) as inputs:
            with self:
                logits = self.ended(network(self.begun(inputs)))
            scores = target_logits(logits, images, targets)
            self.way.by_rules = True
            try:
                (found,) = torch.autograd.grad(scores.sum(), inputs, create_graph=keep, retain_graph=keep)
            finally:
                self.way.by_rules = False
        return found

    def begun(self, images: Tensor) -> Tensor:
        """The images as the network is to see them."""
        return images

    def ended(self, logits: Tensor) -> Tensor:
        """The logits as they go back."""
        return logits


@dataclass
class Way:
    """Which way back is gone; apart from the mode, which graphs would otherwise keep, and it them."""

    by_rules: bool = False


class _Routed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, way: Way, rule: Rule, output: Tensor, *inputs: Tensor) -> Tensor:
        context.way, context.rule = way, rule
        context.save_for_backward(*inputs)  # which notices where one is overwritten
        return output.clone()

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        inputs = context.saved_tensors
        if not context.way.by_rules:
            return None, None, above, *(None for _ in inputs)
        return None, None, None, *context.rule(above, *inputs)
