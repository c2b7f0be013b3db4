"""Propagate only what supports the class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import bench
from bench.activations import RECTIFIERS
from bench_explainers.relevance import Flow


@dataclass(frozen=True)
class GuidedBackprop(bench.Explainer):
    """Let only positive values pass back through every ReLU and softplus (Springenberg et al., ICLR Workshop 2015; on
    softplus as in Joo et al., 2023). This changes the gradient of the target's logit by the pixels to R_in = f'(z)
    R_out 1(R_out > 0) at each of them.

    All else follows the chain rule, batch norm included (RobustAGA passes relevance through it unchanged, and drops
    identity shortcuts on ImageNet). The rule reaches activations in any form of call; captum looks for ReLU modules,
    and returns the plain gradient on other networks. A network without such activations is refused, and so is one with
    GELU, SiLU, Mish or Hardswish, which have slopes of both signs and no gate. Attacks differentiate f', and only the
    gate is constant.
    """

    name = "guided_backprop"
    differentiable = True
    selective = True
    paper = bench.Paper(
        "Striving for Simplicity: The All Convolutional Net",
        "Jost Tobias Springenberg and Alexey Dosovitskiy and Thomas Brox and Martin Riedmiller",
        "ICLR Workshop",
        2015,
        "https://arxiv.org/abs/1412.6806",
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        gates = Gates()
        relevance = gates.relevance(network, images, targets)
        if not gates.count:
            raise bench.BadComponent(
                "guided_backprop finds no ReLU or softplus in the network: it would be the plain gradient"
            )
        return relevance


UNGATED = frozenset({"gelu", "silu", "mish", "hardswish"})


class Gates(Flow):
    """Clip at zero what flows back through every ReLU, its kin, or softplus."""

    names = frozenset({*RECTIFIERS, "softplus", *UNGATED})

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        if name in UNGATED:
            raise bench.BadComponent(
                f"guided_backprop has no gate for {name}, which the network calls and whose slope has both signs; use "
                "another explainer"
            )
        self.count += 1
        output = plain(given)
        bound = "max" if _lets_negatives_pass(name, options) else "min"
        return self.route(lambda above, output: (above.clamp(**{bound: 0}),), output, output)


def _lets_negatives_pass(name: str, options: dict[str, Any]) -> bool:
    """Whether a function is a ReLU with two signs changed, -relu(-z)."""
    return name in ("clamp_max", "minimum") or (name == "clamp" and options.get("min") is None)
