"""What records of several seeds, images and budgets amount to, and how two rows differ. Uses neither torch nor
plugins."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.boards.record import RESAMPLES, Record, outside, resampled


@dataclass(frozen=True)
class Entry:
    """What some records of one row and column, one a seed, amount to; `images` are each seed's values by image."""

    records: tuple[Record, ...]
    value: float | None
    ci95: tuple[float, float] | None
    images: Mapping[str, Sequence[float | None]] = field(default_factory=dict)

    @property
    def starred(self) -> bool:
        return any(record.flags or record.undefined for record in self.records)


def entry(records: Sequence[Record], values: Mapping[str, Sequence[float | None]]) -> Entry:
    """Mean over seeds; its interval is the record's own where there is one seed, and over seeds and images where there
    are more. Undefined where a seed's value is."""
    records = tuple(sorted(records, key=lambda r: (r.axes.get("seed", ""), r.key)))
    found = [record.value for record in records]
    images = {record.axes.get("seed", ""): values.get(record.key, ()) for record in records}
    if None in found:
        return Entry(records, None, None, images)
    if len(records) == 1:
        return Entry(records, found[0], records[0].ci95, images)
    return Entry(records, _mean(found), interval(_mean(found), list(images.values()), records[0].key), images)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def interval(value: float, seeds: Sequence[Sequence[float | None]], key: str) -> tuple[float, float] | None:
    """95% interval of a mean over the values of images, a row for each seed; None for fewer than two images.

    Of one seed a percentile bootstrap over images, drawn from the key. Of more, seeds and images are two crossed random
    effects: Student's t with the degrees of freedom of Satterthwaite (1946), from the images that all seeds have a
    value for. A bootstrap over few seeds is too narrow: of three whose means differ much it holds the truth in three
    of four cases.
    """
    if len({len(images) for images in seeds}) != 1:
        return None
    rows = [images for images in zip(*seeds, strict=True) if None not in images]
    count, size = len(rows), len(seeds)
    if count < 2:
        return None
    if size == 1:
        means = resampled([row[0] for row in rows], key)
        low = round(outside(count) * (RESAMPLES - 1))
        return means[low], means[RESAMPLES - 1 - low]
    by_image, by_seed = [_mean(row) for row in rows], [_mean(column) for column in zip(*rows, strict=True)]
    middle = _mean(by_seed)
    of_seeds = math.fsum((m - middle) ** 2 for m in by_seed) / (size - 1) / size
    of_images = math.fsum((m - middle) ** 2 for m in by_image) / (count - 1) / count
    rest = math.fsum(
        (value - image - seed + middle) ** 2
        for row, image in zip(rows, by_image, strict=True)
        for value, seed in zip(row, by_seed, strict=True)
    ) / ((size - 1) * (count - 1) * size * count)
    variance = max(of_seeds + of_images - rest, of_seeds, of_images)  # both hold the rest once
    if not variance:
        return value, value
    freedom = math.floor(variance**2 / (of_seeds**2 / (size - 1) + of_images**2 / (count - 1)))
    half = student(max(1, freedom)) * math.sqrt(variance)
    return value - half, value + half


@functools.cache
def student(freedom: int) -> float:
    """The 97.5% point of Student's t distribution."""
    from scipy.stats import t  # slow to import

    return float(t.ppf(0.975, freedom))


def area(parts: Sequence[Entry], normalised: bool) -> Entry:
    """The area under the values of some budgets, by trapezoids of unit width (of eps that double: over its binary
    logarithm); `normalised`, over their number, so that it lies between the values."""
    weights = [1.0] * len(parts)
    weights[0] = weights[-1] = 0.5
    if normalised:
        weights = [weight / (len(parts) - 1) for weight in weights]

    def summed(values: Iterable[float | None]) -> float | None:
        found = list(values)
        return None if None in found else math.fsum(w * v for w, v in zip(weights, found, strict=True))

    seeds = [seed for seed in parts[0].images if all(seed in part.images for part in parts)]
    images = {
        seed: [summed(values) for values in zip(*(part.images[seed] for part in parts), strict=True)]
        for seed in seeds
        if len({len(part.images[seed]) for part in parts}) == 1
    }
    records = tuple(record for part in parts for record in part.records)
    value = summed(part.value for part in parts)
    ci95 = None if value is None else interval(value, list(images.values()), f"area/{records[0].key}")
    return Entry(records, value, ci95, images)


def worst(parts: Sequence[Entry]) -> Entry:
    """The worst that some attacks do to each image, then the mean: at least as bad as the worst mean. Of the seeds that
    all of them have; an image that one of them leaves without a value has none."""
    choose = min if parts[0].records[0].better == "higher" else max
    images: dict[str, list[float | None]] = {}
    for seed in parts[0].images:
        found = [part.images.get(seed, ()) for part in parts]
        if found[0] and len({len(values) for values in found}) == 1:
            images[seed] = [None if None in each else choose(each) for each in zip(*found, strict=True)]
    means = [_mean(defined) for values in images.values() if (defined := [v for v in values if v is not None])]
    records = tuple(r for part in parts for r in part.records if not images or r.axes.get("seed", "") in images)
    if not means or len(means) < len(images):
        return Entry(records, None, None, images)
    return Entry(
        records, _mean(means), interval(_mean(means), list(images.values()), f"worst/{records[0].key}"), images
    )


@dataclass(frozen=True)
class Difference:
    """How far a row is from the reference row in a column: the mean over seeds and images of paired differences, and
    its interval; `better` where all of the interval is, None where it holds zero."""

    value: float
    ci95: tuple[float, float] | None
    better: bool | None


def difference(mine: Entry, base: Entry) -> Difference | None:
    """Of the seeds and images that both rows have a value for; None where there are none."""
    pairs = [
        [None if a is None or b is None else a - b for a, b in zip(mine.images[seed], base.images[seed], strict=True)]
        for seed in mine.images
        if len(mine.images[seed]) == len(base.images.get(seed, ()))
    ]
    means = [_mean([v for v in seed if v is not None]) for seed in pairs if any(v is not None for v in seed)]
    if not means:
        return None
    value = _mean(means)
    ci95 = interval(value, pairs, f"{mine.records[0].key}/{base.records[0].key}")
    better = None
    if ci95 and (ci95[0] > 0 or ci95[1] < 0):
        better = (ci95[0] > 0) == (mine.records[0].better == "higher")
    return Difference(value, ci95, better)


@dataclass(frozen=True)
class Rank:
    """The best and the worst place that a row can have among its rivals: as many are better beyond doubt before it,
    and as many worse behind it."""

    best: int
    last: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.last else f"{self.best}-{self.last}"


def ranks(rivals: Sequence[Entry]) -> list[Rank]:
    """Of each of some entries of one column. One is better than another where the 95% interval of their paired
    difference, rounded to three digits, is above zero; with no correction for the number of pairs."""
    better = [[False] * len(rivals) for _ in rivals]
    for i, mine in enumerate(rivals):
        for j, other in enumerate(rivals[:i]):
            found = difference(mine, other)
            if found and found.ci95 and (round(found.ci95[0], 3) > 0 or round(found.ci95[1], 3) < 0):
                better[i][j], better[j][i] = found.better is True, found.better is False
    return [Rank(1 + sum(row[i] for row in better), len(rivals) - sum(better[i])) for i in range(len(rivals))]
