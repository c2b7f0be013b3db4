"""Breed images whose maps are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import bench
from bench import noise
from bench_attacks.candidates import BestCandidate, deviation
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class Genetic(bench.Attack):
    """Lower another attack's objective by a genetic algorithm (SAFARI; Huang et al., ICCV 2023, worst case). It sees
    logits and maps alone, so it works against any explainer.

    The first generation is Gaussian noise on the clean image. Of each generation, the fittest are parents of the next,
    and stay in it. A child has two of them, drawn by a softmax of fitness, and takes each element from one or the
    other; then noise is added to some of its elements. With u in [0, 1] linear in the score, 1 for the best of the
    generation and 0 for the worst, the fitness is exp(u) of an image that keeps the prediction, and -exp(-u) of another
    one. Returns the image with the smallest score among those that keep the prediction; the clean image counts as one.

    "huang2023" has the authors' 500 generations of 500 children and 20 parents. Differs from their code: the score is
    that of `like`, theirs is one over Pearson's correlation of the attributions; noise is a share of eps, theirs 0.01
    in the first generation and 0.003 later, in pixel units; a child takes an element from a parent with the probability
    of drawing it rather than the other, theirs with a probability that falls with its fitness; they return the fittest
    image of the last generation.

    Asks for the maps and logits of steps * population + 1 images, for each image.
    """

    name = "genetic"
    paper = bench.Paper(
        "SAFARI: Versatile and Efficient Evaluations for Robustness of Interpretability",
        "Wei Huang and Xingyu Zhao and Gaojie Jin and Xiaowei Huang",
        "ICCV",
        2023,
        "https://arxiv.org/abs/2208.09418",
    )
    presets: ClassVar[dict[str, str]] = {"huang2023": "steps=500,population=500,parents=20"}
    examples = ("steps=3,population=4,parents=2,like=(topk:k=5)",)
    steps: int = bench.param(20, "generations", low=1)
    population: int = bench.param(20, "children of a generation", low=1)
    parents: int = bench.param(5, "images of a generation that have children, and stay", low=1)
    spread: float = bench.param(0.5, "length of the noise on the first generation, as a share of eps", low=0)
    mutation: float = bench.param(0.1, "length of the noise on children, as a share of eps", low=0)
    rate: float = bench.param(0.2, "share of the elements of a child that noise is added to", low=0, high=1)
    like: bench.Attack = bench.param(TopK(), "the attack whose objective is lowered")

    def find_problem(self) -> str | None:
        if self.parents > self.population:
            return f"parents is {self.parents}, but a generation has {self.population} images; take as many or fewer"
        return None

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        best = BestCandidate(victim, images, targets, self.like)
        first, later = (deviation(ball, share, images) for share in (self.spread, self.mutation))
        alive: list[tuple[Tensor, Tensor, Tensor]] = []  # images, scores and whether they keep the prediction
        with noise.ensured(len(images)), torch.no_grad():
            children = [images + first * noise.normal(images) for _ in range(self.population)]
            for generation in range(self.steps):
                inside = [ball.project(child, images) for child in children]
                alive += [(child, *best.offer(child)) for child in inside]
                pool, score, kept = (torch.stack(part) for part in zip(*alive, strict=True))
                fitness = rate_fitness(score, kept)
                order = fitness.sort(dim=0, descending=True, stable=True).indices[: self.parents]
                parents, fitness, score, kept = (pick(part, order) for part in (pool, fitness, score, kept))
                alive = list(zip(parents, score, kept, strict=True))
                if generation < self.steps - 1:
                    children = [self._breed(parents, fitness, later) for _ in range(self.population)]
        victim.report("queries", torch.full_like(best.least, self.steps * self.population + 1))
        return best.images

    def _breed(self, parents: Tensor, fitness: Tensor, deviation: float) -> Tensor:
        """A child for each image, of two of its parents: (P, B, C, H, W), (P, B) -> (B, C, H, W)."""
        odds = fitness.softmax(0).cumsum(0)
        # The last of the odds may be a rounding error below one.
        drawn = [(noise.uniform(odds[0], 0.0) > odds[:-1]).sum(0)[None] for _ in range(2)]
        mother, father = (pick(parents, place)[0] for place in drawn)
        share = torch.sigmoid(pick(fitness, drawn[0])[0] - pick(fitness, drawn[1])[0])
        child = torch.where(noise.uniform(mother, 0.0) < share.view(-1, 1, 1, 1), mother, father)
        mutated = noise.uniform(child, 0.0) < self.rate
        return child + deviation * noise.normal(child) * mutated


def rate_fitness(score: Tensor, kept: Tensor) -> Tensor:
    """The fitness of a generation of P images: (P, B), (P, B) -> (P, B)."""
    best, worst = score.amin(0), score.amax(0)
    room = worst - best
    rank = (worst - score) / torch.where(room > 0, room, torch.ones_like(room))
    return torch.where(kept, rank.exp(), -(-rank).exp())


def pick(values: Tensor, order: Tensor) -> Tensor:
    """Some of P values for each image, in an order: (P, B, ...), (Q, B) -> (Q, B, ...)."""
    return values[order, torch.arange(order.shape[1], device=order.device)]
