"""What certificates by Gaussian smoothing share."""

from __future__ import annotations

import math

import bench

# Explainers that average values in [0, 1] over Gaussian noise, and what gives the noise of all images one deviation.
SMOOTHED = {"sparsified_smoothgrad": {"units": "pixel"}, "votes": {}}


def find_refusal(explainer: bench.Explainer, names: tuple[str, ...] = tuple(SMOOTHED)) -> str | None:
    """Say why no theorem on smoothing holds for an explainer, or None."""
    if explainer.name not in names:
        return f"explainer {explainer} has no certificate; use {' or '.join(names)}"
    for parameter, value in SMOOTHED[explainer.name].items():
        if getattr(explainer, parameter) != value:
            return f"the noise of explainer {explainer} changes with the image; give it {parameter}={value}"
    return None


def l2_radius(ball: bench.Ball, size: int) -> float:
    """The radius of the smallest l2 ball around a ball of images of `size` elements."""
    return float(ball.eps) * (math.sqrt(size) if ball.norm == "linf" else 1)
