"""Classification networks of timm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

import bench
from bench_models.libraries import check_name, is_smooth, replace_activations


@dataclass(frozen=True)
class Timm(bench.Model):
    """Build a classification network of timm (Wightman) by its name there, with fresh weights, and with the mean and
    std of its pretrained weights inside.

    For trained weights, use the defense `weights`. Activations stay as they are, or all become ReLU or softplus.
    Networks with a fixed input size, mostly transformers, are built for the size of the images.
    """

    name = "timm"
    examples = ("arch=resnet18", "arch=efficientnet_b0")
    arch: str = bench.param(help="name of the network, such as efficientnet_b0")
    activation: Literal["native", "softplus", "relu"] = bench.param("native", "nonlinearity between layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused otherwise", low=0.01)

    @property
    def smooth(self) -> bool:
        return is_smooth(self.activation, lambda: self._network((3, 224, 224), 2))

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        network = replace_activations(self._network(shape, classes), self.activation, self.beta, shape, str(self))
        settings: Any = network.pretrained_cfg
        mean, std = settings["mean"], settings["std"]
        if len(mean) != shape[0]:
            mean, std = ([sum(values) / len(values)] * shape[0] for values in (mean, std))
        return bench.Normalised(network, mean, std)

    def _network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        import timm

        check_name("timm", self.arch, timm.list_models())
        sized: dict[str, Any] = {}
        settings = timm.get_pretrained_cfg(self.arch)
        if settings is not None and settings.fixed_input_size:
            sized = {"img_size": shape[1:]}
        return timm.create_model(self.arch, pretrained=False, num_classes=classes, in_chans=shape[0], **sized)
