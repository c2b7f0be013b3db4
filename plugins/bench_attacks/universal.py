"""One perturbation for all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import bench
from bench import noise
from bench_attacks.descent import Aim, Seen, descend
from bench_attacks.steps import make
from bench_attacks.topk import TopK

NEAR = 0.1  # how far the start is from none, as a share of the way into the ball: at none, some objectives are flat


@dataclass(frozen=True)
class Universal(bench.Attack):
    """Add one perturbation, found on training images, to every image (universal perturbation for interpretation,
    UPI-Grad; Ehsani Oskouie and Farnia, ICASSP 2023). What it leaves says how much of an attack depends on the image.

    Descends the mean objective of another attack over the training images given to all attacks, of their predicted
    classes, with one perturbation in the ball, at most a half in every element. It starts from a little noise. The
    perturbation with the smallest mean is used; an image whose prediction it changes counts as unperturbed, and no
    perturbation counts as one. It is added to the images under attack whatever it does to their predictions; the kept
    rate says how often they stay.

    Differs from the paper, which maximises the distance of the maps: the objective is that of `like`, and there is no
    Gaussian noise on the perturbation. The training images are the 16 of the harness.

    Each chunk of images finds the perturbation again. That costs, for each step and training image, a map with a second
    backward pass, a map and two passes forward.
    """

    name = "universal"
    paper = bench.Paper(
        "Interpretation of Neural Networks is Susceptible to Universal Adversarial Perturbations",
        "Haniyeh Ehsani Oskouie and Farzan Farnia",
        "ICASSP",
        2023,
        "https://arxiv.org/abs/2212.03095",
    )
    examples = ("steps=4,like=(topk:k=5)", "steps=2,optimiser=adam,like=(mass_center)")
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.1, "length of a step, or rate of Adam, as a share of eps", low=0)
    optimiser: Literal["sign", "adaptive", "adam"] = bench.param("sign", "steepest steps, Auto-PGD's, or Adam's")
    like: bench.Attack = bench.param(TopK(), "the attack whose objective is lowered")

    def refuse(self, case: bench.Case) -> str | None:
        return self.like.refuse(case)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        if victim.references is None or not len(victim.references):
            raise bench.BadValue(
                "universal needs training images, and there are none; take a data set that has some, or from Python "
                "give bench.Victim(..., references=images)"
            )
        references = victim.references.to(images)
        grey = torch.full_like(references[:1], 0.5)  # so that the box that a ball is clipped to bounds both signs alike
        # The same noise in every chunk, so that all images get one perturbation.
        with noise.rows(0, "universal", [0]):
            start = grey + NEAR * (ball.sample(grey) - grey)
        with noise.rows(0, "references", range(len(references))), torch.no_grad():
            found = descend(
                victim,
                grey,
                ball,
                self._aim(victim, references, grey),
                [start],
                self.steps,
                lambda: make(self.optimiser, ball, self.step, grey, self.steps),
                self.like.beta,
                keep=False,
            )
        return ball.project(images + (found - grey), images)

    def _aim(self, victim: bench.Victim, references: Tensor, grey: Tensor) -> Aim:
        prediction = victim.logits(references).argmax(1)
        objective = self.like.make_objective(victim, references, prediction)
        if objective is None:
            raise bench.BadValue(f"attack {self.like} has no objective to lower; name another with like=(...)")
        clean = objective(references)

        def aim(moved: Tensor) -> Seen:
            shifted = (references + (moved - grey)).clamp(0, 1)
            score, logits = objective(shifted), victim.logits(shifted)
            loss = torch.where(logits.argmax(1) == prediction, score.detach(), clean)
            return Seen(score.mean()[None], logits, loss.mean()[None])

        return aim
