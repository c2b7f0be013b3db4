"""Ranks of many rows: each is compared with every other, a block of rows at a time. Uses neither torch nor plugins."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from bench.boards.statistics import Estimate, Rank, difference, difference_range, student

BLOCK = 128  # rows that are compared with all at once
NEAR = 1e-6  # how near to a decision what is computed by blocks may be; nearer, `difference` decides
HALF = 0.0005  # of the last digit that is printed: from here on, an end of an interval is rounded up


def rank(rivals: Sequence[Estimate], margins: Sequence[float] = ()) -> list[Rank]:
    """The rank of each of some estimates of one column. One is surely better than another where the 95% interval of
    their paired difference, rounded to three digits, is beyond its own margin, zero by default; there is no correction
    for the number of pairs."""
    limits = [round(margin, 3) for margin in margins] or [0.0] * len(rivals)

    @functools.cache
    def compare(i: int, j: int) -> tuple[bool, bool]:
        there = difference(rivals[i], rivals[j])
        if there is None or there.ci95 is None:
            return False, False
        low, high = (round(end, 3) for end in there.ci95)
        ahead, behind = (low, -high) if rivals[i].records[0].better == "higher" else (-high, low)
        return ahead > limits[i], behind > limits[j]

    won, lost = np.zeros(len(rivals), int), np.zeros(len(rivals), int)

    def note(i: int, j: int, ahead: bool) -> None:
        won[i] += ahead
        lost[j] += ahead

    groups = _group_alike(rivals)
    for group in groups:
        tables = np.array([list(rivals[i].images.values()) for i in group], float)
        if tables.shape[2] < 2:
            continue
        sign = 1.0 if rivals[group[0]].records[0].better == "higher" else -1.0
        width = difference_range(rivals[group[0]].range)[1]
        ahead, doubtful = _compare_blocks(sign * tables, np.array([limits[i] for i in group]), width)
        won[group] += ahead.sum(1)
        lost[group] += ahead.sum(0)
        for a, b in np.argwhere(doubtful).tolist():
            i, j = group[a], group[b]
            note(i, j, compare(i, j)[0] if i > j else compare(j, i)[1])
    of = {i: place for place, group in enumerate(groups) for i in group}
    for i in range(len(rivals)) if len(groups) > 1 or len(of) < len(rivals) else ():
        for j in range(i):
            if of.get(i, -1) != of.get(j, -2):
                note(i, j, compare(i, j)[0])
                note(j, i, compare(i, j)[1])
    return [Rank(1 + int(lost[i]), len(rivals) - int(won[i])) for i in range(len(rivals))]


def _group_alike(rivals: Sequence[Estimate]) -> list[list[int]]:
    """The places of the estimates that have a value for every image, by their seeds, images and range."""
    groups: dict[object, list[int]] = {}
    for place, rival in enumerate(rivals):
        lengths = {len(values) for values in rival.images.values()}
        if len(lengths) == 1 and not any(None in values for values in rival.images.values()):
            groups.setdefault((tuple(rival.images), lengths.pop(), rival.range), []).append(place)
    return list(groups.values())


def _compare_blocks(tables: np.ndarray, limits: np.ndarray, width: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Which of some rows, (R, seeds, images), is surely ahead of which, and for which pairs rounding could decide.

    The formulas are those of `statistics.interval`, with the sums of squares of differences from scalar products.
    """
    size, count = tables.shape[1:]
    scale = max(1.0, float(np.abs(tables).max()))
    of_images, of_seeds, middle = tables.mean(1), tables.mean(2), tables.mean((1, 2))
    rest = tables - of_images[:, None] - of_seeds[:, :, None] + middle[:, None, None]
    by_image, by_seed = of_images - middle[:, None], of_seeds - middle[:, None]
    same = np.unique(tables.reshape(len(tables), -1), axis=0, return_inverse=True)[1].reshape(-1)
    ahead, doubtful = (np.zeros((len(tables), len(tables)), bool) for _ in range(2))
    for start in range(0, len(tables), BLOCK):
        rows = slice(start, start + BLOCK)
        spread = _square_distances(by_image, rows) / (count - 1) / count
        doubt = np.zeros(spread.shape, bool)
        variance, freedom = spread, np.full(spread.shape, count - 1)
        if size > 1:
            seeds = _square_distances(by_seed, rows) / (size - 1) / size
            both = _square_distances(rest.reshape(len(rest), -1), rows) / ((size - 1) * (count - 1) * size * count)
            variance = np.maximum(np.maximum(seeds + spread - both, seeds), spread)
            parts = seeds**2 / (size - 1) + spread**2 / (count - 1)
            exact = variance**2 / np.where(parts > 0, parts, 1.0)
            freedom = np.maximum(min(size, count) - 1, np.floor(exact)).astype(int)
            doubt |= np.floor(exact * (1 - NEAR)) != np.floor(exact * (1 + NEAR))
        doubt |= variance < (NEAR * scale) ** 2
        known = np.unique(freedom)
        points = np.array([student(int(each)) for each in known])
        half = points[np.searchsorted(known, freedom)] * np.sqrt(variance)
        value = middle[rows, None] - middle[None]
        low = value - half
        if width is not None:
            below, above = np.maximum(value + width, 0.0), np.maximum(width - value, 0.0)
            doubt |= np.minimum(below, above) <= 2 * NEAR * width
            slope, curve = (above - below) / (2 * width), 1 / (2 * width)
            factor = half**2 / np.maximum(below * above / (2 * width), NEAR**2)
            root = np.sqrt((factor * slope) ** 2 + 4 * (1 + factor * curve) * half**2)
            low = value + (factor * slope - root) / (2 * (1 + factor * curve))
        beyond = low - limits[rows, None] - HALF
        doubt |= np.abs(beyond) < NEAR * scale
        doubt &= same[rows, None] != same[None]
        ahead[rows], doubtful[rows] = (beyond > 0) & ~doubt & (same[rows, None] != same[None]), doubt
    return ahead, doubtful


def _square_distances(points: np.ndarray, rows: slice) -> np.ndarray:
    """Of some rows of (R, D) points to all."""
    squares = (points**2).sum(1)
    return np.maximum(squares[rows, None] + squares[None] - 2 * points[rows] @ points.T, 0.0)
