"""Follow a gradient that is estimated from queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import bench
from bench import noise
from bench_attacks.candidates import BestCandidate, deviation
from bench_attacks.steps import adam
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class Evolution(bench.Attack):
    """Lower another attack's objective by a natural evolution strategy (AttaXAI; Tamam et al., TMLR 2023). It sees
    logits and maps alone, so it works against any explainer.

    Each generation draws Gaussian noise z around its centre. The estimate of the gradient is the mean of r z over the
    generation, where r is the score less the mean of the generation, over its standard deviation; the centre counts as
    one of them. Adam moves the centre against the estimate. An image that changes the prediction counts as the worst of
    those that keep it, and a centre whose whole generation changes it goes back to the best image so far. Returns the
    image with the smallest score among those that keep the prediction; the clean image counts as one.

    "tamam2023" has the authors' 400 generations of 125 images, and their weights on the distance of the maps and the
    change of the logits, 1e11 and 1e6. Differs from their code: the images stay in the ball, and the spread of the
    noise and the rate of Adam are shares of eps and stay as they are, where theirs are 0.1 and 0.0125 of the normalised
    image, the spread follows a gradient, and the rate decays; noise is independent, not a Latin hypercube; they take
    the change of the probabilities, and return the best centre whatever its prediction.

    Asks for the maps and logits of steps * population + 2 images, for each image.
    """

    name = "evolution"
    paper = bench.Paper(
        "Foiling Explanations in Deep Neural Networks",
        "Snir Vitrack Tamam and Raz Lapid and Moshe Sipper",
        "TMLR",
        2023,
        "https://arxiv.org/abs/2211.14860",
    )
    presets: ClassVar[dict[str, str]] = {
        "tamam2023": ("steps=400,population=125,like=(target_map:target=reference,scale=one,match=1e11,preserve=1e6)")
    }
    examples = ("steps=3,population=4,like=(topk:k=5)", "tamam2023,steps=2,population=4,spread=1")
    steps: int = bench.param(20, "generations", low=1)
    population: int = bench.param(20, "images of a generation, with its centre", low=2)
    spread: float = bench.param(0.25, "length of the noise, as a share of eps", low=0)
    rate: float = bench.param(0.1, "rate of Adam, as a share of eps", low=0)
    like: bench.Attack = bench.param(TopK(), "the attack whose objective is lowered")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        best = BestCandidate(victim, images, targets, self.like)
        centre, step = images, adam(ball, self.rate)
        length = deviation(ball, self.spread, images)
        with noise.ensured(len(images)), torch.no_grad():
            for _ in range(self.steps):
                draws = [torch.zeros_like(images), *(noise.normal(images) for _ in range(self.population - 1))]
                offered = [best.offer(ball.project(centre + length * draw, images)) for draw in draws]
                score, kept = (torch.stack(part) for part in zip(*offered, strict=True))
                gradient = (standardise(score, kept)[:, :, None, None, None] * torch.stack(draws)).mean(0)
                centre = torch.where(kept.any(0)[:, None, None, None], centre, best.images)
                centre = ball.project(step(centre, gradient, score[0]), images)
            best.offer(centre)
        victim.report("queries", torch.full_like(best.least, self.steps * self.population + 2))
        return best.images


def standardise(score: Tensor, kept: Tensor) -> Tensor:
    """Scores of a generation, less their mean, over their standard deviation: (P, B), (P, B) -> (P, B).

    Images that are not kept count as the worst of those that are. Where all scores are equal, the result is zero.
    """
    worst = score.masked_fill(kept.logical_not(), -torch.inf).amax(0)
    # Where none is kept, no score counts.
    level = torch.where(kept, score, torch.where(worst.isfinite(), worst, 0.0))
    centred = level - level.mean(0)
    size = level.std(0)
    return centred / torch.where(size > 0, size, torch.ones_like(size))
