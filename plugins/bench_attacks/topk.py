"""Move mass out of the most important pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import top_pixels
from bench_attacks.descent import Aim, Descent, aim_at_maps, descend, steepest


@dataclass(frozen=True)
class TopK(Descent):
    """Minimise the share of a map's mass in the k most important pixels of the clean map (Ghorbani et al., AAAI 2019,
    Alg. 1, top-k).

    Takes sign steps inside the ball, from the clean image. Gradients come from the network with softplus in place of
    ReLU (`beta`), because those of a ReLU network vanish. The k pixels, the prediction and the share that counts come
    from the network itself. Returns the iterate with the smallest share, the start included, among those that keep the
    prediction of the clean image.

    Differs from the authors' code: iterates are clipped to the ball, not scaled into it; the last iterate counts too;
    the step is relative to eps.
    """

    name = "topk"
    paper = bench.papers.GHORBANI2019
    examples = ("k=5,steps=4",)
    k: int = bench.param(20, "pixels whose share is lowered", low=1)
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.1, "length of a step, as a share of eps", low=0)
    restarts: int = bench.param(1, "starts; the first is the clean image, the others are drawn from the ball", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)

    def measure(self, maps: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the share of a map's mass in the k largest pixels of the clean map."""
        top = top_pixels(maps, self.k, self.name)
        return lambda moved: share(moved, top)

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        return aim_at_maps(victim, images, targets, self.measure)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        aim = self.aim(victim, images, targets)
        starts = [images, *(ball.sample(images) for _ in range(self.restarts - 1))]
        return descend(victim, images, ball, aim, starts, self.steps, lambda: steepest(ball, self.step), self.beta)


def share(maps: Tensor, top: Tensor) -> Tensor:
    """The mass of each map in the marked pixels: (B, H, W), (B, H, W) -> (B,)."""
    return (maps * top).sum((1, 2))
