"""Classification networks of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

import bench
from bench_models.imagenet import MEAN, STD
from bench_models.libraries import check_name, is_smooth, replace_activations


@dataclass(frozen=True)
class Torchvision(bench.Model):
    """Build a classification network of torchvision by its name there, with fresh weights, and with ImageNet's mean and
    std inside.

    For trained weights, use the defense `weights`. Activations stay as they are, or all become ReLU or softplus.
    Networks with auxiliary heads are built without them.
    """

    name = "torchvision"
    examples = ("arch=resnet18",)
    arch: str = bench.param(help="name of the network, such as resnet18")
    activation: Literal["native", "softplus", "relu"] = bench.param("native", "nonlinearity between layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused otherwise", low=0.01)

    @property
    def smooth(self) -> bool:
        return is_smooth(self.activation, lambda: self._network((3, 224, 224), 2))

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        if shape[0] != 3:
            raise bench.BadComponent(f"model {self} needs images of three channels, not {shape[0]}")
        network = replace_activations(self._network(shape, classes), self.activation, self.beta, shape, str(self))
        return bench.Normalised(network, MEAN, STD)

    def _network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from torchvision import models

        check_name("torchvision", self.arch, models.list_models(module=models))
        options: dict[str, Any] = {}
        if self.arch in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True}
        elif self.arch.startswith("vit_"):
            options = {"image_size": shape[1]}
        return models.get_model(self.arch, weights=None, num_classes=classes, **options)
