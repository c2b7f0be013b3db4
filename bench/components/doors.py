"""What every call of an explainer, an attack or a metric goes through, whoever makes it.

Targets become (B,) int64 or are refused, and so are images outside [0, 1]. Networks get copies of their images. What
surrounds a network in half precision is computed in float32. Gradients can be taken under the caller's inference mode
too. A score of what is undefined is undefined.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BadComponent, BadValue
from bench.guard import guarded
from bench.networks import HALF, Pair, asked, check_images, check_targets, in_float32, to_float32

ROWS = ("targets", "labels")  # evidence that has the form of targets


@contextlib.contextmanager
def _enter(network: nn.Module) -> Iterator[nn.Module]:
    """Yield a network for images in float32. Inside, it is guarded, and inference mode is off."""
    if not isinstance(network, nn.Module):
        raise BadComponent(f"the network is a {type(network).__name__}; pass a torch.nn.Module")
    if any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers())):
        raise BadComponent("the network was made under torch.inference_mode and has no gradients; make it outside")
    network = in_float32(network)
    with _differentiable(), guarded(network):
        yield network


@contextlib.contextmanager
def _differentiable() -> Iterator[None]:
    """Inside, inference mode is off. A function without a derivative is named."""
    try:
        with contextlib.ExitStack() as stack:
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())  # as under inference mode
            yield
    except RuntimeError as error:
        missing = re.search(r"derivative for (?:aten::)?(\w+?)(_backward)? is not implemented", str(error))
        if missing is None:
            raise
        raise BadComponent(
            f"torch has no {'second ' if missing[2] else ''}derivative for {missing[1]}, which the network calls; use "
            "an attack and an explainer without gradients, or write the function from others"
        ) from None


def _own(value: Any) -> Any:
    """A value, or a copy of a tensor that inference mode made, and that gradients could not be taken through."""
    if isinstance(value, dict):
        return {name: _own(part) for name, part in value.items()}
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _widen(value: Any) -> Any:
    return to_float32(value) if isinstance(value, Tensor) else value


def explainer_door(attribute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap the `attribute` of an explainer."""

    @functools.wraps(attribute)
    def entered(
        self: Any,
        network: nn.Module,
        images: Tensor,
        targets: Any,
        *prepared: Any,
        normalisation: Pair | None = None,
        **named: Any,
    ) -> Tensor:
        with _enter(network) as entered_network, asked(to_float32(images), normalisation):
            classes = _own(check_targets(targets, images))
            return attribute(
                self, entered_network, to_float32(_own(images)), classes, *map(_own, prepared), **_own(named)
            )

    return entered


def attack_door(perturb: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap the `perturb` of an attack."""

    @functools.wraps(perturb)
    def entered(self: Any, victim: Any, images: Tensor, targets: Any, ball: Any) -> Tensor:
        check_images(images)
        if ball.space not in self.spaces:
            raise BadValue(
                f"attack {self} returns {' or '.join(self.spaces)}, and {ball} takes {ball.space}; use another attack"
            )
        with _enter(victim.network) as network:
            classes, wide = _own(check_targets(targets, images)), to_float32(_own(images))
            own = {name: _own(getattr(victim, name)) for name in ("references", "prepared")}
            # Images that are broken from the start are nobody's but the caller's.
            about = str(self) if wide.isfinite().all() else ""
            with asked(wide, victim.normalisation, about):
                moved = perturb(self, dataclasses.replace(victim, network=network, **own), wide, classes, ball)
        is_rounded = images.dtype in HALF and ball.space == "images"
        return ball.project(moved, images) if is_rounded else moved

    return entered


def metric_door(score: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the `__call__` of a metric."""
    signature = inspect.signature(score)

    @functools.wraps(score)
    def entered(self: Any, *args: Any, **named: Any) -> Any:
        normalisation = None if "normalisation" in signature.parameters else named.pop("normalisation", None)
        bound = signature.bind(self, *args, **named)
        evidence = bound.arguments
        rows = {name: value for name, value in evidence.items() if isinstance(value, Tensor) and name not in ROWS}
        _check_rows(self, rows)
        for name in ("images", "attacked_images"):
            if name in rows:
                check_images(rows[name])
        for name in ROWS:
            if name in evidence and rows:
                evidence[name] = check_targets(evidence[name], next(iter(rows.values())), name)
        network = evidence.get("network")
        with contextlib.ExitStack() as stack:
            if isinstance(network, nn.Module):
                evidence["network"] = stack.enter_context(_enter(network))
            else:
                stack.enter_context(_differentiable())
            evidence.update({name: _widen(_own(value)) for name, value in evidence.items()})
            if "images" in rows:
                stack.enter_context(asked(evidence["images"], normalisation))
            result = score(*bound.args, **bound.kwargs)
        return _undefine(result, rows)

    return entered


def _check_rows(metric: Any, rows: dict[str, Tensor]) -> None:
    """Raise BadValue where evidence has another number of images, or the two sides of an attack other shapes."""
    for name, value in rows.items():
        other = next(iter(rows))
        clean = name.replace("attacked_", "clean_")
        if clean != name and clean in rows and rows[clean].shape != value.shape:
            other = clean
        elif value.shape[:1] == rows[other].shape[:1]:
            continue
        raise BadValue(
            f"metric {metric}: {name} has shape {tuple(value.shape)}, but {other} has {tuple(rows[other].shape)}; give "
            "the same images in both"
        )


def _undefine(result: Any, rows: dict[str, Tensor]) -> Any:
    """Make the score of each image NaN whose evidence contains NaN or infinity."""
    values = result if isinstance(result, Tensor) else getattr(result, "values", None)
    if not isinstance(values, Tensor) or not rows or not values.is_floating_point():
        return result
    bad = torch.zeros(len(next(iter(rows.values()))), dtype=torch.bool, device=values.device)
    for name, value in rows.items():
        # Logits of minus infinity rule a class out.
        wrong = value.isnan() if name.endswith("logits") else value.isfinite().logical_not()
        bad |= wrong.flatten(1).any(1).to(bad.device) if wrong.ndim > 1 else wrong.to(bad.device)
    if values.shape[:1] != bad.shape:
        return result  # the harness says what is wrong with it
    values = values.masked_fill(bad.view(-1, *(1 for _ in values.shape[1:])), torch.nan)
    return values if isinstance(result, Tensor) else dataclasses.replace(result, values=values)
