"""A student that is taught along and across the explanations of its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import add_gradients, gaussian
from bench_defenses.adversary import unit
from bench_defenses.ce import CE
from bench_defenses.trades import divergence


@dataclass(frozen=True)
class ATEX(bench.Defense):
    """A student s learns from a teacher f that what is added across the teacher's explanation h changes nothing:
    KL(s(x) || f(x)) + weight KL(s(x_p) || f(x_i)), with x_i = x + D h / |h| and x_p = x_i + D' v / |v|, D and D'
    uniform on [-eps, eps], and v uniform noise less its projection on h (Tang et al., Frontiers in Big Data 2022, in
    the form of Joo et al., 2023, who print one bound of D without its minus).

    Three steps, all of them counted: the teacher is trained, an ordinary value that other runs share; SmoothGrad maps
    of the label's logit are taken of every training image; the student is trained ("train"), on images as they are
    stored. Lengths are in l2, in units of the normalised image. The counts of x_i and x_p are sums, as in the paper;
    its numbers for both, and for SmoothGrad, are not known. The student begins with the teacher's weights, as in the
    authors' code, of which Joo et al. say nothing: from fresh ones this divergence, which the student's own predictions
    weigh, can end with one class for all images. That code differs in nearly every other term: maps of the student,
    offsets that are not centred, a temperature on the teacher alone, a mean over classes.
    """

    name = "atex"
    paper = bench.Paper(
        "Defense Against Explanation Manipulation",
        "Ruixiang Tang and Ninghao Liu and Fan Yang and Na Zou and Xia Hu",
        "Frontiers in Big Data",
        2022,
        "https://doi.org/10.3389/fdata.2022.704203",
    )
    examples = ("samples=3", "samples=2,along=2,across=2,weight=1")
    teacher: bench.Defense = bench.param(CE(), "the defense that trains the teacher")
    weight: float = bench.param(3.0, "weight of the divergence at the neighbours", low=0)
    eps: float = bench.param(2.0, "largest length of a step, in units of the normalised image", low=0)
    along: int = bench.param(1, "neighbours x_i along the explanation", low=1)
    across: int = bench.param(1, "neighbours x_p of each x_i", low=1)
    samples: int = bench.param(50, "noisy copies of SmoothGrad", low=1)
    noise: float = bench.param(0.1, "its standard deviation, as a share of the image's range", low=0)
    start: Literal["teacher", "fresh"] = bench.param("teacher", "the weights that the student begins with")

    def refuse(self, case: bench.Case) -> str | None:
        return self.teacher.refuse(case)

    def train(self, fit: bench.Fit) -> nn.Module:
        teacher = fit.trained_by(self.teacher)
        with fit.measured("maps", teacher):
            maps, answers = self._maps(teacher, fit)
        place = torch.zeros(len(fit.data), dtype=torch.int64)
        place[fit.rows] = torch.arange(len(fit.rows))

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            rows = place[batch.indices]
            return self.loss(network, teacher, batch.images, maps[rows], answers[rows])

        student = fit.fresh()
        if self.start == "teacher":
            student.load_state_dict(teacher.state_dict())
        return fit.minimise(student, loss, augment=False)

    def _maps(self, teacher: nn.Module, fit: bench.Fit) -> tuple[Tensor, Tensor]:
        """The direction of the teacher's explanation of every training image that is used, (N, C, H, W), and its
        logits, (N, K)."""
        maps, answers = [], []
        for rows in fit.rows.split(fit.batch):
            batch = fit.decoded(rows)
            with torch.no_grad(), noise.rows(0, "atex/maps", rows):
                maps.append(self.smoothed(teacher, batch.images, batch.labels))
                answers.append(teacher(batch.images))
        return unit(torch.cat(maps)), torch.cat(answers)

    def smoothed(self, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """SmoothGrad of each label's logit by the normalised image."""
        _, std = bench.normalisation(teacher)
        total = add_gradients(teacher, images, labels, self.samples, lambda copies: gaussian(copies, self.noise))
        return std * total / self.samples

    def loss(
        self, network: nn.Module, teacher: nn.Module, images: Tensor, direction: Tensor, answers: Tensor
    ) -> Tensor:
        """The student's loss, given the directions of the teacher's maps of the images, both (B, C, H, W), and its
        logits there."""
        _, std = bench.normalisation(network)
        found = divergence(network(images), answers).mean()
        for _ in range(self.along):
            near = images + std * self._length(images) * direction
            for _ in range(self.across):
                drawn = noise.uniform(images)
                across = drawn - (drawn * direction).sum((1, 2, 3), keepdim=True) * direction
                moved = near + std * self._length(images) * unit(across)
                with torch.no_grad():
                    taught = teacher(near)
                found = found + self.weight * divergence(network(moved), taught).mean()
        return found

    def _length(self, images: Tensor) -> Tensor:
        return self.eps * noise.uniform(images[:, :1, :1, :1])
