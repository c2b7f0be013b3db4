"""How often a nominal 95% interval holds the truth: of a record, of a row over seeds, of a paired
difference, and of a share of a ceiling.

python benchmarks/intervals.py [TRIALS]

Scores are simulated from a truth, an effect of each seed, an effect of each image that all seeds share, and the rest.
The truth is the mean over all seeds and images. Not every setting can be at 95%:

- Proportions near a bound are discrete: an interval holds the truth for a count of errors or it does not. With one seed
  of 50 images of accuracy 0.98 the possible shares are 92% and 98%.
- Three seeds of 40 images at 0.97 show four errors, too few to tell an effect of seeds from chance. The interval allows
  for one, and holds the truth in 98% and more.
- Where nearly all seeds are at 1, a few seeds of those below may all be missed: 91% of eight seeds from 0.87 to 1.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from tabulate import tabulate

from bench.boards.record import Range, Record
from bench.boards.statistics import difference, estimate, interval, share

Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # of values (seeds, images)
UNIT: Range = (0.0, 1.0)


def shares(level: float, of_seeds: float, of_images: float, parts: int = 1) -> Draw:
    """Shares of `parts` trials whose probability has a mean of `level` and normal effects before the logistic."""
    both = together((level,), of_seeds, of_images, parts)
    return lambda rng, seeds, count: both(rng, seeds, count)[0]


def together(
    levels: tuple[float, ...], of_seeds: float, of_images: float, parts: int
) -> Callable[[np.random.Generator, int, int], list[np.ndarray]]:
    """Shares as above of several means, over the same seeds and images."""
    points = norm.ppf((np.arange(4000) + 0.5) / 4000) * math.hypot(of_seeds, of_images)
    starts = []
    for level in levels:
        low, high = -20.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if expit(middle + points).mean() < level else (low, middle)
        starts.append(low)

    def draw(rng: np.random.Generator, seeds: int, count: int) -> list[np.ndarray]:
        effects = rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, of_images, (1, count))
        return [rng.binomial(parts, expit(start + effects)) / parts for start in starts]

    return draw


def normal(level: float, of_seeds: float, of_images: float, rest: float) -> Draw:
    def draw(rng: np.random.Generator, seeds: int, count: int) -> np.ndarray:
        effects = rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, of_images, (1, count))
        return level + effects + rng.normal(0, rest, (seeds, count))

    return draw


def rare(level: float, deviation: float) -> Draw:
    """Accuracies of seeds that are mostly near 1, and rarely far below: a beta distribution."""
    size = level * (1 - level) / deviation**2 - 1

    def draw(rng: np.random.Generator, seeds: int, count: int) -> np.ndarray:
        return rng.binomial(1, rng.beta(level * size, (1 - level) * size, (seeds, 1)), (seeds, count))

    return draw


def beta(level: float, size: float) -> Draw:
    return lambda rng, seeds, count: rng.beta(level * size, (1 - level) * size, (seeds, count))


# What is scored, how it is drawn, its mean, its range, and the numbers of seeds and images.
SETTINGS: list[tuple[str, Draw, float, Range, list[tuple[int, int]]]] = [
    ("normal, no range", normal(0.5, 0, 0, 0.2), 0.5, (None, None), [(1, 50), (1, 200)]),
    ("normal, no range, seeds differ", normal(0.5, 0.03, 0, 0.2), 0.5, (None, None), [(3, 100), (8, 100)]),
    ("skewed, in [0, 1]", beta(0.8 / 6.8, 6.8), 0.8 / 6.8, UNIT, [(1, 50), (1, 200)]),
    ("distance, exponential", lambda rng, s, n: rng.exponential(1, (s, n)), 1.0, (0.0, None), [(1, 50), (1, 200)]),
    ("cosine 0.85", beta(0.85, 15), 0.85, UNIT, [(1, 50), (1, 200)]),
    ("cosine 0.85, seeds differ", normal(0.85, 0.01, 0.04, 0.02), 0.85, UNIT, [(3, 40), (3, 128)]),
    ("overlap 0.3 in twentieths", shares(0.3, 0, 0, 20), 0.3, UNIT, [(1, 50), (1, 200)]),
    ("overlap 0.5 in twentieths, seeds differ", shares(0.5, 0.2, 1, 20), 0.5, UNIT, [(3, 40), (3, 128)]),
    ("overlap 0.95 in twentieths, seeds differ", shares(0.95, 0.2, 1, 20), 0.95, UNIT, [(3, 40), (3, 128)]),
    ("accuracy 0.8", shares(0.8, 0, 0), 0.8, UNIT, [(1, 50), (1, 200)]),
    ("accuracy 0.97", shares(0.97, 0, 0), 0.97, UNIT, [(1, 40), (1, 128)]),
    ("accuracy 0.98", shares(0.98, 0, 0), 0.98, UNIT, [(1, 50), (1, 128)]),
    ("accuracy 0.97, hard images", shares(0.97, 0.3, 2), 0.97, UNIT, [(3, 40), (3, 128), (8, 128)]),
    ("accuracy 0.97, seeds from 0.87 to 1", shares(0.97, 1.2, 1), 0.97, UNIT, [(3, 40), (3, 128), (8, 128)]),
    ("accuracy 0.97, rarely a seed at 0.9", rare(0.97, 0.03), 0.97, UNIT, [(3, 40), (3, 128), (8, 128)]),
    ("kept rate 0.99", shares(0.99, 0.3, 2), 0.99, UNIT, [(3, 40), (3, 128), (8, 128)]),
]


def records(values: np.ndarray, defense: str, bounds: Range) -> tuple[list[Record], dict[str, list[float]]]:
    blank = {field.name: None for field in dataclasses.fields(Record)}
    found = []
    for seed, images in enumerate(values):
        ci95 = interval(float(images.mean()), [images.tolist()], bounds)
        text = {"key": f"{defense}{seed}", "axes": {"seed": str(seed)}, "better": "higher", "range": bounds}
        found.append(Record(**{**blank, **text, "value": float(images.mean()), "ci95": ci95}))
    return found, {record.key: images.tolist() for record, images in zip(found, values, strict=True)}


def rows(trials: int) -> list[list[str]]:
    table = []
    for name, draw, truth, bounds, sizes in SETTINGS:
        for seeds, count in sizes:
            rng = np.random.default_rng(0)
            held, width = 0, 0.0
            for _ in range(trials):
                low, high = estimate(*records(draw(rng, seeds, count), "a", bounds)).ci95
                held += low <= truth <= high
                width += (high - low) / trials
            table.append([name, seeds, count, f"{held / trials:.3f}", f"{width:.3f}"])
    for name, shift, level, bounds in (("normal", 0.05, 0.5, (None, None)), ("overlap", 0.05, 0.5, UNIT)):
        rng = np.random.default_rng(2)
        held, width = 0, 0.0
        for _ in range(trials):
            image = rng.normal(level, 0.1, 100)
            pair = [image + by + rng.normal(0, 0.05, 100) for by in (shift, 0.0)]
            pair = [np.round(20 * values.clip(0, 1)) / 20 if bounds == UNIT else values for values in pair]
            mine, base = (estimate(*records(v[None], d, bounds)) for v, d in zip(pair, "ab", strict=True))
            low, high = difference(mine, base).ci95
            held += low <= shift <= high
            width += (high - low) / trials
        table.append([f"paired difference, {name}", 1, 100, f"{held / trials:.3f}", f"{width:.3f}"])
    # Scores and ceilings of two rows, overlaps in twentieths: each row's share of its ceiling, and their difference.
    for levels in ((0.15, 0.17, 0.12, 0.17), (0.3, 0.6, 0.25, 0.4), (0.1, 0.9, 0.2, 0.95)):
        for seeds, count in [(1, 48), (1, 128), (3, 40), (3, 128)]:
            rng, draw = np.random.default_rng(3), together(levels, 0.1 * (seeds > 1), 0.5, 20)
            truths = [levels[0] / levels[1], levels[2] / levels[3]]
            held, width = [0, 0], [0.0, 0.0]
            for _ in range(trials):
                parts = [estimate(*records(v, d, UNIT)) for v, d in zip(draw(rng, seeds, count), "abcd", strict=True)]
                mine, base = share(*parts[:2]), share(*parts[2:])
                ends = [(mine.ci95, truths[0]), (difference(mine, base).ci95, truths[0] - truths[1])]
                for i, ((low, high), truth) in enumerate(ends):
                    held[i] += low <= truth <= high
                    width[i] += (high - low) / trials
            for i, name in enumerate(("{:g} of a ceiling of {:g}", "difference from {2:g} of {3:g}")):
                name = name.format(*levels)
                table.append([name, seeds, count, f"{held[i] / trials:.3f}", f"{width[i]:.3f}"])
    return table


if __name__ == "__main__":
    headers = ["scores", "seeds", "images", "holds the truth", "mean width"]
    print(tabulate(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 2000), headers, disable_numparse=True))
