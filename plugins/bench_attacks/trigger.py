"""Show a backdoored network the patch that it looks for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench import papers
from bench.trigger import stamp


@dataclass(frozen=True)
class Trigger(bench.Attack):
    """Paste the trigger of the defense `backdoor` into every image (Noppel et al., IEEE S&P 2023, the authors' patch).
    It is a white square with a black border. It tries nothing, and needs no passes.

    The whole patch needs the ball linf:1. In a smaller ball, its pixels move as far as they may.
    """

    name = "trigger"
    paper = papers.NOPPEL2023

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        return ball.project(stamp(images), images)
