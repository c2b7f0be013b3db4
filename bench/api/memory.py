"""Images and a network in memory as components, so that a case can be made of them as of any others."""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.components import Data, Dataset, Defense, Model, param
from bench.engine import Fit, chunked
from bench.errors import BadComponent, BadValue, BenchError, quote_error
from bench.gradients import input_gradient
from bench.networks import (
    HALF,
    Normalised,
    check_eager,
    check_images,
    check_logits,
    check_targets,
    in_float32,
    normalisation,
)

CONTENT = "checksum of what is in memory"


@dataclass(frozen=True)
class MemoryDataset(Dataset):
    """Images in memory: those to measure on and, as training images, those to refer to."""

    name = "memory"
    in_memory = True
    content: str = param(help=CONTENT)
    # Not fields, which would be parameters.
    test: ClassVar[Data]
    train: ClassVar[Data]

    @property
    def provides(self) -> frozenset[str]:
        return frozenset() if self.test.labels is None else frozenset({"labels"})

    @property
    def identity(self) -> str:
        return super(Dataset, self).identity  # the content is a parameter; that of files would be kept for good

    @property
    def form(self) -> tuple[tuple[int, int, int], int]:
        return self.test.shape, len(self.test.classes)

    def load(self, split: str) -> Data:
        return self.test if split == "test" else self.train


@dataclass(frozen=True)
class MemoryModel(Model):
    """A network in memory, of which every case gets a copy in eval mode."""

    name = "memory"
    in_memory = True
    content: str = param(help=CONTENT)
    network: ClassVar[nn.Module]
    image: ClassVar[Tensor]

    @functools.cached_property
    def smooth(self) -> bool:
        """Whether the gradient of a logit changes with the image, at the first one."""
        network = in_float32(_copy(self.network)).cpu().eval().requires_grad_(False)
        image = self.image.clone().requires_grad_()
        with torch.enable_grad():
            gradient = input_gradient(network, image, torch.zeros(1, dtype=torch.int64))
            if not gradient.requires_grad:  # of a linear network
                return False
            (second,) = torch.autograd.grad(gradient.square().sum(), image, allow_unused=True)
        return second is not None and bool(second.any())

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:  # type: ignore[override]
        return in_float32(_copy(self.network))


@dataclass(frozen=True)
class MemoryDefense(Defense):
    """Train nothing: the network in memory has its weights."""

    name = "memory"
    in_memory = True
    trains = False

    def train(self, fit: Fit) -> nn.Module:
        return fit.fresh()


def hold(
    network: nn.Module,
    images: Tensor,
    labels: Any,
    references: Tensor | None,
    device: torch.device,
    name: str = "labels",
) -> tuple[MemoryDataset, MemoryModel]:
    """The data set of images (N, C, H, W), labels (N,) or None and references (R, C, H, W) or None; and the model.

    `name` is what messages call the labels. Raises BadValue or BadComponent for what cannot be measured, and warns of a
    network that would be measured in another way than its owner may expect.
    """
    check_network(network)
    dtype = next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), torch.float32)
    held = _check(images, "images", torch.float32 if dtype in HALF else dtype)
    others = held[:0] if references is None else _check(references, "references", held.dtype)
    if others.shape[1:] != held.shape[1:]:
        raise BadValue(f"references are {_form(others)}, but images are {_form(held)}; give both one size")
    known = None if labels is None else check_targets(labels, held, name).cpu()
    logits = _read_logits(network, held, device)
    classes = logits.shape[1]
    if known is not None and not 0 <= int(known.min()) <= int(known.max()) < classes:
        raise BadValue(
            f"{name} range from {int(known.min())} to {int(known.max())}, but the network has {classes} classes; "
            f"number them from 0 to {classes - 1}"
        )
    _warn_of_doubts(network, held, logits)
    parts = [held, others, *([] if known is None else [known])]
    dataset = MemoryDataset(_sum(parts))
    names = tuple(map(str, range(classes)))
    object.__setattr__(dataset, "test", Data(held, known, names))
    object.__setattr__(dataset, "train", Data(others, None, names))
    # Networks of other code may have the same weights, but hardly the same logits.
    model = MemoryModel(_sum([logits, *network.state_dict().values()], map(_describe, network.named_modules())))
    object.__setattr__(model, "network", network)
    object.__setattr__(model, "image", held[:1])
    return dataset, model


