"""A record: one score with its interval, counts, cost and provenance, as a line of JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.axes import AXES, option_texts
from bench.files import parse_json

VERSION = 3  # of the fields below and of how values become a summary; raised when their numbers change
RECORD, VALUES = "record.json", "values.parquet"
# How small Parquet files are read: a thread of pyarrow's that starts as the process ends aborts it.
CALMLY = {"use_threads": False, "pre_buffer": False}
# The least and the largest value of a score, None where there is no bound.
Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class Record:
    """One score. `value` is the mean over the images whose value is defined, `value_kept` the mean over those whose
    prediction the attack left alone; both are None where there is no such image, and `undefined_because` says why.
    `ci95` is the interval of `value`, and stays in `range`. For an attack that follows a gradient, `objective` has the
    mean of what it lowers, "before" and "after", and the share of images where it fell, "success". The value of each
    image is a multiple of `grain`, where the metric has one."""

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
    range: Range = (None, None)
    grain: float | None = None

    def line(self) -> str:
        """Strict JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def parse(cls, line: str | bytes) -> Record:
        """The record of a line. Raises ValueError, TypeError or KeyError for a missing field or a wrong type."""
        fields = parse_json(line)
        ci95 = fields["ci95"]
        record = cls(
            **{
                **fields,
                "ci95": None if ci95 is None else tuple(ci95),
                "flags": tuple(fields["flags"]),
                "range": tuple(fields["range"]),
            }
        )
        numbers = [record.value, record.value_kept, *(record.ci95 or ()), *record.range, record.grain]
        counts = [record.n, record.undefined, *([] if record.kept is None else [record.kept])]
        names = ("metric", "better", "unit", "help", "paper", "command", "key", "spec", "undefined_because")
        texts = [*(getattr(record, name) for name in names), *record.axes.values(), *record.flags]
        fits = (
            all(n is None or (type(n) in (int, float) and math.isfinite(n)) for n in numbers)
            and all(type(count) is int for count in counts)
            and all(isinstance(text, str) for text in texts)
            and (record.ci95 is None or len(record.ci95) == 2)
            and len(record.range) == 2
            and isinstance(record.provenance, dict)
            and all(type(n) in (int, float) and math.isfinite(n) for n in record.objective.values())
        )
        if not fits:
            raise ValueError(f"record {record.key}: a field has the wrong type")
        return record


def make_command(metric: str, axes: Mapping[str, str]) -> str:
    """The command that computes a record, from the text of its metric and of every axis that it depends on."""
    words = ["bench", "run"]
    for axis in AXES:
        if axis in axes:
            words += [word for option, text in option_texts(axis, axes[axis]).items() for word in (f"--{option}", text)]
    return shlex.join([*words, "--metric", metric])


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
            "key": pyarrow.array([key] * flat.size, pyarrow.string()),
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
