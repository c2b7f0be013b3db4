"""What models promise."""

from __future__ import annotations

import torch

from bench import noise
from bench.components import Model
from bench.engine import Catalog
from bench.gradients import input_gradient
from bench.networks import Normalised
from bench.testing.contracts.shared import ensure, forbid_side_effects
from bench.testing.fixtures import current_device


def maps_images_to_logits(component: Model, catalog: Catalog) -> None:
    with noise.rows(0, "model", range(3)):
        images = noise.uniform(torch.empty(3, 3, 32, 32), 0, 1).to(current_device())
    network, twin = (_build(component) for _ in range(2))
    ensure(
        isinstance(network, Normalised),
        f"build returned a {type(network).__name__}, not a bench.Normalised, which takes images in [0, 1]",
    )
    ensure(network.mean.isfinite().all(), "the mean of the normalisation contains NaN or infinity")
    ensure((network.std > 0).all(), "the std of the normalisation is not above 0")
    with torch.no_grad(), forbid_side_effects(network, images):
        logits = network(images)
        ensure(logits.shape == (3, 7), f"for 3 images and 7 classes, logits have shape {tuple(logits.shape)}")
        ensure(logits.isfinite().all(), "logits contain NaN or infinity")
        ensure(not torch.equal(logits[0], logits[1]), "two images have the same logits: the network ignores its input")
        ensure(
            torch.allclose(network(images[:1]), logits[:1], atol=1e-4),
            "an image has different logits alone and in a batch",
        )
        ensure(torch.equal(twin(images), logits), "two networks built with the same seed differ")


def _build(component: Model) -> Normalised:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return component.build((3, 32, 32), 7).eval().to(current_device())


def is_smooth_as_declared(component: Model, catalog: Catalog) -> None:
    device = current_device()
    network = component.build((3, 32, 32), 4).eval().requires_grad_(False).to(device, torch.float64)
    images = torch.full((1, 3, 32, 32), 0.4, dtype=torch.float64, device=device).requires_grad_()
    gradient = input_gradient(network, images, torch.tensor([1], device=device))
    second = None
    if gradient.requires_grad:  # that of a linear network does not
        (second,) = torch.autograd.grad(gradient.square().sum(), images, allow_unused=True)
    # Relative to a small gradient, as that of a fresh network may be.
    is_curved = second is not None and bool(second.abs().max() > 1e-12 * gradient.square().sum().clamp(max=1))
    ensure(
        is_curved == component.smooth,
        f"smooth is {component.smooth}, but its second derivative is {'not ' if is_curved else ''}zero",
    )
