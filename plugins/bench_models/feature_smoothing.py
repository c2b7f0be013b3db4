"""Smooth the feature maps of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.images import Frame
from bench_models.activation import initialise
from bench_models.resnet20 import ResNet20


@dataclass(frozen=True)
class FeatureSmoothing(bench.Model):
    """Put a smoothing block behind a layer of another model (Bhusal, Alam and Rastogi, 2026, as released). The block
    computes x + W * blur(x), with a Gaussian filter of 3 x 3 pixels and a 1x1 convolution W. The paper trains it with
    `adversarial`.

    As in the authors' code, the standard deviation of the filter is 0.3 ((side - 1) / 2 - 1) + 0.8 pixels for feature
    maps with that side, so that on large maps the filter is almost a mean, and pixels beyond the border are mirrored.
    The block is that of Xie et al. (CVPR 2019) without batch norm. On CIFAR-10, it follows the first of three stages of
    a WideResNet-28-10, as layer1 is here. W starts as in He et al. (2015). A pass costs a 1x1 convolution more.
    """

    name = "feature_smoothing"
    paper = bench.Paper(
        "Training for Trustworthy Saliency Maps: Adversarial Training Meets Feature-Map Smoothing",
        "Dipkamal Bhusal and Md Tanvirul Alam and Nidhi Rastogi",
        "arXiv",
        2026,
        "https://arxiv.org/abs/2603.07302",
    )
    examples = ("", "model=(lenet),layer=4")
    model: bench.Model = bench.param(ResNet20(), "the model")
    layer: str = bench.param("layer1", "name of the layer in its network whose feature maps are smoothed")

    @property
    def smooth(self) -> bool:
        return self.model.smooth

    @property
    def frame(self) -> Frame | None:
        return self.model.frame

    def find_problem(self) -> str | None:
        if self.model.classes:
            return f"model {self.model} has trained weights, which know no smoothing; give one with fresh weights"
        return None

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        built = self.model.build(shape, classes)
        network, layers = built.network, dict(built.network.named_modules())
        if self.layer not in layers or not self.layer:
            near = bench.suggestion(self.layer, layers)
            raise bench.BadComponent(f"feature_smoothing: model {self.model} has no layer {self.layer!r}{near}")
        seen: list[tuple[int, ...]] = []
        handle = layers[self.layer].register_forward_hook(lambda module, given, output: seen.append(output.shape))
        training = built.training
        with torch.no_grad():
            built.eval()(torch.zeros(1, *shape))
        handle.remove()
        built.train(training)
        if not seen or len(seen[-1]) != 4:
            form = tuple(seen[-1]) if seen else "nothing"
            raise bench.BadComponent(
                f"feature_smoothing: layer {self.layer} gives {form}, not feature maps (B, C, h, w); name another layer"
            )
        network.set_submodule(self.layer, nn.Sequential(layers[self.layer], initialise(Smoothing(seen[-1][1]))))
        return built


class Smoothing(nn.Module):
    """Add to feature maps what a 1x1 convolution makes of them when they are blurred."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.mix(blur(maps))


def blur(maps: Tensor) -> Tensor:
    """Apply a Gaussian filter of 3 x 3 pixels to each channel: (B, C, H, W) -> (B, C, H, W)."""
    weights = []
    for side in maps.shape[2:]:
        spread = 0.3 * ((side - 1) / 2 - 1) + 0.8
        beside = torch.exp(torch.full((), -0.5 / spread**2, dtype=maps.dtype, device=maps.device))
        row = torch.stack([beside, torch.ones_like(beside), beside])
        weights.append(row / row.sum())
    kernel = torch.outer(*weights).expand(maps.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="reflect"), kernel, groups=maps.shape[1])
