"""The gradient of what speaks for the class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import bench
from bench.gradients import KINKED
from bench_explainers.relevance import Flow


@dataclass(frozen=True)
class GuidedBackprop(bench.Explainer):
    """The gradient of the target's logit by the pixels, in which every ReLU and softplus lets only what is positive
    through: R_in = f'(z) R_out 1(R_out > 0) (Springenberg et al., ICLR Workshop 2015; on softplus as in Joo et al.,
    2023).

    All else obeys the chain rule, batch norm included (RobustAGA passes through it unchanged, and drops identity
    shortcuts on ImageNet). Where captum looks for modules of ReLU, and gives the plain gradient on all others, any form
    of call is met here; a network without such activations is refused. In an attack f' has its derivative and only the
    gate is constant.
    """

    name = "guided_backprop"
    differentiable = True
    paper = bench.Paper(
        "Striving for Simplicity: The All Convolutional Net",
        "Jost Tobias Springenberg and Alexey Dosovitskiy and Thomas Brox and Martin Riedmiller",
        "ICLR Workshop",
        2015,
        "https://arxiv.org/abs/1412.6806",
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        gates = Gates()
        found = gates.relevance(network, images, targets)
        if not gates.count:
            raise bench.BadComponent(
                "guided_backprop finds no ReLU or softplus in the network: it would be the plain gradient"
            )
        return found


class Gates(Flow):
    """After every ReLU, its kin or softplus, what flows back is clipped at zero."""

    names = frozenset({*KINKED, "softplus"})

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        self.count += 1
        output = plain(given)
        return self.routed(lambda above, output: (above.clamp(min=0),), output, output)
