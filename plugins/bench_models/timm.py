"""Classification networks of timm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

import bench
from bench.checkpoints import place_tensors
from bench.errors import quote_error
from bench.images import Frame
from bench_models.libraries import check_name, is_smooth, replace_activations

FILE = "model.safetensors"  # of a repository of timm on the hub
CROPS: dict[str, Literal["center", "none"]] = {"center": "center", "squash": "none"}


@dataclass(frozen=True)
class Timm(bench.Model):
    """Build a classification network of timm (Wightman) by its name there. It has fresh weights, and the mean and std
    of its pretrained weights inside.

    With `pretrained`, training starts from the weights of this name, which are downloaded once; with the defense
    `weights` as well, the network is theirs. For weights in a file of yours, use weights:path=FILE and a full name such
    as tf_efficientnet_b0.ap_in1k, since the weights of one architecture may have another mean and std, size,
    interpolation and crop. A data set that frames images then frames them like this, unless its parameters say
    otherwise. Activations stay as they are, or all become ReLU or softplus. Networks with a fixed input size, mostly
    transformers, are built for the size of the images.
    """

    name = "timm"
    examples = ("arch=resnet18", "arch=efficientnet_b0")
    arch: str = bench.param(help="name of the network, such as resnet50, or with its weights, resnet50.a1_in1k")
    activation: Literal["native", "softplus", "relu"] = bench.param("native", "nonlinearity between layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused otherwise", low=0.01)
    pretrained: bool = bench.param(False, "whether to start from the trained weights of this name", added=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained and "." not in self.arch:
            self._check()
            tag = getattr(self._settings(), "tag", None)
            if not tag:
                raise bench.BadValue(f"model timm: arch {self.arch} has no trained weights; leave out pretrained")
            object.__setattr__(self, "arch", f"{self.arch}.{tag}")  # another version may prefer others

    @classmethod
    def suggest(cls, text: str) -> str | None:
        import timm

        known = timm.list_models() if "." not in text else timm.list_pretrained()
        return f"{cls.name}:arch={text}" if text in known else None

    @property
    def classes(self) -> tuple[str, ...]:
        if not self.pretrained:
            return ()
        from timm.data import ImageNetInfo, infer_imagenet_subset

        self._check()
        settings = self._settings().to_dict()
        names = settings.get("label_names") or ()
        if not names and (subset := infer_imagenet_subset(settings)):
            info = ImageNetInfo(subset)
            names = [info.index_to_description(i) for i in range(info.num_classes())]
        return tuple(names) or tuple(map(str, range(settings["num_classes"])))

    def load_weights(self, network: bench.Normalised, shape: tuple[int, int, int]) -> None:
        if not self.pretrained:
            return
        from huggingface_hub import snapshot_download

        self._check()
        try:
            repository, options = self._settings().hf_hub_id, {}
            if repository:  # timm itself asks for a file five times, even where there is no network
                file = Path(snapshot_download(repository, allow_patterns=FILE)) / FILE
                options = {"pretrained_cfg_overlay": {"file": str(file)}} if file.exists() else {}
            source = self._network(shape, len(self.classes), pretrained=True, **options)
        except Exception as error:  # of the hub, of urllib, or of what reads the file
            raise bench.EnvironmentProblem(
                f"model {self}: its weights cannot be loaded ({type(error).__name__}: {quote_error(error)}); where "
                "there is no network, bring the cache of the hub from a machine that has one, and name it with HF_HOME"
            ) from None
        place_tensors(network.network, source.state_dict(), f"the weights of {self}", any_classes=True)

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

    def _network(self, shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Module:
        import timm

        self._check()
        settings = self._settings()
        if settings is not None and settings.fixed_input_size:
            options["img_size"] = shape[1:]
        return timm.create_model(self.arch, num_classes=classes, in_chans=shape[0], **options)

    def _check(self) -> None:
        import timm

        def weights(name: str) -> list[str]:
            return [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]

        check_name("timm", self.arch, timm.list_models(), weights, "timm.list_models()")

    def _settings(self) -> Any:
        import timm

        return timm.get_pretrained_cfg(self.arch)
