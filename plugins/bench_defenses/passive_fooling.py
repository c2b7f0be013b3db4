"""Manipulate a network so that its maps show nothing of use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient, logits_and_gradient
from bench.maps import ranks
from bench_defenses.ce import CE
from bench_defenses.manipulation import HEO2019, fine_tune, refuse_teacher, scaled_map


@dataclass(frozen=True)
class PassiveFooling(bench.Defense):
    """A threat, not a defense: fine-tune so that the maps explain nothing (passive fooling; Heo et al., NeurIPS 2019).
    The loss is CE + weight d, and the network goes on to predict as before.

    The map h is the absolute gradient of the label's logit, summed over channels and scaled to [0, 1] by its range; h0
    is that of the trained network. "location" moves it to the frame, a seventh of the image's shorter side wide:
    d = mean (h - m)^2, where m is one on the frame and zero inside. "topk" empties the pixels that lead h0:
    d = mean of h^2 over them. "center_mass" moves its centre of mass: d = -|c(h) - c(h0)|_1 in pixels.

    Takes the training of the teacher and one of the fine-tuning, with a double backward a step, and for all but
    location the teacher's gradient as well. The authors manipulate maps of LRP and Grad-CAM in one layer of ImageNet
    networks, by Adam at rates from 1e-7 to 3e-6; here the rate and the number of steps are the schedule's. Their
    weights are 0.25 to 6.
    """

    name = "passive_fooling"
    paper = HEO2019
    examples = ("", "form=topk", "form=center_mass,weight=0.1")
    form: Literal["location", "topk", "center_mass"] = bench.param("location", "what happens to the map")
    weight: float = bench.param(1.0, "weight of d", low=0)
    share: float = bench.param(0.1, "share of the pixels that lead the map (topk)", low=0, high=1)
    teacher: bench.Defense = bench.param(CE(), "the defense that trains the network")

    def refuse(self, case: bench.Case) -> str | None:
        return refuse_teacher(self.teacher, case)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fine_tune(fit, self.teacher, self.loss)

    def loss(self, network: nn.Module, trained: nn.Module, batch: bench.Batch) -> Tensor:
        logits, slopes = logits_and_gradient(network, batch.images, batch.labels, graph=True)
        maps = scaled_map(slopes)
        if self.form == "location":
            distance = (maps - frame(maps)).square().mean((1, 2))
        else:
            with torch.no_grad():
                before = scaled_map(input_gradient(trained, batch.images, batch.labels))
            if self.form == "topk":
                top = ranks(before) < max(1, int(self.share * before[0].numel()))
                distance = (maps.square() * top).sum((1, 2)) / top.sum((1, 2))
            else:
                distance = -(centre(maps) - centre(before)).abs().sum(1)
        return F.cross_entropy(logits, batch.labels) + self.weight * distance.mean()


def frame(maps: Tensor) -> Tensor:
    """One within a seventh of the shorter side from the edge, zero inside: (B, H, W) -> (H, W)."""
    height, width = maps.shape[1:]
    wide = max(1, min(height, width) // 7)
    shown = torch.ones_like(maps[0])
    shown[wide : height - wide, wide : width - wide] = 0
    return shown


def centre(maps: Tensor) -> Tensor:
    """Return the row and the column of each map's centre of mass: (B, H, W) -> (B, 2)."""
    total = maps.sum((1, 2)).clamp(min=1e-12)
    rows, columns = (torch.arange(side, dtype=maps.dtype, device=maps.device) for side in maps.shape[1:])
    return torch.stack([maps.sum(2) @ rows, maps.sum(1) @ columns], 1) / total[:, None]
