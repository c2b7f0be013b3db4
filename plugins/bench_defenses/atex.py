"""Teach a student along and across the explanations of its teacher."""

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
from bench_defenses.manipulation import refuse_teacher
from bench_defenses.trades import divergence


@dataclass(frozen=True)
class ATEX(bench.Defense):
    """Teach a student to ignore changes across its teacher's explanation (Tang et al., Frontiers in Big Data
    2022, in the form of Joo et al., 2023, who print one bound of D without its minus). The student s minimises KL(s(x)
    || f(x)) + weight KL(s(x_p) || f(x_i)) with the teacher f, its explanation h, x_i = x + D h / |h| and x_p = x_i + D'
    v / |v|. D and D' are uniform on [-eps, eps], and v is uniform noise minus its projection on h.

    Takes three steps, all of them counted: train the teacher, an ordinary value that other runs share; take SmoothGrad
    maps of the label's logit on all training images; train the student ("train") on images as they are stored. Lengths
    are in l2, in units of the normalised image. The terms of several x_i and x_p are added up, as in the paper, which
    does not give their numbers, nor those for SmoothGrad. The student starts with the teacher's weights, as in the
    authors' code; Joo et al. do not say. From fresh weights, this divergence, weighted by the student's own
    predictions, can end with one class for all images. That code differs in nearly every other term: maps of the
    student, offsets that are not centred, a temperature for the teacher alone, a mean over classes.
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
    noise: float = bench.param(0.1, "standard deviation of its noise, as a share of the image's range", low=0)
    start: Literal["teacher", "fresh"] = bench.param("teacher", "weights that the student starts with")

    def refuse(self, case: bench.Case) -> str | None:
        copies = self.start == "teacher"
        return refuse_teacher(self.teacher, case) if copies else self.teacher.refuse(case)

    def train(self, fit: bench.Fit) -> nn.Module:
        teacher = fit.trained_by(self.teacher)
        with fit.measured("maps", teacher):
            maps, answers = self._maps(teacher, fit)
        place = torch.zeros(len(fit.data), dtype=torch.int64)
        place[fit.rows] = torch.arange(len(fit.rows))
        place = place.to(maps.device)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            rows = place[batch.indices.to(place.device, non_blocking=True)]
            return self.loss(network, teacher, batch.images, maps[rows], answers[rows])

        student = fit.fresh()
        if self.start == "teacher":
            student.load_state_dict(teacher.state_dict())
        return fit.minimise(student, loss, augment=False)

    def _maps(self, teacher: nn.Module, fit: bench.Fit) -> tuple[Tensor, Tensor]:
        """Return the direction of the teacher's explanation of every training image in use, (N, C, H, W), and the
        teacher's logits, (N, K)."""
        maps, answers = [], []
        for rows in fit.rows.split(fit.batch):
            batch = fit.decoded(rows)
            with torch.no_grad(), noise.rows(0, "atex/maps", rows):
                maps.append(self.smooth(teacher, batch.images, batch.labels))
                answers.append(teacher(batch.images))
        return unit(torch.cat(maps)), torch.cat(answers)

    def smooth(self, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Take SmoothGrad of each label's logit by the normalised image."""
        _, std = bench.normalisation(teacher)
        total = add_gradients(teacher, images, labels, self.samples, lambda copies: gaussian(copies, self.noise))
        return std * total / self.samples

    def loss(
        self, network: nn.Module, teacher: nn.Module, images: Tensor, direction: Tensor, answers: Tensor
    ) -> Tensor:
        """Return the student's loss, given the direction of the teacher's maps, (B, C, H, W), and its logits."""
        _, std = bench.normalisation(network)
        total = divergence(network(images), answers).mean()
        for _ in range(self.along):
            near = images + std * self._length(images) * direction
            for _ in range(self.across):
                draw = noise.uniform(images)
                across = draw - (draw * direction).sum((1, 2, 3), keepdim=True) * direction
                moved = near + std * self._length(images) * unit(across)
                with torch.no_grad():
                    lesson = teacher(near)
                total = total + self.weight * divergence(network(moved), lesson).mean()
        return total

    def _length(self, images: Tensor) -> Tensor:
        return self.eps * noise.uniform(images[:, :1, :1, :1])
