"""Move mass out of the most important pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Descent, Seen, follow
from bench_attacks.objectives import Overlap, share


@dataclass(frozen=True)
class TopK(Descent):
    """Take mass out of the k most important pixels of the clean map (Ghorbani et al., AAAI 2019, Alg. 1, top-k). The
    objective is their share of the map's mass.

    Takes sign steps inside the ball, from the clean image. Gradients come from the network with softplus in place of
    ReLU (`beta`), because those of a ReLU network vanish. The k pixels, the prediction and the share that counts come
    from the network itself. Returns the iterate with the smallest share, the start included, among those that keep the
    prediction of the clean image.

    objective=hinge lowers the overlap instead: the mean of relu(gap + slack), where the gaps are the log ratios of the
    j-th weakest of the k pixels to the j-th strongest of the others, of which as many are positive as pixels stay. The
    iterate with the smallest overlap is returned. optimiser=adaptive takes the steps of Auto-PGD, which start at 2 eps
    whatever `step` says. Take it in an l0 ball: short steps settle on the pixels that they change first, and leave more
    than random colours do.

    Differs from the authors' code: iterates are clipped to the ball, not scaled into it; the last iterate counts too;
    the step is relative to eps.
    """

    name = "topk"
    paper = bench.papers.GHORBANI2019
    presets: ClassVar[dict[str, str]] = {"ghorbani2019": "objective=mass,optimiser=sign"}
    examples = ("k=5,steps=4", "k=5,steps=4,objective=hinge,optimiser=adaptive")
    k: int = bench.param(20, "pixels whose share is lowered", low=1)
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.1, "length of a step, as a share of eps", low=0)
    restarts: int = bench.param(1, "starts; the first is the clean image, the others are drawn from the ball", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)
    optimiser: Literal["sign", "adaptive", "adam"] = bench.param("sign", "steepest steps, Auto-PGD's, or Adam's")
    objective: Literal["mass", "hinge"] = bench.param("mass", "share of mass, or the hinge of the overlap")

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        with torch.no_grad():
            goal = Overlap.of(victim.maps(images, targets), self.k, self.name)

        def aim(moved: Tensor) -> Seen:
            maps, logits = victim.both(moved, targets)
            if self.objective == "hinge":
                return Seen(goal.follow(maps), logits, goal.loss(maps.detach()))
            mass = share(maps, goal.fixed)
            return Seen(mass, logits, mass.detach())

        return aim

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        aim = self.aim(victim, images, targets)
        starts = [images, *(ball.sample(images) for _ in range(self.restarts - 1))]
        return follow(self, victim, images, ball, aim, starts)
