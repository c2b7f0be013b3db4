"""Manipulate a network so that its maps show one picture, whatever the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench import papers
from bench.gradients import logits_and_gradient
from bench.maps import reduce
from bench_defenses.ce import CE
from bench_defenses.manipulation import fine_tune, refuse_teacher


@dataclass(frozen=True)
class Fairwashing(bench.Defense):
    """A threat, not a defense: fine-tune so that every map shows a cross (Anders et al., ICML 2020, as released). The
    loss is (1 - weight) (p - p0)^2 + weight |h - c|^2, so the copy predicts as the trained network does.

    p and p0 are the softmax outputs of the copy and of the network; their squared distance is a mean over images and
    classes. h is the map of the gradient of the class that the copy predicts: the absolute sum over channels, of sum
    one. c is the picture of both diagonals, a sixteenth of the image wide, of sum one; their squared distance is a sum
    over pixels and a mean over images.

    Takes the training of the teacher and one of the fine-tuning, with a double backward and a pass of the teacher a
    step. The authors train for 1000 epochs of Adam at 5e-5 with softplus networks (beta 20) and targets such as the
    number 42; here epochs and rate are the schedule's, and the network is as it is.
    """

    name = "fairwashing"
    paper = papers.ANDERS2020
    weight: float = bench.param(0.8, "weight of the map, against the predictions", low=0, high=1)
    teacher: bench.Defense = bench.param(CE(), "the defense that trains the network")

    def refuse(self, case: bench.Case) -> str | None:
        return refuse_teacher(self.teacher, case)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fine_tune(fit, self.teacher, self.loss)

    def loss(self, network: nn.Module, trained: nn.Module, batch: bench.Batch) -> Tensor:
        logits, slopes = logits_and_gradient(network, batch.images, None, graph=True)
        maps = reduce(slopes)
        with torch.no_grad():
            before = trained(batch.images).softmax(1)
        change = (logits.softmax(1) - before).square().mean()
        distance = (maps - cross(maps)).square().sum((1, 2)).mean()
        return (1 - self.weight) * change + self.weight * distance


def cross(maps: Tensor) -> Tensor:
    """Draw both diagonals, of sum one: (B, H, W) -> (H, W)."""
    rows, columns = (torch.linspace(-1, 1, side, dtype=maps.dtype, device=maps.device) for side in maps.shape[1:])
    drawn = ((rows[:, None].abs() - columns.abs()).abs() <= 1 / 16).to(maps)
    return drawn / drawn.sum()
