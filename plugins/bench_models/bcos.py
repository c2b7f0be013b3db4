"""Networks that are linear with weights that depend on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import bench
from bench.bcos import AddInverse, BcosConv2d, ClassScores, UncenteredNorm2d
from bench_models.activation import initialise


@dataclass(frozen=True)
class Bcos(bench.Model):
    """Build a network whose only nonlinearity is its B-cos convolutions (Böhle, Fritz and Schiele, CVPR 2022; with
    batch norm as in Böhle et al., TPAMI 2024). Each computes z |cos(x, w)|^(b - 1), where z = w x with a unit weight w.
    The logits are W(x) x + constant; the explainer `bcos` shows W(x) x pixel by pixel.

    Images enter as the six channels x and 1 - x, without mean and std. "resnet20" is the layout of the authors'
    ResNet-20 for CIFAR-10: stages 16-32-64 of three blocks, projections where the resolution halves, and a 1x1 B-cos
    convolution to the classes before the average. "lenet" has convolutions of 32, 32, 64 and 64 channels, the second
    and the fourth with stride 2, and the same end. Each layer but the last is followed by batch norm that subtracts and
    adds nothing, as in their networks for ImageNet. The constant of all logits is -log(K - 1). The authors train by
    binary cross-entropy, the defense `bce`; cross-entropy trains it too. max_out=2 is their first paper's, which has no
    batch norm, and scales layers and logits by hand. The cost is that of the convolutions, max_out times, and of a sum
    over each patch.
    """

    name = "bcos"
    paper = bench.papers.BOHLE2022
    examples = ("layout=lenet", "layout=lenet,b=1.5,max_out=2", "")
    layout: Literal["resnet20", "lenet"] = bench.param("resnet20", "the layers")
    b: float = bench.param(2.0, "exponent B: how much a layer prefers inputs along its weights; 1 is linear", low=1)
    max_out: int = bench.param(1, "units of which the largest counts", low=1)

    @property
    def smooth(self) -> bool:
        return self.b > 1

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        channels, height, width = shape
        if min(height, width) < 4:
            raise bench.BadComponent(
                f"model bcos halves images twice and needs at least 4 pixels, not {height} x {width}"
            )
        last, layers = 2 * channels, list[nn.Module]()
        if self.layout == "lenet":
            for outputs, stride in ((32, 1), (32, 2), (64, 1), (64, 2)):
                layers.append(self.convolution(last, outputs, 3, stride))
                last = outputs
        else:
            layers.append(self.convolution(last, 16, 3))
            last = 16
            for outputs in (16, 16, 16, 32, 32, 32, 64, 64, 64):
                layers.append(Block(last, outputs, self))
                last = outputs
        head = BcosConv2d(last, classes, 1, b=self.b, max_out=self.max_out)
        network = initialise(nn.Sequential(AddInverse(), *layers, head, ClassScores(classes)))
        return bench.Normalised(network, [0.0] * channels, [1.0] * channels)

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(
            BcosConv2d(inputs, outputs, kernel, stride, self.b, self.max_out), UncenteredNorm2d(outputs)
        )


class Block(nn.Module):
    """Two 3x3 B-cos convolutions, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, model: Bcos) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.residual = nn.Sequential(
            model.convolution(inputs, outputs, 3, stride), model.convolution(outputs, outputs, 3)
        )
        self.shortcut = nn.Identity() if stride == 1 else model.convolution(inputs, outputs, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        return self.residual(maps) + self.shortcut(maps)
