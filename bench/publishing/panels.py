"""Panels: examples as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from bench.engine import published_text
from bench.publishing.examples import Example

if TYPE_CHECKING:
    from bench.publishing.figures.plot import Plot

SHOWN = ("defense", "explainer", "attack", "ball", "model", "schedule", "seed")


def draw_panel(examples: Sequence[Example]) -> Plot:
    """Draw examples, one row each: the picture and its map.

    Under attack, a row also shows the attacked picture, the magnified difference, and its map in the same colours.
    """
    from bench.publishing.figures.plot import Plot

    attacked = any(example.attacked is not None for example in examples)
    columns = 5 if attacked else 2
    plot = Plot(figsize=(2.3 * columns, 2.75 * len(examples) + 0.3), dpi=100, layout="constrained")
    axes = plot.subplots(len(examples), columns, squeeze=False)
    varying = [
        a for a in SHOWN if len({str(getattr(e.case, a)) for e in examples}) > 1 or a in ("defense", "explainer")
    ]
    for example, row in zip(examples, axes, strict=True):
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_color("0.8")
        choices = [getattr(example.case, axis) for axis in varying]
        named = [published_text(choice) for choice in choices if not getattr(choice, "in_memory", False)]
        row[0].set_ylabel(_stack_lines(named), fontsize=9)
        cells: list[tuple[np.ndarray, str, str, dict[str, Any]]] = [
            (_to_pixels(example.image), "image", _describe(example.predicted), {})
        ]
        scale = _colours(example)
        if example.attacked is not None and example.attacked_attribution is not None:
            change = example.attacked - example.image
            times = max(1, math.floor(0.5 / max(float(change.abs().max()), 1e-6)))
            same = "" if example.overlap is None else f"overlap {example.overlap:.0%}"
            cells += [
                (_to_pixels(example.attacked), "attacked", _describe(example.attacked_predicted), {}),
                (_to_pixels(0.5 + times * change), f"difference x {times}", str(example.case.ball), {}),
            ]
            cells.append((_to_map(example.attribution), "map", f"of {example.explained}"[:26], scale))
            cells.append((_to_map(example.attacked_attribution), "map after the attack", same, scale))
        else:
            cells.append((_to_map(example.attribution), "map", f"of {example.explained}"[:26], scale))
        for axis, (values, title, under, options) in zip(row, cells, strict=False):
            axis.imshow(values, interpolation="nearest", **options)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel(under, fontsize=10)
    return plot


def _stack_lines(texts: Sequence[str], width: int = 24) -> str:
    return "\n".join(text if len(text) <= width else f"{text[: width - 1]}…" for text in texts)


def _describe(prediction: tuple[str, float] | None) -> str:
    return "" if prediction is None else f"{prediction[0][:20]} {prediction[1]:.0%}"


def _to_pixels(image: Tensor) -> np.ndarray:
    shown = image.clamp(0, 1)
    return (shown.expand(3, -1, -1) if len(shown) == 1 else shown).permute(1, 2, 0).numpy()


def _to_map(attribution: Tensor) -> np.ndarray:
    return attribution.float().sum(0).numpy()


def _colours(example: Example) -> dict[str, Any]:
    """One colour scale for the maps before and after: diverging about zero if they have signs, else from zero up."""
    values = [_to_map(a) for a in (example.attribution, example.attacked_attribution) if a is not None]
    together = np.concatenate([v.ravel() for v in values])
    high = float(np.quantile(np.abs(together), 0.995)) or float(np.abs(together).max()) or 1.0
    signed = bool((together < 0).any())
    return {"cmap": "RdBu_r", "vmin": -high, "vmax": high} if signed else {"cmap": "inferno", "vmin": 0, "vmax": high}
