"""What similarities between clean and attacked maps share."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import bench


@dataclass(frozen=True)
class Sanity(bench.Metric):
    """A similarity of maps that should differ: lower is better, or higher where the similarity is a distance."""

    similarity: bench.Metric = bench.param(help="a metric of clean_maps and attacked_maps")

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "lower" if self.similarity.better == "higher" else "higher"

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.similarity.range

    @property
    def grain(self) -> float | None:
        return self.similarity.grain

    def find_problem(self) -> str | None:
        return no_similarity(self.similarity)


def compare(similarity: bench.Metric, clean: Tensor, attacked: Tensor, form: str = "maps") -> Tensor:
    """The scores (N,) that a similarity gives to pairs of maps, or of attributions. Raises BadComponent where it gives
    none per image."""
    scores = similarity(**{f"clean_{form}": clean, f"attacked_{form}": attacked})
    if not isinstance(scores, Tensor):
        raise bench.BadComponent(f"similarity {similarity} returned no tensor of scores; use one such as cosine")
    return scores.double()


def where_defined(scores: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Replace scores (N,) by NaN where one of two maps (N, H, W) is all zero, and explains nothing."""
    defined = (first.flatten(1) != 0).any(1) & (second.flatten(1) != 0).any(1)
    return torch.where(defined, scores, torch.nan)


def no_similarity(metric: bench.Metric) -> str | None:
    """Say why a metric cannot compare two maps, or None."""
    if not compares(metric, "maps"):
        return f"similarity {metric} does not compare two maps; use one such as cosine or topk_overlap"
    return None


def compares(metric: bench.Metric, form: str) -> bool:
    """Whether a metric takes clean and attacked "maps", or "attributions", and nothing else."""
    return set(inspect.signature(type(metric).__call__).parameters) == {"self", f"clean_{form}", f"attacked_{form}"}
