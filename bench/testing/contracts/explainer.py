"""What explainers promise."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import typing
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench import noise
from bench.components import Explainer, MaskRule, Prepared
from bench.engine import Catalog
from bench.gradients import softened
from bench.testing.contracts.shared import ensure, ensure_rows_are_independent, forbid_side_effects
from bench.testing.fixtures import network_for, strange_networks, tiny_data, tiny_fit, tiny_images

BETA = 20.0  # sharpness of the softplus that replaces ReLU where a second derivative is taken
STEP = 1e-6  # of finite differences


def returns_valid_attributions(component: Explainer, catalog: Catalog) -> None:
    rules = typing.get_args(MaskRule)
    ensure(component.mask_rule in rules, f"mask_rule is {component.mask_rule!r}; use one of {', '.join(rules)}")
    for dtype, shape in ((torch.float64, (3, 12, 12)), (torch.float32, (3, 12, 9))):
        if component.prepares and shape != (3, 12, 12):
            continue  # it learns from images of one size
        network, (images, targets) = network_for(component, True, dtype, shape), tiny_images(5, shape)
        images, prepared = images.to(dtype), _prepare(component, network)
        # Before another call, which would find the images as this one leaves them.
        with torch.no_grad(), forbid_side_effects(network, images, targets), noise.rows(0, "contract", range(5)):
            attribution = component.attribute(network, images, targets, *([prepared] if prepared else []))
            _check_attribution(attribution, images)
        with torch.no_grad(), forbid_side_effects(network, images, targets), noise.rows(0, "contract", range(5)):
            maps = component.maps(network, images, targets, prepared)
            ensure(maps.flatten(1).any(1).all(), "the attribution of an image is zero everywhere")
            ensure(torch.allclose(maps.sum((1, 2)), maps.new_ones(5)), "a map does not sum to one")
            masks = component.masks(network, images, targets, prepared)
            ensure(masks.min() >= 0 and masks.max() <= 1, "a mask has values outside [0, 1]")


def _check_attribution(attribution: Tensor, images: Tensor) -> None:
    ensure(isinstance(attribution, Tensor), f"attribute returned a {type(attribution).__name__}, not a tensor")
    count, _, *size = images.shape
    ensure(
        attribution.shape in (images.shape, (count, 1, *size)),
        f"for images of shape {tuple(images.shape)}, attribute returned shape {tuple(attribution.shape)}; return "
        "(B, C or 1, H, W)",
    )
    ensure(attribution.isfinite().all(), "the attribution contains NaN or infinity")
    ensure(attribution.dtype == images.dtype, f"images are {images.dtype}, but attribute returned {attribution.dtype}")
    ensure(not attribution.requires_grad, "the attribution keeps a graph under torch.no_grad()")


def explains_images_independently(component: Explainer, catalog: Catalog) -> None:
    network, (images, targets) = network_for(component, True), tiny_images()
    prepared = _prepare(component, network)
    with torch.no_grad():
        ensure_rows_are_independent(lambda i, t: component.attributions(network, i, t, prepared), images, targets)


def explains_networks_of_strangers(component: Explainer, catalog: Catalog) -> None:
    network, (images, targets) = network_for(component, True), tiny_images(3)
    prepared = _prepare(component, network)

    def explain(network: nn.Module, images: Tensor, targets: Any = targets) -> Tensor:
        given = (
            None if prepared is None else {n: t.to(images) if t.is_floating_point() else t for n, t in prepared.items()}
        )
        with torch.no_grad(), noise.rows(0, "contract", range(3)):
            return component.maps(network, images, targets, given)

    expected = explain(network, images)
    for form, other in strange_networks(network).items():
        before = images.clone()
        ensure(torch.allclose(explain(other, images), expected), f"its maps of a network {form} are others")
        ensure(torch.equal(images, before), f"a network {form} overwrites the images of the caller")
    ensure(
        torch.equal(explain(network, images, targets.tolist()), expected), "its maps for a list of targets are others"
    )
    half = explain(copy.deepcopy(network).bfloat16(), images.bfloat16())
    ensure(half.isfinite().all(), "maps of a network in half precision contain NaN or infinity")
    ensure(half.flatten(1).any(1).all(), "the map of a network in half precision is zero everywhere")


def is_differentiable_as_declared(component: Explainer, catalog: Catalog) -> None:
    for smooth in (True, False):
        network, (images, targets) = network_for(component, smooth), tiny_images(2)
        with noise.rows(1, "direction", range(2)):
            direction, weight = noise.normal(images), noise.uniform(images[:, 0], 0, 1)
        mass = _weigh_maps(component, network, targets, weight)
        on = "a softplus network" if smooth else f"a ReLU network under softened({BETA:g})"
        # Backward outside `softened` too: what is computed again there must restore the mode of its forward.
        for inside in (True, False):
            leaf = images.clone().requires_grad_()
            with softened(BETA) if inside else contextlib.nullcontext():
                value = mass(leaf)
                gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
            if not component.differentiable:
                is_flat = gradient is None or not gradient.any()
                ensure(is_flat, "differentiable is False, but its maps have a gradient; set differentiable = True")
                continue
            _check_gradient(gradient, mass, images, direction, on)


def _weigh_maps(
    component: Explainer, network: nn.Module, targets: Tensor, weight: Tensor
) -> Callable[[Tensor], Tensor]:
    """A function of images: the weighted sum of their maps on the softened network."""
    prepared = _prepare(component, network)

    def mass(images: Tensor) -> Tensor:
        with noise.rows(0, "contract", range(len(images))), softened(BETA):
            return (component.maps(network, images, targets, prepared) * weight).sum()

    return mass


def _check_gradient(
    gradient: Tensor | None, mass: Callable[[Tensor], Tensor], images: Tensor, direction: Tensor, on: str
) -> None:
    if gradient is None or not gradient.isfinite().all():
        ensure(False, f"differentiable is True, but its maps have no finite gradient on {on}")
        return
    with torch.no_grad():
        slope = (mass(images + STEP * direction) - mass(images - STEP * direction)) / (2 * STEP)
    exact = (gradient * direction).sum()
    ensure(
        (exact - slope).abs() <= 1e-4 * slope.abs().clamp(min=1e-6),
        f"differentiable is True, but on {on} its maps have a slope of {float(slope):.6g} by finite differences and of "
        f"{float(exact):.6g} by their gradient",
    )
    ensure(gradient.any(), f"differentiable is True, but the gradient of its maps is zero on {on}")


def _prepare(component: Explainer, network: nn.Module) -> Prepared | None:
    """What an explainer learns about a tiny network, in the network's precision; None where it learns nothing."""
    if not component.prepares:
        return None
    single, like = copy.deepcopy(network).float(), next(network.parameters())
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        prepared = component.prepare(single, tiny_data(), tiny_fit(folder))
    ensure(
        isinstance(prepared, dict) and prepared and all(isinstance(tensor, Tensor) for tensor in prepared.values()),
        "prepare returned no tensors by name; leave prepare out if the explainer learns nothing",
    )
    return {name: t.detach().to(like) if t.is_floating_point() else t.to(like.device) for name, t in prepared.items()}
