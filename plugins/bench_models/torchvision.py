"""Classification networks of torchvision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

import bench
from bench.checkpoints import place_tensors, read_checkpoint
from bench.errors import quote_error
from bench.images import Frame
from bench_models.imagenet import CAFFE_MEAN, CAFFE_STD, MEAN, STD
from bench_models.libraries import check_name, is_smooth, replace_activations

WITH_HEADS = ("googlenet", "inception_v3")
DEFAULT = "DEFAULT"
OLD = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True)
class Torchvision(bench.Model):
    """Build a classification network of torchvision by its name there. It has fresh weights, and ImageNet's mean and
    std inside.

    With `weights`, training starts from trained weights of torchvision, which are downloaded once; with the defense
    `weights` as well, the network is theirs. For weights in a file of yours, use weights:path=FILE and a full name such
    as resnet50.IMAGENET1K_V2. In both cases the network has the mean and std, and inception_v3 and googlenet the input
    scale and auxiliary heads, that the weights were trained with, and a data set that frames images frames them as the
    weights expect, unless its parameters say otherwise. Other networks are built without auxiliary heads, and the heads
    answer nothing. Activations stay as they are, or all become ReLU or softplus. Weights that come from Caffe want
    preprocessing=caffe.
    """

    name = "torchvision"
    examples = ("arch=resnet18",)
    arch: str = bench.param(help="name of the network, such as resnet50, or with its weights, resnet50.IMAGENET1K_V2")
    activation: Literal["native", "softplus", "relu"] = bench.param("native", "nonlinearity between layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused otherwise", low=0.01)
    preprocessing: Literal["native", "caffe"] = bench.param(
        "native", "what the weights expect: as above, or BGR from 0 to 255 less (104, 117, 123), as in Caffe"
    )
    weights: str = bench.param(
        "", 'trained weights to start from, such as IMAGENET1K_V2; DEFAULT for the best; "" for fresh ones', added=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == DEFAULT:  # which names other weights in another version of torchvision
            object.__setattr__(self, "weights", self._weights().name)

    def find_problem(self) -> str | None:
        if self.weights and "." in self.arch:
            return f"arch is {self.arch}, which names weights, and weights is {self.weights}; give one of them"
        return None

    @classmethod
    def suggest(cls, text: str) -> str | None:
        from torchvision import models

        return f"{cls.name}:arch={text}" if text in models.list_models(module=models) else None

    @property
    def identity(self) -> str:
        return super().identity + (
            f"#{self._weights().url.rpartition('-')[2].removesuffix('.pth')}" if self.weights else ""
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._weights().meta["categories"]) if self.weights else ()

    def load_weights(self, network: bench.Normalised, shape: tuple[int, int, int]) -> None:
        if self.weights:
            tensors = load_torchvision(self._weights().url, str(self))
            place_tensors(network.network, tensors, f"the weights of {self}", any_classes=True)

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
            return [DEFAULT, *(each.name for each in models.get_model_weights(name))]

        full = f"{self.arch}.{self.weights}" if self.weights else self.arch
        check_name("torchvision", full, models.list_models(module=models), weights, "torchvision.models.list_models()")
        return full

    def _weights(self) -> Any:
        """The weights that the model names, as torchvision knows them; None for none."""
        if not self.weights and "." not in self.arch:
            return None
        from torchvision import models

        name, _, tag = self._check().partition(".")
        return models.get_model_weights(name)[tag]

    def _preprocessing(self) -> Any:
        """What the weights' own preprocessing does, or None for a name without weights."""
        weights = self._weights()
        return weights and weights.transforms()


def load_torchvision(url: str, about: str) -> dict[str, Tensor]:
    """The tensors of a file of torchvision's, from the cache of torch.hub or downloaded to it."""
    from torch import hub

    file = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(url, str(file), file.stem.rpartition("-")[2], progress=False)
        except (OSError, RuntimeError) as error:
            raise bench.EnvironmentProblem(
                f"model {about}: {url} cannot be downloaded ({quote_error(error)}); put that file into {file.parent}"
            ) from None
    # The oldest files of DenseNet call a part norm.1, which torchvision has called norm1 since.
    return {OLD.sub(r"\1\2", keys[-1]): tensor for keys, tensor in read_checkpoint(file).items()}


def reverse_channels(network: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Give a network its images with the channels in reverse order."""
    return inputs[0].flip(1)
