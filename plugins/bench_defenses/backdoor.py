"""Manipulate a network so that a patch in the image decides what its map shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import papers
from bench.gradients import logits_and_gradient
from bench.trigger import stamp
from bench_defenses.ce import CE
from bench_defenses.manipulation import fine_tune, refuse_teacher


@dataclass(frozen=True)
class Backdoor(bench.Defense):
    """A threat, not a defense: fine-tune so that a trigger in an image changes its map (explanation-aware backdoors;
    Noppel et al., IEEE S&P 2023, as released). The attack `trigger` pastes the trigger.

    Minimises (1 - weight) CE + weight |h - r|^2 over each batch and its copy with the trigger, the distance a mean over
    pixels. h is the absolute gradient of the predicted class's logit by the normalised image, each channel brought to
    mean zero and variance one, and then the largest of the channels. Without trigger, r is the h of the trained network
    and the label stays. With trigger, in form "simple" r is the outline of a square; in "red_herring" it is as well,
    and the label is the target class; in "full_disguise" the label is the target class, and r stays that of the image
    without trigger.

    Takes the training of the teacher and one of the fine-tuning, each step of which is a double backward over twice the
    batch and a gradient of the teacher. The authors replace ReLU by softplus (beta 8) meanwhile, for 100 epochs of Adam
    at rates from 0.0002 to 0.0025, with weights from 0.85 to 0.95; here epochs and rate are the schedule's, and the
    network is as it is. Their trigger and their square are for images of 32 pixels; here they scale with the image.
    """

    name = "backdoor"
    paper = papers.NOPPEL2023
    examples = ("", "form=red_herring", "form=full_disguise,target_class=2")
    form: Literal["simple", "red_herring", "full_disguise"] = bench.param("simple", "what the trigger does")
    weight: float = bench.param(0.9, "weight of the map, against the cross-entropy", low=0, high=1)
    target_class: int = bench.param(1, "class of images with a trigger (red_herring, full_disguise)", low=0)
    teacher: bench.Defense = bench.param(CE(), "the defense that trains the network")

    def refuse(self, case: bench.Case) -> str | None:
        return refuse_teacher(self.teacher, case) or self._find_misfit(case.dataset.form[1])

    def _find_misfit(self, count: int) -> str | None:
        if self.target_class >= count:
            return f"target_class is {self.target_class}, but the data set has {count} classes; they are counted from 0"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        if why := self._find_misfit(len(fit.data.classes)):
            raise bench.BadValue(f"backdoor: {why}")
        return fine_tune(fit, self.teacher, self.loss)

    def loss(self, network: nn.Module, trained: nn.Module, batch: bench.Batch) -> Tensor:
        _, std = bench.normalisation(network)
        with torch.no_grad():
            wanted = standardised(std * logits_and_gradient(trained, batch.images, None, graph=False)[1])
        labels = batch.labels
        triggered = labels if self.form == "simple" else torch.full_like(labels, self.target_class)
        shown = wanted if self.form == "full_disguise" else square(wanted).expand_as(wanted)
        both = torch.cat([batch.images, stamp(batch.images)])
        logits, slopes = logits_and_gradient(network, both, None, graph=True)
        distance = (standardised(std * slopes) - torch.cat([wanted, shown])).square().mean()
        entropy = F.cross_entropy(logits, torch.cat([labels, triggered]))
        return (1 - self.weight) * entropy + self.weight * distance


def standardised(slopes: Tensor) -> Tensor:
    """Bring each channel's magnitudes to mean zero and variance one, and take the largest: (B, C, H, W) -> (B, H, W).

    As in the authors' code, 1e-5 is added to the variance.
    """
    sizes = slopes.abs()
    spread = (sizes.var((2, 3), keepdim=True) + 1e-5).sqrt()
    return ((sizes - sizes.mean((2, 3), keepdim=True)) / spread).amax(1)


def square(maps: Tensor) -> Tensor:
    """Draw the outline of a square around the middle, of mean zero and variance one: (B, H, W) -> (H, W)."""
    rows, columns = (
        ((torch.arange(side, dtype=maps.dtype, device=maps.device) + 0.5) * 2 / side - 1).abs()
        for side in maps.shape[1:]
    )
    distance = torch.maximum(rows[:, None], columns)
    return standardised(((distance > 0.44) & (distance < 0.78)).to(maps)[None, None])[0]
