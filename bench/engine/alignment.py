"""What metrics see of maps where the attack moves pixels: both sides in the frame of the attacked image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from bench.components import Case
from bench.engine.graph import Graph
from bench.maps import reduce

# Evidence by the form of its tensors: maps (N, H, W), others (N, C or 1, H, W).
FORMS = ("maps", "attributions", "masks")
CLEAN, ATTACKED = (frozenset(f"{side}_{form}" for form in FORMS) for side in ("clean", "attacked"))
# What a metric that names maps as well might lay them over, or make maps of itself.
FIXED = frozenset({"images", "attacked_images", "object_masks", "gaze", "explain"})


def gather(graph: Graph, names: Iterable[str]) -> dict[str, Any]:
    """The evidence that a metric names.

    Where the attack moves pixels, clean maps are moved like their images, and pixels that were outside the frame are
    zero in maps of both sides; those that sum to one do so again. This holds for metrics that name maps of both, or of
    the attacked images alone.
    """
    found = {name: graph.get(name) for name in names}
    ball = graph.case.ball
    if not (ball.moves_pixels and ATTACKED & set(found)):
        return found
    points = graph.get("attack_run")["parameters"]

    def move(name: str, values: Tensor) -> Tensor:
        wide = values[:, None] if values.ndim == 3 else values
        moved = ball.align(wide, wide, points)[0 if name in CLEAN else 1]
        return reduce(moved) if values.ndim == 3 else moved

    return {name: move(name, value) if name in CLEAN | ATTACKED else value for name, value in found.items()}


def find_misfit(case: Case, names: Iterable[str]) -> str | None:
    """Why a metric that names some evidence, and that an attack can reach, has no meaning in the ball of a case."""
    lain = FIXED.intersection(names)
    if case.ball.moves_pixels and lain and (CLEAN | ATTACKED).intersection(names):
        return (
            f"it needs {' and '.join(sorted(lain))} beside maps, and in {case.ball} pixels move; use a metric of clean "
            "and attacked maps alone"
        )
    return None
