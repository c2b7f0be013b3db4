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

# By what an attack returns; the first ball of each kind serves where one is enough.
BALLS = {
    "images": (Ball("linf", Fraction(8, 255)), Ball("l2", Fraction(1, 2)), Ball("linf", Fraction(0))),
    "parameters": (
        Ball("rotation", Fraction(30)),
        Ball("translation", Fraction(2)),
        Ball("colour", Fraction(1, 2)),
        Ball("rotation", Fraction(0)),
    ),
}
ROUNDING = 1e-6  # by which an attack may exceed its budget in float32


def stays_in_the_ball(component: Attack, catalog: Catalog) -> None:
    balls = [ball for space in component.spaces for ball in BALLS[space]]
    for smooth, dtype, kept in ((False, torch.float32, balls), (True, torch.float64, balls[:1])):
        network, (images, targets) = tiny_network(smooth, dtype), tiny_images()
        images = images.to(dtype)
        for ball in kept:
            with forbid_side_effects(network, images, targets), noise.rows(0, "contract", range(5)):
                attacked = component.perturb(tiny_victim(network), images, targets, ball)
            _check_attacked(component, attacked, images, ball)


def _check_attacked(component: Attack, attacked: Tensor, images: Tensor, ball: Ball) -> None:
    ensure(isinstance(attacked, Tensor), f"perturb returned a {type(attacked).__name__}, not a tensor")
    clean = ball.center(images)
    ensure(
        attacked.shape == clean.shape,
        f"for images of shape {tuple(images.shape)}, perturb returned shape {tuple(attacked.shape)}"
        + ("" if ball.space == "images" else f", not parameters of shape {tuple(clean.shape)}, in the ball {ball}"),
    )
    ensure(attacked.isfinite().all(), "an attacked image contains NaN or infinity")
    ensure(attacked.dtype == clean.dtype, f"images are {images.dtype}, but perturb returned {attacked.dtype}")
    change = (attacked.detach().double() - clean.double()).flatten(1)
    size = change.norm(dim=1) if ball.norm == "l2" else change.abs().amax(1)
    excess = float(size.max()) - float(ball.eps)
    ensure(excess <= ROUNDING, f"an image leaves the ball {ball} by {excess:.2g}; use ball.project(moved, images)")
    seen = ball.apply(attacked, images)
    ensure(
        seen.min() >= -ROUNDING and seen.max() <= 1 + ROUNDING,
        "an attacked image leaves [0, 1]; use ball.project(moved, images)",
    )
    if component.moves:
        ensure(change.any() or not ball.eps, f"it changes no image within the ball {ball}")
    else:
        ensure(not change.any(), "it changes images, although its class says moves = False; leave that out")


def attacks_images_independently(component: Attack, catalog: Catalog) -> None:
    ensure_rows_are_independent(_perturb(component, smooth=True), *tiny_images())


def attacks_networks_of_strangers(component: Attack, catalog: Catalog) -> None:
    network, (images, targets), ball = tiny_network(smooth=True), tiny_images(3), _first_ball(component)

    def perturb(network: nn.Module, images: Tensor) -> Tensor:
        with noise.rows(0, "contract", range(3)):
            return component.perturb(tiny_victim(network), images, targets, ball).detach()

    expected = perturb(network, images)
    for form, other in strange_networks(network).items():
        before = images.clone()
        ensure(torch.allclose(perturb(other, images), expected), f"its images for a network {form} are others")
        ensure(torch.equal(images, before), f"a network {form} overwrites the images of the caller")
    half = images.bfloat16()
    _check_attacked(component, perturb(copy.deepcopy(network).bfloat16(), half), half, ball)


def lowers_its_objective(component: Attack, catalog: Catalog) -> None:
    (images, targets), ball = tiny_images(), _first_ball(component)
    start = ball.center(images)
    for smooth in (True, False):
        with torch.no_grad():
            objective = component.make_point_objective(tiny_victim(tiny_network(smooth)), images, targets, ball)
            loss = component.make_point_loss(tiny_victim(tiny_network(smooth)), images, targets, ball)
            if objective is None or loss is None:
                return
            before = loss(start)
        ensure(before.shape == (5,), f"for 5 images, its objective has shape {tuple(before.shape)}, not (5,)")
        if component.beta is None and not smooth:
            ensure(
                _has_gradient(objective, start),
                "its objective has no gradient on a ReLU network; give the attack a parameter beta, the sharpness of "
                "the softplus that replaces ReLU",
            )
        attacked = _perturb(component, smooth)(images, targets)
        with torch.no_grad():
            after = loss(attacked)
        ensure((after <= before + 1e-9).all(), "the objective of an image is higher after the attack than before")
        ensure(after.mean() < before.mean(), "its objective is no lower after the attack than before")


def _perturb(component: Attack, smooth: bool) -> Callable[[Tensor, Tensor], Tensor]:
    victim, ball = tiny_victim(tiny_network(smooth)), _first_ball(component)
    return lambda images, targets: component.perturb(victim, images, targets, ball).detach()


def _first_ball(component: Attack) -> Ball:
    return BALLS[component.spaces[0]][0]


def _has_gradient(objective: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    with torch.enable_grad():
        leaf = images.clone().requires_grad_()
        total = objective(leaf).sum()
        return total.requires_grad and bool(torch.autograd.grad(total, leaf)[0].any())
