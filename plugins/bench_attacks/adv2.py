"""Change the prediction, and keep the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Best, Descent, Seen, walk
from bench_attacks.objectives import margins
from bench_attacks.steps import make
from bench_attacks.target_map import rescale


@dataclass(frozen=True)
class ADV2(Descent):
    """Change the prediction, and make the new class's map look like the clean one (ADV^2; Zhang et al., USENIX Security
    2020). The loss is the cross-entropy of another class plus `match` times the mean squared distance of its map and
    the clean image's, each divided by its maximum.

    Every other attack on maps keeps the prediction. This one changes it on purpose, so scores over kept predictions see
    its failures alone; `joint_success` is the metric to read. Checks of how far an attack moves maps are left out.

    Takes sign steps on the cross-entropy alone, then on the sum from the best image so far. Returns the iterate whose
    map is closest among those that predict the class, or where there is none, the one that is closest to it. Of the
    first steps, it knows only the first image that predicts the class. Differs from the authors' code, which has 400
    and 1200 steps of 1/255: `match` stays as it is, where theirs grows to twice its value; maps are not shifted to a
    minimum of zero; they return the last iterate, and are given the class.

    Costs a pass forward and backward for each step on the cross-entropy, and for each other one what a map costs, with
    a second backward pass.
    """

    name = "adv2"
    paper = bench.papers.ZHANG2020
    moves_maps: ClassVar[bool] = False
    examples = ("flips=4,steps=4", "flips=2,steps=3,wanted=least,optimiser=adam")
    wanted: Literal["second", "least"] = bench.param(
        "second", "the class to predict: the second most likely on the clean image, or the least likely"
    )
    flips: int = bench.param(20, "gradient steps on the cross-entropy alone", low=0)
    steps: int = bench.param(60, "gradient steps on both", low=1)
    step: float = bench.param(0.1, "length of a step, or rate of Adam, as a share of eps", low=0)
    match: float = bench.param(10.0, "weight of the distance of the maps", low=0)
    optimiser: Literal["sign", "adaptive", "adam"] = bench.param("sign", "steepest steps, Auto-PGD's, or Adam's")
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        wanted = self._choose(victim, images)
        aim = self._aim(victim, images, targets, wanted)
        best = Best.of(images, aim, keep=False)

        def flip(moved: Tensor) -> Seen:
            logits = victim.logits(moved)
            loss = rank(logits.detach(), wanted, torch.ones_like(logits[:, 0]))
            return Seen(F.cross_entropy(logits, wanted, reduction="none"), logits, loss)

        for goal, steps, beta in ((flip, self.flips, None), (aim, self.steps, self.beta)):
            step = make(self.optimiser, ball, self.step, images, steps)
            walk(victim, best, ball, images, goal, best.images, steps, step, beta)
            best.judge(best.images, aim)
        return best.images

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        return self._aim(victim, images, targets, self._choose(victim, images))

    def _aim(self, victim: bench.Victim, images: Tensor, targets: Tensor, wanted: Tensor) -> Aim:
        with torch.no_grad():
            clean = rescale(victim.maps(images, targets), "peak")

        def aim(moved: Tensor) -> Seen:
            maps, logits = victim.both(moved, wanted)
            distance = (rescale(maps, "peak") - clean).square().mean((1, 2))
            score = F.cross_entropy(logits, wanted, reduction="none") + self.match * distance
            return Seen(score, logits, rank(logits.detach(), wanted, distance.detach()))

        return aim

    def _choose(self, victim: bench.Victim, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits = victim.logits(images)
        return logits.topk(2, 1).indices[:, 1] if self.wanted == "second" else logits.argmin(1)


def rank(logits: Tensor, wanted: Tensor, distance: Tensor) -> Tensor:
    """A loss that puts images of the wanted class ahead, by the distance of their maps, which is at most one, and then
    the others, by how far they are from the class: (B, K), (B,), (B,) -> (B,)."""
    return torch.where(logits.argmax(1) == wanted, distance, 1 - margins(logits, wanted))