def check_network(network: Any) -> None:
    """Raise BadComponent unless a network can be copied to a device and followed through its layers."""
    if not isinstance(network, nn.Module):
        raise BadComponent(f"the network is a {type(network).__name__}; pass a torch.nn.Module")
    check_eager(network)
    places = sorted({str(tensor.device) for tensor in (*network.parameters(), *network.buffers())})
    if len(places) > 1 or "meta" in places:
        raise BadComponent(
            f"the network lies on {' and '.join(places)}; load its weights, and move all of it with network.to('cpu')"
        )


def _check(images: Any, name: str, dtype: torch.dtype) -> Tensor:
    """Images on the CPU in the type that the network takes. Raises BadValue for all but (N, C, H, W) in [0, 1]."""
    if not isinstance(images, Tensor):
        kind = type(images).__name__
        way = {"ndarray": "from_numpy", "list": "stack", "tuple": "stack"}.get(kind)
        hint = f", torch.{way}({name})" if way else ""
        raise BadValue(f"{name} are of type {kind}; give a tensor (N, C, H, W) of floats in [0, 1]{hint}")
    if images.ndim != 4 or not images.numel():
        hint = "; for a single image, give images[None]" if images.ndim == 3 else ""
        raise BadValue(f"{name} have the shape {_form(images)}, must be (N, C, H, W){hint}")
    if images.shape[1] > 4 >= images.shape[3]:
        raise BadValue(f"{name} have the shape {_form(images)}, with channels last; give {name}.permute(0, 3, 1, 2)")
    if not images.is_floating_point():
        raise BadValue(f"{name} are in {_type(images)}; give floats in [0, 1], for bytes {name}.float() / 255")
    held = images.detach().to("cpu", dtype).clone()
    broken = (~held.flatten(1).isfinite().all(1)).nonzero()
    if len(broken):
        raise BadValue(f"image {int(broken[0])} of {name} contains NaN or infinity; leave it out")
    check_images(held)
    return held


def _read_logits(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """The logits of a copy of the network, (N, K) on the CPU. Raises BadComponent where it cannot take the images."""
    own = in_float32(_copy(network)).to(device).eval()
    try:
        with torch.no_grad():
            logits: Tensor = chunked(
                lambda part: check_logits(own(part.to(device)), part).cpu(),
                images,
                seed=0,
                name="logits",
                indices=torch.arange(len(images)),
            )
    except BenchError:
        raise
    except Exception as error:  # whatever a stranger's network comes to
        raise BadComponent(f"the network fails on images {_form(images)}: {quote_error(error, 300)}") from error
    if logits.shape[1] < 2:
        raise BadComponent("the network gives one logit; give one a class, such as torch.cat([-logit, logit], 1)")
    if not logits.isfinite().all():
        row = int((~logits.isfinite().all(1)).nonzero()[0])
        raise BadComponent(f"the network's logits of image {row} contain NaN or infinity; check its weights")
    return logits


def _copy(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except Exception as error:  # of a stranger's module
        raise BadComponent(
            f"the network cannot be copied ({quote_error(error)}); it is measured on a copy, so make it one that "
            "copy.deepcopy takes"
        ) from error


def _warn_of_doubts(network: nn.Module, images: Tensor, logits: Tensor) -> None:
    """Warn of a network in training mode, and of one that gives probabilities or seems to expect normalised images."""
    if any(module.training for module in network.modules()):
        warnings.warn(
            "the network is in training mode; a copy in eval mode is measured, so call network.eval() where you "
            "compare with your own numbers",
            stacklevel=4,
        )
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        warnings.warn(
            "the network gives probabilities, and the maps explain these; leave its last softmax out to explain logits",
            stacklevel=4,
        )
    if any(isinstance(module, Normalised) for module in network.modules()):
        return
    with warnings.catch_warnings(record=True) as unseen:
        warnings.simplefilter("always")
        mean, std = normalisation(network, images[:1].to(next(network.parameters(), images)))
    if not unseen and not mean.any() and (std == 1).all():
        warnings.warn(
            "the network's first layer gets the images as they are; if it was trained on normalised ones, pass "
            "bench.Normalised(network, mean, std), else bench.Normalised(network, [0.0], [1.0])",
            stacklevel=4,
        )


def _describe(named: tuple[str, nn.Module]) -> str:
    name, module = named
    return f"{name} {type(module).__qualname__} {module.extra_repr()}"


def _sum(tensors: Iterable[Tensor], texts: Iterable[str] = ()) -> str:
    """sha256 of tensors with their shapes and of texts, 16 digits."""
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{plain.dtype} {_form(plain)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    for text in texts:
        found.update(text.encode() + b"\0")
    return found.hexdigest()[:16]


def _form(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
