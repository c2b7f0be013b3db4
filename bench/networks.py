"""Networks as the suite sees them: they take images in [0, 1], normalise inside, and give logits (B, K)."""

from __future__ import annotations

import contextlib
import contextvars
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.errors import BadComponent, BadValue, clean


class Normalised(nn.Module):
    """A network for images in [0, 1], made from one for (image - mean) / std; mean and std are per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.training = network.training
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


HALF = (torch.float16, torch.bfloat16)


class InFloat32(nn.Module):
    """Takes float32 and gives float32 around a network in half precision."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images.to(self.dtype))
        return logits.to(torch.float32) if isinstance(logits, Tensor) else logits


def in_float32(network: nn.Module) -> nn.Module:
    """A network for images in float32: the network itself, or `InFloat32` around one in half precision."""
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    return InFloat32(network, dtype) if dtype in HALF and not isinstance(network, InFloat32) else network


def to_float32(values: Tensor) -> Tensor:
    """Values in single precision where they are in half, else unchanged."""
    return values.float() if values.dtype in HALF else values


# A network's mean and std, as numbers or tensors for the channels.
Pair = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]


@dataclass(frozen=True)
class Asked:
    """What a caller gave with a network: images, the normalisation where it cannot be seen, and the attack, if any."""

    images: Tensor
    normalisation: Pair | None = None
    attack: str = ""


_asked: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("asked", default=None)


@contextlib.contextmanager
def asked(images: Tensor, given: Pair | None, attack: str = "") -> Iterator[None]:
    """Inside, `normalisation` knows the images, and the mean and std that the caller gave."""
    outer = _asked.get() or Asked(images)
    token = _asked.set(Asked(images, outer.normalisation if given is None else given, attack or outer.attack))
    try:
        yield
    finally:
        _asked.reset(token)


def attack_under_way() -> str:
    """The attack that a call of an explainer belongs to, as text, or ""."""
    call = _asked.get()
    return "" if call is None else call.attack


