"""Classification networks of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

import bench
from bench.images import Frame
from bench_models.imagenet import CAFFE_MEAN, CAFFE_STD, MEAN, STD
from bench_models.libraries import check_name, is_smooth, replace_activations

WITH_HEADS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Torchvision(bench.Model):
    """Build a classification network of torchvision by its name there, with fresh weights, and with ImageNet's mean and
    std inside.

    For trained weights, use the defense `weights`, and a full name such as resnet50.IMAGENET1K_V2: the network then has
    the mean and std, and inception_v3 and googlenet the input scale and auxiliary heads, that those weights were
    trained with, and a data set that frames images frames them as those weights expect, unless its parameters say
    otherwise. Other networks are built without auxiliary heads, and the heads answer nothing. Activations stay as they
    are, or all become ReLU or softplus. Weights that come from Caffe want preprocessing=caffe.
    """

    name = "torchvision"
    examples = ("arch=resnet18",)
    arch: str = bench.param(help="name of the network, such as resnet50, or with its weights, resnet50.IMAGENET1K_V2")
    activation: Literal["native", "softplus", "relu"] = bench.param("native", "nonlinearity between layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused otherwise", low=0.01)
    preprocessing: Literal["native", "caffe"] = bench.param(
        "native", "what the weights expect: as above, or BGR from 0 to 255 less (104, 117, 123), as in Caffe"
    )

    @property
    def smooth(self) -> bool:
        return is_smooth(self.activation, lambda: self._network((3, 224, 224), 2))

    @property
    def frame(self) -> Frame | None:
        wanted = self._preprocessing()
        if wanted is None:
            return None
        (size,), (resize,) = wanted.crop_size, wanted.resize_size
        return Frame(size, 0 if resize == size else resize, "center", wanted.interpolation.value)

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        if shape[0] != 3:
            raise bench.BadComponent(f"model {self} needs images of three channels, not {shape[0]}")
        network = replace_activations(self._network(shape, classes), self.activation, self.beta, shape, str(self))
        if self.preprocessing == "caffe":
            # A hook and no layer, which would rename the weights.
            network.register_forward_pre_hook(reverse_channels)
            return bench.Normalised(network, CAFFE_MEAN, CAFFE_STD)
        wanted = self._preprocessing()
        mean, std = (MEAN, STD) if wanted is None else (wanted.mean, wanted.std)
        return bench.Normalised(network, mean, std)

    def _network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from torchvision import models

        name, full, _ = self._check().partition(".")
        options: dict[str, Any] = {}
        if name in WITH_HEADS:
            options = {"aux_logits": bool(full), "transform_input": bool(full), "init_weights": True}
        elif name.startswith("vit_"):
            options = {"image_size": shape[1]}
        network: Any = models.get_model(name, weights=None, num_classes=classes, **options)
        if name in WITH_HEADS:
            network.aux_logits = False  # the heads have weights, and answer nothing
        return network

    def _check(self) -> str:
        """Return the name of the network and its weights. Raises UnknownName where torchvision has no such."""
        from torchvision import models

        def weights(name: str) -> list[str]:
            return [each.name for each in models.get_model_weights(name)]

        check_name("torchvision", self.arch, models.list_models(module=models), weights)
        return self.arch

    def _preprocessing(self) -> Any:
        """What the weights' own preprocessing does, or None for a name without weights."""
        if "." not in self.arch:
            return None
        from torchvision import models

        name, _, tag = self._check().partition(".")
        return models.get_model_weights(name)[tag].transforms()


def reverse_channels(network: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Give a network its images with the channels in reverse order."""
    return inputs[0].flip(1)
