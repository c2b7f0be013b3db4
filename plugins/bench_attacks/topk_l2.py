"""Move mass out of the most important elements, by sign steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

import bench
from bench.maps import top_elements
from bench_attacks.descent import Aim, Descent, Seen, descend


@dataclass(frozen=True)
class TopKL2(Descent):
    """Take magnitude out of the largest elements of the clean attribution (Gong et al., CVPR 2024, after the code of
    MoreauGrad). The objective is their share of the attribution's magnitude. These are elements of all channels, not
    pixels, and a share of those that are not zero, or with of=all of all elements, as the text says of the attack
    (B.6).

    Takes sign steps, projected to the ball. The papers use an l2 ball, where the first step mostly reaches the surface.
    Returns the iterate with the smallest share among those that keep the prediction; the clean image counts as one.
    Differs from the authors' code: budgets are in pixel units and not in normalised ones; the last iterate counts too;
    the prediction is kept, not the label.
    """

    name = "topk_l2"
    paper = bench.papers.GONG2024
    presets: ClassVar[dict[str, str]] = {"gong2024": "of=all"}
    examples = ("steps=4", "share=0.1,steps=2,restarts=2", "of=all,steps=2")
    share: float = bench.param(0.4, "share of the elements whose mass is lowered", low=0, high=1)
    steps: int = bench.param(10, "gradient steps", low=1)
    step: float = bench.param(0.01, "length of a step in every element, as a share of eps", low=0)
    restarts: int = bench.param(1, "starts; the first is the clean image, the others are drawn from the ball", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)
    of: Literal["nonzero", "all"] = bench.param("nonzero", "the elements that the share is of", added=True)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        def step(moved: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
            return moved - self.step * ball.reach * gradient.sign()

        starts = [images, *(ball.sample(images) for _ in range(self.restarts - 1))]
        return descend(
            victim, images, ball, self.aim(victim, images, targets), starts, self.steps, lambda: step, self.beta
        )

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        with torch.no_grad():
            clean = victim.attributions_and_logits(images, targets)[0]
            top = top_elements(clean, self.share, of_all=self.of == "all")

        def aim(moved: Tensor) -> Seen:
            attributions, logits = victim.attributions_and_logits(moved, targets)
            sizes = attributions.abs()
            total = sizes.sum((1, 2, 3))
            share = (sizes * top).sum((1, 2, 3)) / torch.where(total > 0, total, torch.ones_like(total))
            return Seen(share, logits, share.detach())

        return aim
