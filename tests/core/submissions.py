"""Made-up submissions that are valid: keys from specs, aggregates from values, as a run would publish them."""

from __future__ import annotations

import dataclasses
import functools
import io
import json

import numpy as np
import pyarrow
import pyarrow.parquet

from bench.boards.record import VERSION, Record, make_command, values_file
from bench.boards.statistics import summarise
from bench.keys import hash_spec

PROTOCOL = """
title = "Tiny"
about = "For tests."
metrics = ["accuracy", "topk_overlap"]
[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick"]
defense = ["ce"]
seed = [0]
explainer = ["gradient"]
attack = ["topk"]
eps = ["8/255", "1/2"]
norm = ["linf"]
target = ["predicted"]
samples = [3]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[[row]]
defense = "slow"
schedule = "long"
"""
META = {
    "title": "Acme",
    "authors": ["A. Author"],
    "year": 2026,
    "paper": "https://example.org/paper?a=1",
    "code": "",
    "licence": "CC0-1.0",
    "hardware": "a CPU",
    "selection": "nothing was selected",
    "selected_on": "none",
    "owner": "ada",
}
BASE = {"dataset": "shapes", "split": "test", "model": "lenet", "schedule": "quick", "defense": "l2", "seed": "0"}
UNDER = {"explainer": "gradient", "surrogate": "gradient", "attack": "topk", "ball": "linf:8/255"}
UNDER |= {"target": "predicted", "samples": "3"}
KINDS = {k: k for k in ("dataset", "model", "schedule", "defense", "explainer", "attack", "metric")}
KINDS["surrogate"] = "explainer"


def identity(axis, text):
    name, _, rest = text.partition(":")
    return f"{KINDS[axis]}/{name}@1({rest})" if axis in KINDS else text


@functools.cache
def summarised(values, rows, names, kept, bounds):
    """As `summarise`, of the bytes of arrays: most records here have the same values."""
    mask = None if kept is None else np.frombuffer(kept, bool)
    return summarise(np.frombuffer(values).reshape(rows, -1), names, mask, bounds)


def made(metric, axes, values, names=("",), kept=None, images=(3, 8, 5), spec=(), **fields):
    """A record and its values: `fields` are put into it as they are, `spec` into its spec: identities by axis, "made"
    and "versions"."""
    chosen = {axis: identity(axis, text) for axis, text in axes.items()}
    parts = {
        "made": f"record@{VERSION}/{identity('metric', metric)}",
        "versions": {"network": 1},
        **chosen,
        **dict(spec),
    }
    spec = json.dumps([parts.pop("made"), parts.pop("versions"), parts])
    values = np.array(values, float).reshape(len(values), -1)
    kept_bytes = None if kept is None else np.asarray(kept, bool).tobytes()
    summary = summarised(values.tobytes(), len(values), tuple(names), kept_bytes, fields.get("range", (0.0, 1.0)))
    record = Record(
        metric=metric,
        axes=axes,
        **dataclasses.asdict(summary),
        better="higher",
        unit="",
        help=f"what {metric} is",
        cost={"trained": 1.5},
        flags=(),
        paper="@article{a,\n  title = {A}\n}",
        command=make_command(metric, axes),
        key=hash_spec(spec),
        spec=spec,
        range=(0.0, 1.0),
        provenance={"device": "CPU", "plugins": {"metric m": "acme 1"}},
    )
    return {**dataclasses.asdict(record), **fields}, values_file(hash_spec(spec), np.array(images), names, values, kept)


def publish(folder, name, entries, **meta):
    """Write a submission of records and their values, as `made` gives them."""
    place = folder / "records"
    place.mkdir(parents=True, exist_ok=True)
    lines = sorted(json.dumps(record, sort_keys=True) for record, _ in entries)
    (place / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    tables = [pyarrow.parquet.read_table(io.BytesIO(table)) for _, table in entries]
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), place / f"{name}.values.parquet")
    describe(folder, name, **meta)


def submit(folder, name="acme", meta=(), both=(), values=((0.25, 0.5, 0.75), (0.5, 1.0, 0.75)), axes=(), **fields):
    """Write a submission of an accuracy and an overlap: `fields` go into the first record, `both` into the axes of
    both, `axes` into those of the first."""
    base = {**BASE, **dict(both)}
    entries = [
        made("accuracy", {**base, "samples": "3", **dict(axes)}, values[0], **fields),
        made("topk_overlap", {**base, **UNDER}, values[1], kept=np.array([True, False, True])),
    ]
    publish(folder, name, entries, **dict(meta))


def describe(folder, name="acme", **meta):
    """Write the metadata of a submission; a key that is None is left out."""
    text = "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in {**META, **meta}.items() if v is not None)
    (folder / "records" / f"{name}.toml").write_bytes(text.encode("utf-8", "surrogatepass"))


def relined(folder, change, name="acme", number=0):
    """Change the text of one line of a submission's records."""
    file = folder / "records" / f"{name}.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[number] = change(lines[number])
    file.write_bytes(b"\n".join(lines))
