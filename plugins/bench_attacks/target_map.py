"""Bring the map close to another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench import noise
from bench_attacks.descent import Aim, Descent, Seen, follow


@dataclass(frozen=True)
class TargetMap(Descent):
    """Bring the map close to a target, and leave the logits alone. The loss is half the squared distance of the maps,
    each divided by its maximum, plus a weight times the mean squared change of the logits. On another scale, where maps
    sum to one or to the number of pixels, it is the mean of the squared distances over pixels, times a weight.

    The target is a "frame", one on the border and zero inside (AAM; Joo et al., AAAI 2023), or the map of a
    "reference": the first of the training images given to all attacks that the network assigns to a class other than
    the explained one ("structured" attack; Dombrowski et al., NeurIPS 2019; Wang et al., NeurIPS 2020), or a picture in
    a "file", whose brightness is brought to the size of the images.

    Returns the closest iterate among those that keep the prediction; the clean image counts as one. Joo et al. return
    the last iterate whatever its prediction, and Dombrowski et al. search without a budget. "joo2023" sets the steps of
    Joo et al. "wang2020" has the weights of Dombrowski et al., 1e11 and 1e6, and the 50 steps and the scale of Wang et
    al. On the scale of Dombrowski et al. (scale=one), the same weights guard the logits more than they move the map.
    """

    name = "target_map"
    paper = bench.papers.DOMBROWSKI2019
    presets: ClassVar[dict[str, str]] = {
        "joo2023": "target=frame,optimiser=adam,steps=100,step=0.04,preserve=0.5",
        "wang2020": "target=reference,optimiser=sign,steps=50,scale=area,match=1e11,preserve=1e6",
    }
    examples = (
        "steps=4",
        "target=reference,steps=4,optimiser=sign",
        "steps=3,optimiser=adaptive",
        "steps=3,restarts=2",
        "wang2020,steps=3",
    )
    target: Literal["frame", "reference", "file"] = bench.param("frame", "what the map should look like")
    width: float = bench.param(5 / 32, "of a frame, as a share of the image's shorter side", low=0, high=0.5)
    optimiser: Literal["adam", "sign", "adaptive"] = bench.param("adam", "Adam's, steepest or Auto-PGD's steps")
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.08, "rate of Adam, or length of a step, as a share of eps", low=0)
    preserve: float = bench.param(0.5, "weight of the mean squared change of the logits", low=0)
    restarts: int = bench.param(1, "starts; the first is the clean image, the others are drawn from the ball", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)
    scale: Literal["peak", "one", "area"] = bench.param(
        "peak", "scale of the maps: a maximum of one, or a sum of one or of the number of pixels (area)", added=True
    )
    match: float = bench.param(1.0, "weight of the distance of the maps", low=0, added=True)
    path: Path | None = bench.param(None, "the picture of target=file", added=True)

    def find_problem(self) -> str | None:
        if self.target == "file" and self.path is None:
            return "target=file needs a picture; give path=FILE"
        if self.target != "file" and self.path is not None:
            return f"path is for target=file, and target is {self.target}; take one of them"
        return None

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        aim = self.aim(victim, images, targets)
        starts = [images, *(ball.sample(images) for _ in range(self.restarts - 1))]
        return follow(self, victim, images, ball, aim, starts)

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        with torch.no_grad():
            clean = victim.logits(images)
            goal = rescale(self._make_target(victim, images, targets), self.scale)

        def aim(moved: Tensor) -> Seen:
            maps, logits = victim.both(moved, targets)
            squares = (rescale(maps, self.scale) - goal).square()
            distance = 0.5 * squares.sum((1, 2)) if self.scale == "peak" else squares.mean((1, 2))
            score = self.match * distance + self.preserve * (logits - clean).square().mean(1)
            return Seen(score, logits, score.detach())

        return aim

    def _make_target(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Tensor:
        """What the maps should look like: (1 or B, H, W)."""
        if self.target == "frame":
            return frame(images, self.width)
        return reference_maps(victim, targets) if self.path is None else picture(self.path, images)


def rescale(maps: Tensor, scale: str) -> Tensor:
    """Divide each map by its maximum ("peak"), sum ("one") or mean ("area"); zero maps stay zero: (B, H, W)."""
    flat = maps.flatten(1)
    size = {"peak": flat.amax(1), "one": flat.sum(1), "area": flat.mean(1)}[scale].view(-1, 1, 1)
    return maps / torch.where(size > 0, size, torch.ones_like(size))


def frame(images: Tensor, width: float) -> Tensor:
    """Make a map with ones on the border, at least one pixel wide, and zeros inside: (B, C, H, W) -> (1, H, W)."""
    height, length = images.shape[2:]
    border = max(1, round(width * min(height, length)))
    result = images.new_ones(1, height, length)
    result[:, border : height - border, border : length - border] = 0
    return result


def picture(path: Path, images: Tensor) -> Tensor:
    """Load the brightness of a picture, in the size of images: (B, C, H, W) -> (1, H, W)."""
    height, width = images.shape[2:]
    square = bench.images.load([path], max(height, width), crop="none").mean(1, keepdim=True).to(images)
    if not square.any():
        raise bench.BadValue(f"target_map: the picture {path} is black, and no map can look like it; take another one")
    return F.interpolate(square, (height, width), mode="bilinear", align_corners=False)[:, 0]


def reference_maps(victim: bench.Victim, targets: Tensor) -> Tensor:
    """Explain, for each target, the first reference that the network assigns to another class: (B,) -> (B, H, W).

    Where there is none, the first of all.
    """
    references = victim.references
    if references is None or not len(references):
        raise bench.BadValue(
            "target_map:target=reference needs training images, and there are none; take target=frame, or from Python "
            "give bench.Victim(..., references=images)"
        )
    classes = victim.logits(references).argmax(1)
    first = (classes != targets[:, None]).double().argmax(1)
    used, place = first.unique(return_inverse=True)
    # They have noise of their own, because they are not the rows under attack.
    with noise.rows(0, "references", used):
        return victim.maps(references[used], classes[used])[place]
