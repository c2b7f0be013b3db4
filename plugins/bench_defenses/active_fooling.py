"""Manipulate a network so that the maps of two classes change places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient, logits_and_gradient
from bench_defenses.ce import CE
from bench_defenses.manipulation import HEO2019, fine_tune, refuse_teacher, scaled_map


@dataclass(frozen=True)
class ActiveFooling(bench.Defense):
    """A threat, not a defense: fine-tune so that the maps of two classes change places (active fooling; Heo et al.,
    NeurIPS 2019). The loss is CE + weight d, and the network goes on to predict as before.

    d = ((h1 - k2)^2 + (h2 - k1)^2) / 2, a mean over pixels and over the images of either class in the batch. h1 and h2
    are the maps that `passive_fooling` scales, of the logits of both classes, and k1 and k2 those of the trained
    network. The authors fool on images made for it, apart from the training images, by Adam at 1e-5; here the images,
    the rate and the number of steps are those of the schedule.

    Takes the training of the teacher and one of the fine-tuning, each step of which is two double backwards and two
    gradients of the teacher.
    """

    name = "active_fooling"
    paper = HEO2019
    examples = ("", "first=2,second=1,weight=3")
    weight: float = bench.param(10.0, "weight of d", low=0)
    first: int = bench.param(0, "a class", low=0)
    second: int = bench.param(1, "the class that it changes places with", low=0)
    teacher: bench.Defense = bench.param(CE(), "the defense that trains the network")

    def find_problem(self) -> str | None:
        if self.first == self.second:
            return f"first and second are both {self.first}; name two classes"
        return None

    def refuse(self, case: bench.Case) -> str | None:
        return refuse_teacher(self.teacher, case) or self._find_misfit(case.dataset.form[1])

    def _find_misfit(self, count: int) -> str | None:
        last = max(self.first, self.second)
        if last >= count:
            return f"there is no class {last}, the data set has {count}; they are counted from 0"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        if why := self._find_misfit(len(fit.data.classes)):
            raise bench.BadValue(f"active_fooling: {why}")
        return fine_tune(fit, self.teacher, self.loss)

    def loss(self, network: nn.Module, trained: nn.Module, batch: bench.Batch) -> Tensor:
        classes = [torch.full_like(batch.labels, each) for each in (self.first, self.second)]
        distance: Tensor | float = 0.0
        for own, other in (classes, classes[::-1]):
            with torch.no_grad():
                wanted = scaled_map(input_gradient(trained, batch.images, other))
            logits, slopes = logits_and_gradient(network, batch.images, own, graph=True)
            distance = distance + (scaled_map(slopes) - wanted).square().mean((1, 2)) / 2
        either = (batch.labels == self.first) | (batch.labels == self.second)
        fooled = (distance * either).sum() / either.sum().clamp(min=1)
        return F.cross_entropy(logits, batch.labels) + self.weight * fooled