def normalisation(network: nn.Module, images: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and std by which a network normalises images in [0, 1], (C, 1, 1) each.

    They are those that the caller gave (`normalisation=`), those of the suite's own networks, also inside wrappers, or
    those that the first layer of a network sees of uniform images: 0 and 1 where a network normalises nothing. Images
    are needed for the last, and are those of the call under way by default. Warns where nothing can be seen, and
    returns 0 and 1, so that the mean colour is black. A gradient in normalised space is std times the gradient in pixel
    space.
    """
    call = _asked.get()
    like = next(network.parameters(), torch.zeros(())) if images is None else images
    if images is None and call is not None:
        images = like = call.images
    if call is not None and call.normalisation is not None:
        return _check_pair(call.normalisation, like)
    inner = [module for module in network.modules() if isinstance(module, Normalised)]
    if inner and all(torch.equal(m.mean, inner[0].mean) and torch.equal(m.std, inner[0].std) for m in inner[1:]):
        return inner[0].mean, inner[0].std
    if images is not None:
        seen = None if inner else _see_normalisation(network, images)
        if seen is not None:
            return seen
        warnings.warn(
            "the network's normalisation cannot be seen, so the mean colour is taken for black; give "
            "normalisation=(mean, std)",
            stacklevel=2,
        )
    return like.new_zeros(1, 1, 1), like.new_ones(1, 1, 1)


def _check_pair(given: Pair, images: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and std that a caller gave, (C, 1, 1) each. Raises BadValue unless they are numbers for the channels."""
    channels = images.shape[1] if images.ndim == 4 else 1
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        mean, std = (torch.as_tensor(part, dtype=images.dtype, device=images.device).flatten() for part in given)
        if {len(mean), len(std)} <= {1, channels} and mean.isfinite().all() and (std > 0).all():
            return mean.view(-1, 1, 1), std.view(-1, 1, 1)
    raise BadValue(
        f"normalisation is {given!r}; give (mean, std), with one number for each of the {channels} channels in both, "
        "such as ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])"
    )


class _FirstLayer(Exception):
    """Ends a forward pass where a network's first layer is called."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given


class _StopAtFirstLayer(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        named = named or {}
        if getattr(func, "__name__", "").strip("_") in ("conv2d", "linear", "matmul", "einsum", "mm", "addmm", "bmm"):
            raise _FirstLayer(args[0] if args else named["input"])
        return func(*args, **named)


def _see_normalisation(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and std as the first layer of a network sees them, (C, 1, 1) each, or None.

    The network sees uniform images: black, grey, and one in each primary colour.
    """
    channels = images.shape[1]
    primary = torch.eye(channels).to(images)
    colours = torch.cat([primary.new_zeros(1, channels), primary.new_full((1, channels), 0.5), primary])
    try:
        with torch.no_grad(), _StopAtFirstLayer():
            network(colours[:, :, None, None].expand(-1, -1, *images.shape[2:]).clone())
    except _FirstLayer as reached:
        given = reached.given
    except Exception:  # whatever it is, the call that asks will meet it too, and say it better
        return None
    else:
        return None
    if not isinstance(given, Tensor) or len(given) != len(colours):
        return None
    if given.ndim == 2 and given.shape[1] == images[0].numel():
        given = given.view(len(given), *images.shape[1:])
    if given.ndim != 4 or given.shape[1] != channels:
        return None
    black, grey, *rest = given[:, :, given.shape[2] // 2, given.shape[3] // 2].double()
    slopes = torch.stack(rest) - black  # by colour, and by channel of the layer's input
    place = slopes.abs().argmax(1)
    scale = slopes.gather(1, place[:, None])[:, 0]
    off = torch.cat([slopes.scatter(1, place[:, None], 0.0), (grey - black - 0.5 * slopes.sum(0))[None]])
    is_affine = off.abs().max() <= 0.02 * scale.abs().max()  # half precision rounds
    if not is_affine or len(set(place.tolist())) < channels or not (scale > 0).all():
        return None
    mean, std = -black[place] / scale, 1 / scale
    return mean.to(images).view(-1, 1, 1), std.to(images).view(-1, 1, 1)


def check_images(images: Tensor, slack: float = 1e-6) -> None:
    """Raise BadValue for images that leave [0, 1] by more than a slack, which covers rounding."""
    if not images.numel():
        return
    low, high = (float(bound) for bound in images.aminmax())
    if low < -slack or high > 1 + slack:
        raise BadValue(
            f"images range from {low:.3g} to {high:.3g}; pass images in [0, 1] (divide bytes by 255) and leave "
            "normalisation to the network, as bench.Normalised does"
        )


def check_logits(logits: Tensor, images: Tensor) -> Tensor:
    """Return the logits that a network gave for images. Raises BadComponent unless they are (B, K)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        form = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise BadComponent(f"the network gives {form} for {len(images)} images; logits are ({len(images)}, classes)")
    return logits


def choose_class(target: str, logits: Tensor) -> Tensor:
    """The class that a target such as "predicted" names for each row of logits, all but "label": (N, K) -> (N,) int64.

    Raises BadValue for a class that there is not.
    """
    predicted = logits.argmax(1)
    if target == "predicted":
        return predicted
    if target == "class:second":
        return logits.scatter(1, predicted[:, None], -torch.inf).argmax(1)
    number, classes = int(target.removeprefix("class:")), logits.shape[1]
    if number >= classes:
        raise BadValue(
            f"target {target}: the network has {classes} classes; choose from class:0 to class:{classes - 1}"
        )
    return torch.full_like(predicted, number)


def check_targets(targets: Any, images: Tensor, name: str = "targets") -> Tensor:
    """The class of each image, (B,) int64, from such a tensor, a list of B numbers, or one number for all.

    Raises BadValue for all else.
    """
    given, form, hint = targets, "", ""
    if isinstance(targets, list | tuple) and all(_is_whole(each) for each in targets):
        given = torch.tensor(targets, dtype=torch.int64)
        form = f"a list of {len(targets)}"
    elif isinstance(targets, list | tuple):
        form = f"a list of {', '.join(sorted({type(each).__name__ for each in targets}))}"
    elif _is_whole(targets):
        given = torch.full((len(images),), int(targets))
    if isinstance(given, Tensor):
        if given.dtype == torch.int64 and given.shape == (len(images),):
            return given.to(images.device)
        if given.ndim == 2 and given.shape[1] > 1:
            hint = f" (one-hot rows: {name}.argmax(1))"
        elif given.shape == (len(images),):
            hint = f" ({name}.long())"
        form = form or f"a tensor {tuple(given.shape)} in {str(given.dtype).removeprefix('torch.')}"
    raise BadValue(
        f"{name} are {form or f'a {type(targets).__name__}'}, but there are {len(images)} images; give a tensor "
        f"({len(images)},) in int64, a list of {len(images)} numbers, or one number for all{hint}"
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], about: str) -> None:
    """Load tensors by the names of a network's state dict. Raises BadValue with the first difference."""
    expected = network.state_dict()
    for problem, one, other in (("lack", expected, tensors), ("have an unknown", tensors, expected)):
        if wrong := [name for name in one if name not in other]:
            rest = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise BadValue(f"{about} {problem} {clean(wrong[0])}{rest}; are they those of another model?")
    for name, given in tensors.items():
        tensor = expected[name]
        if given.shape != tensor.shape:
            raise BadValue(
                f"{about}: {name} is {tuple(given.shape)}, must be {tuple(tensor.shape)} for this model and "
                "number of classes"
            )
        if not tensor.is_floating_point():
            continue
        if not given.is_floating_point() or given.layout != torch.strided or given.is_meta:
            raise BadValue(f"{about}: {name} has type {given.dtype}, must be plain floats; are they quantised?")
        if not given.to(tensor.dtype).isfinite().all():
            raise BadValue(f"{about}: {name} contains NaN or infinity in {tensor.dtype}")
    network.load_state_dict(dict(tensors))


def check_eager(network: nn.Module) -> None:
    """Raise BadComponent where a network, or a part of it, is scripted, compiled or exported.

    Code that replaces activations or watches layers does not reach inside such a network.
    """
    if isinstance(network, torch.export.ExportedProgram):
        raise BadComponent(_unreachable("", "exported"))
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise BadComponent(_unreachable(name, "scripted"))
        if type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise BadComponent(_unreachable(name, "compiled"))
        graph = module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ()
        if any(isinstance(node.target, torch._ops.OpOverload) for node in graph):
            raise BadComponent(_unreachable(name, "exported"))


def _unreachable(name: str, how: str) -> str:
    return (
        f"{f'layer {name}' if name else 'the network'} is {how}, and its activations cannot be replaced; pass the "
        "network as it was before"
    )
