"""What attacks promise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor, nn

from bench import noise
from bench.components import Attack, Ball
from bench.engine import Catalog
from bench.testing.contracts.shared import ensure, ensure_rows_are_independent, forbid_side_effects
from bench.testing.fixtures import strange_networks, tiny_images, tiny_network, tiny_victim

BALL = Ball("linf", Fraction(8, 255))
ROUNDING = 1e-6  # by which an attack may exceed its budget in float32


def stays_in_the_ball(component: Attack, catalog: Catalog) -> None:
    for smooth, dtype in ((True, torch.float64), (False, torch.float32)):
        network, (images, targets) = tiny_network(smooth, dtype), tiny_images()
        images = images.to(dtype)
        for ball in (BALL, Ball("l2", Fraction(1, 2)), Ball("linf", Fraction(0))):
            with forbid_side_effects(network, images, targets), noise.rows(0, "contract", range(5)):
                attacked = component.perturb(tiny_victim(network), images, targets, ball)
            _check_attacked(component, attacked, images, ball)


def _check_attacked(component: Attack, attacked: Tensor, images: Tensor, ball: Ball) -> None:
    ensure(isinstance(attacked, Tensor), f"perturb returned a {type(attacked).__name__}, not a tensor")
    ensure(
        attacked.shape == images.shape,
        f"for images of shape {tuple(images.shape)}, perturb returned shape {tuple(attacked.shape)}",
    )
    ensure(attacked.isfinite().all(), "an attacked image contains NaN or infinity")
    ensure(attacked.dtype == images.dtype, f"images are {images.dtype}, but perturb returned {attacked.dtype}")
    change = (attacked.detach().double() - images.double()).flatten(1)
    size = change.abs().amax(1) if ball.norm == "linf" else change.norm(dim=1)
    excess = float(size.max()) - float(ball.eps)
    ensure(excess <= ROUNDING, f"an image leaves the ball {ball} by {excess:.2g}; use ball.project(moved, images)")
    ensure(
        attacked.min() >= -ROUNDING and attacked.max() <= 1 + ROUNDING,
        "an attacked image leaves [0, 1]; use ball.project(moved, images)",
    )
    if component.moves:
        ensure(change.any() or not ball.eps, f"it changes no image within the ball {ball}")
    else:
        ensure(not change.any(), "it changes images, although its class says moves = False; leave that out")


def attacks_images_independently(component: Attack, catalog: Catalog) -> None:
    ensure_rows_are_independent(_perturb(component, smooth=True), *tiny_images())


def attacks_networks_of_strangers(component: Attack, catalog: Catalog) -> None:
    network, (images, targets) = tiny_network(smooth=True), tiny_images(3)

    def perturb(network: nn.Module, images: Tensor) -> Tensor:
        with noise.rows(0, "contract", range(3)):
            return component.perturb(tiny_victim(network), images, targets, BALL).detach()

    expected = perturb(network, images)
    for form, other in strange_networks(network).items():
        before = images.clone()
        ensure(torch.allclose(perturb(other, images), expected), f"its images for a network {form} are others")
        ensure(torch.equal(images, before), f"a network {form} overwrites the images of the caller")
    half = images.bfloat16()
    _check_attacked(component, perturb(copy.deepcopy(network).bfloat16(), half), half, BALL)


def lowers_its_objective(component: Attack, catalog: Catalog) -> None:
    images, targets = tiny_images()
    for smooth in (True, False):
        with torch.no_grad():
            objective = component.make_objective(tiny_victim(tiny_network(smooth)), images, targets)
            loss = component.make_loss(tiny_victim(tiny_network(smooth)), images, targets)
            if objective is None or loss is None:
                return
            before = loss(images)
        ensure(before.shape == (5,), f"for 5 images, its objective has shape {tuple(before.shape)}, not (5,)")
        if component.beta is None and not smooth:
            ensure(
                _has_gradient(objective, images),
                "its objective has no gradient on a ReLU network; give the attack a parameter beta, the sharpness of "
                "the softplus that replaces ReLU",
            )
        attacked = _perturb(component, smooth)(images, targets)
        with torch.no_grad():
            after = loss(attacked)
        ensure((after <= before + 1e-9).all(), "the objective of an image is higher after the attack than before")
        ensure(after.mean() < before.mean(), "its objective is no lower after the attack than before")


def _perturb(component: Attack, smooth: bool) -> Callable[[Tensor, Tensor], Tensor]:
    victim = tiny_victim(tiny_network(smooth))
    return lambda images, targets: component.perturb(victim, images, targets, BALL).detach()


def _has_gradient(objective: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    with torch.enable_grad():
        leaf = images.clone().requires_grad_()
        total = objective(leaf).sum()
        return total.requires_grad and bool(torch.autograd.grad(total, leaf)[0].any())
