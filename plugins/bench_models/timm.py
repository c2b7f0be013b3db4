"""Classification networks of timm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

import bench
from bench.images import Frame
from bench_models.libraries import check_name, is_smooth, replace_activations

CROPS: dict[str, Literal["center", "none"]] = {"center": "center", "squash": "none"}


@dataclass(frozen=True)
class Timm(bench.Model):
    """Build a classification network of timm (Wightman) by its name there, with fresh weights, and with the mean and
    std of its pretrained weights inside.

    For trained weights, use the defense `weights`, and a full name such as tf_efficientnet_b0.ap_in1k, since the
    weights of one architecture may have another mean and std, size, interpolation and crop. A data set that frames
    images then frames them like this, unless its parameters say otherwise. Activations stay as they are, or all become
    ReLU or softplus. Networks with a fixed input size, mostly transformers, are built for the size of the images.
    """

    name = "timm"
    examples = ("arch=resnet18", "arch=efficientnet_b0")
    arch: str = bench.param(help="name of the network, such as resnet50, or with its weights, resnet50.a1_in1k")
    activation: Literal["native", "softplus", "relu"] = bench.param("native", "nonlinearity between layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused otherwise", low=0.01)

    @property
    def smooth(self) -> bool:
        return is_smooth(self.activation, lambda: self._network((3, 224, 224), 2))

    @property
    def frame(self) -> Frame | None:
        if "." not in self.arch:
            return None
        from timm.data import resolve_data_config

        self._check()
        wanted = resolve_data_config(pretrained_cfg=self._settings().to_dict())
        _, height, size = wanted["input_size"]
        if height != size or wanted["crop_mode"] not in CROPS:
            raise bench.BadComponent(
                f"model {self} expects images of {height} x {size} pixels, crop {wanted['crop_mode']}, which no data "
                "set makes; use the name without the weights, and frame the images yourself"
            )
        resize = math.floor(size / wanted["crop_pct"])
        return Frame(size, 0 if resize == size else resize, CROPS[wanted["crop_mode"]], wanted["interpolation"])

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        network = replace_activations(self._network(shape, classes), self.activation, self.beta, shape, str(self))
        settings: Any = network.pretrained_cfg
        mean, std = settings["mean"], settings["std"]
        if len(mean) != shape[0]:
            mean, std = ([sum(values) / len(values)] * shape[0] for values in (mean, std))
        return bench.Normalised(network, mean, std)

    def _network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        import timm

        self._check()
        settings = self._settings()
        sized: dict[str, Any] = {"img_size": shape[1:]} if settings is not None and settings.fixed_input_size else {}
        return timm.create_model(self.arch, pretrained=False, num_classes=classes, in_chans=shape[0], **sized)

    def _check(self) -> None:
        import timm

        def weights(name: str) -> list[str]:
            return [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]

        check_name("timm", self.arch, timm.list_models(), weights)

    def _settings(self) -> Any:
        import timm

        return timm.get_pretrained_cfg(self.arch)
