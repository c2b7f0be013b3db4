"""A record: one score with its interval, counts, cost and provenance, as a line of JSON."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import math
import random
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.axes import AXES, option_texts

VERSION = 2  # of the aggregation below; bumped when its numbers change
RECORD, VALUES = "record.json", "values.parquet"
# How small Parquet files are read: a thread of pyarrow's that starts as the process ends aborts it.
CALMLY = {"use_threads": False, "pre_buffer": False}
RESAMPLES = 1000


@dataclass(frozen=True)
class Record:
    """One score. `value` is the mean over images of the values that are defined; `value_kept` that over the images
    whose prediction the attack left alone; None where there is none, with the reason in `undefined_because`. Of an
    attack that follows a gradient, `objective` says what it drives down, on average "before" and "after", and the share
    of "success", where it fell."""

    metric: str
    axes: dict[str, str]
    value: float | None
    value_kept: float | None
    n: int
    kept: int | None
    undefined: int
    ci95: tuple[float, float] | None
    levels: dict[str, float | None]
    better: str
    unit: str
    help: str
    cost: dict[str, float]
    flags: tuple[str, ...]
    paper: str
    command: str
    key: str
    spec: str
    undefined_because: str = ""
    objective: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Strict JSON, keys sorted."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def parse(cls, line: str | bytes) -> Record:
        read = json.loads(line)
        ci95 = read["ci95"]
        found = cls(**{**read, "ci95": None if ci95 is None else tuple(ci95), "flags": tuple(read["flags"])})
        numbers = [found.value, found.value_kept, *(found.ci95 or ())]
        counts = [found.n, found.undefined, *([] if found.kept is None else [found.kept])]
        names = ("metric", "better", "unit", "help", "paper", "command", "key", "spec", "undefined_because")
        texts = [*(getattr(found, name) for name in names), *found.axes.values(), *found.flags]
        fits = (
            all(n is None or (type(n) in (int, float) and math.isfinite(n)) for n in numbers)
            and all(type(count) is int for count in counts)
            and all(isinstance(text, str) for text in texts)
            and (found.ci95 is None or len(found.ci95) == 2)
            and isinstance(found.provenance, dict)
            and all(type(n) in (int, float) and math.isfinite(n) for n in found.objective.values())
        )
        if not fits:
            raise ValueError(f"record {found.key}: a field is of another type")
        return found


def reproducing(metric: str, axes: Mapping[str, str]) -> str:
    """The command that gives a record, from the texts of its metric and of every axis that it reaches."""
    words = ["bench", "run"]
    for axis in AXES:
        if axis in axes:
            words += [word for option, text in option_texts(axis, axes[axis]).items() for word in (f"--{option}", text)]
    return shlex.join([*words, "--metric", metric])


@dataclass(frozen=True)
class Summary:
    """What per-image values amount to."""

    value: float | None
    value_kept: float | None
    n: int
    kept: int | None
    undefined: int
    ci95: tuple[float, float] | None
    levels: dict[str, float | None]


def mean(values: np.ndarray) -> float | None:
    """Mean of the values that are defined, None where none is."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined.tolist()) / len(defined) if len(defined) else None


def summarise(values: np.ndarray, names: Sequence[str], kept: np.ndarray | None, key: str) -> Summary:
    """Aggregate values (N, L) over L named levels (one, "", for a plain score); NaN is undefined.

    An image with an undefined level is undefined. The interval is a 95% percentile bootstrap over images, seeded by
    the record's key.
    """
    rows = values.mean(1)
    return Summary(
        value=mean(rows),
        value_kept=None if kept is None else mean(rows[kept]),
        n=len(rows),
        kept=None if kept is None else int(kept.sum()),
        undefined=int(np.isnan(rows).sum()),
        ci95=interval(rows[~np.isnan(rows)], key),
        levels={} if list(names) == [""] else {name: mean(values[:, i]) for i, name in enumerate(names)},
    )


def interval(values: np.ndarray, key: str) -> tuple[float, float] | None:
    """95% percentile bootstrap interval of a mean (Efron, 1979), expanded for small samples, where percentiles alone
    are too narrow (Hesterberg, The American Statistician 2015); None for fewer than two values."""
    from scipy.stats import bootstrap  # half a second to import, which a run that finds all its records saves

    if len(values) < 2:
        return None
    with warnings.catch_warnings(action="ignore"):  # equal values have an interval of no width, which scipy warns of
        found = bootstrap(
            (values,),
            np.mean,
            n_resamples=2000,
            confidence_level=1 - 2 * outside(len(values)),
            method="percentile",
            batch=200,
            rng=np.random.default_rng(int(key, 16)),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


@functools.cache
def outside(count: int) -> float:
    """Share of the bootstrap means on either side of the 95% interval of `count` values: normal tails as far out as
    Student's t with the sample's own deviation; 0.025 for many."""
    from scipy.stats import norm, t

    return float(norm.cdf(-math.sqrt(count / (count - 1)) * t.ppf(0.975, count - 1)))


def resampled(values: Sequence[float], key: str) -> list[float]:
    """The means of 1,000 bootstrap resamples of some values, sorted, drawn from a key.

    The same on every machine: values become whole numbers of 40 bits, whose sums are exact in any order.
    """
    top = max(map(abs, values), default=0.0) or 1.0
    whole = np.array([round(value / top * 2**40) for value in values], np.int64)
    count, draw = len(whole), random.Random(key)
    sums: list[int] = []
    for _ in range(RESAMPLES // 100):  # in parts, for boards of many images
        places = np.frombuffer(draw.randbytes(400 * count), "<u4").reshape(100, count) % count
        sums += whole[places].sum(1).tolist()
    return [total * top / 2**40 / count for total in sorted(sums)]


def values_file(
    key: str, images: np.ndarray, names: Sequence[str], values: np.ndarray, kept: np.ndarray | None
) -> bytes:
    """Per-image values as Parquet: key, image, level, value (null = undefined), kept (null without an attack)."""
    import pyarrow
    import pyarrow.parquet

    count, levels = values.shape
    flat = values.astype(np.float64).reshape(-1)
    table = pyarrow.table(
        {
            "key": pyarrow.array([key] * flat.size),
            "image": np.repeat(images, levels),
            "level": pyarrow.array(list(names) * count, pyarrow.string()),
            "value": pyarrow.array(flat, mask=np.isnan(flat)),
            "kept": pyarrow.array(
                [None] * flat.size if kept is None else np.repeat(kept, levels).tolist(), pyarrow.bool_()
            ),
        }
    )
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()
